"""From samples to folds. The unit is the person, whatever corpora and spellings that person is found in."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np

from mer_zoo.errors import InputError, LeakError
from mer_zoo.types import Fold, Sample, plain

FoldMaker = Callable[[Sequence[Sample]], list[Fold]]

# SMIC-E and SAMM Long Videos show the recordings from which the clips of SMIC and SAMM were cut, under the same numbers
SAME_PEOPLE = {"smic_e": "smic", "samm_lv": "samm"}
SHARING = " and ".join(f"{corpus} has the people of {first}" for corpus, first in SAME_PEOPLE.items())


def human(sample: Sample) -> str:
    """Who is seen, the same for one participant in all corpora of ``SAME_PEOPLE`` and in every spelling.

    >>> human(Sample(corpus="smic_e", subject="s01", clip="s1_ne_01", emotion="negative"))
    'smic/s1'
    """
    return human_of(sample.corpus, sample.subject)


def human_of(corpus: str, subject: str) -> str:
    """The same for the two parts of ``Sample.person``."""
    return f"{SAME_PEOPLE.get(corpus, corpus)}/{plain(subject)}"


def leave_one_subject_out(samples: Sequence[Sample]) -> list[Fold]:
    """One fold for each person, whose clips are the test part; all others are learnt from.

    Persons, not subject numbers: subject 6 of SAMM and subject 6 of SMIC are two. A fold's name is ``corpus/subject``
    as written; of a person who is found in several corpora or spellings, the first one in sorted order.

    Raises:
        InputError: If there are fewer than two persons.
    """
    persons = _persons(samples)
    names = sorted(set(persons))
    if len(names) < 2:
        raise InputError(f"Leave-one-subject-out needs two persons or more; found {names or 'none'}.")
    return _leave_each_out(samples, persons, names)


def leave_one_corpus_out(samples: Sequence[Sample]) -> list[Fold]:
    """One fold for each corpus, whose clips are the test part; all others are learnt from.

    Raises:
        InputError: If there are fewer than two corpora.
        LeakError: If one person is in two of them, as in SMIC and SMIC-E.
    """
    corpora = sorted({s.corpus for s in samples})
    if len(corpora) < 2:
        raise InputError(f"Leaving one corpus out needs two corpora or more; found {corpora or 'none'}.")
    folds = _leave_each_out(samples, [s.corpus for s in samples], corpora)
    check_folds(folds, samples)
    return folds


def hold_out_corpus(samples: Sequence[Sample], corpus: str) -> list[Fold]:
    """One fold, named after a corpus whose clips are the test part; those of all others are only learnt from.

    Raises:
        InputError: If there are no samples of this corpus, or of no other.
        LeakError: If a person of this corpus is in another one, too, as in SMIC and SMIC-E.
    """
    corpora = sorted({s.corpus for s in samples})
    if corpus not in corpora or len(corpora) < 2:
        raise InputError(
            f"Holding out {corpus!r} needs samples of it and of another corpus; found {corpora or 'none'}."
        )
    folds = _leave_each_out(samples, [s.corpus for s in samples], [corpus])
    check_folds(folds, samples)
    return folds


def group_k_fold(samples: Sequence[Sample], k: int = 10) -> list[Fold]:
    """``k`` folds with whole persons in each, of nearly as many clips, named ``fold-0``, ``fold-1``, ….

    Persons with most clips are dealt out first, each to the fold that has fewest clips; of persons with as many, the
    first by name.

    Args:
        samples: What to part.
        k: How many folds, from 2 to the number of persons.

    Raises:
        InputError: If ``k`` is not such a number.
    """
    persons = _persons(samples)
    clips = Counter(persons)
    _check_k(k, len(clips))
    return _deal_out(samples, persons, sorted(clips, key=lambda name: (-clips[name], name)), k)


def repeated_group_k_fold(samples: Sequence[Sample], k: int = 5, times: int = 3, seed: int = 0) -> list[Fold]:
    """Folds with whole persons in each, as ``times`` random partitions of the persons into ``k`` groups.

    Folds are named ``repeat-0/fold-0``, …, and ``Fold.repeat`` is the number of the repetition. In each one persons are
    dealt out in a random order, each to the fold that has fewest clips so far; so no two folds of one repetition differ
    by more clips than the person with most clips has. More repetitions of one seed begin with the same ones. Of hardly
    more persons than folds, two repetitions may be alike.

    Args:
        samples: What to part.
        k: How many folds a repetition has, from 2 to the number of persons.
        times: How many repetitions, 1 or more.
        seed: Of the random orders, 0 or more.

    Raises:
        InputError: If ``k``, ``times`` or ``seed`` is not such a number.
    """
    _check_whole("times", times, 1)
    _check_whole("seed", seed, 0)
    persons = _persons(samples)
    names = sorted(set(persons))
    _check_k(k, len(names))
    rng = np.random.default_rng(seed)
    folds = []
    for repeat in range(times):
        order = [names[i] for i in rng.permutation(len(names))]
        folds += [
            replace(fold, name=f"repeat-{repeat}/{fold.name}", repeat=repeat)
            for fold in _deal_out(samples, persons, order, k)
        ]
    return folds


def check_folds(folds: Sequence[Fold], samples: Sequence[Sample]) -> None:
    """Make sure that folds of these samples are honest and whole; a clip may be only learnt from, and never tested.

    Raises:
        LeakError: If a person is on both sides of a fold.
        InputError: If there is no fold, if two have one name or one that is no path, if one has a clip that is not
            among the samples, if a clip is tested twice within one repetition, or if repetitions test different clips.
    """
    names = Counter(fold.name for fold in folds)
    if not names:
        raise InputError("There are no folds; the function that makes them must return one or more.")
    if len(names) < len(folds):
        raise InputError(f"Folds share names: {[name for name, times in names.items() if times > 1][:3]}.")
    _check_names(names)
    who = {s.key: human(s) for s in samples}
    for fold in folds:
        _check_sides(fold, who)
    _check_tested(folds)


def _check_names(names: Iterable[str]) -> None:
    """Refuse names that are no folders of their own, one beside the other."""
    taken = set(names)
    for name in taken:
        parts = name.split("/")
        above = {"/".join(parts[:i]) for i in range(1, len(parts))}
        if {"", ".", ".."} & set(parts) or above & taken:
            raise InputError(
                f"A fold is named {name!r}, which is no folder of its own; expected names such as casme2/sub01, none "
                "of them the beginning of another."
            )


def _check_sides(fold: Fold, who: Mapping[str, str]) -> None:
    """Refuse a clip that is nobody's, and persons on both sides; ``who`` says whose each key is."""
    train, test = [s.key for s in fold.train], [s.key for s in fold.test]
    strangers = [key for key in (*train, *test) if key not in who]
    if strangers:
        raise InputError(
            f"Fold {fold.name!r} has {len(strangers)} clips that are not among the samples: {strangers[:3]}; "
            "make folds of the samples themselves."
        )
    both = {who[key] for key in train} & {who[key] for key in test}
    if both:
        persons = [
            sorted({s.person for s in (*fold.train, *fold.test) if who[s.key] == one}) for one in sorted(both)[:3]
        ]
        raise LeakError(
            f"Fold {fold.name!r} has persons on both sides: {[' = '.join(names) for names in persons]}; that leaks. "
            f"Keep all clips of a person on one side, those of another corpus, too: {SHARING}."
        )


