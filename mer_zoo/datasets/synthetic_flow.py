"""Made-up flow of micro-expressions: Gaussian bumps where action units move the face.

No picture is rendered and nothing is downloaded, so this corpus feeds the examples and tests until faces can be
rendered. Which action units make which emotion follows Liu et al., "How to Synthesize a Large-Scale and Trainable
Micro-Expression Dataset?", ECCV 2022 (MiE-X), expert table; repression, the mixture of negative emotions, and where
and how each unit moves are ours. A score on it says how well a network solves this toy, and nothing about faces.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from mer_zoo.datasets._base import FLOW_IMAGE, Corpus, Image, register_corpus
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.preprocessing.flow import flow_image
from mer_zoo.types import Sample

SIZE = 28  # pixels; eyes at a quarter of the width and of the height, mouth at three quarters
VERSION = 1  # raise when a draw changes
LABEL, PERSON, MOTION = 0, 1, 2  # the last part of a generator's seed; numpy reads missing parts as 0

# Emotion -> action unit -> probability that it is active.
UNITS: dict[str, dict[int, float]] = {
    "happiness": {12: 1.0, 6: 0.5, 25: 0.5},
    "surprise": {1: 1.0, 2: 1.0, 5: 0.5, 25: 0.5, 26: 0.5},
    "anger": {4: 1.0, 7: 0.5, 23: 0.5},
    "disgust": {9: 1.0, 10: 0.5, 17: 1.0},
    "repression": {14: 0.6, 15: 0.6, 17: 0.5},
    "contempt": {14: 1.0},
    "fear": {5: 0.5, 20: 0.5, 25: 0.5, 26: 0.5},
    "sadness": {4: 1.0, 1: 0.5, 15: 0.5},
}
NEGATIVE = {"anger": 0.32, "disgust": 0.33, "repression": 0.15, "contempt": 0.08, "fear": 0.06, "sadness": 0.06}

STRAY = 0.4  # share of clips with one unit more, of any emotion: real labels follow from units only in part

# Action unit -> bumps (x, y, u, v, width) on the left half of the picture, x and y from 0 to 1, v downwards; the
# right half mirrors x and u.
BUMPS: dict[int, list[tuple[float, float, float, float, float]]] = {
    1: [(0.40, 0.13, 0.0, -1.0, 0.09)],
    2: [(0.18, 0.14, 0.0, -1.0, 0.10)],
    4: [(0.36, 0.15, 0.4, 0.9, 0.10)],
    5: [(0.25, 0.24, 0.0, -0.7, 0.06)],
    6: [(0.22, 0.42, 0.1, -0.7, 0.10)],
    7: [(0.25, 0.24, 0.0, 0.4, 0.06), (0.25, 0.32, 0.0, -0.5, 0.06)],
    9: [(0.42, 0.42, 0.1, -0.8, 0.08), (0.43, 0.20, 0.0, 0.5, 0.07)],
    10: [(0.41, 0.67, 0.0, -0.8, 0.08)],
    12: [(0.31, 0.74, -0.6, -0.8, 0.09), (0.21, 0.56, -0.2, -0.5, 0.11)],
    14: [(0.29, 0.76, -0.7, -0.1, 0.08)],
    15: [(0.31, 0.79, -0.1, 0.8, 0.08)],
    17: [(0.46, 0.90, 0.0, -0.8, 0.10), (0.46, 0.81, 0.0, -0.5, 0.08)],
    20: [(0.28, 0.79, -1.0, 0.1, 0.09)],
    23: [(0.37, 0.76, 0.5, 0.0, 0.07)],
    25: [(0.45, 0.82, 0.0, 0.6, 0.08)],
    26: [(0.44, 0.92, 0.0, 1.0, 0.12)],
}
BLINK = [(0.25, 0.25, 0.0, 0.9, 0.06)]


@register_corpus
class SyntheticFlow(Corpus):
    """Flow images of made-up persons, a third of each one's clips negative, positive and surprise.

    Every draw comes from a generator seeded by (seed, subject, clip): a clip is the same in every set. A person has
    own proportions, an own strength and an own asymmetry.

    Args:
        subjects: Number of persons, 2 or more.
        clips_per_subject: Clips of each, 3 or more.
        seed: Other seeds are other persons.
    """

    name, title = "synthetic_flow", "Synthetic optical flow of micro-expressions"
    homepage, terms = "made by this library", "none: no person and no data set is in it"
    native_spec = FLOW_IMAGE
    needs_root = False

    def __init__(self, subjects: int = 16, clips_per_subject: int = 9, seed: int = 0) -> None:
        super().__init__(None)
        for name, value, least in (
            ("subjects", subjects, 2),
            ("clips_per_subject", clips_per_subject, 3),
            ("seed", seed, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise InputError(f"synthetic_flow: {name} is {value!r}; expected a whole number, {least} or more.")
        self.subjects, self.clips_per_subject, self.seed = subjects, clips_per_subject, seed

    def read(self) -> Iterator[Sample]:
        """One sample for each person and clip."""
        for subject in range(self.subjects):
            for clip in range(self.clips_per_subject):
                yield self._sample(subject, clip)

    def _sample(self, subject: int, clip: int) -> Sample:
        rng = np.random.default_rng([self.seed, subject, clip, LABEL])
        emotion = (None, "happiness", "surprise")[clip % 3] or str(
            rng.choice(list(NEGATIVE), p=np.array(list(NEGATIVE.values())))
        )
        table = UNITS[emotion]
        units = [unit for unit, probability in table.items() if rng.random() < probability]
        units = units or [int(rng.choice(list(table)))]
        if rng.random() < STRAY:
            units.append(int(rng.choice([unit for unit in BUMPS if unit not in units])))
        return Sample(
            corpus=self.name,
            subject=f"{self.seed}-{subject:03d}",
            clip=f"{clip:03d}",
            emotion=emotion,
            aus=tuple(str(unit) for unit in sorted(units)),
        )

    @cached_property
    def _numbers(self) -> dict[str, tuple[int, int]]:
        return {s.key: divmod(i, self.clips_per_subject) for i, s in enumerate(self.samples)}

    def flow(self, sample: Sample) -> npt.NDArray[np.float32]:
        """The flow itself: (28, 28, 2), u to the right and v downwards, in pixels.

        Raises:
            CorpusError: If the sample is not of this corpus.
        """
        if sample.key not in self._numbers:
            raise CorpusError(f"{sample.key} is not in this synthetic_flow; its keys look like {self.samples[0].key}.")
        subject, clip = self._numbers[sample.key]
        person = np.random.default_rng([self.seed, subject, 0, PERSON])
        rng = np.random.default_rng([self.seed, subject, clip, MOTION])
        bumps = _bumps(sample.aus, person, rng)
        y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
        bell = np.exp(
            -((x - bumps[:, 0, None, None]) ** 2 + (y - bumps[:, 1, None, None]) ** 2)
            / (2 * bumps[:, 4, None, None] ** 2)
        )
        field = np.einsum("bc,bhw->hwc", bumps[:, 2:4], bell)
        return np.asarray(field + _head_motion(x, y, rng) + _noise(rng), np.float32)

    def flow_image(self, sample: Sample) -> Image:
        """Flow of one sample as (28, 28, 3): u, v, strain, each stretched to 0..255."""
        return flow_image(self.flow(sample))

    def fingerprint(self, sample: Sample) -> str:
        """The version of the generator; the key says the rest."""
        return f"synthetic_flow {VERSION}"

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Draw the flow images of two persons as PNG files."""
        corpus = cls(subjects=2, clips_per_subject=3)
        folder.mkdir(parents=True, exist_ok=True)
        for sample in corpus.samples:
            PILImage.fromarray(corpus.flow_image(sample)).save(folder / f"{sample.subject}_{sample.clip}.png")


