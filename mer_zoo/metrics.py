"""Scores from a confusion matrix, rows the target class, columns the predicted one.

The matrix is pooled over all folds of a protocol first; a mean of fold scores is another number, since many
folds lack a class (See et al., "MEGC 2019 - The second facial micro-expressions grand challenge", FG 2019).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError

Matrix = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Interval = tuple[float, float]
Score = Callable[[Matrix], float]

MAY_LACK = 0.05  # share of draws that may lack a class: without them an interval is too narrow


def confusion(target: npt.ArrayLike, pred: npt.ArrayLike, num_classes: int) -> Matrix:
    """Count clips by target and predicted class: two rows of N class indices -> (C, C).

    Raises:
        InputError: If the lengths differ or an index is not a whole number in 0..C-1.

    >>> confusion([0, 0, 1], [0, 1, 1], num_classes=2)
    array([[1, 1],
           [0, 1]])
    """
    pair = [np.asarray(target), np.asarray(pred)]
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1:
        raise InputError(f"{pair[0].shape} targets and {pair[1].shape} predictions; expected two rows of one length.")
    for name, index in zip(("target", "prediction"), pair, strict=True):
        if index.size and not (np.isin(index, np.arange(num_classes)).all()):
            raise InputError(f"A {name} lies outside 0..{num_classes - 1}: {sorted(set(index.tolist()))}.")
    flat = pair[0].astype(np.int64) * num_classes + pair[1].astype(np.int64)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(matrix: Matrix) -> float:
    """Share of clips that were predicted right, from 0 to 1.

    Raises:
        InputError: If nothing was counted.

    >>> accuracy(np.array([[3, 1], [1, 5]]))
    0.8
    """
    _some_targets(matrix)
    return float(_accuracies(matrix))


def f1_per_class(matrix: Matrix) -> Values:
    """F1 of each class, 2 TP / (2 TP + FP + FN): (C, C) -> (C,).

    Raises:
        InputError: If a class has no target; its F1 says nothing.
    """
    _every_class_has_targets(matrix)
    return _f1(matrix)


def recall_per_class(matrix: Matrix) -> Values:
    """Recall of each class, TP / (TP + FN): (C, C) -> (C,).

    Raises:
        InputError: If a class has no target.
    """
    _every_class_has_targets(matrix)
    return _recalls(matrix)


def uf1(matrix: Matrix) -> float:
    """Unweighted F1: the mean over classes of 2 TP / (2 TP + FP + FN), from 0 to 1.

    Args:
        matrix: (C, C) counts, rows the target class, pooled over all folds of a protocol.

    Raises:
        InputError: If a class has no target; its F1 says nothing, so the mean would be a guess.

    Source:
        See et al., MEGC 2019. Equals scikit-learn's ``f1_score(average="macro", labels=range(C))``.

    >>> uf1(np.array([[3, 1], [1, 5]]))
    0.7916666666666667
    """
    return float(f1_per_class(matrix).mean())


def uar(matrix: Matrix) -> float:
    """Unweighted average recall: the mean over classes of TP / (TP + FN), from 0 to 1.

    Raises:
        InputError: If a class has no target.

    Source:
        See et al., MEGC 2019. Equals scikit-learn's ``recall_score(average="macro")``.

    >>> uar(np.array([[3, 1], [2, 2]]))
    0.625
    """
    return float(recall_per_class(matrix).mean())


def weighted_f1(matrix: Matrix) -> float:
    """Mean F1 of the classes, weighted by their clips, from 0 to 1.

    Raises:
        InputError: If a class has no target.

    Source:
        Equals scikit-learn's ``f1_score(average="weighted")``.
    """
    _every_class_has_targets(matrix)
    return float(_weighted_f1s(matrix))


def balanced_accuracy(matrix: Matrix) -> float:
    """Mean recall over the classes that have targets, from 0 to 1; equals ``uar`` where all have.

    Raises:
        InputError: If nothing was counted.

    Source:
        Equals scikit-learn's ``balanced_accuracy_score``.

    >>> balanced_accuracy(np.array([[3, 1, 0], [2, 2, 0], [0, 0, 0]]))
    0.625
    """
    _some_targets(matrix)
    return float(_balanced_accuracies(matrix))


def bootstrap(matrices: Matrix, draws: int = 2000, seed: int = 0) -> Matrix:
    """Pooled matrices of persons drawn anew with replacement: (P, C, C), one a person -> (draws, C, C).

    Clips of one person are alike, so persons are drawn, not clips.

    Raises:
        InputError: If there is no person, or no stack of square matrices.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 6; persons as clusters.
    """
    _stack_of_persons(matrices)
    persons = len(matrices)
    drawn = np.random.default_rng(seed).integers(persons, size=(draws, persons))
    flat = drawn + persons * np.arange(draws)[:, None]
    times = np.bincount(flat.ravel(), minlength=draws * persons).reshape(draws, persons)
    return _pool(times, matrices)


def bootstrap_interval(
    matrices: Matrix,
    score: Score = uf1,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a score when persons are drawn anew with replacement.

    A draw in which some class has no target is left out, unless the score is ``accuracy`` or ``balanced_accuracy``,
    which need no class in particular.

    Args:
        matrices: (P, C, C), one confusion matrix a person.
        score: From a pooled matrix to a number.
        level: Share of the draws inside the interval.
        draws: How many to make.
        seed: Of the generator.

    Returns:
        The lower and the upper end; two NaN if more than 5 % of the draws are left out, as where one or two persons
        show a class.

    Raises:
        InputError: If there is no person, or no stack of square matrices.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
    """
    return _interval(score, bootstrap(matrices, draws, seed), level)


