"""Corpora whose clips are annotated in a sheet beside the folders of pictures."""

import logging
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mer_zoo.datasets._base import Fix
from mer_zoo.datasets._folders import PictureCorpus
from mer_zoo.datasets._labels import EMOTIONS, normal_emotion, parse_aus
from mer_zoo.datasets._tables import NoSheetError, Row, RowError, Sheet, find_sheet, read_sheet
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.types import ActionUnit, Sample

if TYPE_CHECKING:
    from mer_zoo.datasets._verify import Check

logger = logging.getLogger("mer_zoo")

CLASSES = ("I", "II", "III", "IV", "V", "VI", "VII")  # objective ones
SAID = 10  # complaints about rows that an error repeats; a whole column may be wrong


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
        naming: The fields that say whose clip a row is of.
        zero: Whether frames may have the number 0; elsewhere owners write it for what is missing.
        fixes: Corrections.
        objective_counts: Clips of each objective class, where they were published.
    """

    sheet: ClassVar[Sheet]
    naming: ClassVar[tuple[str, ...]] = ("subject", "clip")
    zero: ClassVar[bool] = False
    fixes: ClassVar[tuple[Fix, ...]] = ()
    objective_counts: ClassVar[Mapping[str, int]] = {}

    def __init__(
        self,
        root: Path,
        form: str | None = None,
        sheet: str | Path | None = None,
        missing: str = "error",
        index: bool = False,
    ) -> None:
        super().__init__(root, form, missing, index)
        self.named_sheet = Path(sheet).expanduser() if sheet is not None else None
        self.outcome: dict[Fix, str] = {}

    @abstractmethod
    def names(self, row: Row) -> tuple[str, str] | None:
        """Subject and clip of a row, as a sample spells them; None if the row is none of a clip."""

    def samples_of(self, row: Row, subject: str, clip: str) -> Iterable[Sample]:
        """The samples that a row describes, its cells mended: one, unless a corpus says otherwise."""
        return (self.sample(row, subject, clip),)

    def sample(self, row: Row, subject: str, clip: str) -> Sample:
        """The sample that a row describes, its cells mended; a corpus changes what is special about it."""
        onset, apex, offset, odd = window(row.whole("onset"), row.whole("apex"), row.whole("offset"), self.zero)
        aus, unclear = coded(row.text("aus"))
        written, objective = row.text("emotion"), row.text("objective").upper()
        emotion = normal_emotion(written)
        strange = {
            "emotion_unexpected": emotion not in EMOTIONS,
            "objective_unexpected": objective not in ("", *CLASSES),
        }
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
            flags=(*odd, *unclear, *(name for name, holds in strange.items() if holds)),
            emotion_as_written=written,
            objective=objective if objective in CLASSES else None,
        )

    @cached_property
    def sheet_files(self) -> list[Path]:
        """The sheets that are read; most corpora have one."""
        return [find_sheet(self.sheet, self.tree, self.named_sheet)]

    @property
    def sheet_file(self) -> Path:
        """The first sheet that is read."""
        return self.sheet_files[0]

    @property
    def further_sheets(self) -> list[Path]:
        """Sheets of which only labels are taken."""
        return []

    @cached_property
    def rows(self) -> list[Row]:
        """Rows of the sheets, those of text below a table included."""
        return [row for file in self.sheet_files for row in read_sheet(self.sheet, file)]

    def annotated(self) -> Iterator[Sample]:
        """One sample for each row that names a clip.

        Raises:
            CorpusError: If there is no sheet, or if rows cannot be read; it names the first ten and counts all.
        """
        try:
            rows = self.rows
        except NoSheetError as error:
            pictures = "" if self._find(self.form) else f" {self.nothing_found()}"
            raise CorpusError(f"{self.name}: {error}{pictures}\n{self.how_to_obtain}") from error
        complaints = []
        for row in rows:
            try:
                names = self.names(row)
                if names is None:
                    self._check_text(row)
                else:
                    yield from self._as_written(row, self.samples_of(self._mended(row, *names), *names))
            except (RowError, InputError) as error:
                complaints.append(str(error) if row.where in str(error) else f"{row.where}: {error}")
        if complaints:
            more = f" And {len(complaints) - SAID} more." if len(complaints) > SAID else ""
            said = " ".join(complaints[:SAID])
            raise CorpusError(f"{self.name}: {len(complaints)} rows cannot be read. {said}{more}")

    def _check_text(self, row: Row) -> None:
        """Let rows of text go, such as sums and remarks below the table.

        Raises:
            RowError: If the row has a name and an onset or offset: then the name cannot be read. With
                ``missing="skip"`` it goes with a warning.
        """
        named = " ".join(text for name in self.naming if (text := row.text(name)))
        numbered = any(re.fullmatch(r"\d+(\.0*)?", row.text(end)) for end in ("onset", "offset"))
        if named and numbered and self.missing == "skip":
            logger.warning("%s: %s, %r, names no clip; left out.", self.name, row.where, named)
        elif named and numbered:
            raise RowError(f"{row.where}: {named!r} names no clip of {self.name}; mend it, or pass missing='skip'.")

    @staticmethod
    def _as_written(row: Row, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The same with the emotion as its owners wrote it, even if it was mended."""
        for sample in samples:
            yield replace(sample, emotion_as_written=row.text("emotion") or sample.emotion_as_written)

    def checks(self, pictures: bool = False) -> "Iterator[Check]":
        """The lines of ``verify``."""
        from mer_zoo.datasets._verify import checks_of_sheets

        samples = self.found_samples  # an error of the sheet comes first
        yield from checks_of_sheets(self, samples)
        yield from super().checks(pictures)

    def _mended(self, row: Row, subject: str, clip: str) -> Row:
        for fix in self.fixes:
            if (fix.subject, fix.clip) == (subject, clip):
                says = row.text(fix.column)
                applies = says.lower() == fix.was.lower()
                right = says.lower() == fix.now.lower()
                self.outcome[fix] = "mended" if applies else "right already" if right else f"the sheet says {says!r}"
                row = row.with_cell(fix.column, fix.now) if applies else row
        return row