def _bumps(units: tuple[str, ...], person: np.random.Generator, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Both sides' bumps, (N, 5), strengths in pixels: the person's proportions, the clip's intensities and a blink."""
    shift, stretch = person.normal(0, 0.02, 2), person.normal(1, 0.05, 2)
    strength, lean, width = person.lognormal(-1.15, 0.3), person.normal(0, 0.15), person.normal(1, 0.1)
    active = [(BUMPS[int(unit)], strength * rng.uniform(0.5, 1.5)) for unit in units]
    if rng.random() < 0.5:
        active.append((BLINK, strength * rng.uniform(0.3, 1.0)))
    rows = []
    for bumps, amount in active:
        side = lean + rng.normal(0, 0.15)
        for x, y, u, v, sigma in bumps:
            for mirror in (1, -1):
                here = np.array([x if mirror == 1 else 1 - x, y])
                here = 0.5 + (here - 0.5) * stretch + shift + rng.normal(0, 0.01, 2)
                gain = amount * (1 + mirror * side)
                rows.append([*here, gain * mirror * u, gain * v, sigma * width])
    return np.array(rows)


def _head_motion(x: npt.NDArray[Any], y: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[Any]:
    """A small shift, turn and change of size, in pixels: (28, 28, 2)."""
    shift, (turn, zoom) = rng.normal(0, 0.04, 2), rng.normal(0, 0.002, 2) * SIZE
    x, y = x - 0.5, y - 0.5
    return np.stack([shift[0] + zoom * x - turn * y, shift[1] + zoom * y + turn * x], axis=-1)


def _noise(rng: np.random.Generator) -> npt.NDArray[Any]:
    """What an estimator adds, in pixels: an error smooth over a quarter of the face, and a little that is not."""
    coarse = rng.normal(0, 0.03, (5, 5, 2)).astype(np.float32)
    smooth = np.stack([_enlarge(coarse[..., axis]) for axis in range(2)], axis=-1)
    return smooth + rng.normal(0, 0.004, (SIZE, SIZE, 2))


def _enlarge(grid: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A coarse grid to 28 x 28, smoothly."""
    return np.asarray(PILImage.fromarray(grid).resize((SIZE, SIZE), PILImage.Resampling.BICUBIC))
