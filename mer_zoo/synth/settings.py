"""The knobs of the synthetic corpus, and three presets."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from mer_zoo.errors import InputError
from mer_zoo.synth.emotions import CLASS_SETS, TABLES, ClassSet, Table
from mer_zoo.synth.units import FAMILIES, Family

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How clips are made.

    Attributes:
        classes: The labels: 3, 5, 7, ``objective`` or ``au``; see ``emotions``.
        table: Which action units make which emotion: ``counts`` or ``miex``; without effect on ``objective``, ``au``.
        family: How action units move the face: ``head`` (rendered shapes) or ``field`` (Gaussian bumps).
        size: Height and width in pixels, 32 to 512.
        frames: From onset to offset, 5 or more.
        fps: Frames a second; None draws a duration for each clip as real ones last, and so its own rate.
        amplitude: Least and greatest strength of a clip's motion as a share of the units' full shapes, above 0 and at
            most 1; each coded unit has 0.7 to 1 of it.
        noise: Least and greatest standard deviation of the sensor's noise, in grey levels; with 0 there is no flicker
            and no compression either.
        head_motion: Factor on how much the head moves; 0 holds it still.
        blink_rate: Share of clips in which lids blink, wholly or in part, 0 to 1.
        gaze_rate: Share of clips in which the eyes jump, 0 to 1.
        label_noise: Share of clips whose label is that of another class, 0 to 1.

    Raises:
        InputError: If a value lies outside of what is said here.
    """

    classes: ClassSet = 3
    table: Table = "counts"
    family: Family = "head"
    size: int = 64
    frames: int = 20
    fps: float | None = None
    amplitude: Range = (0.06, 0.35)
    noise: Range = (0.3, 1.5)
    head_motion: float = 1.0
    blink_rate: float = 0.5
    gaze_rate: float = 0.5
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("amplitude", "noise"):
            object.__setattr__(self, name, _range(name, getattr(self, name)))
        for name, kind in (("classes", is_whole), ("size", is_whole), ("frames", is_whole), ("fps", _is_number)):
            value = getattr(self, name)
            if kind(value):  # a number of numpy's is as good as one of Python's
                object.__setattr__(self, name, int(value) if kind is is_whole else float(value))
        checks = [
            (_one_of(self.classes, CLASS_SETS), f"classes {self.classes!r}; expected one of {_words(CLASS_SETS)}"),
            (_one_of(self.table, TABLES), f"table {self.table!r}; expected one of {_words(TABLES)}"),
            (_one_of(self.family, FAMILIES), f"family {self.family!r}; expected one of {_words(FAMILIES)}"),
            (is_whole(self.size) and 32 <= self.size <= 512, f"size {self.size!r}; expected a whole number 32 to 512"),
            (
                is_whole(self.frames) and 5 <= self.frames <= 1000,
                f"frames {self.frames!r}; expected a whole number 5 to 1000",
            ),
            (self.fps is None or _within(self.fps, 1, 2000), f"fps {self.fps!r}; expected None or 1 to 2000"),
            (
                0 < self.amplitude[0] <= self.amplitude[1] <= 1,
                f"amplitude {self.amplitude}; expected two shares of a full action unit, above 0 and at most 1",
            ),
            (0 <= self.noise[0] <= self.noise[1] <= 64, f"noise {self.noise}; expected two grey levels, 0 to 64"),
            (_within(self.head_motion, 0, 10), f"head_motion {self.head_motion!r}; expected 0 to 10"),
            (_within(self.blink_rate, 0, 1), f"blink_rate {self.blink_rate!r}; expected a share, 0 to 1"),
            (_within(self.gaze_rate, 0, 1), f"gaze_rate {self.gaze_rate!r}; expected a share, 0 to 1"),
            (_within(self.label_noise, 0, 1), f"label_noise {self.label_noise!r}; expected a share, 0 to 1"),
        ]
        for sound, complaint in checks:
            if not sound:
                raise InputError(f"synthetic: {complaint}.")


PRESETS: dict[str, dict[str, Any]] = {
    "easy": {"amplitude": (0.3, 0.5), "noise": (0.0, 0.0), "head_motion": 0.0, "blink_rate": 0.0, "gaze_rate": 0.0},
    "default": {},
    "hard": {"amplitude": (0.05, 0.2), "noise": (1.0, 4.0), "head_motion": 2.0, "label_noise": 0.15},
}


def settings_of(preset: str, **knobs: Any) -> Settings:
    """A preset with some knobs turned.

    Raises:
        InputError: If the preset or a knob is unknown, or a value is not allowed.
    """
    if not _one_of(preset, PRESETS):
        raise InputError(f"synthetic: preset {preset!r}; expected one of {_words(PRESETS)}.")
    known = [field.name for field in dataclasses.fields(Settings)]
    unknown = sorted(set(knobs) - set(known))
    if unknown:
        others = "subjects, clips_per_subject, seed, preset"
        raise InputError(f"synthetic: no knob is named {_words(unknown)}; there are {others}, {_words(known)}.")
    return Settings(**{**PRESETS[preset], **knobs})


def _range(name: str, value: Any) -> Range:
    """One number stands for a range of one value."""
    pair = (value, value) if _is_number(value) else value
    if not isinstance(pair, tuple | list | np.ndarray) or len(pair) != 2 or not all(map(_is_number, pair)):
        raise InputError(f"synthetic: {name} {value!r}; expected a number, or the least and the greatest.")
    return float(pair[0]), float(pair[1])


def _one_of(value: Any, known: Iterable[Any]) -> bool:
    return any(type(value) is type(name) and value == name for name in known)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, Python's or numpy's."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _within(value: Any, low: float, high: float) -> bool:
    return _is_number(value) and low <= value <= high


def _words(names: Any) -> str:
    return ", ".join(repr(name) if isinstance(name, int) else str(name) for name in names)
