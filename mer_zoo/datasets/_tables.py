"""Owners' sheets: found by name, read by content. Nothing here knows a corpus."""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from mer_zoo.datasets._tree import Tree, holds, shown
from mer_zoo.errors import CorpusError

ENDINGS = (".xlsx", ".xlsm", ".xls", ".csv")
HEADER_WITHIN = 60  # rows; titles and keys stand above the header of some sheets
BLANK_ROWS = 1000  # so many of them end a page: spreadsheet programs may leave a stray cell in row 1,048,576
NO_NUMBER = frozenset({"", "/", "\\", "-", "?", "nan", "none", "n/a"})

Cell = Any  # text, number, date, nothing, or FORMULA
Pages = dict[str, list[tuple[Cell, ...]]]


class Formula:
    """A cell whose formula was saved without its value, as programs do that are no spreadsheet."""


FORMULA = Formula()


class NoSheetError(CorpusError):
    """There is no such sheet."""


class RowError(ValueError):
    """A row of a sheet that cannot be read; the corpus gathers all of them into one error."""


@dataclass(frozen=True)
class Sheet:
    """What a sheet is called and what stands in it.

    Attributes:
        files: Patterns of its name without the ending, in lower case: ``casme2-coding*``.
        example: Such a name, with its ending, for messages.
        columns: Spellings of a column's header, letters and digits only, in lower case, by the name of the field; or
            its place, from 0, in a sheet without header.
        optional: Fields that some versions lack.
        page: Pattern of the worksheet's name in lower case, where several could be meant.
    """

    files: tuple[str, ...]
    example: str
    columns: Mapping[str, tuple[str, ...] | int]
    optional: frozenset[str] = frozenset()
    page: str = "*"

    @property
    def headed(self) -> bool:
        """Whether there is a header."""
        return not any(isinstance(place, int) for place in self.columns.values())


@dataclass(frozen=True)
class Row:
    """Cells by field, and where they stand, for messages."""

    cells: Mapping[str, Cell]
    where: str
    position: int = field(compare=False, default=0)

    def text(self, name: str) -> str:
        """A cell as text without blanks at its ends; whole numbers without a point; nothing is ``""``."""
        cell = self.cells.get(name)
        if cell is None:
            return ""
        if cell is FORMULA:
            raise RowError(
                f"{self.where}: {name} is a formula that was saved without its value; open the sheet in a spreadsheet "
                "program and save it there."
            )
        if isinstance(cell, float) and cell.is_integer():
            cell = int(cell)
        return " ".join(str(cell).split())

    def whole(self, name: str) -> int | None:
        """A cell as a whole number, None where it is empty or says ``/``."""
        text = self.text(name)
        if text.lower() in NO_NUMBER:
            return None
        if not re.fullmatch(r"[+-]?\d{1,12}(\.0*)?", text):
            raise RowError(f"{self.where}: {name} is {text!r}; expected a whole number.")
        return int(text.partition(".")[0])

    def with_cell(self, name: str, value: Cell) -> "Row":
        """The same with one cell changed."""
        return replace(self, cells={**self.cells, name: value})


def find_sheet(sheet: Sheet, tree: Tree, named: Path | None = None) -> Path:
    """The file of a sheet: the named one, or the one below the root or in the two folders above it.

    Raises:
        NoSheetError: If there is none.
        CorpusError: If there are several that differ.
    """
    if named is not None:
        if not holds(named.is_file):
            raise CorpusError(f"{shown(named)} is no file; expected a sheet such as {sheet.example}.")
        return named
    above = tree.root.absolute().parents[:2]
    for files in (tree.files(ENDINGS), *(_files_of(folder) for folder in above)):
        found = {digest_of(file): file for file in sorted(files, reverse=True) if _is_called(sheet, file)}
        if len(found) > 1:
            names = ", ".join(sorted(shown(file) for file in found.values()))
            raise CorpusError(f"{len(found)} sheets that differ: {names}; name one by sheet=PATH.")
        if found:
            return next(iter(found.values()))
    others = sorted(shown(file.name) for file in tree.files(ENDINGS) if not _is_hidden(file))
    raise NoSheetError(
        f"No sheet such as {sheet.example} in {shown(tree.root)} or the two folders above it; tables there: "
        f"{', '.join(others[:20]) or 'none'}. Put the owners' sheet there, or name it by sheet=PATH."
    )


def read_sheet(sheet: Sheet, file: Path) -> list[Row]:
    """The rows below the header that are not blank, whatever page and row it stands in.

    Raises:
        CorpusError: If the file is no spreadsheet or has no page with such a header.
    """
    pages = read_pages(file)
    wanted = [name for name in pages if fnmatchcase(name.strip().lower(), sheet.page)]
    for name in [*wanted, *(name for name in pages if name not in wanted)]:
        header = _header(sheet, pages[name])
        if header is not None:
            start, places = header
            where = f"{shown(file.name)}, {name!r}"
            return list(_rows(pages[name], start, places, where))
    needed = {name: spell for name, spell in sheet.columns.items() if name not in sheet.optional}
    seen = {name: _first_row(rows) for name, rows in pages.items()}
    raise CorpusError(
        f"{shown(file)} is another sheet: no page has columns for {', '.join(needed)} (such as "
        f"{', '.join(repr(s[0]) for s in needed.values() if isinstance(s, tuple))}); its pages begin with {seen}."
    )