def intervals(matrices: Matrix, level: float = 0.95, draws: int = 2000, seed: int = 0) -> dict[str, Interval]:
    """What ``bootstrap_interval`` gives for each score, of the same draws.

    Keys are ``accuracy``, ``uf1``, ``uar``, ``weighted_f1`` and ``balanced_accuracy``. The first and the last are over
    all draws, whatever classes are there; the last is the mean recall of those that are.

    Raises:
        InputError: If there is no person, or no stack of square matrices.
    """
    drawn = bootstrap(matrices, draws, seed)
    return {
        score.__name__: _interval(score, drawn, level) for score in (accuracy, uf1, uar, weighted_f1, balanced_accuracy)
    }


def class_intervals(
    matrices: Matrix, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> dict[str, list[Interval]]:
    """The same for ``f1`` and ``recall`` of each class, in the order of the classes, over draws that have the class.

    Two NaN for a class that more than 5 % of the draws lack.

    Raises:
        InputError: If there is no person, or no stack of square matrices.
    """
    drawn = bootstrap(matrices, draws, seed)
    there = drawn.sum(axis=-1) > 0
    scores = {"f1": _f1(drawn), "recall": _recalls(drawn)}
    return {
        name: [_between(values[there[:, i], i], level, draws) for i in range(there.shape[1])]
        for name, values in scores.items()
    }


def permutation_test(
    first: Matrix,
    second: Matrix,
    score: Score = uf1,
    draws: int = 10_000,
    seed: int = 0,
) -> float:
    """Probability of a difference as large as that of two runs, or larger, if neither were better: from 0 to 1.

    If neither is, it does not matter which of the two predicted a person's clips; so in each draw the predictions of
    each person are swapped or not, by a coin. Two-sided: p = (1 + draws that differ as much) / (1 + draws). Of persons
    so few that there are no more than ``draws`` ways to swap them, each way is taken once, and p is exact.

    Args:
        first: (P, C, C), one confusion matrix a person.
        second: The same persons in the same order, predicted by another run.
        score: From a pooled matrix to a number.
        draws: How many to make; p is never below 1 / (1 + draws), nor below 2 / 2^P.
        seed: Of the generator.

    Raises:
        InputError: If the two are not of the same persons and clips.
        ValueError: If the score cannot be given, since a class has no target.

    Source:
        Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses", 3rd edition, 2005, matched pairs; the one in
        numerator and denominator: Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9(1), 2010.
    """
    _stack_of_persons(first)
    _same_persons(first, second)
    persons, before = len(first), (first.sum(axis=0), second.sum(axis=0))
    observed = abs(score(before[0]) - score(before[1]))
    exact = 2**persons <= draws
    generator = np.random.default_rng(seed)
    swapped = _all_swaps(persons) if exact else generator.integers(2, size=(draws, persons), dtype=np.uint8)
    pooled = before[0] + _pool(swapped, second - first)
    differences = np.abs(_scores(score, pooled) - _scores(score, before[0] + before[1] - pooled))
    as_large = (differences >= observed - 1e-12).sum()  # equal differences may differ in their last digit
    return float(as_large / len(swapped) if exact else (1 + as_large) / (1 + draws))


def _all_swaps(persons: int) -> npt.NDArray[np.integer]:
    """Every way to swap or not, (2^P, P) of 0 and 1."""
    return np.arange(2**persons)[:, None] >> np.arange(persons) & 1


def _interval(score: Score, drawn: Matrix, level: float) -> Interval:
    """Of the draws (D, C, C) whose score can be given."""
    clips = drawn.sum(axis=-1)
    can = clips.any(axis=-1) if score in (accuracy, balanced_accuracy) else clips.all(axis=-1)
    return _between(_scores(score, drawn[can]), level, len(drawn))


def _scores(score: Score, matrices: Matrix) -> Values:
    """Score of each matrix, (D, C, C) -> (D,): ours of all at once, others one by one."""
    ours: tuple[tuple[Score, Callable[[Matrix], Values]], ...] = (
        (accuracy, _accuracies),
        (uf1, lambda stack: _f1(stack).mean(axis=-1)),
        (uar, lambda stack: _recalls(stack).mean(axis=-1)),
        (weighted_f1, _weighted_f1s),
        (balanced_accuracy, _balanced_accuracies),
    )
    at_once = next((of_stack for one, of_stack in ours if one is score), None)
    return at_once(matrices) if at_once else np.array([score(matrix) for matrix in matrices])


def _accuracies(matrices: Matrix) -> Values:
    """(..., C, C) -> (...)."""
    return np.asarray(_right(matrices).sum(axis=-1) / matrices.sum(axis=(-2, -1)))


def _f1(matrices: Matrix) -> Values:
    """(..., C, C) -> (..., C); 0 for a class that is neither there nor predicted."""
    return np.asarray(2 * _right(matrices) / np.maximum(matrices.sum(axis=-2) + matrices.sum(axis=-1), 1))


def _recalls(matrices: Matrix) -> Values:
    """(..., C, C) -> (..., C); 0 for a class that is not there."""
    return np.asarray(_right(matrices) / np.maximum(matrices.sum(axis=-1), 1))


def _balanced_accuracies(matrices: Matrix) -> Values:
    """(..., C, C), some class with targets -> (...)."""
    return np.asarray(_recalls(matrices).sum(axis=-1) / (matrices.sum(axis=-1) > 0).sum(axis=-1))


def _weighted_f1s(matrices: Matrix) -> Values:
    """(..., C, C), every class with targets -> (...)."""
    return np.asarray(np.average(_f1(matrices), axis=-1, weights=matrices.sum(axis=-1)))


def _right(matrices: Matrix) -> Matrix:
    """Clips predicted right, by class: (..., C, C) -> (..., C)."""
    right: Matrix = np.diagonal(matrices, axis1=-2, axis2=-1)
    return right


def _pool(times: npt.NDArray[np.integer], matrices: Matrix) -> Matrix:
    """Sum matrices (P, C, C), each taken so many times (D, P) -> (D, C, C)."""
    flat = matrices.reshape(len(matrices), -1)
    sums = times.astype(np.float64) @ flat.astype(np.float64)  # counts are exact in doubles, whose product is fast
    pooled: Matrix = sums.astype(np.int64).reshape(len(times), *matrices.shape[1:])
    return pooled


def _between(values: Values, level: float, draws: int) -> Interval:
    """The middle share of the values; two NaN if too many of the draws gave none."""
    if draws - len(values) > MAY_LACK * draws:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _stack_of_persons(matrices: Matrix) -> None:
    if matrices.ndim != 3 or not len(matrices) or matrices.shape[1] != matrices.shape[2]:
        raise InputError(f"The matrices are {matrices.shape}; expected (persons, C, C), one square matrix a person.")


def _same_persons(first: Matrix, second: Matrix) -> None:
    if first.shape != second.shape:
        raise InputError(
            f"Two runs of {first.shape} and {second.shape}; expected the same persons and classes in both."
        )
    clips = first.sum(axis=2), second.sum(axis=2)
    other = np.flatnonzero((clips[0] != clips[1]).any(axis=1)).tolist()
    if other:
        raise InputError(
            f"{len(other)} persons have other targets in the second run; number {other[0]} has "
            f"{clips[0][other[0]].tolist()} and {clips[1][other[0]].tolist()} clips of the classes. "
            "Compare runs of the same clips, persons in one order."
        )


def _some_targets(matrix: Matrix) -> None:
    if not matrix.sum():
        raise InputError("The confusion matrix is empty; there is nothing to score.")


def _every_class_has_targets(matrix: Matrix) -> None:
    missing = np.flatnonzero(matrix.sum(axis=1) == 0).tolist()
    if missing:
        raise InputError(
            f"No target is of class {', '.join(map(str, missing))} (counts {matrix.sum(axis=1).tolist()}), so a mean "
            "over classes would be a guess. Score clips of every class, or use a protocol with fewer classes."
        )
