"""Corpus: one data set as its owners ship it. It knows nothing of classes or folds."""

import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from mer_zoo.datasets._tree import shown
from mer_zoo.errors import CorpusError, InputError, printable
from mer_zoo.registry import Registry
from mer_zoo.types import Counts, InputSpec, Sample

if TYPE_CHECKING:
    import pandas as pd

    from mer_zoo.datasets._verify import Check

Image = npt.NDArray[np.uint8]

# Flow images as they were published for MEGC 2019.
FLOW_IMAGE = InputSpec("flow", ("u", "v", "strain"), size=28, high=255.0, scaling="channel_min_max", flow_method="tvl1")

CORPORA: Registry[type["Corpus"]] = Registry("corpus")


@dataclass(frozen=True)
class Fix:
    """A correction of one cell, by key and never by position; it applies only where the sheet says ``was``.

    Attributes:
        subject: As ``Sample.subject``.
        clip: As ``Sample.clip``.
        column: The field that is wrong.
        was: Text of the cell in the owners' sheet.
        now: What it should be.
        why: How that is known.
    """

    subject: str
    clip: str
    column: str
    was: str
    now: str
    why: str


class Corpus(ABC):
    """Samples and what belongs to them.

    A subclass sets the class attributes, and defines ``read`` and ``write_specimen`` and whichever of ``flow_image``,
    ``frames`` and ``clip`` its data can give.

    Attributes:
        root: The folder or file as its owners unpack it; None for a corpus that is made, not read.
        name: Its name in the registry.
        owner: Who gives the data out.
        homepage: Where to ask.
        terms: On what terms.
        forbidden: What may not be done with them.
        counts: What the owners' publication says there is, by ``Sample.corpus``.
        editions: Counts of other versions of the sheet.
        needs_root: Whether the data lie in a folder; otherwise they are made.
        folder_form: What reads a corpus that is made back from a folder; None if nothing does.
        native_spec: What the data are without any cooking, for networks that do not say what they eat; None for
            raw frames, which must be cooked.
        by_frame: Whether ``take`` reads the frames that it is asked for and no other.
        fitted_on: Keys of clips from which what this corpus hands out was computed beside the clip itself, such as a
            mean face or a common scale; mostly none. ``evaluate`` refuses to test those clips.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    owner: ClassVar[str] = ""
    homepage: ClassVar[str]
    terms: ClassVar[str]
    forbidden: ClassVar[str] = ""
    needs_root: ClassVar[bool] = True
    folder_form: ClassVar[type["Corpus"] | None] = None
    counts: ClassVar[Mapping[str, Counts]] = {}
    editions: ClassVar[tuple[Counts, ...]] = ()
    native_spec: ClassVar[InputSpec | None] = None
    by_frame: ClassVar[bool] = False
    fitted_on: Collection[str] = ()

    def __init__(self, root: Path | None = None) -> None:
        self.root = root

    @abstractmethod
    def read(self) -> Iterator[Sample]:
        """Every sample, in the owners' order."""

    @classmethod
    @abstractmethod
    def write_specimen(cls, folder: Path) -> None:
        """Draw a made-up copy in the owners' layout, with its irregularities, into ``folder``."""

    @cached_property
    def samples(self) -> list[Sample]:
        """Every sample, in the owners' order, each key once.

        Raises:
            CorpusError: If a key comes twice or nothing is found.
        """
        samples = list(self.read())
        twice = [key for key, times in Counter(s.key for s in samples).items() if times > 1]
        if twice:
            where = shown(self.root)
            raise CorpusError(
                f"{self.name}: {len(twice)} clips come more than once in {where}: {twice[:3]}; leave one of each."
            )
        if not samples:
            raise CorpusError(f"{self.name}: no clip found in {shown(self.root)}.\n{self.how_to_obtain}")
        return samples

    def flow_image(self, sample: Sample) -> Image:
        """Flow from onset to apex as (H, W, 3): u, v, strain, each stretched per image to 0..255.

        Raises:
            CorpusError: If this corpus holds no flow images.
        """
        raise CorpusError(f"{self.name} holds no flow images.")

    def frames(self, sample: Sample) -> list[Path]:
        """The pictures that are there, onset to offset, in the order of their numbers.

        Raises:
            CorpusError: If this corpus holds no pictures.
        """
        raise CorpusError(f"{self.name} holds no frames, only what was computed from them.")

    def clip(self, sample: Sample) -> Image:
        """The frames as (T, H, W) grey or (T, H, W, 3) colour.

        Raises:
            CorpusError: If this corpus holds no pictures.
        """
        raise CorpusError(f"{self.name} holds no frames, only what was computed from them.")

    def take(self, sample: Sample, positions: Sequence[int] | None = None, grey: bool = False) -> Image:
        """The frames at these positions of ``clip``, or all; where pictures are read, no other is.

        Args:
            sample: One of ``samples``.
            positions: From 0.
            grey: Colours are not needed, so a corpus may spare making them.

        Raises:
            CorpusError: If this corpus holds no pictures.
            InputError: If it has not as many for this clip as there are numbers.
        """
        frames = self.clip(sample)
        if positions is not None:
            numbers = self.frame_numbers(sample)
            if len(numbers) != len(frames):
                raise InputError(
                    f"{sample.key}: the clip has {len(frames)} frames for {len(numbers)} numbers, {sample.onset}.."
                    f"{sample.offset}, so that the apex cannot be told. Find the missing frames or leave it out."
                )
            frames = frames[list(positions)]
        return frames

    def fingerprint(self, sample: Sample) -> str:
        """Text that changes when what is read for this sample changes, for caches."""
        raise NotImplementedError

    def frame_numbers(self, sample: Sample) -> list[int]:
        """The owners' number of each frame of ``clip``; here all from onset to offset.

        Raises:
            CorpusError: If the sample has none.
        """
        if sample.onset is None or sample.offset is None:
            raise CorpusError(f"{sample.key}: {self.name} gives no onset and offset; flow goes from onset to apex.")
        return list(range(sample.onset, sample.offset + 1))

    def apex_index(self, sample: Sample) -> int:
        """Position of the apex among the frames: the nearest that is there, or the middle one.

        Raises:
            CorpusError: If frames have no numbers.
        """
        coded = self.coded_apex(sample)
        return len(self.frame_numbers(sample)) // 2 if coded is None else coded

    def coded_apex(self, sample: Sample) -> int | None:
        """Position of the annotated apex among the frames: the nearest that is there.

        It is None where no apex is coded, where it lies outside of the clip, or where it is the onset itself, so that
        nothing would have moved.

        Raises:
            CorpusError: If frames have no numbers.
        """
        numbers, apex = self.frame_numbers(sample), sample.apex
        if not numbers:
            raise CorpusError(f"{sample.key}: no frame is there.")
        if apex is None or not (sample.onset or 0) < apex <= (sample.offset or 0):
            return None
        return min(range(len(numbers)), key=lambda i: abs(numbers[i] - apex)) or None

    @property
    def cropped(self) -> bool:
        """Whether frames show the face only."""
        return True

    @classmethod
    def obtaining(cls) -> str:
        """Whose the data are, where to ask for them, on what terms, and what may not be done with them."""
        parts = {"Owner": cls.owner, "Ask": cls.homepage, "Terms": cls.terms, "You may not": cls.forbidden}
        return "\n".join([f"{cls.title}.", *(f"  {name}: {text}." for name, text in parts.items() if text)])

    @property
    def how_to_obtain(self) -> str:
        """As ``obtaining``, of the class, says."""
        return self.obtaining()

    def edition(self, clips: int) -> Counts | None:
        """The published counts of the version of the sheet with so many clips, or of the usual one; None if unknown."""
        versions = [*self.counts.values(), *self.editions]
        return next((counts for counts in versions if counts.clips == clips), versions[0] if versions else None)

    def verify(self, pictures: bool = False) -> "pd.DataFrame":
        """Print and return what was found beside what the owners and their papers say.

        It holds names, numbers and a checksum, and no face, so that it can be passed on.

        Args:
            pictures: Open every picture, too.

        Returns:
            Columns ``corpus``, ``what``, ``expected``, ``found``, ``ok`` and ``note``, all but ``ok`` text.

        Raises:
            CorpusError: If the folder holds no sheet where there should be one, or one that cannot be read.
        """
        from mer_zoo.datasets._verify import as_table, as_text

        table = as_table(self.checks(pictures))
        print(printable(as_text(table), sys.stdout))
        return table

    def checks(self, pictures: bool = False) -> "Iterator[Check]":
        """The lines of ``verify``."""
        from mer_zoo.datasets._verify import counted, opened

        samples = self.samples
        for corpus in sorted({s.corpus for s in samples} | set(self.counts)):
            clips = [s for s in samples if s.corpus == corpus]
            yield from counted(corpus, clips, self.counts.get(corpus) or Counts(None, len(clips)))
        if pictures:
            yield opened(self, self.samples)


C = TypeVar("C", bound=type[Corpus])


def register_corpus(corpus: C) -> C:
    """Make a corpus known under its ``name``; a second use of the name raises."""
    CORPORA.add(corpus.name, corpus)
    return corpus
