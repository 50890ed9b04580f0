"""A contact sheet of synthetic faces, to look at: one person a row, what moves beside what is seen."""

import os
import textwrap
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mer_zoo.errors import InputError
from mer_zoo.synth.generator import Generator

Floats = npt.NDArray[np.floating]
Pictures = npt.NDArray[np.uint8]

COLUMNS = ("onset", "apex", "offset", "apex - onset, x {gain}", "true flow")
GAIN = 6  # of the difference, around mid grey
MOST_PERSONS = 100  # a picture of thousands is none to look at
LEGIBLE = 280  # pixels a side that small frames are enlarged to at most, by a whole number
LABELS, HEADER, GAP = 150, 84, 6  # pixels: width of the row labels, height of the header, space between cells
WHEEL = 52  # pixels across
TEXT, LINE, LETTERS = 16, 22, 16  # size and distance of lines in pixels; letters that fit a row label
PAPER, INK, PALE = "white", "black", "dimgrey"
FULL = 97  # percentile of the motion on a sheet that gets the full colour: above it one wide mouth would pale the rest


@dataclass(frozen=True)
class Layout:
    """Where things lie on the sheet.

    Attributes:
        size: Height and width of a frame in pixels.
        rows: Number of persons.
    """

    size: int
    rows: int

    @property
    def factor(self) -> int:
        """How many pixels of the sheet a pixel of a frame is wide."""
        return max(1, LEGIBLE // self.size)

    @property
    def cell(self) -> int:
        """Height and width of a cell."""
        return self.size * self.factor

    @property
    def whole(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        return self.corner(0, len(COLUMNS))[0], self.corner(self.rows, 0)[1]

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Left and upper edge of a cell."""
        step = self.cell + GAP
        return LABELS + column * step, HEADER + row * step


@dataclass(frozen=True)
class Row:
    """One person.

    Attributes:
        label: Lines of text.
        frames: (3, S, S) at onset, apex and offset.
        flow: (S, S, 2) pixels, true, from onset to apex.
    """

    label: tuple[str, ...]
    frames: Pictures
    flow: Floats


def draw_sheet(generator: Generator, persons: int) -> Image.Image:
    """Persons 0, 1, 2, … of a generator, each in the clip of the same number, so that the labels vary.

    Columns: the frames at onset, apex and offset; apex less onset, six times, around mid grey; the true flow from
    onset to apex: white where nothing moves, the hue its direction, scaled for the whole sheet as the header says.

    Raises:
        InputError: If ``persons`` is not 1 to 100.
    """
    if not 1 <= persons <= MOST_PERSONS:
        raise InputError(f"A sheet of {persons} persons; expected 1 to {MOST_PERSONS}.")
    rows = [_row(generator, number) for number in range(persons)]
    full = max(float(np.percentile([np.linalg.norm(row.flow, axis=-1) for row in rows], FULL)), 1e-3)
    layout = Layout(generator.settings.size, persons)
    sheet = Image.new("RGB", layout.whole, PAPER)
    _write_header(sheet, layout, generator, full)
    for number, row in enumerate(rows):
        _write(sheet, (8, layout.corner(number, 0)[1] + 4), *row.label)
        for column, picture in enumerate(_cells(row, full)):
            _paste(sheet, layout, picture, layout.corner(number, column))
    return sheet


def save_sheet(generator: Generator, persons: int, file: Path) -> None:
    """Draw a sheet and write it as PNG: whole or not at all; a missing folder is made.

    Raises:
        InputError: If the name does not end in ``.png``, or as ``draw_sheet``.
        OSError: If it cannot be written there.
    """
    if file.suffix.lower() != ".png":
        raise InputError(f"A sheet is written as PNG; {file} does not end in .png.")
    if file.is_dir():
        raise InputError(f"{file} is a folder; expected the name of a picture.")
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet = draw_sheet(generator, persons)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        sheet.save(temporary, format="PNG")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def flow_colours(flow: Floats, full: float) -> Pictures:
    """Flow (H, W, 2) in pixels -> colours (H, W, 3).

    Hue is the direction, red to the right and then yellow, green, cyan, blue counter-clockwise; white rests, and
    ``full`` pixels or more have the full colour.
    """
    u, v = flow[..., 0], flow[..., 1]
    hue = np.degrees(np.arctan2(-v, u)) % 360
    amount = np.clip(np.hypot(u, v) / full, 0, 1)
    colours = cv2.cvtColor(np.stack([hue, amount, np.ones_like(hue)], axis=-1).astype(np.float32), cv2.COLOR_HSV2RGB)
    return np.asarray(np.rint(255 * colours), np.uint8)


def flow_wheel(size: int) -> Pictures:
    """Each direction in its colour, paler towards the middle: (size, size, 4) with what is outside the disk clear."""
    y, x = np.mgrid[:size, :size] * 2 / (size - 1) - 1
    inside = np.where(np.hypot(x, y) <= 1, 255, 0)[..., None]
    return np.concatenate([flow_colours(np.stack([x, y], axis=-1), 1.0), inside], axis=-1).astype(np.uint8)


def _row(generator: Generator, number: int) -> Row:
    coding = generator.script(number, number).coding
    label = generator.label(number, number)[1]
    clip, flow = generator.clip(number, number), generator.flow(number, number)
    units = [line.replace(" ", "+") for line in textwrap.wrap(" ".join(coding.units), LETTERS)]
    return Row((label, *units, f"person {number}"), clip[[0, coding.apex, -1]], flow[coding.apex].copy())


def _cells(row: Row, full: float) -> list[Pictures]:
    """The pictures of a row, (S, S, 3), in the order of the columns."""
    onset, apex, _ = row.frames.astype(np.float32)
    difference = np.clip(128 + GAIN * (apex - onset), 0, 255).astype(np.uint8)
    return [*(np.stack([grey] * 3, axis=-1) for grey in (*row.frames, difference)), flow_colours(row.flow, full)]


def _paste(sheet: Image.Image, layout: Layout, picture: Pictures, corner: tuple[int, int]) -> None:
    """A cell and a thin line around it, which parts a white picture from the paper."""
    large = picture.repeat(layout.factor, axis=0).repeat(layout.factor, axis=1)
    right, bottom = corner[0] + layout.cell, corner[1] + layout.cell
    ImageDraw.Draw(sheet).rectangle((corner[0] - 1, corner[1] - 1, right, bottom), outline=PALE)
    sheet.paste(Image.fromarray(large), corner)


def _write_header(sheet: Image.Image, layout: Layout, generator: Generator, full: float) -> None:
    settings, size = generator.settings, layout.size
    enlarged = f", enlarged {layout.factor} times" if layout.factor > 1 else ""
    what = f"Synthetic faces of family {settings.family}, seed {generator.seed}, {size} x {size} pixels{enlarged}"
    _write(sheet, (8, 8), what, f"Flow: direction as on the wheel, full colour at {full:.2f} pixels or more")
    for column, title in enumerate(COLUMNS):
        _write(sheet, (layout.corner(0, column)[0], HEADER - LINE), title.format(gain=GAIN))
    wheel = Image.fromarray(flow_wheel(WHEEL))
    sheet.paste(wheel, (layout.whole[0] - WHEEL - GAP, 8), wheel)


def _write(sheet: Image.Image, place: tuple[int, int], *lines: str) -> None:
    """Text downwards from a place, its first line black."""
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=TEXT)
    for number, line in enumerate(lines):
        pen.text((place[0], place[1] + number * LINE), line, INK if number == 0 else PALE, font)
