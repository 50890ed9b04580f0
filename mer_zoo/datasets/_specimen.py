"""Made-up copies of corpora in their owners' layout: noise for faces, invented numbers, real irregularities.

Nothing here, and no ``draw`` of a corpus, uses what reads corpora: a specimen must be able to prove a reader wrong.
"""

import io
import random
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

STRAY = ("Thumbs.db", ".DS_Store", "desktop.ini", "img.lnk", "notes.txt")  # what people and systems leave in folders
CODES = ("4", "12", "1+2", "R12+R15", "4+7 ", "L14A", "6B+12C", "14", "?", "(R6 or R12)+R15", "ref(12)", "12/14")


@dataclass(frozen=True, kw_only=True)
class Made:
    """A made-up clip: what the reader should say of it, and what its owners would write.

    Attributes:
        subject: As ``Sample.subject``.
        clip: As ``Sample.clip``.
        onset: Number of its first frame.
        apex: Number of the strongest frame, or None.
        offset: Number of its last frame.
        emotion: As ``Sample.emotion``.
        written: The emotion in the owners' words.
        aus: The cell of action units.
        objective: Objective class, or None.
        frames: Numbers of the pictures on disk, some outside of the clip perhaps; None for all from onset to offset.
    """

    subject: str
    clip: str
    onset: int
    apex: int | None
    offset: int
    emotion: str = "happiness"
    written: str = "happiness"
    aus: str = "12"
    objective: str | None = None
    frames: tuple[int, ...] | None = None

    @property
    def aus_cell(self) -> int | str:
        """The cell of action units as spreadsheets keep it: one unit alone is a number."""
        return int(self.aus) if self.aus.isdigit() else self.aus

    @property
    def numbers(self) -> Iterable[int]:
        """Numbers of the pictures on disk."""
        return range(self.onset, self.offset + 1) if self.frames is None else self.frames


def some_window(rng: random.Random, most: int = 3000) -> tuple[int, int, int]:
    """Onset, apex and offset of a short clip; numbers pass 9, 99 and 999 now and then."""
    onset = rng.choice([7, 8, 95, 97, 995, 998, rng.randrange(1, most)])
    offset = onset + rng.randrange(3, 9)
    return onset, rng.randrange(onset + 1, offset), offset


def draw(folder: Path, names: Iterable[str], size: tuple[int, int] = (48, 40), colour: bool = False) -> None:
    """Draw pictures of ``size``, height and width, grey or coloured: smooth noise that moves a little.

    Each folder has noise of its own, by its name and that of the one above it: no clip is a copy of another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    face = zlib.crc32("/".join(folder.parts[-2:]).encode())
    for number, name in enumerate(names):
        (folder / name).write_bytes(_picture(face, number % 8, Path(name).suffix, size, colour))


def litter(folder: Path) -> None:
    """Leave what people and systems leave in folders, and an empty folder."""
    for name in STRAY:
        (folder / name).write_bytes(b"\x00\x05\x16\x07")
    (folder / "empty").mkdir(exist_ok=True)


def write_pages(file: Path, pages: dict[str, Sequence[Sequence[Any]]]) -> None:
    """Write a spreadsheet of one or more pages; text that begins with ``=`` is a formula without a saved value."""
    import openpyxl

    file.parent.mkdir(parents=True, exist_ok=True)
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in pages.items():
        page = book.create_sheet(name)
        for row in rows:
            page.append(list(row))
    book.save(file)


@lru_cache(maxsize=256)
def _picture(face: int, step: int, ending: str, size: tuple[int, int], colour: bool) -> bytes:
    noise = np.random.default_rng(face).random((16, 16))
    height, width = size
    smooth = PILImage.fromarray((noise * 255).astype(np.uint8)).resize(
        (width + 8, height + 8), PILImage.Resampling.BICUBIC
    )
    picture = smooth.crop((step // 2, step // 3, step // 2 + width, step // 3 + height))
    content = io.BytesIO()
    formats = {".bmp": "BMP", ".png": "PNG"}
    picture.convert("RGB" if colour else "L").save(content, formats.get(ending.lower(), "JPEG"))
    return content.getvalue()
