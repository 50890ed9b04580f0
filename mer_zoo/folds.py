"""From samples to folds. The unit is the person, ``corpus/subject``, everywhere."""

from collections import Counter
from collections.abc import Callable, Sequence

from mer_zoo.errors import InputError
from mer_zoo.types import Fold, Sample

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
    return _leave_each_out(samples, lambda sample: sample.person)


def leave_one_corpus_out(samples: Sequence[Sample]) -> list[Fold]:
    """One fold for each corpus, whose clips are the test part; all others are learnt from.

    Raises:
        InputError: If there are fewer than two corpora.
    """
    corpora = sorted({s.corpus for s in samples})
    if len(corpora) < 2:
        raise InputError(f"Leaving one corpus out needs two corpora or more; found {corpora or 'none'}.")
    return _leave_each_out(samples, lambda sample: sample.corpus)


def _leave_each_out(samples: Sequence[Sample], unit: Callable[[Sample], str]) -> list[Fold]:
    """One fold for each unit, in order of their names, whose clips are the test part."""
    return [
        Fold(
            name=name,
            train=tuple(s for s in samples if unit(s) != name),
            test=tuple(s for s in samples if unit(s) == name),
        )
        for name in sorted({unit(s) for s in samples})
    ]


def ten_folds_of_persons(samples: Sequence[Sample]) -> list[Fold]:
    """Ten folds with whole persons in each, of nearly as many clips; the same ones in every order of the samples.

    Persons with most clips are dealt out first, each to the fold that has fewest clips.

    Raises:
        InputError: If there are fewer than ten persons.
    """
    clips = Counter(s.person for s in samples)
    if len(clips) < 10:
        raise InputError(f"Ten folds of persons need ten persons or more; found {len(clips)}.")
    fold_of: dict[str, int] = {}
    sizes = [0] * 10
    for person, number in sorted(clips.items(), key=lambda item: (-item[1], item[0])):
        fold_of[person] = sizes.index(min(sizes))
        sizes[fold_of[person]] += number
    return [
        Fold(
            name=f"fold-{i}",
            train=tuple(s for s in samples if fold_of[s.person] != i),
            test=tuple(s for s in samples if fold_of[s.person] == i),
        )
        for i in range(10)
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
