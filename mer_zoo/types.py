"""The words of the library: Sample, ActionUnit, InputSpec, Fold, Counts. Nonsense is refused when they are made."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mer_zoo.errors import InputError
from mer_zoo.specs import InputSpec as InputSpec

UNNAMED = "clips without names"  # what weights have seen that were fitted on bare tensors

SIDES = ("", "L", "R", "A", "T", "B")
INTENSITIES = ("", "A", "B", "C", "D", "E")
Target = int | tuple[int, ...]  # a class index, or 0 or 1 for each class

MACRO = "macro"  # the flag of an expression that is no micro-expression
FLAGS = {  # what may be odd about a sample
    "apex_by_difference": "the apex was found: the frame least like both ends of the clip",
    "apex_by_lbp": "the apex was found: where texture differs most from the onset's",
    "apex_by_middle": "the apex is a guess: the middle frame",
    "apex_is_offset": "the apex is the last frame",
    "apex_is_onset": "the apex is the first frame, so another stands in for it",
    "apex_missing": "no apex is given; another frame stands in",
    "apex_outside": "the apex lies outside of onset to offset; another frame stands in",
    "apex_unread": "the apex is text and no number",
    "aus_static": "some units are there before the clip begins; they are left out",
    "aus_uncertain": "the coders were not sure of some units",
    "aus_unknown": "units are written '?'",
    "aus_unread": "something among the units is no unit",
    "emotion_missing": "the sheet of emotions lacks this clip",
    "emotion_unexpected": "the emotion is none that is known, or two cells contradict each other",
    "folder_disagrees": "the folder says another emotion than the sheet",
    "frames_missing": "fewer than two pictures are there, so that the clip cannot be used",
    "frames_truncated": "pictures are missing at the beginning or the end",
    "frames_twice": "two pictures have one number",
    "frames_with_gaps": "pictures are missing in between",
    "macro": "a macro-expression",
    "numbered_by_position": "pictures have other numbers than the sheet, and were counted",
    "objective_unexpected": "the objective class is none of I to VII",
    "offset_missing": "no offset is given; the apex stands in",
    "onset_missing": "no onset is given; the apex stands in",
    "row_twice": "an earlier row says the same clip",
    "subject_disagrees": "the column of subjects says another person than the clip's name",
    "window_long": "the clip lasts 100 frames or more",
    "window_of_one": "onset and offset are one frame",
    "window_reversed": "the offset lies before the onset; they were exchanged",
}
UNUSABLE = "frames_missing"  # the flag of a sample that protocols leave out


@dataclass(frozen=True)
class ActionUnit:
    """One movement of the face in the Facial Action Coding System; ``str`` gives its code, such as ``L12C``.

    Attributes:
        number: Which one, 1 to 99.
        side: ``L`` or ``R``: on that side only; ``A``: asymmetric; ``T`` or ``B``: top or bottom lip; nothing: both.
        intensity: ``A``, a trace, to ``E``, the maximum; nothing where it was not coded.
        uncertain: Whether the coders were not sure: marked ``?``, one of several joined by ``or`` or a slash, or in
            ``ref(...)``.

    Raises:
        InputError: If a part is none of these.
    """

    number: int
    side: str = ""
    intensity: str = ""
    uncertain: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.number, bool) or not isinstance(self.number, int) or not 0 < self.number < 100:
            raise InputError(f"An action unit cannot have the number {self.number!r}; expected 1 to 99.")
        for name, value, allowed in (("side", self.side, SIDES), ("intensity", self.intensity, INTENSITIES)):
            if value not in allowed:
                raise InputError(f"An action unit cannot have the {name} {value!r}; expected one of {allowed}.")

    def __str__(self) -> str:
        return f"{self.side}{self.number}{self.intensity}{'?' if self.uncertain else ''}"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One annotated clip.

    Attributes:
        corpus: The data set, such as ``casme2``.
        subject: The person within that data set, as its owners write it: ``sub01``, ``006``.
        clip: The clip's name, unique together with the subject.
        emotion: The owners' label in the words of this library: ``happiness`` where they write ``Happy``.
        onset: Number of the first frame; None where only a finished flow image was published.
        apex: Number of the frame of strongest motion, or None.
        offset: Number of the last frame; None together with ``onset``.
        fps: Frames a second, or None.
        aus: Action units.
        flags: What is odd about this clip, such as ``apex_missing``.
        emotion_as_written: The label as the owners write it; empty where they give none.
        objective: Class ``I`` to ``VII`` by action units (Davison, Merghani and Yap, 2018), where one was published.
    """

    corpus: str
    subject: str
    clip: str
    emotion: str
    onset: int | None = None
    apex: int | None = None
    offset: int | None = None
    fps: float | None = None
    aus: tuple[ActionUnit, ...] = ()
    flags: tuple[str, ...] = ()
    emotion_as_written: str = ""
    objective: str | None = None

    def __post_init__(self) -> None:
        for name in ("corpus", "subject", "clip", "emotion"):
            text = getattr(self, name)
            if not text or text != text.strip() or "/" in text:
                raise InputError(f"Sample.{name} is {text!r}; expected text without a slash or blanks at its ends.")
        if (self.onset is None) != (self.offset is None):
            raise InputError(f"{self.key}: onset {self.onset} and offset {self.offset}; give both or none.")
        if self.onset is not None and self.offset is not None and self.onset > self.offset:
            raise InputError(f"{self.key}: onset {self.onset} lies after offset {self.offset}.")
        if self.fps is not None and not self.fps > 0:
            raise InputError(f"{self.key}: {self.fps} frames a second; expected a positive number.")

    @property
    def person(self) -> str:
        """Written ``corpus/subject``, since subject 6 of SAMM is not subject 6 of SMIC."""
        return f"{self.corpus}/{self.subject}"

    @property
    def key(self) -> str:
        """``corpus/subject/clip``, unique among all samples."""
        return f"{self.person}/{self.clip}"


