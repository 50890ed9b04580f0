"""Made-up flow of micro-expressions: Gaussian bumps where action units move the face.

No picture is rendered; ``synthetic`` does that. Which action units make which emotion, and the bumps, stand in
``mer_zoo.synth``. A score on it says how well a network solves this toy, and nothing about faces.
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
from mer_zoo.synth.emotions import MIEX, NEGATIVE
from mer_zoo.synth.units import BLINK, BUMPS
from mer_zoo.types import ActionUnit, Sample

SIZE = 28  # pixels; eyes at a quarter of the width and of the height, mouth at three quarters
VERSION = 1  # raise when a draw changes
LABEL, PERSON, MOTION = 0, 1, 2  # the last part of a generator's seed; numpy reads missing parts as 0

STRAY = 0.4  # share of clips with one unit more, of any emotion: real labels follow from units only in part
UNITS = tuple(unit for unit in BUMPS if unit != 24)  # which could stray when the draws were fixed


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
        table = MIEX[emotion]
        units = [unit for unit, probability in table.items() if rng.random() < probability]
        units = units or [int(rng.choice(list(table)))]
        if rng.random() < STRAY:
            units.append(int(rng.choice([unit for unit in UNITS if unit not in units])))
        return Sample(
            corpus=self.name,
            subject=f"{self.seed}-{subject:03d}",
            clip=f"{clip:03d}",
            emotion=emotion,
            aus=tuple(ActionUnit(unit) for unit in sorted(units)),
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
        bumps = _bumps([unit.number for unit in sample.aus], person, rng)
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


def _bumps(units: list[int], person: np.random.Generator, rng: np.random.Generator) -> npt.NDArray[Any]:
    """Both sides' bumps, (N, 5), strengths in pixels: the person's proportions, the clip's intensities and a blink."""
    shift, stretch = person.normal(0, 0.02, 2), person.normal(1, 0.05, 2)
    strength, lean, width = person.lognormal(-1.15, 0.3), person.normal(0, 0.15), person.normal(1, 0.1)
    active = [(BUMPS[unit], strength * rng.uniform(0.5, 1.5)) for unit in units]
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
