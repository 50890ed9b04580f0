"""Protocols as data: which samples, which classes, which folds, how many there should be, and from where."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from mer_zoo.errors import InputError
from mer_zoo.folds import FoldMaker, group_k_fold, leave_one_corpus_out, leave_one_subject_out
from mer_zoo.registry import Registry
from mer_zoo.types import MACRO, UNUSABLE, Counts, Fold, Sample, Target

STAND_IN = "synthetic"  # the corpus of rendered faces


@dataclass(frozen=True)
class Protocol:
    """How clips become a score.

    Attributes:
        name: Its name in the registry.
        classes: In the order of the class indices.
        emotions: Class of each label that takes part.
        counts: Expected persons and clips, by ``Sample.corpus``, of the corpora that take part; no clips where nothing
            was published.
        source: The publication.
        objective: Labels are objective classes, not emotions.
        units: Labels are these action units, any number of them at once; class ``AU12`` is unit 12, and ``emotions``
            is empty, since every clip takes part.
        left_out: Labels that take no part in one corpus.
        rules: What else a clip of one corpus must fulfil.
        fold_maker: From samples to folds.
        made: Options of each corpus that is made, not read, which ``evaluate`` opens when no folders are given.
    """

    name: str
    classes: tuple[str, ...]
    emotions: Mapping[str, str]
    counts: Mapping[str, Counts]
    source: str
    objective: bool = False
    units: tuple[int, ...] = ()
    left_out: Mapping[str, frozenset[str]] = field(default_factory=dict)
    rules: Mapping[str, Callable[[Sample], bool]] = field(default_factory=dict)
    fold_maker: FoldMaker = leave_one_subject_out
    made: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def label(self, sample: Sample) -> str | None:
        """The label that decides the class: the emotion, or the objective class."""
        return sample.objective if self.objective else sample.emotion

    def select(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples that take part, in their order; those without pictures and macro-expressions do not.

        Rendered faces (``STAND_IN``) may stand in for the corpora of every protocol that knows their labels, so that
        each can be tried without a licence; but one corpus alone cannot be left out.
        """
        return [s for s in samples if self._takes(s)]

    def _takes(self, sample: Sample) -> bool:
        label, corpus = self.label(sample), sample.corpus
        if corpus not in {*self.counts, STAND_IN} or not {UNUSABLE, MACRO}.isdisjoint(sample.flags):
            return False
        known = bool(self.units) or (label in self.emotions and label not in self.left_out.get(corpus, ()))
        return known and (corpus not in self.rules or self.rules[corpus](sample))

    def target(self, sample: Sample) -> Target:
        """Class index of a sample; for a protocol of action units 0 or 1 for each of them.

        Raises:
            InputError: If its label takes no part.
        """
        if self.units:
            coded = {unit.number for unit in sample.aus}
            return tuple(int(unit in coded) for unit in self.units)
        label = self.label(sample)
        if label is None or label not in self.emotions:
            raise InputError(
                f"{sample.key} is labelled {label!r}, which {self.name} leaves out; select samples first. "
                f"Taking part: {', '.join(self.emotions)}."
            )
        return self.classes.index(self.emotions[label])

    def names(self, target: Target) -> list[str]:
        """The classes that a target says."""
        if isinstance(target, int):
            return [self.classes[target]]
        return [name for name, there in zip(self.classes, target, strict=True) if there]

    def folds(self, samples: Sequence[Sample]) -> list[Fold]:
        """The splits of selected samples; ``evaluate`` makes sure that each person is on one side."""
        return self.fold_maker(samples)

    @property
    def folds_by(self) -> str:
        """Name of the function that makes the folds, with its settings."""
        if isinstance(self.fold_maker, partial):
            settings = ", ".join(f"{name}={value!r}" for name, value in self.fold_maker.keywords.items())
            return f"{self.fold_maker.func.__name__}({settings})"
        return getattr(self.fold_maker, "__name__", type(self.fold_maker).__name__)

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
                persons = "" if expected.subjects is None else f" of {expected.subjects} persons"
                notes.append(f"{corpus} is missing: {expected.clips} clips{persons}.")
            elif expected.clips and not _agree(found[corpus], expected):
                notes.append(f"{corpus} has {_in_words(found[corpus])}; expected {_in_words(expected)}.")
        return notes


def _agree(found: Counts, expected: Counts) -> bool:
    """Whether counts are those published, as far as they were."""
    classes = {name: number for name, number in found.classes.items() if number}
    return (
        found.clips == expected.clips
        and expected.subjects in (None, found.subjects)
        and (not expected.classes or classes == {name: number for name, number in expected.classes.items() if number})
    )


def _in_words(counts: Counts) -> str:
    classes = ", ".join(f"{name} {number}" for name, number in counts.classes.items())
    persons = "" if counts.subjects is None else f" of {counts.subjects} persons"
    return f"{counts.clips} clips{persons}{f' ({classes})' if classes else ''}"


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
POLARITY = {  # See et al., MEGC 2019: what each emotion counts as; others take no part
    **{name: name for name in THREE},
    **dict.fromkeys(NEGATIVE, "negative"),
    "happiness": "positive",
}
FIVE_OBJECTIVE = ("I", "II", "III", "IV", "V")
CD6ME_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17)

