"""Owners' sheets: found by name, read by content, whatever program saved them; and the words in their cells."""

import re
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlwt
from _copies import KINDS, opened, sheets_of

from mer_zoo.datasets._specimen import write_pages
from mer_zoo.datasets._tables import FORMULA, HEADER_WITHIN, NoSheetError, Row, RowError, Sheet, find_sheet, read_sheet
from mer_zoo.datasets._tree import Tree
from mer_zoo.errors import CorpusError

SHEET = Sheet(
    files=("coding*",),
    example="coding-1.xlsx",
    columns={"subject": ("subject", "sub"), "clip": ("filename",), "onset": ("onsetframe",), "note": ("note",)},
    optional=frozenset({"note"}),
)
HEADER = ["Subject", "Filename", None, "Onset Frame", "Note"]
ROWS: list[list[Any]] = [
    ["01", "EP02_01f", None, 46, "x"],
    ["006", "006_1_2", None, 7.0, None],
    [3, "EP 09 ", None, "12", "\u00e9\u4e2d"],
]
TEXTS = [["01", "EP02_01f", "46", "x"], ["006", "006_1_2", "7", ""], ["3", "EP 09", "12", "\u00e9\u4e2d"]]

Save = Callable[[Path, Sequence[Sequence[Any]]], Path]


def xlsx(folder: Path, rows: Sequence[Sequence[Any]], name: str = "coding.xlsx") -> Path:
    write_pages(folder / name, {"Sheet1": rows})
    return folder / name


def xls(folder: Path, rows: Sequence[Sequence[Any]]) -> Path:
    book = xlwt.Workbook()
    page = book.add_sheet("Sheet1")
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            if cell is not None:
                page.write(i, j, cell)
    book.save(str(folder / "coding.xls"))
    return folder / "coding.xls"


def csv(folder: Path, rows: Sequence[Sequence[Any]], encoding: str = "utf-8-sig", end: str = "\r\n") -> Path:
    """Every cell in quotes; whole numbers without a point, as spreadsheet programs show them."""
    shown = [[f"{cell:g}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    lines = [",".join("" if cell is None else f'"{cell}"' for cell in row) for row in shown]
    (folder / "coding.csv").write_bytes(end.join([*lines, ""]).encode(encoding))
    return folder / "coding.csv"


def gb18030(folder: Path, rows: Sequence[Sequence[Any]]) -> Path:
    return csv(folder, rows, "gb18030")


def unix(folder: Path, rows: Sequence[Sequence[Any]]) -> Path:
    return csv(folder, rows, "utf-8", "\n")


PROGRAMS = pytest.mark.parametrize("save", [xlsx, xls, csv, gb18030, unix])


def texts(rows: list[Row], *names: str) -> list[list[str]]:
    return [[row.text(name) for name in names or SHEET.columns] for row in rows]


def read(file: Path) -> list[Row]:
    return read_sheet(SHEET, file)


# What stands in cells


@PROGRAMS
@pytest.mark.parametrize("row", [1, 14, 40, HEADER_WITHIN])
def test_the_header_is_found_by_its_words(save: Save, row: int, tmp_path: Path) -> None:
    above: list[list[Any]] = [["A title"], ["Subject"], [], ["Filename", "is not a header"]]
    rows = (above * HEADER_WITHIN)[: row - 1]
    found = read(save(tmp_path, [*rows, HEADER, *ROWS]))
    assert texts(found) == TEXTS
    assert [r.position for r in found] == [row + 1, row + 2, row + 3]
    assert [r.where.rpartition(", ")[2] for r in found] == [f"row {row + i}" for i in (1, 2, 3)]
    assert all(r.where.startswith("coding.") for r in found)


@PROGRAMS
def test_columns_may_stand_anywhere_and_be_spelt_otherwise(save: Save, tmp_path: Path) -> None:
    rows = [["x", "ONSET-frame ", "file name", "Sub."], *([None, r[3], r[1], r[0]] for r in ROWS)]
    assert texts(read(save(tmp_path, rows)), "subject", "clip", "onset") == [row[:3] for row in TEXTS]
    assert texts(read(tmp_path / save(tmp_path, rows).name), "note") == [[""], [""], [""]]


@PROGRAMS
def test_a_cell_may_have_lines(save: Save, tmp_path: Path) -> None:
    rows = [["Sub\nject", "File\r\nname", None, "Onset\nFrame", "Note"], [*ROWS[0][:4], "a\nb, c\u2028d"], *ROWS[1:]]
    assert texts(read(save(tmp_path, rows))) == [[*TEXTS[0][:3], "a b, c d"], *TEXTS[1:]]


def test_text_stays_text_and_numbers_are_whole(tmp_path: Path) -> None:
    first, second, third = read(xlsx(tmp_path, [HEADER, *ROWS]))
    assert (first.cells["subject"], second.cells["subject"], third.cells["subject"]) == ("01", "006", 3)
    assert [row.whole("onset") for row in (first, second, third)] == [46, 7, 12]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        *((None, None), ("", None), ("/", None), (" / ", None), ("\\", None), ("-", None), ("?", None), ("NaN", None)),
        *(("N/A", None), (0, 0), (-3, -3), ("+4", 4), ("007", 7), (5.0, 5), ("5.0", 5), ("5.", 5), (" 6\n", 6)),
        (10**11, 10**11),
    ],
)
def test_whole_numbers(cell: Any, number: int | None) -> None:
    assert Row({"onset": cell}, "here").whole("onset") == number


