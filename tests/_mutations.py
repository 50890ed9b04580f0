"""What may have happened to a copy of a corpus: cells, bytes, files and folders changed at random."""

import datetime
import io
import math
import os
import random
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import xlwt
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

Rows = list[list[Any]]

ODD: list[Any] = [
    *(None, "", " ", "/", "\\", "?", "-", "nan", "None", "#REF!", "=", "=A1+1", "=SUM(A:A)", "'", '"', "a\nb"),
    *(0, 1, -1, 5, 5.5, 1e308, -1e308, 10**15, 2**63, 10**30, "5.0", "1e5", "5,0", "0x10", "+7", "00012", "12 13"),
    *(math.nan, math.inf, True, datetime.datetime(2014, 5, 8), datetime.date(1900, 1, 1), datetime.time(4, 5)),
    *("a" * 3000, "9" * 300, "\u4e2d\u6587", "\u0663", "\xb2", "\x01", "\ufeff", "\U0001f600", "\u2028", "../../x"),
    *("Subject", "Happiness ", "others", "sub01", "sub 01", "1", "01", "006", "006_1_1", "EP01_01f", "a/b", "/", "."),
    *("S01-01-001", "sub0001_01", "S13_1st", "a", "spNO.1", "anger1_1", "4+7", "(R6 or R12", "12)))", "ref(", "AU"),
    *("s1_ne_01", "s1_ne_01#2", "+" * 50),
]
NAMES = [
    *("img1.jpg", "img01.jpg", "img.jpg", "reg_img7.jpg", "image000012.bmp", "00001.png", "7.jpg", "9" * 200 + ".jpg"),
    *("img\u0663.jpg", "img\xb2.jpg", "img-1.jpg", "img1.jpg.jpg", "IMG5.JPG", "Thumbs.db", ".hidden", "~$x.xlsx"),
    *("sub01", "sub1", "SUB001", "006", "6", "s1", "s01", "S01", "EP01_01f", "006_1_1", "s1_ne_01", "s1_xx_01"),
    *(
        "a b",
        " ",
        "\u4e2d\u6587",
        "b\udcff",
        "selected",
        "cropped",
        "HS",
        "VIS",
        "micro",
        "negative",
        "positive",
        "...",
    ),
    *("CASME2-coding-2.csv", "SAMM_Micro_FACS_Codes.csv", "sub0001_01", "S01-01-001", "gray_micro", "color", "frame"),
    *("spNo.1_a_1", "x.csv", "x" * 200, "-"),
]


# Cells


def _cell(rows: Rows, rng: random.Random) -> None:
    row = rng.choice(rows)
    if row:
        row[rng.randrange(len(row))] = rng.choice(ODD)


def _column_of_odd(rows: Rows, rng: random.Random) -> None:
    place, value = rng.randrange(max(map(len, rows)) + 1), rng.choice(ODD)
    for row in rows[rng.randrange(3) :]:
        if place < len(row):
            row[place] = value


def _other_cell(rows: Rows, rng: random.Random) -> None:
    one, other = rng.choice(rows), rng.choice(rows)
    if one and other:
        one[rng.randrange(len(one))] = rng.choice(other)


def _number(rows: Rows, rng: random.Random) -> None:
    """A number moved a little, or by much."""
    places = [(row, i) for row in rows for i, cell in enumerate(row) if isinstance(cell, int | float)]
    if places:
        row, i = rng.choice(places)
        row[i] = rng.choice([row[i] + 1, row[i] - 1, -row[i], row[i] * 1000, row[i] + 0.5, str(row[i]), float(row[i])])


def _text(rows: Rows, rng: random.Random) -> None:
    """A letter of a text lost, doubled or replaced."""
    places = [(row, i) for row in rows for i, cell in enumerate(row) if isinstance(cell, str) and cell]
    if places:
        row, i = rng.choice(places)
        at = rng.randrange(len(row[i]))
        row[i] = row[i][:at] + rng.choice(["", row[i][at] * 2, " ", "_", "/", "9", "\u0663", "X"]) + row[i][at + 1 :]


def _rows_lost(rows: Rows, rng: random.Random) -> None:
    del rows[rng.randrange(len(rows)) :: rng.randrange(1, 4)]


def _row_again(rows: Rows, rng: random.Random) -> None:
    rows.insert(rng.randrange(len(rows) + 1), list(rng.choice(rows)))


def _row_more(rows: Rows, rng: random.Random) -> None:
    rows.insert(rng.randrange(len(rows) + 1), rng.choices(ODD, k=rng.randrange(12)))


def _blank_rows(rows: Rows, rng: random.Random) -> None:
    at = rng.randrange(len(rows) + 1)
    rows[at:at] = [[] for _ in range(rng.choice([1, 5, 70, 1100]))]


def _shuffled(rows: Rows, rng: random.Random) -> None:
    rng.shuffle(rows)


def _columns_swapped(rows: Rows, rng: random.Random) -> None:
    i, j = (rng.randrange(max(map(len, rows)) + 1) for _ in range(2))
    for row in rows:
        if max(i, j) < len(row):
            row[i], row[j] = row[j], row[i]


def _column_lost(rows: Rows, rng: random.Random) -> None:
    place = rng.randrange(max(map(len, rows)) + 1)
    for row in rows:
        del row[place : place + 1]


def _column_again(rows: Rows, rng: random.Random) -> None:
    i, j = (rng.randrange(max(map(len, rows)) + 1) for _ in range(2))
    for row in rows:
        row[j:j] = row[i : i + 1]