def _check_tested(folds: Sequence[Fold]) -> None:
    """Refuse clips that are tested twice within one repetition, or not in all of them."""
    tested: dict[int, Counter[str]] = defaultdict(Counter)
    for fold in folds:
        tested[fold.repeat].update(s.key for s in fold.test)
    first, *_ = tested
    for repeat, clips in tested.items():
        twice = [key for key, times in clips.items() if times > 1]
        if twice:
            raise InputError(f"Repetition {repeat} tests {len(twice)} clips more than once: {sorted(twice)[:3]}.")
        differing = sorted(clips.keys() ^ tested[first].keys())
        if differing:
            raise InputError(
                f"Repetitions {first} and {repeat} test different clips, such as {differing[:3]}; expected the same."
            )


def _persons(samples: Sequence[Sample]) -> list[str]:
    """Whose each sample is: ``corpus/subject`` as written, of several names of one person the first."""
    written: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        written[human(sample)].add(sample.person)
    names = {who: min(persons) for who, persons in written.items()}
    return [names[human(sample)] for sample in samples]


def _leave_each_out(samples: Sequence[Sample], parts: Sequence[str], names: Iterable[str]) -> list[Fold]:
    """One fold for each of these names, whose test part are the samples of that part."""
    return [
        Fold(
            name=name,
            train=tuple(s for s, part in zip(samples, parts, strict=True) if part != name),
            test=tuple(s for s, part in zip(samples, parts, strict=True) if part == name),
        )
        for name in names
    ]


def _deal_out(samples: Sequence[Sample], persons: Sequence[str], order: Iterable[str], k: int) -> list[Fold]:
    """Folds of persons dealt out in this order, each to the fold that has fewest clips so far."""
    clips = Counter(persons)
    sizes = dict.fromkeys((f"fold-{i}" for i in range(k)), 0)
    fold_of = {}
    for person in order:
        fold_of[person] = min(sizes, key=sizes.__getitem__)
        sizes[fold_of[person]] += clips[person]
    return _leave_each_out(samples, [fold_of[person] for person in persons], sizes)


def _check_k(k: Any, persons: int) -> None:
    _check_whole("k", k, 2)
    if persons < k:
        raise InputError(f"{k} folds of persons need {k} persons or more; found {persons}.")


def _check_whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise InputError(f"{name} is {value!r}; expected a whole number, {least} or more.")