def read_pages(file: Path) -> Pages:
    """Every page of a spreadsheet or csv: rows of cells, by name.

    Raises:
        CorpusError: If the file cannot be read.
    """
    readers = {".csv": _read_csv, ".xls": _read_xls}
    try:
        return readers.get(file.suffix.lower(), _read_xlsx)(file)
    except Exception as error:  # broken spreadsheets raise whatever their readers happen to trip over
        reason = f"{type(error).__name__}: {error}"
        raise CorpusError(f"{shown(file)} cannot be read as a spreadsheet ({reason[:200]}); fetch it anew.") from error


def digest_of(file: Path) -> str:
    """sha256 of a file.

    Raises:
        CorpusError: If it cannot be read.
    """
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise CorpusError(f"{shown(file)} cannot be read ({error.strerror}).") from error


def _is_called(sheet: Sheet, file: Path) -> bool:
    known = file.suffix.lower() in ENDINGS and any(fnmatchcase(file.stem.lower(), p) for p in sheet.files)
    return known and not _is_hidden(file)


def _is_hidden(file: Path) -> bool:
    return file.name.startswith((".", "~$"))  # what editors leave beside an open sheet


def _files_of(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file()]
    except OSError:  # a folder above the root need not be ours to read
        return []


def _header(sheet: Sheet, rows: Sequence[tuple[Cell, ...]]) -> tuple[int, dict[str, int]] | None:
    """Row below the header and the column of each field, or None if this page has no such header."""
    if not sheet.headed:
        places = {name: place for name, place in sheet.columns.items() if isinstance(place, int)}
        wide = any(len(row) > max(places.values()) for row in rows)
        return (0, places) if wide else None
    for number, row in enumerate(islice(rows, HEADER_WITHIN)):
        titles = [re.sub(r"[^a-z0-9]", "", str(cell).lower()) for cell in row]
        places = {
            name: next(titles.index(spelling) for spelling in spellings if spelling in titles)
            for name, spellings in sheet.columns.items()
            if isinstance(spellings, tuple) and not set(spellings).isdisjoint(titles)
        }
        if set(sheet.columns) - sheet.optional <= set(places):
            return number + 1, places
    return None


def _rows(rows: Sequence[tuple[Cell, ...]], start: int, places: Mapping[str, int], where: str) -> Iterator[Row]:
    for number, row in enumerate(rows[start:], start=start + 1):
        cells = {name: row[place] if place < len(row) else None for name, place in places.items()}
        if any(cell is not None and str(cell).strip() for cell in cells.values()):
            yield Row(cells, f"{where}, row {number}", number)


def _first_row(rows: Iterable[tuple[Cell, ...]]) -> list[str]:
    for row in rows:
        cells = [str(cell)[:30] for cell in row if cell is not None]
        if cells:
            return cells[:12]
    return []


def _read_xlsx(file: Path) -> Pages:
    """Values of cells; where a program saved no value of a formula, ``FORMULA``."""
    written = _load_xlsx(file, values=False)
    if not any(_is_formula(cell) for rows in written.values() for row in rows for cell in row):
        return written
    values = _load_xlsx(file, values=True)
    return {
        name: [
            tuple(FORMULA if value is None and _is_formula(cell) else value for cell, value in zip(*pair, strict=False))
            for pair in zip(rows, values[name], strict=False)
        ]
        for name, rows in written.items()
    }


def _load_xlsx(file: Path, values: bool) -> Pages:
    import openpyxl

    book = openpyxl.load_workbook(file, read_only=True, data_only=values)
    try:
        pages = {}
        for page in book.worksheets:
            page.reset_dimensions()  # what a file says of its own size may be wrong
            pages[page.title] = _up_to_the_blanks(page.iter_rows(values_only=True))
        return pages
    finally:
        book.close()


def _is_formula(cell: Cell) -> bool:
    return isinstance(cell, str) and cell.startswith("=") and len(cell) > 1


def _read_xls(file: Path) -> Pages:
    import xlrd

    book = xlrd.open_workbook(str(file))
    pages = {}
    for page in book.sheets():
        rows = (tuple(None if value == "" else value for value in page.row_values(i)) for i in range(page.nrows))
        pages[page.name] = _up_to_the_blanks(rows)
    return pages


def _read_csv(file: Path) -> Pages:
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("gb18030")  # as spreadsheet programs save in China
    rows = (
        tuple(cell or None for cell in row)
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    )
    return {"csv": _up_to_the_blanks(rows)}


def _delimiter(text: str) -> str:
    """What parts the cells: a comma, or a semicolon or tab, as spreadsheet programs write elsewhere."""
    head = "\n".join(text.splitlines()[:HEADER_WITHIN])
    return max(",;\t", key=head.count)


def _up_to_the_blanks(rows: Iterable[tuple[Cell, ...]]) -> list[tuple[Cell, ...]]:
    """All rows up to the first thousand blank ones."""
    kept: list[tuple[Cell, ...]] = []
    blank = 0
    for row in rows:
        blank = 0 if any(cell is not None and str(cell).strip() for cell in row) else blank + 1
        if blank == BLANK_ROWS:
            return kept[: 1 - BLANK_ROWS]
        kept.append(row)
    return kept