CASME2 = "Yan et al., PLOS ONE 9(1), 2014: CASME II"
SAMM = "Davison et al., IEEE TAFFC 9(1), 2018: SAMM"
OBJECTIVE = "Davison, Merghani and Yap, J. Imaging 4(10), 2018"
CASME3 = "Li et al., IEEE TPAMI 45(3), 2023: CAS(ME)^3, part A, second version of its sheet"
MMEW = "Ben et al., IEEE TPAMI 44(9), 2022: MMEW"


def _of(corpus: str, classes: dict[str, int], persons: int | None, source: str, **options: Any) -> Protocol:
    """A protocol of one corpus; the name says how many classes, or of which ``kind`` they are."""
    labels = options.pop("emotions", {name: name for name in classes})
    kind = options.pop("kind", len(classes))
    counts = {corpus: Counts(persons, sum(classes.values()), classes)}
    return Protocol(f"{corpus}-{kind}", tuple(classes), labels, counts, f"{source}, leave-one-subject-out", **options)


def _three(negative: int, positive: int, surprise: int) -> dict[str, int]:
    return dict(zip(THREE, (negative, positive, surprise), strict=True))


def _apex_moves(sample: Sample) -> bool:
    """Whether there is an apex after the onset; flow images without frame numbers were made from such clips."""
    return sample.onset is None or (sample.apex is not None and sample.apex != sample.onset)


def _by_fast_camera(sample: Sample) -> bool:
    """Whether a clip of SMIC is of camera HS; flow images do not say so, and are."""
    return sample.fps in (None, 100)


def _of_part_a(sample: Sample) -> bool:
    """Whether a clip is of part A of CAS(ME)^3, where its name begins with a letter."""
    return not sample.clip[0].isdecimal()


# MEGC 2019 takes of CASME II the four emotions that its authors first used, and clips whose apex is coded and not the
# onset itself. That leaves 145 of 147: sub04/EP12_01f has no apex, and that of sub05/EP09_05f is its onset.
CASME2_IN_MEGC: Any = {
    "left_out": {"casme2": frozenset({"fear", "sadness"})},
    "rules": {"casme2": _apex_moves},
}
SMIC_THREE, CASME2_THREE, SAMM_THREE = _three(70, 51, 43), _three(88, 32, 25), _three(92, 26, 15)

MEGC2019 = register_protocol(
    Protocol(
        name="megc2019",
        classes=THREE,
        emotions=POLARITY,
        counts={
            "smic": Counts(16, 164, SMIC_THREE),
            "casme2": Counts(24, 145, CASME2_THREE),
            "samm": Counts(28, 133, SAMM_THREE),
        },
        source="See et al., MEGC 2019, composite database evaluation: 442 clips, 68 persons, leave-one-subject-out",
        left_out=CASME2_IN_MEGC["left_out"],
        rules={**CASME2_IN_MEGC["rules"], "smic": _by_fast_camera},
    )
)
register_protocol(
    replace(
        MEGC2019,
        name="megc2019-hde",
        source="See et al., MEGC 2019: the same clips, leave-one-corpus-out (hold-out database evaluation)",
        fold_maker=leave_one_corpus_out,
    )
)
register_protocol(_of("smic", SMIC_THREE, 16, "Li et al., FG 2013: SMIC, camera HS", rules={"smic": _by_fast_camera}))
register_protocol(_of("casme2", CASME2_THREE, 24, f"{CASME2}, as in MEGC 2019", emotions=POLARITY, **CASME2_IN_MEGC))
FIVE = {"happiness": 32, "surprise": 25, "disgust": 63, "repression": 27, "others": 99}
register_protocol(_of("casme2", FIVE, 26, f"{CASME2}; 247 clips where the sheet has sub24/EP02_07"))
register_protocol(_of("casme2", {**FIVE, "sadness": 7, "fear": 2}, 26, CASME2))
register_protocol(_of("samm", SAMM_THREE, 28, f"{SAMM}, as in MEGC 2019", emotions=POLARITY))
register_protocol(_of("samm", {"anger": 57, "contempt": 12, "happiness": 26, "surprise": 15, "others": 26}, 27, SAMM))
BASIC = {"happiness": 26, "surprise": 15, "anger": 57, "disgust": 9, "fear": 8, "sadness": 6, "contempt": 12}
register_protocol(_of("samm", BASIC, 28, f"{SAMM}, without others"))

