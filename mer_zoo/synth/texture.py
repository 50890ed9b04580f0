"""What the skin of a made-up person looks like: one grey map over the front of the face, painted feature by feature.

The map lies over the mesh at rest, in decimetres as ``geometry`` says, so it is the same for every shape of face and
moves with the skin. Everything here is ours; no photograph was used.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from mer_zoo.synth.geometry import Traits

Floats = npt.NDArray[np.floating]

LEFT, RIGHT, TOP, BOTTOM = -0.95, 0.95, 8.35, 6.0  # of the map, decimetres
EYE = (0.31, 7.285)
UPPER_LIP = ((0.0, 6.675), (0.055, 6.697), (0.15, 6.672), (0.255, 6.61))
LOWER_LIP = ((0.0, 6.510), (0.10, 6.520), (0.19, 6.560), (0.255, 6.61))
TONES = (0.30, 0.60, 0.68)  # albedo of African, Asian and European skin, roughly; persons spread widely around it


@dataclass(frozen=True)
class Look:
    """How a person's surface looks; albedos are shares of light that comes back.

    Attributes:
        skin: Albedo of the skin.
        hair: Albedo of brows, lashes, beard and hair.
        iris: Albedo of the iris.
        brow: Height and thickness in decimetres, arch in decimetres, density 0 to 1.
        lips: Albedo of the lips as a share of the skin's.
        stubble: Density of the beard, 0 to 1.
        roughness: Strength of pores and blotches, about 1.
        wrinkles: Strength of folds and lines, 0 to 1.
        hairline: Height of the hair line at the middle, decimetres.
        lashes: Strength of the lashes, 0 to 1.
        shine: Strength of the highlights, 0 to 1.
    """

    skin: float
    hair: float
    iris: float
    brow: tuple[float, float, float, float]
    lips: float
    stubble: float
    roughness: float
    wrinkles: float
    hairline: float
    lashes: float
    shine: float

    @classmethod
    def draw(cls, traits: Traits, rng: np.random.Generator, variety: float = 1.0) -> "Look":
        """A look that goes with origin, sex and age."""
        male = traits.male > 0.5
        skin = float(np.clip(np.dot(traits.origin, TONES) + rng.normal(0, 0.06 * variety), 0.16, 0.8))
        fair = traits.origin[2] * rng.random()
        grey = 0.4 * max(traits.old - 0.5, 0) * rng.random()
        return cls(
            skin=skin,
            hair=float(np.clip(0.05 + 0.25 * fair**2 + grey, 0.03, 0.75 * skin)),
            iris=float(0.06 + 0.25 * fair**2),
            brow=(
                float(rng.normal(7.44, 0.012 * variety)),
                float(np.clip(rng.normal(0.038 if male else 0.026, 0.007 * variety), 0.012, 0.06)),
                float(np.clip(rng.normal(0.035, 0.015 * variety), -0.01, 0.08)),
                float(np.clip(rng.normal(0.8, 0.15 * variety), 0.35, 1.0)),
            ),
            lips=float(np.clip(rng.normal(0.78, 0.06 * variety), 0.55, 0.95)),
            stubble=float(rng.beta(1, 2)) if male else 0.0,
            roughness=float(rng.lognormal(0, 0.3 * variety)),
            wrinkles=float(np.clip(traits.old + rng.normal(0, 0.1), 0, 1)),
            hairline=float(rng.normal(7.93 + 0.1 * male * traits.old, 0.06 * variety)),
            lashes=float(rng.uniform(0.3, 0.7) if male else rng.uniform(0.5, 1.0)),
            shine=float(rng.uniform(0.05, 0.3)),
        )


@dataclass(frozen=True)
class Canvas:
    """Coordinates of a map's pixels, decimetres: x (W,) to the person's left, y (H, 1) upwards."""

    x: Floats
    y: Floats

    @classmethod
    def of(cls, density: float) -> "Canvas":
        """A canvas of ``density`` pixels a decimetre."""
        width, height = round((RIGHT - LEFT) * density), round((TOP - BOTTOM) * density)
        x = LEFT + (np.arange(width, dtype=np.float32) + 0.5) * (RIGHT - LEFT) / width
        y = TOP - (np.arange(height, dtype=np.float32)[:, None] + 0.5) * (TOP - BOTTOM) / height
        return cls(x.astype(np.float32), y.astype(np.float32))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return len(self.y), len(self.x)

    def noise(self, rng: np.random.Generator, rows: int, columns: int) -> Floats:
        """Smooth noise of unit strength from a lattice of rows x columns.

        A map coarser than the lattice has a value of its own in each pixel, weaker, as a mean of many would be.
        """
        lattice = min(rows, self.shape[0]), min(columns, self.shape[1])
        strength = np.float32(np.sqrt(lattice[0] * lattice[1] / (rows * columns)))
        values = strength * rng.spawn(1)[0].standard_normal(lattice, np.float32)
        return np.asarray(cv2.resize(values, self.shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)

    def rows(self, low: float, high: float) -> tuple[slice, Floats]:
        """The rows between two heights, and the heights themselves."""
        chosen = np.flatnonzero((self.y[:, 0] > low) & (self.y[:, 0] < high))
        part = slice(int(chosen[0]), int(chosen[-1]) + 1)
        return part, self.y[part]

    def spot(self, x: float, y: float, wide: float, high: float | None = None) -> Floats:
        """A soft ellipse, 1 at its centre; ``wide`` and ``high`` are standard deviations in decimetres."""
        across = np.exp(-(((self.x - x) / wide) ** 2) / 2)
        return np.asarray(across * np.exp(-(((self.y - y) / (high or wide)) ** 2) / 2), np.float32)

    def where(self, places: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
        """Pixels of the map at places x, y in decimetres, for cv2.remap."""
        height, width = self.shape
        column = (places[0] - LEFT) * np.float32(width / (RIGHT - LEFT)) - np.float32(0.5)
        row = (TOP - places[1]) * np.float32(height / (TOP - BOTTOM)) - np.float32(0.5)
        return column, row


def paint(look: Look, density: float, rng: np.random.Generator) -> tuple[Canvas, Floats]:
    """The albedo map (H, W) of a person, 0 to 1, with its canvas.

    Args:
        look: The person.
        density: Pixels a decimetre.
        rng: Draws blotches, pores, moles and hairs.
    """
    canvas = Canvas.of(density)
    skin = _skin(canvas, look, rng)
    skin = _mix(skin, look.skin * look.lips, _lips(canvas, rng))
    skin *= _lines(canvas, look)
    for cover in (_brows(canvas, look, rng), _stubble(canvas, look, rng), _hair(canvas, look, rng)):
        skin = _mix(skin, look.hair, cover)
    return canvas, np.clip(skin, 0.02, 1.0)


def _mix(under: Floats, over: float, cover: Floats) -> Floats:
    return np.asarray(under + (np.float32(over) - under) * cover, np.float32)


def _skin(canvas: Canvas, look: Look, rng: np.random.Generator) -> Floats:
    """Tone with blotches, pores, rosier cheeks and nose, darker sockets, moles and freckles."""
    blotches = sum(0.5**octave * canvas.noise(rng, 6 * 2**octave, 5 * 2**octave) for octave in range(4))
    pores = canvas.noise(rng, 280, 226)
    rough = look.roughness * (0.035 * blotches + 0.035 * pores)
    flush = sum(rng.uniform(0.0, 0.1) * canvas.spot(side * 0.42, 6.98, 0.16, 0.13) for side in (-1, 1))
    flush = flush + rng.uniform(0, 0.08) * canvas.spot(0, 6.92, 0.1, 0.08)
    sockets = rng.uniform(0.04, 0.2)
    dark = np.zeros(canvas.shape, np.float32)
    for side in (-1, 1):
        dark += sockets * canvas.spot(side * 0.28, 7.2, 0.12, 0.045)
        dark += 0.5 * sockets * canvas.spot(side * 0.3, 7.36, 0.14, 0.04)
    for _ in range(rng.poisson(2.5)):
        place = rng.uniform(-0.55, 0.55), rng.uniform(6.25, 7.8)
        dark += rng.uniform(0.1, 0.5) * canvas.spot(*place, rng.uniform(0.008, 0.02))
    freckles = max(float(rng.normal(-0.5, 1)), 0.0) * np.clip(canvas.noise(rng, 150, 120) - 1.2, 0, 1)
    dark += 0.15 * freckles * canvas.spot(0, 7.0, 0.35, 0.2)
    return np.asarray(look.skin * (1 + rough) * (1 - flush) * (1 - dark), np.float32)


def _lips(canvas: Canvas, rng: np.random.Generator) -> Floats:
    """How much of each pixel is lip, with soft borders and upright creases."""
    full = rng.normal(0, 0.012, 2)
    x = np.abs(canvas.x)
    upper = _curve(x, UPPER_LIP) + np.float32(full[0]) * (x < 0.25)
    lower = _curve(x, LOWER_LIP) - np.float32(full[1]) * (x < 0.25)
    soft = 0.012
    inside = _step((upper - canvas.y) / soft) * _step((canvas.y - lower) / soft) * _step((0.26 - x) / soft)
    return np.asarray(inside * np.clip(0.85 + 0.15 * canvas.noise(rng, 30, 160), 0, 1), np.float32)


def _curve(x: Floats, points: tuple[tuple[float, float], ...]) -> Floats:
    """Heights of a smooth line through points given from the middle outwards."""
    xs, ys = zip(*points, strict=True)
    straight = np.interp(x, xs, ys)
    return np.asarray(cv2.GaussianBlur(straight.astype(np.float32)[None], (0, 0), max(len(x) * 0.008, 0.5))[0])


def _step(values: Floats) -> Floats:
    """From 0 at -1 to 1 at +1, smoothly."""
    t = np.clip((values + 1) / 2, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _lines(canvas: Canvas, look: Look) -> Floats:
    """A factor for creases: lids, nostrils, corners of the mouth, below the lip; folds and brow lines with age."""
    x, y = np.abs(canvas.x), canvas.y
    crease = 7.36 - 1.3 * (x - 0.31) ** 2
    dark = 0.28 * np.exp(-(((y - crease) / 0.010) ** 2)) * _step((0.15 - np.abs(x - 0.31)) / 0.03)
    dark = dark + 0.65 * np.exp(-(((x - 0.10) / 0.038) ** 2) - ((y - 6.853) / 0.020) ** 2)
    dark = dark + 0.2 * np.exp(-(((x - 0.262) / 0.024) ** 2) - ((y - 6.607) / 0.02) ** 2)
    dark = dark + 0.18 * np.exp(-((x / 0.13) ** 2) - ((y - 6.455) / 0.022) ** 2)
    fold = 0.19 + 0.14 * np.sqrt(np.clip((6.93 - y) / 0.3, 0, 1.5))
    along = _step((6.88 - y) / 0.08) * _step((y - 6.6) / 0.1)
    dark = dark + (0.03 + 0.14 * look.wrinkles) * np.exp(-(((x - fold) / 0.028) ** 2)) * along
    for height in (7.62, 7.71, 7.8):
        line = np.exp(-(((y - height + 0.15 * x**2) / 0.009) ** 2)) * _step((0.42 - x) / 0.15)
        dark = dark + 0.14 * max(look.wrinkles - 0.2, 0) * line
    frown = np.exp(-(((x - 0.055) / 0.012) ** 2) - ((y - 7.44) / 0.05) ** 2)
    crow = np.exp(-(((y - 7.27 - 0.4 * (x - 0.5)) / 0.01) ** 2) - ((x - 0.53) / 0.03) ** 2)
    dark = dark + 0.2 * look.wrinkles * (frown + crow)
    return np.asarray(1 - np.clip(dark, 0, 0.85), np.float32)


def _brows(canvas: Canvas, look: Look, rng: np.random.Generator) -> Floats:
    """Arched bands of hairs, thinner and sparser to the outside, left and right slightly different."""
    height, thick, arch, density = look.brow
    hairs = np.clip(0.85 + 0.35 * canvas.noise(rng, 500, 400), 0.3, 1.2)
    rows, y = canvas.rows(7.25, 7.75)
    cover = np.zeros(canvas.shape, np.float32)
    for side in (-1, 1):
        x = side * canvas.x
        lift, shift = rng.normal(0, 0.006), rng.normal(0, 0.012)
        t = (x - 0.115 - shift) / 0.40  # 0 at the inner end, 1 at the outer
        middle = height + lift + arch * np.sin(np.pi * np.clip(t, 0, 1) ** 1.4) - 0.03 * np.clip(t, 0, 1) ** 3
        half = thick * np.clip(1.15 - 0.75 * np.clip(t, 0, 1), 0.25, None)
        band = np.exp(-(((y - middle) / half) ** 4))
        ends = _step(t / 0.10) * _step((1 - t) / 0.15)
        cover[rows] += np.asarray(band * ends * (1 - 0.3 * np.clip(t, 0, 1)), np.float32)
    return np.asarray(np.clip(density * cover * hairs, 0, 1), np.float32)


def _stubble(canvas: Canvas, look: Look, rng: np.random.Generator) -> Floats:
    """A beard shadow on chin, jaw and upper lip, spared by the lips."""
    x, y = np.abs(canvas.x), canvas.y
    jaw = _step((6.72 - 0.9 * np.clip(0.45 - x, 0, None) ** 1.5 - y) / 0.10) * _step((x + 0.6 - 6.78 + y) / 0.2)
    chin = _step((6.50 - y) / 0.06)
    moustache = canvas.spot(0, 6.755, 0.16, 0.035) + canvas.spot(0, 6.36, 0.14, 0.1)
    grain = np.clip(0.7 + 0.4 * canvas.noise(rng, 700, 570), 0, 1.4)
    return np.asarray(0.55 * look.stubble * np.clip(0.8 * jaw + 0.5 * chin + moustache, 0, 1) * grain, np.float32)


def _hair(canvas: Canvas, look: Look, rng: np.random.Generator) -> Floats:
    """Hair above the hair line and before the ears, with a ragged border and strands."""
    x, y = np.abs(canvas.x), canvas.y
    ragged = 0.035 * canvas.noise(rng, 20, 60)
    line = look.hairline - 0.35 * np.clip(x - 0.25, 0, None) ** 1.2 - 2.2 * np.clip(x - 0.52, 0, None)
    above = _step((y - line + ragged) / 0.05)
    sideburn = _step((x - 0.66 + ragged) / 0.03) * _step((y - 7.05) / 0.08)
    strands = np.clip(0.85 + 0.2 * canvas.noise(rng, 90, 260), 0, 1)
    return np.asarray(np.clip(above + sideburn, 0, 1) * strands, np.float32)
