"""Protocols as data: which samples, which classes, which folds, how many there should be, and from where."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mer_zoo.errors import InputError
from mer_zoo.registry import Registry
from mer_zoo.types import Counts, Fold, Sample

STAND_IN = "synthetic"  # the corpus of rendered faces

FoldMaker = Callable[[Sequence[Sample]], list[Fold]]


def leave_one_subject_out(samples: Sequence[Sample]) -> list[Fold]:
    """One fold for each person, whose clips are the test part; all others are learnt from.

    Persons, not subject numbers: subject 6 of SAMM and subject 6 of SMIC are two.

    Raises:
        InputError: If there are fewer than two persons.
    """
    persons = sorted({s.person for s in samples})
    if len(persons) < 2:
        raise InputError(f"Leave-one-subject-out needs two persons or more; found {persons or 'none'}.")
    return [
        Fold(
            name=person,
            train=tuple(s for s in samples if s.person != person),
            test=tuple(s for s in samples if s.person == person),
        )
        for person in persons
    ]


def check_folds(folds: Sequence[Fold], samples: Sequence[Sample]) -> None:
    """Make sure that folds are honest and whole.

    Raises:
        InputError: If two have one name, if a person is on both sides of one, or if some clip is not tested once.
    """
    names = Counter(fold.name for fold in folds)
    if len(names) < len(folds):
        raise InputError(f"Folds share names: {[name for name, times in names.items() if times > 1][:3]}.")
    for fold in folds:
        both = {s.person for s in fold.train} & {s.person for s in fold.test}
        if both:
            raise InputError(f"Fold {fold.name!r} has persons on both sides: {sorted(both)[:3]}; that leaks.")
    tested = Counter(s.key for fold in folds for s in fold.test)
    wrong = [s.key for s in samples if tested[s.key] != 1]
    if wrong or len(tested) != len(samples):
        raise InputError(f"{len(wrong)} clips are not tested exactly once: {wrong[:3]}.")


@dataclass(frozen=True)
class Protocol:
    """How clips become a score.

    Attributes:
        name: Its name in the registry.
        classes: In the order of the class indices.
        emotions: Class of each emotion that takes part.
        counts: Expected persons and clips, by ``Sample.corpus``, of the corpora that take part.
        source: The publication.
        fold_maker: From samples to folds.
        made: Options of each corpus that is made, not read, which ``evaluate`` opens when no folders are given.
    """

    name: str
    classes: tuple[str, ...]
    emotions: Mapping[str, str]
    counts: Mapping[str, Counts]
    source: str
    fold_maker: FoldMaker = leave_one_subject_out
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def select(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples that take part, in their order.

        Rendered faces (``STAND_IN``) may stand in for the corpora of every protocol that knows their labels, so that
        each can be tried without a licence.
        """
        corpora = {*self.counts, STAND_IN}
        return [s for s in samples if s.corpus in corpora and s.emotion in self.emotions]

    def target(self, sample: Sample) -> int:
        """Class index of a sample.

        Raises:
            InputError: If its emotion takes no part.
        """
        if sample.emotion not in self.emotions:
            raise InputError(
                f"{sample.key} is labelled {sample.emotion!r}, which {self.name} leaves out; select samples first. "
                f"Taking part: {', '.join(self.emotions)}."
            )
        return self.classes.index(self.emotions[sample.emotion])

    def folds(self, samples: Sequence[Sample]) -> list[Fold]:
        """The splits of selected samples; ``evaluate`` makes sure that each person is on one side."""
        return self.fold_maker(samples)

    def stood_in_by(self, corpora: Iterable[str]) -> bool:
        """Whether rendered faces are among these corpora and are none of the protocol's own."""
        return STAND_IN in set(corpora) - set(self.counts)

    def deviations(self, found: Mapping[str, Counts]) -> list[str]:
        """Where what was found, by corpus and class, differs from what the publication counts: one sentence each."""
        notes = []
        if self.stood_in_by(found):
            notes.append("rendered persons stand in for the corpora of this protocol; the score is not one of theirs.")
        for corpus, expected in self.counts.items():
            if corpus not in found and expected.clips:
                notes.append(f"{corpus} is missing: {expected.clips} clips of {expected.subjects} persons.")
            elif expected.clips and found[corpus] != expected:
                notes.append(f"{corpus} has {_in_words(found[corpus])}; expected {_in_words(expected)}.")
        return notes


def _in_words(counts: Counts) -> str:
    classes = ", ".join(f"{name} {number}" for name, number in counts.classes.items())
    return f"{counts.clips} clips of {counts.subjects} persons ({classes})"


PROTOCOLS: Registry[Protocol] = Registry("protocol")


def list_protocols() -> list[str]:
    """Names that ``get_protocol`` takes."""
    return PROTOCOLS.names()


def get_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UnknownNameError: If there is none; near names are listed.
    """
    return PROTOCOLS.get(name)


def register_protocol(protocol: Protocol) -> Protocol:
    """Make a protocol known under its name; a second use of the name raises."""
    return PROTOCOLS.add(protocol.name, protocol)


THREE = ("negative", "positive", "surprise")
NEGATIVE = ("anger", "contempt", "disgust", "fear", "repression", "sadness")

register_protocol(
    Protocol(
        name="megc2019",
        classes=THREE,
        emotions={name: name for name in THREE},
        counts={
            "smic": Counts(16, 164, {"negative": 70, "positive": 51, "surprise": 43}),
            "casme2": Counts(24, 145, {"negative": 88, "positive": 32, "surprise": 25}),
            "samm": Counts(28, 133, {"negative": 92, "positive": 26, "surprise": 15}),
        },
        source="See et al., MEGC 2019, composite database evaluation: 442 clips, 68 persons, leave-one-subject-out",
    )
)

ANY_NUMBER = Counts(0, 0)
RENDERED = "this library: made-up persons, any number of them, leave-one-subject-out; labels after {}"


def _rendered(classes: int | str, names: tuple[str, ...], source: str) -> Protocol:
    """A protocol over rendered faces with one set of labels."""
    return Protocol(
        name=f"synthetic-{classes}",
        classes=names,
        emotions={name: name for name in names},
        counts={STAND_IN: ANY_NUMBER},
        source=RENDERED.format(source),
        made={STAND_IN: {"classes": classes}},
    )


register_protocol(
    replace(
        _rendered(3, THREE, "MEGC 2019"),
        emotions={
            **{name: name for name in THREE},
            **dict.fromkeys(NEGATIVE, "negative"),
            "happiness": "positive",
        },
        counts={STAND_IN: ANY_NUMBER, "synthetic_flow": ANY_NUMBER},
    )
)
register_protocol(_rendered(5, ("happiness", "surprise", "disgust", "repression", "others"), "CASME II"))
register_protocol(
    _rendered(
        7,
        ("happiness", "surprise", "anger", "disgust", "fear", "sadness", "contempt"),
        "the six basic emotions and contempt",
    )
)
register_protocol(
    _rendered(
        "objective", ("I", "II", "III", "IV", "V", "VI", "VII"), "Davison, Merghani and Yap, J. Imaging 4(10), 2018"
    )
)
