"""How each action unit moves the face: displacements of the mesh, left and right apart.

Two families. ``head``: shapes of "Face Units 01" mixed to the units of FACS (Ekman, Friesen and Hager, Facial Action
Coding System, 2002); the mixing is ours. ``field``: smooth bumps of motion at hand-placed points, without any shape
that an artist made; a network that learnt more than one family's habits solves both.
"""

import functools
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from mer_zoo.synth.geometry import Head, load_head, normal_changes

Floats = npt.NDArray[np.floating]
Family = Literal["head", "field"]
FAMILIES: tuple[Family, ...] = ("head", "field")

SIDES = ("L", "R")
WORDS = {"L": "Left", "R": "Right"}

# Action unit -> shapes and their shares; {} stands for Left or Right. Shapes of the middle are parted by ``_half``.
# "bumps" are those of the other family: they carry brows' motion down to the lids and the smile's to the cheeks, where
# the artist's shapes end too early.
RECIPES: dict[int, dict[str, float]] = {
    1: {"browInnerUp": 0.8, "bumps": 0.35},
    2: {"browOuterUp{}": 0.8, "browInnerUp": 0.15, "bumps": 0.35},
    4: {"browDown{}": 0.8, "noseSneer{}": 0.15, "bumps": 0.3},
    5: {"eyeWide{}": 1.3, "browOuterUp{}": 0.06},
    6: {"cheekSquint{}": 0.6, "eyeSquint{}": 0.6},
    7: {"eyeSquint{}": 1.0, "eyeBlink{}": 0.15},
    9: {"noseSneer{}": 1.5, "mouthUpperUp{}": 0.3, "browDown{}": 0.3},
    10: {"mouthUpperUp{}": 1.2, "noseSneer{}": 0.3},
    12: {"mouthSmile{}": 0.6, "mouthDimple{}": 0.2, "cheekSquint{}": 0.4, "bumps": 0.5},
    14: {"mouthDimple{}": 1.1},
    15: {"mouthFrown{}": 1.2},
    17: {"mouthShrugLower": 1.0, "mouthShrugUpper": 0.25, "mouthFrown{}": 0.2},
    20: {"mouthStretch{}": 1.0},
    23: {"mouthPucker": 0.4, "mouthRollUpper": 0.15, "mouthRollLower": 0.15},
    24: {"mouthPress{}": 0.6, "mouthRollUpper": 0.25, "mouthRollLower": 0.25},
    25: {"mouthLowerDown{}": 1.2, "mouthUpperUp{}": 0.2},
    26: {"jawOpen": 0.4},
}
AUS = tuple(RECIPES)
# Heights, decimetres, between which a shape fades away downwards: the artist's smile draws up the chin.
FADING = {"mouthSmile": (6.66, 6.50)}
PARTING = (5, 7, 10, 25, 26)  # moved by shapes in both families: a bump over both lids or lips cannot part them
LIDS = {"blink": {"eyeBlink{}": 1.0}, "gaze_up": {"eyeLookUp{}": 1.0}, "gaze_down": {"eyeLookDown{}": 1.0}}

# Action unit -> bumps (x, y, u, v, width) on the left half of a face's picture, x and y from 0 to 1 with the eyes at
# a quarter and the mouth at three quarters of the height, v downwards; the right half mirrors x and u.
BUMPS: dict[int, list[tuple[float, float, float, float, float]]] = {
    1: [(0.40, 0.13, 0.0, -1.0, 0.09)],
    2: [(0.18, 0.14, 0.0, -1.0, 0.10)],
    4: [(0.36, 0.15, 0.4, 0.9, 0.10)],
    5: [(0.25, 0.24, 0.0, -0.7, 0.06)],
    6: [(0.22, 0.42, 0.1, -0.7, 0.10)],
    7: [(0.25, 0.24, 0.0, 0.4, 0.06), (0.25, 0.32, 0.0, -0.5, 0.06)],
    9: [(0.42, 0.42, 0.1, -0.8, 0.08), (0.43, 0.20, 0.0, 0.5, 0.07)],
    10: [(0.41, 0.67, 0.0, -0.8, 0.08)],
    12: [(0.31, 0.74, -0.6, -0.8, 0.09), (0.21, 0.56, -0.2, -0.5, 0.11)],
    14: [(0.29, 0.76, -0.7, -0.1, 0.08)],
    15: [(0.31, 0.79, -0.1, 0.8, 0.08)],
    17: [(0.46, 0.90, 0.0, -0.8, 0.10), (0.46, 0.81, 0.0, -0.5, 0.08)],
    20: [(0.28, 0.79, -1.0, 0.1, 0.09)],
    23: [(0.37, 0.76, 0.5, 0.0, 0.07)],
    24: [(0.43, 0.73, 0.0, 0.5, 0.06), (0.43, 0.81, 0.0, -0.5, 0.06)],
    25: [(0.45, 0.82, 0.0, 0.6, 0.08)],
    26: [(0.44, 0.92, 0.0, 1.0, 0.12)],
}
BLINK = [(0.25, 0.25, 0.0, 0.9, 0.06)]