CASME2_OBJECTIVE = dict(zip(FIVE_OBJECTIVE, (25, 15, 99, 26, 20), strict=True))
SAMM_OBJECTIVE = dict(zip(FIVE_OBJECTIVE, (24, 13, 20, 8, 3), strict=True))
register_protocol(_of("casme2", CASME2_OBJECTIVE, 26, OBJECTIVE, kind="objective", objective=True))
register_protocol(_of("samm", SAMM_OBJECTIVE, 21, OBJECTIVE, kind="objective", objective=True))
MEGC2018 = register_protocol(
    Protocol(
        name="megc2018",
        classes=FIVE_OBJECTIVE,
        emotions={name: name for name in FIVE_OBJECTIVE},
        counts={"casme2": Counts(26, 185, CASME2_OBJECTIVE), "samm": Counts(21, 68, SAMM_OBJECTIVE)},
        source="Yap et al., MEGC 2018: objective classes I to V, 253 clips, 47 persons, leave-one-subject-out",
        objective=True,
    )
)
register_protocol(
    replace(
        MEGC2018,
        name="megc2018-hde",
        source="Yap et al., MEGC 2018: the same clips, leave-one-corpus-out (hold-out database evaluation)",
        fold_maker=leave_one_corpus_out,
    )
)

CASME3_SEVEN = {
    "happiness": 55,
    "surprise": 187,
    "disgust": 250,
    "fear": 86,
    "anger": 64,
    "sadness": 57,
    "others": 161,
}
FOUR = {**POLARITY, "others": "others"}
PART_A = {"casme3": _of_part_a}
register_protocol(_of("casme3", _three(457, 55, 187), None, CASME3, emotions=POLARITY, rules=PART_A))
register_protocol(_of("casme3", {**_three(457, 55, 187), "others": 161}, 94, CASME3, emotions=FOUR, rules=PART_A))
register_protocol(_of("casme3", CASME3_SEVEN, 94, CASME3, rules=PART_A))
MMEW_FOUR = {"happiness": 36, "surprise": 89, "disgust": 72, "others": 66}
MMEW_SIX = {"happiness": 36, "surprise": 89, "anger": 8, "disgust": 72, "fear": 16, "sadness": 13}
register_protocol(_of("mmew", _three(109, 36, 89), None, MMEW, emotions=POLARITY))
register_protocol(_of("mmew", MMEW_FOUR, None, MMEW))
register_protocol(_of("mmew", MMEW_SIX, None, MMEW))
register_protocol(_of("mmew", {**MMEW_SIX, "others": 66}, None, MMEW))

ANY_NUMBER = Counts(None, 0)
FOURDME = "Li et al., IEEE TAFFC 14(4), 2023: 4DME, clips of one label; how many there are of each was not to be had"
for names in (THREE, (*THREE, "repression", "others")):
    register_protocol(replace(_of("fourdme", dict.fromkeys(names, 0), None, FOURDME), counts={"fourdme": ANY_NUMBER}))
register_protocol(
    replace(
        _of("dfme", {**dict.fromkeys(BASIC, 0)}, None, ""),
        counts={"dfme": Counts(None, 2629)},
        source="Zhao et al., IEEE TAFFC 15(3), 2024: DFME, the three public tables; ten folds of persons (folds: ours)",
        fold_maker=partial(group_k_fold, k=10),
    )
)


def _cd6me(clips: int, persons: int | None, *numbers: int) -> Counts:
    return Counts(persons, clips, {f"AU{unit}": n for unit, n in zip(CD6ME_UNITS, numbers, strict=True)})


register_protocol(
    Protocol(
        name="cd6me",
        classes=tuple(f"AU{unit}" for unit in CD6ME_UNITS),
        emotions={},
        units=CD6ME_UNITS,
        counts={
            "casme": _cd6me(189, None, 23, 17, 70, 0, 1, 4, 40, 3, 9, 23, 14, 13),
            "casme2": _cd6me(256, 26, 26, 22, 130, 2, 13, 39, 13, 16, 34, 27, 16, 25),
            "casme3": _cd6me(860, 94, 153, 128, 274, 44, 8, 27, 50, 10, 15, 193, 6, 20),
            "fourdme": _cd6me(267, None, 46, 54, 102, 8, 25, 89, 1, 2, 53, 4, 6, 11),
            "mmew": _cd6me(300, None, 50, 41, 109, 70, 10, 47, 8, 38, 37, 17, 6, 11),
            "samm": _cd6me(159, 29, 6, 18, 23, 10, 3, 46, 5, 6, 28, 13, 4, 6),
        },
        source="Varanka et al., arXiv 2211.11425: CD6ME, twelve action units, 2,031 clips, leave-one-corpus-out",
        rules=PART_A,
        fold_maker=leave_one_corpus_out,
    )
)

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
        objective=classes == "objective",
    )


register_protocol(
    replace(
        _rendered(3, THREE, "MEGC 2019"),
        emotions=POLARITY,
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
register_protocol(
    Protocol(
        name="synthetic-au",
        classes=tuple(f"AU{unit}" for unit in CD6ME_UNITS),
        emotions={},
        units=CD6ME_UNITS,
        counts={STAND_IN: ANY_NUMBER},
        source=RENDERED.format("CD6ME, twelve action units"),
        made={STAND_IN: {"classes": "au"}},
    )
)
