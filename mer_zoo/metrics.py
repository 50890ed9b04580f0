"""Scores from a confusion matrix, rows the target class, columns the predicted one.

The matrix is pooled over all folds of a protocol first; a mean of fold scores is another number, since many
folds lack a class (See et al., "MEGC 2019 - The second facial micro-expressions grand challenge", FG 2019).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.int64]


def confusion(target: npt.ArrayLike, pred: npt.ArrayLike, num_classes: int) -> Matrix:
    """Count clips by target and predicted class: two rows of N class indices -> (C, C).

    Raises:
        ValueError: If the lengths differ or an index is not a whole number in 0..C-1.

    >>> confusion([0, 0, 1], [0, 1, 1], num_classes=2)
    array([[1, 1],
           [0, 1]])
    """
    pair = [np.asarray(target), np.asarray(pred)]
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1:
        raise ValueError(f"{pair[0].shape} targets and {pair[1].shape} predictions; expected two rows of one length.")
    for name, index in zip(("target", "prediction"), pair, strict=True):
        if index.size and not (np.isin(index, np.arange(num_classes)).all()):
            raise ValueError(f"A {name} lies outside 0..{num_classes - 1}: {sorted(set(index.tolist()))}.")
    flat = pair[0].astype(np.int64) * num_classes + pair[1].astype(np.int64)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(matrix: Matrix) -> float:
    """Share of clips that were predicted right, from 0 to 1.

    >>> accuracy(np.array([[3, 1], [1, 5]]))
    0.8
    """
    if not matrix.sum():
        raise ValueError("The confusion matrix is empty; there is nothing to score.")
    return float(matrix.trace() / matrix.sum())


def f1_per_class(matrix: Matrix) -> npt.NDArray[np.float64]:
    """F1 of each class, 2 TP / (2 TP + FP + FN): (C, C) -> (C,).

    Raises:
        ValueError: If a class has no target; its F1 says nothing.
    """
    _every_class_has_targets(matrix)
    return np.asarray(2 * matrix.diagonal() / (matrix.sum(axis=0) + matrix.sum(axis=1)))


def recall_per_class(matrix: Matrix) -> npt.NDArray[np.float64]:
    """Recall of each class, TP / (TP + FN): (C, C) -> (C,).

    Raises:
        ValueError: If a class has no target.
    """
    _every_class_has_targets(matrix)
    return np.asarray(matrix.diagonal() / matrix.sum(axis=1))


def uf1(matrix: Matrix) -> float:
    """Unweighted F1: the mean over classes of 2 TP / (2 TP + FP + FN), from 0 to 1.

    Args:
        matrix: (C, C) counts, rows the target class, pooled over all folds of a protocol.

    Raises:
        ValueError: If a class has no target; its F1 says nothing, so the mean would be a guess.

    Source:
        See et al., MEGC 2019. Equals scikit-learn's ``f1_score(average="macro", labels=range(C))``.

    >>> uf1(np.array([[3, 1], [1, 5]]))
    0.7916666666666667
    """
    return float(f1_per_class(matrix).mean())


def uar(matrix: Matrix) -> float:
    """Unweighted average recall: the mean over classes of TP / (TP + FN), from 0 to 1.

    Raises:
        ValueError: If a class has no target.

    Source:
        See et al., MEGC 2019. Equals scikit-learn's ``recall_score(average="macro")``.

    >>> uar(np.array([[3, 1], [2, 2]]))
    0.625
    """
    return float(recall_per_class(matrix).mean())


def weighted_f1(matrix: Matrix) -> float:
    """Mean F1 of the classes, weighted by their clips, from 0 to 1.

    Raises:
        ValueError: If a class has no target.

    Source:
        Equals scikit-learn's ``f1_score(average="weighted")``.
    """
    return float(np.average(f1_per_class(matrix), weights=matrix.sum(axis=1)))


def bootstrap_interval(
    matrices: npt.NDArray[np.int64],
    score: Callable[[Matrix], float] = uf1,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a score when persons are drawn anew with replacement.

    Clips of one person are alike, so persons are drawn, not clips. A draw in which some class has no target has no
    score and is left out.

    Args:
        matrices: (P, C, C), one confusion matrix a person.
        score: From a pooled matrix to a number.
        level: Share of the draws inside the interval.
        draws: How many to make.
        seed: Of the generator.

    Returns:
        The lower and the upper end; two NaN if less than half of the draws have a score.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3; persons as clusters.
    """
    generator = np.random.default_rng(seed)
    persons = len(matrices)
    scores = []
    for _ in range(draws):
        pooled = matrices[generator.integers(persons, size=persons)].sum(axis=0)
        if pooled.sum(axis=1).all():
            scores.append(score(pooled))
    if len(scores) < draws / 2:
        return float("nan"), float("nan")
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _every_class_has_targets(matrix: Matrix) -> None:
    missing = np.flatnonzero(matrix.sum(axis=1) == 0).tolist()
    if missing:
        raise ValueError(
            f"No target is of class {', '.join(map(str, missing))} (counts {matrix.sum(axis=1).tolist()}), so a mean "
            "over classes would be a guess. Score clips of every class, or use a protocol with fewer classes."
        )
