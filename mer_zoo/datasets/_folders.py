"""Corpora whose clips are folders of pictures: which folder is whose, and which pictures are there."""

import logging
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mer_zoo.datasets._base import Corpus, Image
from mer_zoo.datasets._pictures import read_pictures
from mer_zoo.datasets._tree import DEPTH, Layout, Tree, shown
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.types import UNUSABLE, Sample

if TYPE_CHECKING:
    from mer_zoo.datasets._verify import Check

logger = logging.getLogger("mer_zoo")

Place = tuple[str, ...]  # what tells one folder of pictures from another: subject and clip, or subject and video
MISSING = ("error", "skip")


@dataclass(frozen=True)
class Known:
    """An irregularity that owners ship.

    Attributes:
        subject: As ``Sample.subject``.
        clip: As ``Sample.clip``, or the beginning of it and ``*``.
        flag: What the sample is flagged with; empty where being there is all.
        what: What is odd.
        form: The form that has it; empty for all.
    """

    subject: str
    clip: str
    flag: str
    what: str
    form: str = ""

    def is_of(self, sample: Sample) -> bool:
        """Whether it is about this sample."""
        return sample.subject == self.subject and fnmatchcase(sample.clip, self.clip)


@dataclass(frozen=True)
class Folder:
    """Pictures of one clip or video: its folder, and number and name of each in the order of the numbers."""

    path: Path
    pictures: tuple[tuple[int, str], ...]

    def within(self, sample: Sample) -> list[tuple[int, str]]:
        """Those from onset to offset; all where the sample has no numbers."""
        if sample.onset is None or sample.offset is None:
            return list(self.pictures)
        return [picture for picture in self.pictures if sample.onset <= picture[0] <= sample.offset]