def window(
    onset: int | None, apex: int | None, offset: int | None, zero: bool = False
) -> tuple[int, int | None, int, tuple[str, ...]]:
    """Onset, apex and offset as a sample takes them, and flags for what is odd.

    Most owners write 0 for what is missing; with ``zero`` it is a number like others. The apex stands in for a missing
    end. An apex that is missing or lies outside is None: readers of frames then take the middle one of those there.

    Raises:
        RowError: If neither an end nor the apex is given.
    """
    least = 0 if zero else 1
    onset, apex, offset = (None if n is None or n < least else n for n in (onset, apex, offset))
    flags = [f"{name}_missing" for name, number in (("onset", onset), ("offset", offset)) if number is None]
    if onset is apex is offset is None:
        raise RowError("onset, apex and offset are all missing; expected frame numbers.")
    first = next(n for n in (onset, apex, offset) if n is not None)
    last = next(n for n in (offset, apex, onset) if n is not None)
    if first > last:
        flags.append("window_reversed")
        first, last = last, first
    if apex is None:
        flags.append("apex_missing")
    elif not first <= apex <= last:
        flags.append("apex_outside")
    elif not flags and apex == first:
        flags.append("apex_is_onset")
    elif not flags and apex == last:
        flags.append("apex_is_offset")
    return first, apex if apex is not None and first <= apex <= last else None, last, tuple(flags)


def coded(text: str) -> tuple[tuple[ActionUnit, ...], tuple[str, ...]]:
    """Action units of a cell, and flags for what is unclear about them."""
    units, unread = parse_aus(text)
    flags = {
        "aus_unread": bool(unread),
        "aus_unknown": not units and "?" in text,
        "aus_uncertain": any(unit.uncertain for unit in units),
    }
    return units, tuple(name for name, holds in flags.items() if holds)