@pytest.mark.parametrize("cell", ["x", "5.5", 5.5, "1e3", 1e300, float("inf"), "1 2", 10**13, True, "5,0", "0x1"])
def test_what_is_no_whole_number_is_refused(cell: Any) -> None:
    with pytest.raises(RowError, match=r"here: onset is '.*'; expected a whole number"):
        Row({"onset": cell}, "here").whole("onset")


@PROGRAMS
def test_blank_rows_are_passed_over(save: Save, tmp_path: Path) -> None:
    rows = [HEADER, ROWS[0], [], [None] * 5, [" ", None, "  "], ROWS[1], *[[]] * 500, ROWS[2], []]
    assert texts(read(save(tmp_path, rows))) == TEXTS


def test_a_stray_cell_in_the_last_row_costs_nothing(tmp_path: Path) -> None:
    file = xlsx(tmp_path, [HEADER, *ROWS])
    book = openpyxl.load_workbook(file)
    book.active["AA1048576"] = "stray"
    book.save(file)
    began = time.perf_counter()
    assert texts(read(file)) == TEXTS
    assert time.perf_counter() - began < 2


# Formulas


def with_values(file: Path, value: str) -> Path:
    """Give each formula a value, as spreadsheet programs do."""
    with zipfile.ZipFile(file) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    name = "xl/worksheets/sheet1.xml"
    parts[name], times = re.subn(rb"</f><v ?(/>|></v>)", f"</f><v>{value}</v>".encode(), parts[name])
    assert times == 3
    with zipfile.ZipFile(file, "w") as book:
        for part, content in parts.items():
            book.writestr(part, content)
    return file


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """A sheet whose onsets are formulas, saved by no spreadsheet program."""
    rows = [[*row[:3], f"=A{i}+1", row[4]] for i, row in enumerate(ROWS, start=2)]
    return xlsx(tmp_path, [HEADER, *rows])


def test_a_formula_with_a_value_is_its_value(sums: Path) -> None:
    assert [row.whole("onset") for row in read(with_values(sums, "47"))] == [47] * 3
    assert [row.whole("onset") for row in read(sums)] == [47] * 3