class PictureCorpus(Corpus):
    """Clips as folders of pictures.

    A subclass names its layouts and says which folder is whose.

    Args:
        root: The folder as unpacked, or any folder above the pictures.
        form: One of ``layouts``; None takes the first of them that is there.
        missing: What to do about a clip without pictures: ``error`` names all of them, ``skip`` flags them
            ``frames_missing``; protocols leave them out.
        index: Keep the list of files beside the root, so that opening it again is quicker; see ``Tree``.

    Attributes:
        layouts: By name of the form, the preferred one first.
        fps: Frames a second.
        known: Irregularities that owners ship.
        known_extra: Clips on disk that the owners' sheet does not have.
        lossy: Why clips of a sound copy may be cut short, where they may.
    """

    by_frame = True
    layouts: ClassVar[Mapping[str, Layout]]
    fps: ClassVar[float | None] = None
    known: ClassVar[tuple[Known, ...]] = ()
    known_extra: ClassVar[frozenset[tuple[str, str]]] = frozenset()
    lossy: ClassVar[str] = ""

    def __init__(self, root: Path, form: str | None = None, missing: str = "error", index: bool = False) -> None:
        super().__init__(root)
        for name, value, allowed in (
            ("form", form, (None, *self.layouts)),
            ("missing", missing, MISSING),
            ("index", index, (True, False)),
        ):
            if value not in allowed:
                expected = ", ".join(repr(each) for each in allowed if each is not None)
                raise InputError(f"{self.name}: {name} is {value!r}; expected one of {expected}.")
        self.tree, self.missing, self._form = Tree(root, index), missing, form

    # What a subclass says

    @abstractmethod
    def annotated(self) -> Iterator[Sample]:
        """Every sample as annotated, whether its pictures are there or not."""

    def place(self, subject: str, name: str) -> Place:
        """One spelling of what a folder's path says: subject and clip."""
        return subject, name

    def place_of(self, sample: Sample) -> Place:
        """Whose folder a sample's pictures lie in, as ``place`` spells it."""
        return self.place(sample.subject, sample.clip)

    # Samples

    def read(self) -> Iterator[Sample]:
        """Every sample, with flags for what is missing on disk.

        Raises:
            CorpusError: If clips have no pictures, with ``missing="error"``; it names them all.
        """
        samples = self.found_samples
        absent = [sample for sample in samples if UNUSABLE in sample.flags]
        if absent and len(absent) == len(samples):
            raise CorpusError(f"{self.name}: {self.nothing_found()}\n{self.how_to_obtain}")
        if absent and self.missing == "error":
            refused = f" {len(self.tree.refused)} folders cannot be opened." if self.tree.refused else ""
            others = [sample for sample in absent if self.place_of(sample) in self.folders]
            if others:
                refused += (
                    f" Of {by_subject(others)} there are pictures, but none from onset to offset: see to the sheet."
                )
            raise CorpusError(
                f"{self.name}: {len(absent)} of {len(samples)} clips have no pictures in {shown(self.root)} "
                f"({self.form}): {by_subject(absent)}.{refused} Unpack the whole archive, or pass missing='skip' "
                "to open_corpus."
            )
        cut = [sample for sample in samples if "frames_truncated" in sample.flags]
        if cut and not self.lossy:
            said = ", ".join(f"{s.key} has {len(self.frame_numbers(s))} of {_length(s)}" for s in cut)
            logger.warning("%s: clips lack pictures at an end: %s", self.name, said)
        yield from samples

    @cached_property
    def found_samples(self) -> list[Sample]:
        """Every annotated sample, flagged, and no error for missing pictures."""
        return [self.flagged(sample) for sample in self.annotated()]

    def flagged(self, sample: Sample) -> Sample:
        """The same with flags for what is missing on disk."""
        folder = self.folders.get(self.place_of(sample))
        present = folder.within(sample) if folder else []
        alone = sample.onset is not None and sample.onset == sample.offset
        flags = ["window_of_one"] if alone else []
        if not present or (len(present) < 2 and (not alone or self.missing == "skip")):
            flags.append(UNUSABLE)
        elif sample.onset is not None and sample.offset is not None:
            numbers = [number for number, _ in present]
            if numbers[0] > sample.onset or numbers[-1] < sample.offset:
                flags.append("frames_truncated")
            if len(set(numbers)) < numbers[-1] - numbers[0] + 1:
                flags.append("frames_with_gaps")
            if len(set(numbers)) < len(numbers):
                flags.append("frames_twice")
        return replace(sample, flags=(*sample.flags, *flags)) if flags else sample

    # Pictures

    @cached_property
    def form(self) -> str:
        """The layout that is read."""
        if self._form is not None:
            return self._form
        return next((name for name in self.layouts if self._find(name)), next(iter(self.layouts)))

    @property
    def layout(self) -> Layout:
        """Where pictures lie in the form that is read."""
        return self.layouts[self.form]

    @property
    def cropped(self) -> bool:
        """Whether pictures show the face only, as the owners cut it out."""
        return self.layout.cropped

    @cached_property
    def folders(self) -> dict[Place, Folder]:
        """The folder of each clip or video, in the form that is read.

        Raises:
            CorpusError: If two folders are one clip's.
        """
        found = self._find(self.form)
        twice = {place: paths for place, paths in found.items() if len(paths) > 1}
        if twice:
            first = ", ".join(shown(path) for path in next(iter(twice.values())))
            raise CorpusError(
                f"{self.name}: {len(twice)} clips lie in more than one folder, such as {first}. Pass the one that is "
                f"meant as root, or choose by form={'|'.join(self.layouts)}."
            )
        return {place: self.folder_at(paths[0]) for place, paths in found.items()}

    def folder_at(self, path: str) -> Folder:
        """The pictures of the folder at a path below the root."""
        return Folder(self.tree.root / path, tuple(self.layout.numbers(self.tree.folders[path])))

    def _find(self, form: str) -> dict[Place, list[str]]:
        """Paths below the root by clip, of folders that hold a picture of this form."""
        found: dict[Place, list[str]] = defaultdict(list)
        layout = self.layouts[form]
        for path, names in self.tree.folders.items():
            match = layout.match(f"{self.tree.name}/{path}" if path else self.tree.name)
            if match and any(layout.frame.fullmatch(name) for name in names):
                found[self.place(*match.groups())].append(path)
        return found

    def frames(self, sample: Sample) -> list[Path]:
        """The pictures that are there from onset to offset, in the order of their numbers.

        Raises:
            CorpusError: If there are none.
        """
        folder = self.folders.get(self.place_of(sample))
        present = folder.within(sample) if folder else []
        if sample.corpus != self.name or folder is None or not present:
            raise CorpusError(f"{sample.key}: no picture in {shown(self.root)}; take usable samples of this corpus.")
        return [folder.path / name for _, name in present]

    def frame_numbers(self, sample: Sample) -> list[int]:
        """The owners' number of each of ``frames``."""
        folder = self.folders.get(self.place_of(sample))
        return [number for number, _ in folder.within(sample)] if folder else []

    def clip(self, sample: Sample) -> Image:
        """The frames as (T, H, W) grey or (T, H, W, 3) colour.

        Raises:
            CorpusError: If pictures are missing, cannot be read or differ in size; it names all that do.
        """
        return read_pictures(self.frames(sample), sample.key)

    def take(self, sample: Sample, positions: Sequence[int] | None = None, grey: bool = False) -> Image:
        """The frames at these positions of ``clip``, or all; no other is read.

        Raises:
            CorpusError: As ``clip``.
        """
        files = self.frames(sample)
        return read_pictures(files if positions is None else [files[i] for i in positions], sample.key, grey)

    def fingerprint(self, sample: Sample) -> str:
        """Onset to offset, and names, sizes and times of the pictures.

        Raises:
            CorpusError: If a picture has gone meanwhile.
        """
        try:
            stats = [(path, path.stat()) for path in self.frames(sample)]
        except OSError as error:
            raise CorpusError(f"{sample.key}: {shown(error)}; open the corpus anew.") from error
        window = f"{sample.onset} {sample.apex} {sample.offset} {self.form}"
        return window + "".join(f" {shown(path.name)} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)

    def checks(self, pictures: bool = False) -> "Iterator[Check]":
        """The lines of ``verify``."""
        from mer_zoo.datasets._verify import checks_of_pictures

        return checks_of_pictures(self, pictures)

    def nothing_found(self) -> str:
        """What was looked for, where no picture of any clip is there."""
        there = self._find(self.form)  # not ``folders``: it may need the sheet, which may be what is missing
        if there:
            return (
                f"{len(there)} folders of pictures are in {shown(self.root)} ({self.form}), but none has a "
                "picture between a clip's onset and offset. Does the sheet belong to them?"
            )
        examples = " or ".join(layout.example for layout in self.layouts.values())
        return (
            f"No picture of any clip in {shown(self.root)} or {DEPTH} folders below; expected such as {examples}. Is "
            "it the folder of another corpus?"
        )


def _length(sample: Sample) -> int:
    return (sample.offset or 0) - (sample.onset or 0) + 1


def by_subject(samples: list[Sample]) -> str:
    """Clips of each subject: ``sub01: EP02_01f, EP03_02; sub04: EP12_01f``."""
    clips: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        clips[sample.subject].append(sample.clip)
    return "; ".join(f"{subject}: {', '.join(names)}" for subject, names in clips.items())
