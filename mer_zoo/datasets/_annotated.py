"""What corpora of pictures have in common: a tree of clips, mostly with a sheet beside it."""

import logging
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mer_zoo.datasets._base import Corpus, Image
from mer_zoo.datasets._labels import EMOTIONS, normal_emotion, parse_aus
from mer_zoo.datasets._pictures import read_pictures
from mer_zoo.datasets._tables import Row, RowError, Sheet, find_sheet, read_sheet
from mer_zoo.datasets._tree import Layout, Tree, shown
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.types import UNUSABLE, ActionUnit, Sample

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("mer_zoo")

Place = tuple[str, ...]  # what tells one folder of pictures from another: subject and clip, or subject and video
MISSING = ("error", "skip")


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


@dataclass(frozen=True)
class Known:
    """An irregularity of a corpus that its owners ship: a flag of one clip, or of many with ``*``."""

    subject: str
    clip: str
    flag: str
    what: str


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
    """

    layouts: ClassVar[Mapping[str, Layout]]
    fps: ClassVar[float | None] = None
    known: ClassVar[tuple[Known, ...]] = ()
    known_extra: ClassVar[frozenset[tuple[str, str]]] = frozenset()

    def __init__(self, root: Path, form: str | None = None, missing: str = "error", index: bool = False) -> None:
        super().__init__(root)
        for name, value, allowed in (("form", form, (None, *self.layouts)), ("missing", missing, MISSING)):
            if value not in allowed:
                raise InputError(f"{self.name}: {name} is {value!r}; expected one of {allowed}.")
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
            raise CorpusError(f"{self._nothing_found()}\n{self.how_to_obtain}")
        if absent and self.missing == "error":
            refused = f" {len(self.tree.refused)} folders cannot be opened." if self.tree.refused else ""
            raise CorpusError(
                f"{self.name}: {len(absent)} of {len(samples)} clips have no pictures in {shown(self.root)} "
                f"({self.form}): {by_subject(absent)}.{refused} Unpack the whole archive, or pass missing='skip'."
            )
        cut = [sample for sample in samples if "frames_truncated" in sample.flags]
        if cut:
            logger.warning("%s: %d clips lack pictures at an end: %s", self.name, len(cut), by_subject(cut))
        yield from samples

    @cached_property
    def found_samples(self) -> list[Sample]:
        """Every annotated sample, flagged, and no error for missing pictures."""
        return [self._flagged(sample) for sample in self.annotated()]

    def _flagged(self, sample: Sample) -> Sample:
        folder = self.folders.get(self.place_of(sample))
        present = folder.within(sample) if folder else []
        flags = []
        if not present:
            flags = [UNUSABLE]
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
        return {place: self._folder(paths[0]) for place, paths in found.items()}

    def _folder(self, path: str) -> Folder:
        return Folder(self.tree.root / path, tuple(self.layout.numbers(self.tree.folders[path])))

    def _find(self, form: str) -> dict[Place, list[str]]:
        """Paths below the root by clip, of folders that hold a picture of this form."""
        found: dict[Place, list[str]] = defaultdict(list)
        layout = self.layouts[form]
        for path, names in self.tree.folders.items():
            match = layout.match(f"{self.tree.root.name}/{path}" if path else self.tree.root.name)
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

    def fingerprint(self, sample: Sample) -> str:
        """Onset to offset, and names, sizes and times of the pictures."""
        stats = [(path, path.stat()) for path in self.frames(sample)]
        window = f"{sample.onset} {sample.apex} {sample.offset} {self.form}"
        return window + "".join(f" {shown(path.name)} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)

    def apex_index(self, sample: Sample) -> int:
        """Position of the apex among ``frames``: the nearest that is there, or the middle where none can be used."""
        numbers = self.frame_numbers(sample)
        if sample.apex is None or sample.apex == sample.onset:
            return len(numbers) // 2
        return min(range(len(numbers)), key=lambda i: abs(numbers[i] - (sample.apex or 0)))

    def verify(self, pictures: bool = False) -> "pd.DataFrame":
        """What was found beside what the owners and their papers say; it can be passed on, no face is in it.

        Args:
            pictures: Open every picture, too.

        Returns:
            Columns ``corpus``, ``what``, ``expected``, ``found``, ``ok`` and ``note``.
        """
        from mer_zoo.datasets._verify import verify_pictures

        return verify_pictures(self, pictures)

    def _nothing_found(self) -> str:
        return (
            f"{self.name}: no picture of any clip in {shown(self.root)}; expected such as "
            f"{' or '.join(layout.example for layout in self.layouts.values())}. Is it the folder of another corpus?"
        )


class SheetCorpus(PictureCorpus):
    """Clips as folders of pictures, annotated in a sheet.

    Args:
        root: As of ``PictureCorpus``.
        form: As of ``PictureCorpus``.
        sheet: The sheet, where it has another name or lies elsewhere.
        missing: As of ``PictureCorpus``.
        index: As of ``PictureCorpus``.

    Attributes:
        sheet: Its name and columns, with the fields ``subject``, ``clip``, ``onset``, ``apex``, ``offset``, ``aus``,
            ``emotion`` and ``objective``, or those of them that there are.
        fixes: Corrections.
    """

    sheet: ClassVar[Sheet]
    fixes: ClassVar[tuple[Fix, ...]] = ()

    def __init__(
        self,
        root: Path,
        form: str | None = None,
        sheet: str | Path | None = None,
        missing: str = "error",
        index: bool = False,
    ) -> None:
        super().__init__(root, form, missing, index)
        self._named = Path(sheet).expanduser() if sheet is not None else None
        self.outcome: dict[Fix, str] = {}

    @abstractmethod
    def names(self, row: Row) -> tuple[str, str] | None:
        """Subject and clip of a row, as a sample spells them; None if the row is none of a clip."""

    def sample(self, row: Row, subject: str, clip: str) -> Sample:
        """The sample that a row describes, its cells mended; a corpus changes what is special about it."""
        onset, apex, offset, odd = window(row.whole("onset"), row.whole("apex"), row.whole("offset"))
        aus, unclear = coded(row.text("aus"))
        written = row.text("emotion")
        emotion = normal_emotion(written)
        return Sample(
            corpus=self.name,
            subject=subject,
            clip=clip,
            emotion=emotion or "unknown",
            onset=onset,
            apex=apex,
            offset=offset,
            fps=self.fps,
            aus=aus,
            flags=(*odd, *unclear, *(("emotion_unexpected",) if emotion not in EMOTIONS else ())),
            emotion_as_written=written,
            objective=row.text("objective").upper() or None,
        )

    @cached_property
    def sheet_file(self) -> Path:
        """The sheet that is read."""
        return find_sheet(self.sheet, self.tree, self._named)

    @cached_property
    def rows(self) -> list[Row]:
        """Rows of the sheet, those of text below the table included."""
        return read_sheet(self.sheet, self.sheet_file)

    def annotated(self) -> Iterator[Sample]:
        """One sample for each row that names a clip.

        Raises:
            CorpusError: If rows cannot be read; it names them all.
        """
        complaints = []
        for row in self.rows:
            try:
                names = self.names(row)
                if names is not None:
                    yield self.sample(self._mended(row, *names), *names)
            except (RowError, InputError) as error:
                complaints.append(str(error) if row.where in str(error) else f"{row.where}: {error}")
        if complaints:
            raise CorpusError(f"{self.name}: {len(complaints)} rows cannot be read. {' '.join(complaints)}")

    def _mended(self, row: Row, subject: str, clip: str) -> Row:
        for fix in self.fixes:
            if (fix.subject, fix.clip) == (subject, clip):
                says = row.text(fix.column)
                applies = says.lower() == fix.was.lower()
                right = says.lower() == fix.now.lower()
                self.outcome[fix] = "mended" if applies else "right already" if right else f"the sheet says {says!r}"
                row = row.with_cell(fix.column, fix.now) if applies else row
        return row


def window(onset: int | None, apex: int | None, offset: int | None) -> tuple[int, int | None, int, tuple[str, ...]]:
    """Onset, apex and offset as a sample takes them, and flags for what is odd; owners write 0 for what is missing.

    The apex stands in for a missing end. An apex that is missing or lies outside is None: readers of frames then take
    the middle one of those that are there.

    Raises:
        RowError: If neither an end nor the apex is given.
    """
    flags = []
    ends = {"onset": onset or None, "offset": offset or None}
    for name, number in ends.items():
        if number is None:
            flags.append(f"{name}_missing")
    first, last = ends["onset"] or apex or ends["offset"], ends["offset"] or apex or ends["onset"]
    if not first or not last:
        raise RowError("onset, apex and offset are all missing; expected frame numbers.")
    if first > last:
        flags.append("window_reversed")
        first, last = last, first
    if not apex:
        flags.append("apex_missing")
    elif not first <= apex <= last:
        flags.append("apex_outside")
    elif not flags and apex == first:
        flags.append("apex_is_onset")
    elif not flags and apex == last:
        flags.append("apex_is_offset")
    return first, apex if apex and first <= apex <= last else None, last, tuple(flags)


def coded(text: str) -> tuple[tuple[ActionUnit, ...], tuple[str, ...]]:
    """Action units of a cell, and flags for what is unclear about them."""
    units, unread = parse_aus(text)
    flags = {
        "aus_unread": bool(unread),
        "aus_unknown": not units and "?" in text,
        "aus_uncertain": any(unit.uncertain for unit in units),
    }
    return units, tuple(name for name, holds in flags.items() if holds)


def by_subject(samples: list[Sample]) -> str:
    """Clips of each subject: ``sub01: EP02_01f, EP03_02; sub04: EP12_01f``."""
    clips: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        clips[sample.subject].append(sample.clip)
    return "; ".join(f"{subject}: {', '.join(names)}" for subject, names in clips.items())