def test_a_formula_without_a_value_is_refused_where_it_is_needed(sums: Path) -> None:
    rows = read(sums)
    assert texts(rows, "subject", "clip", "note") == [[t[0], t[1], t[3]] for t in TEXTS]
    assert [row.cells["onset"] for row in rows] == [FORMULA] * 3
    for row in rows:
        with pytest.raises(RowError, match=rf"{row.where}: onset is a formula .*without its value; open the sheet in"):
            row.whole("onset")


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if hasattr(kind, "sheet")])
def test_formulas_for_frames_are_refused_for_every_clip(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    kind.write_specimen(tmp_path / "copy")
    corpus = opened(name, tmp_path / "copy")
    rows, file = list(corpus.rows), corpus.sheet_file
    column = next(iter(_columns(file, {str(row.cells["onset"]) for row in rows} - {"None"})))
    book = openpyxl.load_workbook(file)
    page = book[next(p for p in book.sheetnames if p in rows[0].where)]
    for cell in page[column]:
        cell.value = "=A1+1" if str(cell.value).isdigit() or isinstance(cell.value, float) else cell.value
    book.save(file)
    with pytest.raises(CorpusError, match=rf"{name}: \d+ rows cannot be read.*onset is a formula") as caught:
        _ = opened(name, tmp_path / "copy").samples
    assert str(caught.value).count("onset is a formula") > 1
    assert file.name in str(caught.value)


def _columns(file: Path, values: set[str]) -> list[str]:
    """Letters of the columns of the first page that hold all these values, each as text."""
    page = openpyxl.load_workbook(file).worksheets[0]
    columns = {cells[0].column_letter: {str(cell.value) for cell in cells} for cells in page.iter_cols()}
    floats = {letter: {text.removesuffix(".0") for text in texts} for letter, texts in columns.items()}
    wanted = {value.removesuffix(".0") for value in values}
    return [letter for letter, found in floats.items() if len(wanted & found) > len(wanted) // 2]


# Which sheet


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    return tmp_path / "a" / "b"


def found(root: Path, named: Path | None = None) -> Path:
    return find_sheet(SHEET, Tree(root), named)


def test_a_sheet_lies_below_the_root_or_up_to_two_folders_above(tree: Path) -> None:
    (tree.parent.parent / "other.csv").write_text("x")
    for folder in (tree.parent.parent, tree.parent, tree / "c" / "d"):
        file = csv(folder, [HEADER, *ROWS[: len(folder.parts) % 3 + 1]])
        assert found(tree) == file  # the nearest to the pictures
    with pytest.raises(NoSheetError, match=r"No sheet such as coding-1\.xlsx in .*tables there: none\. .*sheet=PATH"):
        found(_new(tree.parent.parent / "x" / "y" / "z"))


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_names_that_are_near_do_not_count(tree: Path) -> None:
    names = ("code.csv", "my coding.csv", "coding.txt", "coding.csv.bak", "coding.pdf")
    for name in (*names, ".coding.csv", "~$coding.xlsx", "._coding.xlsx", ".~lock.coding.csv#"):
        (tree / name).write_bytes(b"x")
    with pytest.raises(NoSheetError) as caught:
        found(tree)
    assert "tables there: code.csv, my coding.csv. Put" in str(caught.value)
    (tree / "CODING 2019.XLSX").write_bytes(b"x")
    assert found(tree).name == "CODING 2019.XLSX"


def test_two_equal_copies_are_one_and_two_that_differ_are_refused(tree: Path) -> None:
    one = csv(tree, [HEADER, *ROWS])
    two = tree / "c" / "coding (1).csv"
    two.write_bytes(one.read_bytes())
    assert found(tree) in (one, two)
    two.write_bytes(one.read_bytes() + b"\n")
    with pytest.raises(CorpusError, match=r"2 sheets that differ: .*coding \(1\)\.csv, .*coding\.csv; .*sheet=PATH"):
        found(tree)
    assert found(tree, two) == two
    with pytest.raises(CorpusError, match=r"no\.csv is no file; expected a sheet such as coding-1\.xlsx"):
        found(tree, tree / "no.csv")


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if hasattr(kind, "sheet")])
def test_what_editors_leave_beside_a_sheet_is_no_sheet(name: str, tmp_path: Path) -> None:
    KINDS[name].write_specimen(tmp_path / "copy")
    sheets = sheets_of(opened(name, tmp_path / "copy"))
    expected = opened(name, tmp_path / "copy").samples
    for sheet in sheets:
        for start in ("~$", "._", ".~lock."):
            sheet.with_name(start + sheet.name).write_bytes(b"left by an editor")
    assert opened(name, tmp_path / "copy").samples == expected


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if hasattr(kind, "sheet")])
def test_a_sheet_of_another_corpus_says_what_it_holds_and_should(name: str, tmp_path: Path) -> None:
    KINDS[name].write_specimen(tmp_path / "copy")
    other = xlsx(tmp_path, [["Person", "Film"], ["Ann", "Alien"]], "other.xlsx")
    with pytest.raises(CorpusError, match=r"other\.xlsx is another sheet: no page has columns for ") as caught:
        _ = opened(name, tmp_path / "copy", sheet=other).samples
    said = str(caught.value)
    sheet = opened(name, tmp_path / "copy").sheet
    assert all(column in said for column in set(sheet.columns) - sheet.optional)
    assert re.search(r"begin with .*Sheet1.*Person.*Film", said)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if hasattr(kind, "sheet")])
@pytest.mark.parametrize("ending", [".xlsx", ".xls", ".csv"])
@pytest.mark.parametrize(
    "content", [b"", b"no sheet", b"PK\x03\x04", bytes(600), b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), b"\xff"]
)
def test_a_broken_sheet_is_named(name: str, ending: str, content: bytes, tmp_path: Path, kept: dict[str, Path]) -> None:
    broken = tmp_path / f"broken{ending}"
    broken.write_bytes(content)
    with pytest.raises(CorpusError, match=rf"broken\{ending} (cannot be read as a spreadsheet \(|is another sheet)"):
        _ = opened(name, kept[name], sheet=broken).samples


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {name: tmp_path_factory.mktemp(name) for name in KINDS}
    for name, root in roots.items():
        KINDS[name].write_specimen(root)
    return roots


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_sheet_is_named(share: float, kept: dict[str, Path], tmp_path: Path) -> None:
    for name, root in kept.items():
        for sheet in sheets_of(opened(name, root)):
            cut = tmp_path / sheet.name
            content = sheet.read_bytes()
            cut.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(CorpusError, match=r"cannot be read as a spreadsheet .*; fetch it anew"):
                read(cut)