def _turned(rows: Rows, _: random.Random) -> None:
    width = max(map(len, rows))
    rows[:] = [[row[i] if i < len(row) else None for row in rows] for i in range(width)]


CELLS: list[Callable[[Rows, random.Random], None]] = [
    *[_cell] * 6,
    *[_number] * 4,
    *[_text] * 4,
    *(_other_cell, _column_of_odd, _rows_lost, _row_again, _row_more, _blank_rows, _shuffled),
    *(_columns_swapped, _column_lost, _column_again, _turned),
]


def mutated_rows(rows: Sequence[Sequence[Any]], rng: random.Random) -> Rows:
    """The rows, changed in one to six ways."""
    changed = [list(row) for row in rows]
    for change in rng.choices(CELLS, k=rng.randrange(1, 7)):
        if not changed or not any(changed):
            changed = [[None]]
        change(changed, rng)
    return changed


# Sheets


def as_csv(rows: Rows, rng: random.Random) -> bytes:
    mark = rng.choice(['"', ""])
    lines = [",".join("" if c is None else f"{mark}{c}{mark}" for c in row) for row in rows]
    encoding = rng.choice(["utf-8", "utf-8-sig", "gb18030", "utf-16", "latin-1"])
    return rng.choice(["\n", "\r\n", "\r"]).join(lines).encode(encoding, "replace")


def as_xlsx(pages: dict[str, Rows]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in pages.items():
        page = book.create_sheet(name)
        for row in rows:
            page.append([ILLEGAL_CHARACTERS_RE.sub("", cell) if isinstance(cell, str) else cell for cell in row])
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def as_xls(pages: dict[str, Rows]) -> bytes:
    book = xlwt.Workbook()
    for name, rows in pages.items():
        page = book.add_sheet(name)
        for i, row in enumerate(rows):
            for j, cell in enumerate(row[:200]):
                if cell is not None and not isinstance(cell, datetime.time):
                    page.write(i, j, cell)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, lost, doubled or cut off."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        if not changed:
            break
        at, long = rng.randrange(len(changed)), rng.choice([1, 2, 8, 200])
        way = rng.randrange(5)
        if way == 0:
            changed[at] = rng.randrange(256)
        elif way == 1:
            del changed[at : at + long]
        elif way == 2:
            changed[at:at] = changed[at : at + long]
        elif way == 3:
            changed[at:at] = rng.randbytes(long)
        elif rng.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def mutated_parts(content: bytes, rng: random.Random) -> bytes:
    """An xlsx whose archive is sound and one or two of whose parts are not, or are not there."""
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    for name in rng.sample(sorted(parts), rng.randrange(1, 3)):
        parts[name] = mutated_bytes(parts[name], rng)
        if rng.random() < 0.2:
            del parts[name]
    new = io.BytesIO()
    with zipfile.ZipFile(new, "w") as book:
        for name, part in parts.items():
            book.writestr(name, part)
    return new.getvalue()


# Trees


def linked(root: Path, to: Path) -> Path:
    """A copy whose files are the same ones; they must be replaced, not written to."""
    shutil.copytree(root, to, copy_function=os.link)
    return to


def mutated_tree(root: Path, rng: random.Random) -> None:
    """One to six things done to a tree of files."""
    for _ in range(rng.randrange(1, 7)):
        paths = sorted(root.rglob("*"))
        if not paths:
            return
        path = rng.choice(paths)
        if rng.random() < 0.5:  # most are pictures
            path = rng.choice([p for p in paths if p.is_dir()] or paths)
        change = rng.choice(TREES)
        try:
            change(path, rng)
        except (OSError, shutil.Error):  # a name is taken, or too long
            continue


def _renamed(path: Path, rng: random.Random) -> None:
    path.rename(path.with_name(rng.choice([rng.choice(NAMES), path.name.upper(), path.name + " ", path.name[:-1]])))


def _removed(path: Path, _: random.Random) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _doubled(path: Path, rng: random.Random) -> None:
    other = path.with_name(rng.choice([rng.choice(NAMES), f"{path.name} (1)", f"{path.stem}0{path.suffix}"]))
    if path.is_symlink():
        other.symlink_to(path.readlink())
    elif path.is_dir():
        shutil.copytree(path, other, copy_function=os.link, symlinks=True)
    else:
        os.link(path, other)


def _into_another(path: Path, rng: random.Random) -> None:
    other = rng.choice([p for p in path.parent.parent.rglob("*") if p.is_dir()])
    path.rename(other / path.name)


def _replaced(path: Path, rng: random.Random) -> None:
    """A folder by a file, a file by a folder, a link, a pipe or other bytes."""
    before = path.read_bytes() if path.is_file() else b""
    _removed(path, rng)
    way = rng.randrange(6)
    if way == 0:
        path.mkdir()
    elif way == 1:
        path.symlink_to(rng.choice(["..", ".", path.name, "nowhere", "/dev/null"]))
    elif way == 2:
        os.mkfifo(path)
    else:
        path.write_bytes(mutated_bytes(before, rng))


def _added(path: Path, rng: random.Random) -> None:
    folder = path if path.is_dir() else path.parent
    for name in rng.sample(NAMES, rng.randrange(1, 9)):
        if rng.random() < 0.3:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(b"")


def _around(path: Path, rng: random.Random) -> None:
    """One folder more above."""
    aside = path.with_name(f"{path.name}~")
    path.rename(aside)
    path.mkdir()
    aside.rename(path / rng.choice([path.name, *NAMES]))


TREES: list[Callable[[Path, random.Random], None]] = [
    *(_renamed, _renamed, _removed, _doubled, _doubled, _into_another, _replaced, _added, _around),
]
