"""What a face does during a clip: action units rise and fall, lids blink, eyes turn, the head drifts.

Durations follow real clips: onset to offset 0.33 s in the mean, 0.18 to 0.6 s (CASME II and SAMM at 200 frames a
second), the apex at half of it with a wide spread. All else is ours.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mer_zoo.synth.emotions import draw_units
from mer_zoo.synth.person import MOTIONS
from mer_zoo.synth.settings import Settings
from mer_zoo.synth.units import AUS, INDEX, SIDES

Floats = npt.NDArray[np.floating]

DURATION, SPREAD = 0.33, 0.35  # seconds, and standard deviation of its logarithm
SHORTEST, LONGEST = 0.18, 0.6
APEX = 0.35, 0.70  # of the clip
FAINT = 0.4  # a side weaker than this share of the other is not coded
# Units that often move a little, though nobody codes them, when one of the others does: mouth and eyes go together.
MOUTH, EYES = frozenset({10, 12, 14, 15, 17, 20}), frozenset({1, 2, 4, 9})
COMPANIONS = {6: MOUTH, 7: MOUTH | EYES, 5: frozenset({1, 2}), 14: frozenset({6, 7}), 24: frozenset({4, 9}), 25: MOUTH}
PLACE = {name: i for i, name in enumerate(MOTIONS)}


@dataclass(frozen=True)
class Coding:
    """What an annotator would write down: units as FACS codes, such as ``L12``, apex as a frame, frames a second."""

    units: tuple[str, ...]
    apex: int
    fps: float


@dataclass(frozen=True)
class Habits:
    """How a person moves: factor on all strengths, and each unit's lean to the left, -1 to 1."""

    strength: float
    lean: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Habits":
        """A person's habits."""
        lean = 0.7 * rng.normal(0, 0.15) + 0.7 * rng.normal(0, 0.15, len(AUS))
        return cls(float(rng.lognormal(0, 0.2)), lean.astype(np.float32))


@dataclass(frozen=True)
class Script:
    """Strengths over time.

    Attributes:
        coding: What an annotator would write down.
        peaks: (17, 2) strengths of every action unit at the apex, left and right, as shares of the full shape.
        weights: (T, C) strengths of ``MOTIONS``; all nought at the onset.
        gaze: (T, 2) turns of the eyes to the left and up, radians; nought at the onset.
    """

    coding: Coding
    peaks: Floats
    weights: Floats
    gaze: Floats

    @cached_property
    def used(self) -> npt.NDArray[np.bool_]:
        """Which motions happen at all, (C,)."""
        return np.asarray(self.weights.any(axis=0))


def write_script(settings: Settings, label: str, habits: Habits, rng: np.random.Generator) -> Script:
    """Draw what happens in one clip with this label."""
    units = draw_units(settings.classes, settings.table, label, rng)
    frames = settings.frames
    apex = round(rng.uniform(*APEX) * (frames - 1))
    duration = np.clip(DURATION * np.exp(rng.normal(0, SPREAD)), SHORTEST, LONGEST)
    fps = settings.fps or round((frames - 1) / float(duration), 1)
    time = np.arange(frames) / fps
    peaks = _peaks(units, settings, habits, rng)
    coding = Coding(_codes(peaks, units), apex, fps)
    weights = np.zeros((frames, len(MOTIONS)), np.float32)
    for row, unit in zip(peaks, AUS, strict=True):
        if row.any():
            rise = _rise_and_fall(frames, apex, rng)
            weights[:, [INDEX[f"{unit}{side}"] for side in SIDES]] = np.outer(rise, row)
    gaze = _gaze(weights, time, settings.gaze_rate, rng)
    _blink(weights, time, settings, rng)
    _drift(weights, time, settings.head_motion, rng)
    return Script(coding, peaks, weights, gaze)


