"""Against scikit-learn, and against answers known beforehand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from mer_zoo import metrics

RANDOM = [(classes, seed) for classes in (2, 3, 5, 7) for seed in range(5)]


def _draw(classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = np.concatenate([np.arange(classes), rng.integers(classes, size=60)])
    return target, rng.integers(classes - seed % 2, size=len(target))  # odd seeds never predict the last class


@pytest.mark.parametrize(("classes", "seed"), RANDOM)
def test_scores_equal_scikit_learn(classes: int, seed: int) -> None:
    target, pred = _draw(classes, seed)
    matrix = metrics.confusion(target, pred, classes)
    options = {"labels": range(classes), "zero_division": 0}
    np.testing.assert_array_equal(matrix, confusion_matrix(target, pred, labels=range(classes)))
    assert metrics.uf1(matrix) == pytest.approx(f1_score(target, pred, average="macro", **options), abs=1e-12)
    assert metrics.uar(matrix) == pytest.approx(recall_score(target, pred, average="macro", **options), abs=1e-12)
    assert metrics.weighted_f1(matrix) == pytest.approx(f1_score(target, pred, average="weighted", **options))
    assert metrics.accuracy(matrix) == pytest.approx(accuracy_score(target, pred))


def test_a_class_without_targets_has_no_score() -> None:
    matrix = metrics.confusion([0, 0, 1], [0, 2, 1], num_classes=3)
    for score in (metrics.uf1, metrics.uar, metrics.weighted_f1):
        with pytest.raises(ValueError, match=r"No target is of class 2 .*\[2, 1, 0\]"):
            score(matrix)


@pytest.mark.parametrize(
    ("target", "pred"), [([0, 1], [0]), ([0, 3], [0, 1]), ([0, 1], [0, -1]), ([0, 1], [0, 0.5]), ([[0]], [[0]])]
)
def test_confusion_refuses_what_is_no_class_index(target: list[int], pred: list[int]) -> None:
    with pytest.raises(ValueError, match=r"expected|outside"):
        metrics.confusion(target, pred, num_classes=3)


def test_an_empty_matrix_has_no_accuracy() -> None:
    with pytest.raises(ValueError, match="empty"):
        metrics.accuracy(np.zeros((3, 3), np.int64))


def test_bootstrap_interval_draws_persons() -> None:
    """Ten persons who are all right or all wrong: the spread is that of ten coins, not of a hundred clips."""
    right, wrong = np.diag([5, 5]), np.array([[0, 5], [5, 0]])
    low, high = metrics.bootstrap_interval(np.stack([right] * 5 + [wrong] * 5), metrics.accuracy)
    assert low == pytest.approx(0.2, abs=0.01)
    assert high == pytest.approx(0.8, abs=0.01)
    assert metrics.bootstrap_interval(np.stack([right] * 10)) == (1.0, 1.0)


def test_bootstrap_interval_is_not_given_when_classes_hang_on_one_person() -> None:
    people = np.stack([np.diag(counts) for counts in ([5, 0, 0], [0, 5, 0], [0, 0, 5])])
    assert np.isnan(metrics.bootstrap_interval(people)).all()
