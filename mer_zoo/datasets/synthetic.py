"""Synthetic micro-expressions: rendered faces driven by action units, made when they are asked for."""

import csv
import itertools
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from mer_zoo.datasets._base import Corpus, Image, register_corpus
from mer_zoo.datasets._labels import read_unit
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.synth.emotions import OBJECTIVE
from mer_zoo.synth.generator import VERSION, Generator
from mer_zoo.synth.settings import is_whole, settings_of
from mer_zoo.synth.units import AUS, SIDES
from mer_zoo.types import Sample

SHEET = "synthetic.csv"
COLUMNS = ("subject", "clip", "emotion", "onset", "apex", "offset", "fps", "action_units")


class _Faces(Corpus):
    """What a synthetic corpus is, made or read from a folder."""

    name, title = "synthetic", "Synthetic micro-expressions: rendered faces driven by action units"
    homepage, terms = "made by this library", "none: no person and no data set is in it"
    unit_names = tuple(f"{side}{unit}" for unit in AUS for side in SIDES)

    @classmethod
    def obtaining(cls) -> str:
        return f"{super().obtaining()}\n  Leave the folder out, or write one by `mer-zoo specimen synthetic FOLDER`."

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Write three made-up persons with six clips each."""
        Synthetic(subjects=3, clips_per_subject=6).write(folder)

    def multi_hot(self, sample: Sample) -> npt.NDArray[np.float32]:
        """Which of the 17 action units are coded, (17,) of 0 and 1, in the order 1, 2, 4, 5, 6, 7, 9, …, 26."""
        return np.isin(AUS, [unit.number for unit in sample.aus]).astype(np.float32)


class SyntheticFolder(_Faces):
    """A synthetic corpus that was written to a folder: ``synthetic.csv`` and ``<subject>/<clip>/<frame>.png``.

    True flow and strengths are not written; the corpus that made the clips has them.
    """

    def read(self) -> Iterator[Sample]:
        """One sample for each row of the sheet.

        Raises:
            CorpusError: If the sheet is missing or a row cannot be read.
        """
        sheet = self._folder / SHEET
        if not sheet.is_file():
            raise CorpusError(f"{self._folder} holds no {SHEET}; expected a folder as written by `mer-zoo specimen`.")
        with sheet.open(newline="", encoding="utf-8") as text:
            rows = csv.reader(text)
            try:
                header = next(rows, [])
                if tuple(header) != COLUMNS:
                    raise CorpusError(f"{sheet} has the columns {header}; expected {', '.join(COLUMNS)}.")
                yield from (_from_row(row) for row in rows)
            except (ValueError, csv.Error) as error:
                if isinstance(error, CorpusError):
                    raise
                raise CorpusError(f"{sheet}, line {rows.line_num}: {error}") from error

    def frames(self, sample: Sample) -> list[Path]:
        """The pictures from onset to offset.

        Raises:
            CorpusError: If one is missing or the sample is not of this corpus.
        """
        folder = self._folder / sample.subject / sample.clip
        if sample.onset is None or sample.offset is None or sample.corpus != self.name:
            raise CorpusError(f"{sample.key} is not in {self._folder}; take samples of this corpus.")
        present = {path.name for path in folder.glob("*.png")}
        names = (f"{number:05d}.png" for number in range(sample.onset, sample.offset + 1))
        missing = list(itertools.islice((name for name in names if name not in present), 3))
        if missing:
            raise CorpusError(
                f"{sample.key}: {folder} lacks frames of {sample.onset} to {sample.offset}, such as {missing}."
            )
        return [folder / f"{number:05d}.png" for number in range(sample.onset, sample.offset + 1)]

    def clip(self, sample: Sample) -> Image:
        """The frames as (T, H, W) grey levels.

        Raises:
            CorpusError: If a picture is missing, unreadable, not grey or of another size than the first.
        """
        pictures = {path: _read_picture(path) for path in self.frames(sample)}
        shapes = {path: picture.shape for path, picture in pictures.items()}
        first = next(iter(shapes.values()))
        for path, shape in shapes.items():
            if shape != first:
                raise CorpusError(f"{path} has shape {shape}; expected {first}, as the first frame of {sample.key}.")
        return np.stack(list(pictures.values()))

    def fingerprint(self, sample: Sample) -> str:
        """Names, sizes and times of the pictures."""
        stats = [(path, path.stat()) for path in self.frames(sample)]
        return f"{sample} " + " ".join(f"{path.name} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)

    def flow(self, sample: Sample) -> npt.NDArray[np.float32]:
        """The true motion is not written.

        Raises:
            CorpusError: Always; it says what to do.
        """
        raise CorpusError("A folder of synthetic clips has no true flow; the corpus that made them has.")

    def action_units(self, sample: Sample) -> npt.NDArray[np.float32]:
        """Strengths are not written.

        Raises:
            CorpusError: Always; it says what to do.
        """
        raise CorpusError("A folder of synthetic clips has no strengths of units; the corpus that made them has.")

    @property
    def _folder(self) -> Path:
        if self.root is None:
            raise CorpusError(f"{self.name}: no folder was given.\n{self.how_to_obtain}")
        return self.root


@register_corpus
class Synthetic(_Faces):
    """Clips of rendered faces that do not exist, as many as you like.

    A clip depends on the knobs and on (seed, subject, clip) alone: it is the same in every set and in every process.
    Each subject's clips take the labels in turn.

    Args:
        root: Leave it out; ``open_corpus("synthetic", FOLDER)`` reads what ``write`` wrote.
        subjects: Number of persons, 2 or more.
        clips_per_subject: Clips of each, 1 or more.
        seed: Other seeds are other persons.
        preset: ``easy``, ``default`` or ``hard``.
        **knobs: What to change in the preset: fields of ``mer_zoo.synth.Settings``, such as ``classes`` or ``size``.

    Raises:
        InputError: If a number, the preset or a knob is not allowed.
    """

    needs_root = False
    folder_form = SyntheticFolder

    def __init__(
        self,
        root: None = None,
        subjects: int = 30,
        clips_per_subject: int = 9,
        seed: int = 0,
        preset: str = "default",
        **knobs: Any,
    ) -> None:
        super().__init__(root)
        for name, value, low in (("subjects", subjects, 2), ("clips_per_subject", clips_per_subject, 1)):
            if not is_whole(value) or not low <= value < 2**32:
                raise InputError(f"synthetic: {name} is {value!r}; expected a whole number, {low} to 2 ** 32 - 1.")
        self.subjects, self.clips_per_subject = int(subjects), int(clips_per_subject)
        self.generator = Generator(settings_of(preset, **knobs), seed)

    def read(self) -> Iterator[Sample]:
        """One sample for each person and clip; frames are numbered from nought."""
        for subject in range(self.subjects):
            for clip in range(self.clips_per_subject):
                coding, label = self.generator.coding(subject, clip), self.generator.label(subject, clip)[1]
                yield Sample(
                    corpus=self.name,
                    subject=self._subject_name(subject),
                    clip=f"{clip:03d}",
                    emotion=label,
                    onset=0,
                    apex=coding.apex,
                    offset=self.generator.settings.frames - 1,
                    fps=coding.fps,
                    aus=tuple(map(read_unit, coding.units)),
                    objective=label if self.generator.settings.classes == "objective" else None,
                )

    def clip(self, sample: Sample) -> Image:
        """The frames from onset to offset, (T, S, S) grey levels.

        Raises:
            CorpusError: If the sample is not of this corpus.
        """
        return self.generator.clip(*self._numbers_of(sample))

    def flow(self, sample: Sample) -> npt.NDArray[np.float32]:
        """The true motion since the onset: (T, S, S, 2) pixels, u to the right and v downwards, by pixel of the onset.

        Lids that blink have none: what lies between them moves with the eye, and the skin above them rests.

        Raises:
            CorpusError: If the sample is not of this corpus.
        """
        return self.generator.flow(*self._numbers_of(sample))

    def action_units(self, sample: Sample) -> npt.NDArray[np.float32]:
        """Greatest strength of every action unit, at or near the apex: (34,), 0 to 1, in the order of ``unit_names``.

        Faint ones that no annotator would code are in it, too.

        Raises:
            CorpusError: If the sample is not of this corpus.
        """
        return self.generator.script(*self._numbers_of(sample)).peaks.reshape(-1)

    def frames(self, sample: Sample) -> list[Path]:
        """There are none before they are written.

        Raises:
            CorpusError: Always; it says what to do.
        """
        raise CorpusError("synthetic holds no frames on disk; take clip(sample), or write(folder) and open the folder.")

    def fingerprint(self, sample: Sample) -> str:
        """The version of the generator and its knobs; the key says the rest."""
        return f"synthetic {VERSION} {self.generator.settings}"

    def write(self, folder: str | Path) -> None:
        """Write all clips as PNG files, and ``synthetic.csv`` last, so that half a corpus is none."""
        folder = Path(folder).expanduser()
        (folder / SHEET).unlink(missing_ok=True)
        for sample in self.samples:
            pictures = folder / sample.subject / sample.clip
            pictures.mkdir(parents=True, exist_ok=True)
            for number, picture in enumerate(self.clip(sample)):
                PILImage.fromarray(picture).save(pictures / f"{number:05d}.png")
        temporary = folder / f"{SHEET}.tmp"
        with temporary.open("w", newline="", encoding="utf-8") as text:
            writer = csv.writer(text)
            writer.writerow(COLUMNS)
            writer.writerows(_to_row(sample) for sample in self.samples)
        temporary.replace(folder / SHEET)

    def _subject_name(self, subject: int) -> str:
        settings = self.generator.settings
        return f"{'' if settings.family == 'head' else settings.family}{self.generator.seed}-{subject:03d}"

    @cached_property
    def _numbers(self) -> dict[Sample, tuple[int, int]]:
        return {sample: divmod(i, self.clips_per_subject) for i, sample in enumerate(self.samples)}

    def _numbers_of(self, sample: Sample) -> tuple[int, int]:
        if not isinstance(sample, Sample):
            raise InputError(f"sample is {sample!r}; expected one of corpus.samples.")
        if sample not in self._numbers:
            raise CorpusError(
                f"{sample.key}, {sample.emotion}, {'+'.join(map(str, sample.aus))}, is not in this corpus, which "
                f"begins with {self.samples[0]}. Take samples of the corpus itself; other knobs make other clips."
            )
        return self._numbers[sample]


def _to_row(sample: Sample) -> list[Any]:
    frames = [sample.onset, sample.apex, sample.offset]
    return [sample.subject, sample.clip, sample.emotion, *frames, sample.fps, "+".join(map(str, sample.aus))]


def _from_row(row: list[str]) -> Sample:
    if len(row) != len(COLUMNS):
        raise InputError(f"{len(row)} cells; expected {len(COLUMNS)}: {', '.join(COLUMNS)}.")
    subject, clip, emotion, onset, apex, offset, fps, units = row
    if not re.fullmatch(r"[LR]?\d+(\+[LR]?\d+)*", units):
        raise InputError(f"action units {units!r}; expected FACS codes such as 4+L12.")
    if not int(onset) <= int(apex) <= int(offset):
        raise InputError(f"apex {apex} lies outside of onset {onset} to offset {offset}.")
    if {subject, clip} & {".", ".."}:
        raise InputError(f"subject {subject!r}, clip {clip!r}; expected names of folders.")
    return Sample(
        corpus=SyntheticFolder.name,
        subject=subject,
        clip=clip,
        emotion=emotion,
        onset=int(onset),
        apex=int(apex),
        offset=int(offset),
        fps=float(fps),
        aus=tuple(map(read_unit, units.split("+"))),
        objective=emotion if emotion in OBJECTIVE else None,
    )


def _read_picture(path: Path) -> Image:
    try:
        with PILImage.open(path) as picture:
            grey = np.asarray(picture)
    except (OSError, ValueError, SyntaxError) as error:
        raise CorpusError(f"{path} is no readable picture: {error}.") from error
    if grey.ndim != 2 or grey.dtype != np.uint8:
        raise CorpusError(f"{path} is {grey.dtype} {grey.shape}; expected 8-bit grey levels.")
    return grey