def _peaks(units: frozenset[int], settings: Settings, habits: Habits, rng: np.random.Generator) -> Floats:
    """Strengths at the apex: coded units strong, some others faint, as muscles seldom work alone."""
    low, high = settings.amplitude
    main = np.clip(rng.uniform(low, high) * habits.strength, low, high)
    moving = {unit for unit, others in COMPANIONS.items() if units & others}
    chances = [0.6 if unit in moving else 0.15 for unit in AUS]
    peaks = np.zeros((len(AUS), 2), np.float32)
    for i, unit in enumerate(AUS):
        share = rng.uniform(0.7, 1.0) if unit in units else rng.uniform(0.05, 0.25) * (rng.random() < chances[i])
        lean = float(np.clip(habits.lean[i] + rng.normal(0, 0.12), -0.9, 0.9))
        one_sided = 0.9 * rng.choice((-1, 1)) if rng.random() < (0.2 if unit in (12, 14) else 0.04) else 0.0
        lean = float(np.clip(lean + one_sided, -1, 1))
        peaks[i] = main * share * np.minimum((1 + lean, 1 - lean), 1)
    return peaks


def _codes(peaks: Floats, units: frozenset[int]) -> tuple[str, ...]:
    codes = []
    for i, unit in enumerate(AUS):
        left, right = peaks[i]
        if unit in units:
            side = "R" if left < FAINT * right else "L" if right < FAINT * left else ""
            codes.append(f"{side}{unit}")
    return tuple(codes)


def _smooth(t: Floats) -> Floats:
    """From 0 to 1 with the least jerk (Flash and Hogan, J. Neuroscience 5(7), 1985, eq. 1)."""
    t = np.clip(t, 0, 1)
    return t**3 * (10 - 15 * t + 6 * t**2)


def _rise_and_fall(frames: int, apex: int, rng: np.random.Generator) -> Floats:
    """A unit's course: nought at the onset, one at the apex or a little aside, and mostly gone at the offset."""
    steps = np.arange(frames)
    late = rng.uniform(0, 0.2) * apex
    peak = apex + rng.normal(0, 0.03) * frames
    rest = rng.uniform(0, 0.35)
    rise = _smooth((steps - late) / max(peak - late, 1))
    fall = 1 - (1 - rest) * _smooth((steps - peak) / max((frames - 1 - peak) * rng.uniform(0.8, 1.1), 1))
    return np.where(steps < peak, rise, fall)


def _blink(weights: Floats, time: Floats, settings: Settings, rng: np.random.Generator) -> None:
    """Lids close, mostly in part, within a tenth of a second and open more slowly; in a share of the clips."""
    depth, middle, happens = rng.beta(1, 1.5), rng.uniform(0.1, 1.0) * time[-1], rng.random()
    if happens >= settings.blink_rate:
        return
    closing = _smooth(1 - np.abs(time - middle) / np.where(time < middle, 0.10, 0.18))
    course = depth * (closing - closing[0] * (1 - _smooth(time / max(middle, 1e-6))))
    for side in SIDES:
        weights[:, INDEX[f"blink{side}"]] += course * (1 + rng.normal(0, 0.05))


def _gaze(weights: Floats, time: Floats, rate: float, rng: np.random.Generator) -> Floats:
    """Eyes jump once in a share of the clips, by some degrees within 40 ms, and the lids follow up and down."""
    jump = np.radians(rng.normal(0, (4.0, 2.5)))
    start, happens = rng.uniform(0, 1) * time[-1], rng.random() < rate
    course = _smooth((time - start) / 0.04)
    gaze = np.outer(course, jump * happens).astype(np.float32)
    lids = gaze[:, 1] / np.radians(25)
    for side in SIDES:
        weights[:, INDEX[f"gaze_up{side}"]] += np.maximum(lids, 0)
        weights[:, INDEX[f"gaze_down{side}"]] += np.maximum(-lids, 0)
    return gaze


def _drift(weights: Floats, time: Floats, strength: float, rng: np.random.Generator) -> None:
    """The head sways: a slow turn and shift in a random direction, and a slower one back."""
    reach = np.concatenate([np.radians(rng.normal(0, (0.25, 0.25, 0.12))), rng.normal(0, 0.004, 2)])
    pace, phase = rng.uniform(0.5, 2.0, 5), rng.uniform(0, 2 * np.pi, 5)
    sway = np.sin(2 * np.pi * pace * time[:, None] + phase) - np.sin(phase)
    weights[:, PLACE["turn_x"] :] = strength * reach * sway