# The picture that bumps are placed on, over the mesh at rest: eyes at (0.31, 7.285), mouth at 6.61 decimetres.
PICTURE_WIDTH, PICTURE_HEIGHT, PICTURE_TOP = 1.24, 1.35, 7.6225
BUMP_STEP = 0.07  # decimetres that a bump of strength one moves the skin: as much as a full shape of a brow

# Every motion that has a displacement of its own: action units by side, then lids.
CHANNELS = tuple(f"{au}{side}" for au in AUS for side in SIDES)
# So many channels move the skin; lids, after them, come over the eye like a curtain, by their rim alone.
SKIN = len(CHANNELS)
CHANNELS += tuple(f"{lid}{side}" for lid in LIDS for side in SIDES)
INDEX: Mapping[str, int] = {name: i for i, name in enumerate(CHANNELS)}


@functools.cache
def turns(family: Family) -> Floats:
    """How every channel at full strength turns the normals of the mesh at rest: (N, C, 3), not to be changed.

    Those of the mesh stand for everyone's: a person's own differ by little, and cost a third of making a person.
    """
    head = load_head()
    skin = displacements(family).copy()
    skin[:, SKIN:] = 0
    changes = normal_changes(head.vertices, head.triangles, skin)
    changes.setflags(write=False)
    return changes


@functools.cache
def displacements(family: Family) -> Floats:
    """Displacements of all vertices by every channel at full strength: (N, C, 3) decimetres; not to be changed."""
    head = load_head()
    names: list[int | str] = [*AUS, *LIDS]
    moved = [_shape(head, family, name, side) for name in names for side in SIDES]
    stacked = np.stack(moved, axis=1)
    stacked.setflags(write=False)
    return stacked


def _shape(head: Head, family: Family, name: int | str, side: str) -> Floats:
    if family == "field" and isinstance(name, int) and name not in PARTING:
        return _bump_motion(head, BUMPS[name], side)
    recipe = RECIPES[name] if isinstance(name, int) else LIDS[name]
    half = _half(head, side)
    total = np.zeros_like(head.vertices)
    for shape, share in recipe.items():
        if shape == "bumps":
            moved = _bump_motion(head, BUMPS[int(name)], side)
        else:
            moved = head.unit(shape.format(WORDS[side])) * (1 if "{}" in shape else half)
        total += np.float32(share) * moved * _fading(head, shape)
    return total


def _fading(head: Head, shape: str) -> Floats | float:
    """Share of a shape that is left at each vertex, (N, 1)."""
    heights = FADING.get(shape.removesuffix("{}"))
    if heights is None:
        return 1.0
    high, low = heights
    return np.asarray(np.clip((head.vertices[:, 1:2] - low) / (high - low), 0, 1), np.float32)


def _half(head: Head, side: str) -> Floats:
    """Share of each vertex, (N, 1), in the motion of one side: 1 well on it, 0 well on the other."""
    x = head.vertices[:, :1] * (1 if side == "L" else -1)
    return np.asarray(1 / (1 + np.exp(-x / 0.04)), np.float32)


def _bump_motion(head: Head, bumps: list[tuple[float, float, float, float, float]], side: str) -> Floats:
    """Motion in the picture's plane; the bumps' left half is the picture's, so the person's right."""
    mirror = -1 if side == "R" else 1
    x = 0.5 - mirror * head.vertices[:, 0] / PICTURE_WIDTH
    y = (PICTURE_TOP - head.vertices[:, 1]) / PICTURE_HEIGHT
    moved = np.zeros_like(head.vertices)
    for at_x, at_y, u, v, width in bumps:
        bell = BUMP_STEP * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * width**2))
        moved[:, 0] -= mirror * u * bell
        moved[:, 1] -= v * bell
    return moved
