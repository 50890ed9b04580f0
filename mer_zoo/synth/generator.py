"""Clips by number: every draw comes from a generator seeded by (seed, subject, clip)."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError
from mer_zoo.synth.emotions import class_names, unit_number
from mer_zoo.synth.motion import Coding, Habits, Script, write_script
from mer_zoo.synth.person import Person, make_person
from mer_zoo.synth.render import Sensor, film, flow_of
from mer_zoo.synth.settings import Settings, is_whole
from mer_zoo.synth.units import FAMILIES, Family

VERSION = 1  # raise when a draw changes
# The last parts of a seed: who it is, how that person moves, what the label says, what happens, what the camera adds.
PERSON, HABITS, LABEL, SCRIPT, SENSOR = (0,), (1, 1), (1,), (2,), (3,)
PEOPLE = 2  # remembered at a time, since their maps are large


@dataclass(frozen=True)
class Generator:
    """Makes any clip of any subject, alone or among thousands, always the same.

    Attributes:
        settings: The knobs.
        seed: Other seeds are other persons.

    Raises:
        InputError: If the seed is not a whole number, 0 to 2 ** 32 - 1.
    """

    settings: Settings
    seed: int

    def __post_init__(self) -> None:
        if not is_whole(self.seed) or not 0 <= self.seed < 2**32:
            raise InputError(f"synthetic: seed is {self.seed!r}; expected a whole number, 0 to 2 ** 32 - 1.")
        object.__setattr__(self, "seed", int(self.seed))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of the class set."""
        return class_names(self.settings.classes)

    def person(self, subject: int) -> Person:
        """Who this subject is."""
        return _person(self.seed, subject, self.settings.size, self.settings.family)

    def label(self, subject: int, clip: int) -> tuple[str, str]:
        """What happens in a clip, and what its label says, which label noise may change.

        A subject's clips take the labels in turn, each subject starting one further.
        """
        true = self.labels[(subject + clip) % len(self.labels)]
        rng = self._rng(subject, clip, LABEL)
        wrong = [name for name in self.labels if name != true]
        return true, str(rng.choice(wrong)) if rng.random() < self.settings.label_noise else true

    def script(self, subject: int, clip: int) -> Script:
        """What happens in a clip."""
        true, _ = self.label(subject, clip)
        habits = Habits.draw(self._rng(subject, 0, HABITS))
        return write_script(self.settings, true, habits, self._rng(subject, clip, SCRIPT))

    def coding(self, subject: int, clip: int) -> Coding:
        """What the annotator writes down; where units are the labels, label noise puts another for the true one."""
        true, written = self.label(subject, clip)
        coding = self.script(subject, clip).coding
        if self.settings.classes != "au" or true == written:
            return coding
        kept = [code for code in coding.units if unit_number(code) not in (int(true), int(written))]
        return replace(coding, units=tuple(sorted([*kept, written], key=unit_number)))

    def clip(self, subject: int, clip: int) -> npt.NDArray[np.uint8]:
        """The frames, (T, S, S) grey levels."""
        rng = self._rng(subject, clip, SENSOR)
        sensor = Sensor.draw(self.settings.noise, rng)
        return film(self.person(subject), self.script(subject, clip), sensor, rng)

    def flow(self, subject: int, clip: int) -> npt.NDArray[np.float32]:
        """The true flow from the onset to every frame, (T, S, S, 2) pixels."""
        return flow_of(self.person(subject), self.script(subject, clip))

    def _rng(self, subject: int, clip: int, part: tuple[int, ...]) -> np.random.Generator:
        return np.random.default_rng(_seed(self.seed, subject, clip, part, self.settings.family))


@lru_cache(maxsize=PEOPLE)
def _person(seed: int, subject: int, size: int, family: Family) -> Person:
    return make_person(np.random.default_rng(_seed(seed, subject, 0, PERSON, family)), size, family)


def _seed(seed: int, subject: int, clip: int, part: tuple[int, ...], family: Family) -> list[int]:
    """Families share nobody: person 3 of one is not person 3 of the other."""
    first, *rest = part
    return [seed, subject, clip, first + 10 * FAMILIES.index(family), *rest]
