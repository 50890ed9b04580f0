"""Clips by number: every draw comes from a generator seeded by (seed, subject, clip)."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from mer_zoo.synth.emotions import class_names
from mer_zoo.synth.motion import Habits, Script, write_script
from mer_zoo.synth.person import Person, make_person
from mer_zoo.synth.render import Sensor, film, flow_of
from mer_zoo.synth.settings import Settings

VERSION = 1  # raise when a draw changes
PERSON, HABITS, SCRIPT, SENSOR = range(4)  # the last part of a generator's seed
PEOPLE = 4  # remembered at a time, since their maps are large


@dataclass(frozen=True)
class Generator:
    """Makes any clip of any subject, alone or among thousands, always the same.

    Attributes:
        settings: The knobs.
        seed: Other seeds are other persons.
    """

    settings: Settings
    seed: int

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
        rng = self._rng(subject, clip, HABITS)
        wrong = [name for name in self.labels if name != true]
        return true, str(rng.choice(wrong)) if rng.random() < self.settings.label_noise else true

    def script(self, subject: int, clip: int) -> Script:
        """What happens in a clip."""
        true, _ = self.label(subject, clip)
        habits = Habits.draw(self._rng(subject, 0, HABITS, 1))
        return write_script(self.settings, true, habits, self._rng(subject, clip, SCRIPT))

    def clip(self, subject: int, clip: int) -> npt.NDArray[np.uint8]:
        """The frames, (T, S, S) grey levels."""
        rng = self._rng(subject, clip, SENSOR)
        sensor = Sensor.draw(self.settings.noise, rng)
        return film(self.person(subject), self.script(subject, clip), sensor, rng)

    def flow(self, subject: int, clip: int) -> npt.NDArray[np.float32]:
        """The true flow from the onset to every frame, (T, S, S, 2) pixels."""
        return flow_of(self.person(subject), self.script(subject, clip))

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *numbers])


@lru_cache(maxsize=PEOPLE)
def _person(seed: int, subject: int, size: int, family: str) -> Person:
    return make_person(np.random.default_rng([seed, subject, 0, PERSON]), size, "head" if family == "head" else "field")