def plain(name: str) -> str:
    """A name in small letters without blanks at its ends and zeros before numbers: owners and lists differ in these.

    >>> plain("smic/s01/s01_ne_01") == plain("smic/s1/s1_ne_01")
    True
    """
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), name.strip().lower())


def spec_of(model: object) -> InputSpec | None:
    """What a module says that it eats, or None."""
    spec = getattr(model, "input_spec", None)
    return spec if isinstance(spec, InputSpec) else None


def seen_by(model: Any) -> list[str]:
    """Corpora and persons whose clips the weights of a module, or of parts of it, have seen, as far as they know."""
    facts = [getattr(part, "saved_facts", {}) for part in model.modules()]
    return sorted({name for each in facts for name in each.get("trained_on", ())})


def remember(model: Any, persons: Iterable[str]) -> None:
    """Note in a module, and in parts that keep such notes, that the weights have seen these persons, too."""
    added = set(persons)
    for part in model.modules():
        if part is model or hasattr(part, "saved_facts"):
            facts = getattr(part, "saved_facts", {})
            part.saved_facts = {**facts, "trained_on": sorted({*facts.get("trained_on", ()), *added})}


@dataclass(frozen=True)
class Fold:
    """One split: what may be learnt from, and what is predicted afterwards.

    Attributes:
        name: Unique among the folds of a run.
        train: The clips that may be learnt from.
        test: Those predicted.
        repeat: Number of the repetition, from 0, where the same clips are parted several times.

    Raises:
        InputError: If a side is empty or a clip is on both.
    """

    name: str
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    repeat: int = 0

    def __post_init__(self) -> None:
        if not self.train or not self.test:
            raise InputError(f"Fold {self.name!r} has {len(self.train)} training and {len(self.test)} test clips.")
        both = {s.key for s in self.train} & {s.key for s in self.test}
        if both:
            raise InputError(f"Fold {self.name!r} has clips on both sides: {sorted(both)[:3]}.")


@dataclass(frozen=True)
class Counts:
    """What a publication says there is: persons (None where it does not say), clips, and clips by class or emotion."""

    subjects: int | None
    clips: int
    classes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, samples: list[Sample], labels: list[str]) -> "Counts":
        """Count samples; ``labels`` gives the class of each."""
        names = sorted(set(labels))
        return cls(len({s.person for s in samples}), len(samples), {name: labels.count(name) for name in names})
