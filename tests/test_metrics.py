"""Against scikit-learn, against loops that draw one person at a time, and against answers known beforehand."""

import time
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, recall_score

from mer_zoo import metrics
from mer_zoo.errors import InputError

Score = Callable[[np.ndarray], float]

SCORES = [metrics.accuracy, metrics.uf1, metrics.uar, metrics.weighted_f1, metrics.balanced_accuracy]
RANDOM = [(classes, seed) for classes in (2, 3, 5, 7) for seed in range(5)]


def _draw(classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = np.concatenate([np.arange(classes), rng.integers(classes, size=60)])
    return target, rng.integers(classes - seed % 2, size=len(target))  # odd seeds never predict the last class


def _run(persons: int, classes: int, right: float, seed: int) -> np.ndarray:
    """Confusion matrices of persons with 1 to 8 clips; whose clips they are does not depend on the seed."""
    clips, answers = np.random.default_rng(persons), np.random.default_rng(seed)
    matrices = []
    for _ in range(persons):
        target = clips.integers(classes, size=clips.integers(1, 9))
        known = answers.random(len(target)) < right
        pred = np.where(known, target, answers.integers(classes, size=len(target)))
        matrices.append(metrics.confusion(target, pred, classes))
    return np.stack(matrices)


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
    assert metrics.balanced_accuracy(matrix) == pytest.approx(balanced_accuracy_score(target, pred))
    assert metrics.balanced_accuracy(matrix) == pytest.approx(metrics.uar(matrix))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_leaves_out_a_class_without_targets_as_scikit_learn_does() -> None:
    target, pred = [0, 0, 0, 1, 1], [0, 2, 0, 1, 2]
    found = metrics.balanced_accuracy(metrics.confusion(target, pred, num_classes=3))
    assert found == pytest.approx(balanced_accuracy_score(target, pred)) == pytest.approx((2 / 3 + 1 / 2) / 2)


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


@pytest.mark.parametrize("score", [metrics.accuracy, metrics.balanced_accuracy])
def test_an_empty_matrix_has_no_accuracy(score: Score) -> None:
    with pytest.raises(ValueError, match="empty"):
        score(np.zeros((3, 3), np.int64))


def test_bootstrap_interval_draws_persons() -> None:
    """Ten persons who are all right or all wrong: the spread is that of ten coins, not of a hundred clips."""
    right, wrong = np.diag([5, 5]), np.array([[0, 5], [5, 0]])
    low, high = metrics.bootstrap_interval(np.stack([right] * 5 + [wrong] * 5), metrics.accuracy)
    assert low == pytest.approx(0.2, abs=0.01)
    assert high == pytest.approx(0.8, abs=0.01)
    assert metrics.bootstrap_interval(np.stack([right] * 10)) == (1.0, 1.0)


@pytest.mark.parametrize(("showing", "given"), [(1, False), (2, False), (4, True)])
def test_an_interval_is_not_given_when_a_class_hangs_on_one_or_two_of_68_persons(showing: int, given: bool) -> None:
    """Without (1 - n/68)^68 of the draws, 36.5, 13.0 and 1.6 %, it would be too narrow."""
    people = np.stack([_run(68, 2, 0.6, seed=1)[i] for i in range(68)])
    people = np.pad(people, ((0, 0), (0, 1), (0, 1)))
    people[:showing, 2, :2], people[:showing, 2, 2] = 1, 2
    found, of_classes = metrics.intervals(people), metrics.class_intervals(people)
    for name in ("uf1", "uar", "weighted_f1"):
        assert np.isfinite(found[name]).all() == given
        score = getattr(metrics, name)
        assert np.isfinite(metrics.bootstrap_interval(people, score)).all() == given
    for values in of_classes.values():
        assert np.isfinite(values[:2]).all()
        assert np.isfinite(values[2]).all() == given
    assert np.isfinite([found["accuracy"], found["balanced_accuracy"]]).all()


@pytest.mark.parametrize("score", [metrics.accuracy, metrics.balanced_accuracy])
def test_what_needs_no_class_in_particular_is_of_all_draws(score: Score) -> None:
    matrices = np.pad(_run(6, 2, 0.6, seed=1), ((0, 0), (0, 1), (0, 1)))  # of a third class there is nothing at all
    matrices[0, :, 2] = 1, 2, 3
    rng = np.random.default_rng(0)
    drawn = [matrices[rng.integers(6, size=6)].sum(axis=0) for _ in range(300)]
    assert len({tuple(m.sum(axis=1) > 0) for m in drawn}) > 1
    expected = np.quantile([score(m) for m in drawn], [0.025, 0.975])
    assert metrics.intervals(matrices, draws=300)[score.__name__] == pytest.approx(expected, abs=1e-12)
    assert metrics.bootstrap_interval(matrices, score, draws=300) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("persons", "classes"), [(30, 3), (12, 4), (1, 2)])
def test_bootstrap_pools_the_persons_that_a_loop_draws(persons: int, classes: int) -> None:
    matrices = _run(persons, classes, 0.6, seed=1)
    rng = np.random.default_rng(5)
    expected = [matrices[rng.integers(persons, size=persons)].sum(axis=0) for _ in range(50)]
    np.testing.assert_array_equal(metrics.bootstrap(matrices, draws=50, seed=5), np.stack(expected))


@pytest.mark.parametrize(("persons", "classes"), [(30, 3), (16, 6)])  # of sixteen persons a few draws lack a class
@pytest.mark.parametrize("score", SCORES)
def test_intervals_are_quantiles_over_a_loop_of_draws(score: Score, persons: int, classes: int) -> None:
    matrices = _run(persons, classes, 0.6, seed=1)
    rng = np.random.default_rng(0)
    drawn = [matrices[rng.integers(persons, size=persons)].sum(axis=0) for _ in range(300)]
    any_class = score in (metrics.accuracy, metrics.balanced_accuracy)
    expected = np.quantile([score(m) for m in drawn if any_class or m.sum(axis=1).all()], [0.05, 0.95])
    found = metrics.bootstrap_interval(matrices, score, level=0.9, draws=300)
    assert found == pytest.approx(expected, abs=1e-12)
    assert metrics.intervals(matrices, level=0.9, draws=300)[score.__name__] == pytest.approx(found, abs=1e-12)


def test_class_intervals_are_those_of_each_class() -> None:
    matrices = _run(30, 3, 0.6, seed=1)
    found = metrics.class_intervals(matrices, draws=300)
    for name, per_class in (("f1", metrics.f1_per_class), ("recall", metrics.recall_per_class)):
        for i in range(3):
            alone = metrics.bootstrap_interval(matrices, lambda m: per_class(m)[i], draws=300)  # noqa: B023
            assert found[name][i] == pytest.approx(alone, abs=1e-12)


def test_no_interval_is_given_when_classes_hang_on_one_person() -> None:
    people = np.stack([np.diag(counts) for counts in ([5, 0, 0], [0, 5, 0], [0, 0, 5])])
    assert set(metrics.intervals(people)) == {score.__name__ for score in SCORES}
    assert np.isnan([metrics.intervals(people)[name] for name in ("uf1", "uar", "weighted_f1")]).all()
    assert np.isnan(metrics.class_intervals(people)["f1"]).all()
    assert metrics.intervals(people)["accuracy"] == metrics.intervals(people)["balanced_accuracy"] == (1.0, 1.0)


@pytest.mark.parametrize("matrices", [np.zeros((0, 3, 3), int), np.eye(3, dtype=int), np.zeros((4, 3, 2), int)])
def test_what_is_no_stack_of_persons_is_refused(matrices: np.ndarray) -> None:
    for function in (metrics.bootstrap_interval, metrics.intervals, metrics.class_intervals):
        with pytest.raises(InputError, match=r"expected \(persons, C, C\)"):
            function(matrices)


def test_permutation_test_draws_as_a_loop_does() -> None:
    first, second = _run(20, 3, 0.7, seed=1), _run(20, 3, 0.5, seed=2)
    swaps = np.random.default_rng(0).integers(2, size=(200, 20), dtype=np.uint8)
    observed = abs(metrics.uf1(first.sum(axis=0)) - metrics.uf1(second.sum(axis=0)))
    as_large = 0
    for swap in swaps:
        one = sum(second[i] if swap[i] else first[i] for i in range(20))
        two = sum(first[i] if swap[i] else second[i] for i in range(20))
        as_large += abs(metrics.uf1(one) - metrics.uf1(two)) >= observed - 1e-12
    found = metrics.permutation_test(first, second, draws=200)
    assert 1 / 201 < found < 1
    assert found == pytest.approx((1 + as_large) / 201)


@pytest.mark.parametrize(("score", "right"), [(metrics.uf1, 0.9), (metrics.accuracy, 0.7), (metrics.uf1, 0.5)])
def test_permutation_test_of_few_persons_is_exact(score: Score, right: float) -> None:
    first, second = _run(8, 3, right, seed=3), _run(8, 3, 0.4, seed=4)
    differences = []
    for swap in product([False, True], repeat=8):
        chosen = np.array(swap)[:, None, None]
        pooled = np.where(chosen, second, first).sum(axis=0), np.where(chosen, first, second).sum(axis=0)
        differences.append(abs(score(pooled[0]) - score(pooled[1])))
    exact = np.mean(np.array(differences) >= differences[0] - 1e-12)
    assert metrics.permutation_test(first, second, score) == exact
    assert metrics.permutation_test(first, second, score, draws=256) == exact
    drawn = metrics.permutation_test(first, second, score, draws=255)
    assert drawn * 256 == pytest.approx(round(drawn * 256))
    assert drawn == pytest.approx(exact, abs=0.1)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("persons", [10, 20])
def test_permutation_test_takes_any_score_of_one_matrix(score: Score, persons: int) -> None:
    """A function of the library is computed of all swaps at once, one around it of each by itself."""
    first, second = _run(persons, 3, 0.7, seed=1), _run(persons, 3, 0.6, seed=2)
    at_once = metrics.permutation_test(first, second, score, draws=1100)
    assert at_once == metrics.permutation_test(first, second, lambda matrix: score(matrix), draws=1100)
    assert 0.002 < at_once < 1


def test_permutation_test_of_equal_runs_is_one_and_of_opposite_runs_tiny() -> None:
    """Of ten persons whom one run gets right and the other wrong, two in 1,024 swaps differ as much."""
    right, wrong = np.stack([np.diag([5, 5])] * 10), np.stack([np.array([[0, 5], [5, 0]])] * 10)
    assert metrics.permutation_test(right, right) == 1
    assert metrics.permutation_test(right, wrong) == 2 / 1024
    assert metrics.permutation_test(wrong, right) == metrics.permutation_test(right, wrong)


def test_permutation_test_rejects_as_often_as_it_says() -> None:
    """Runs of one skill: p is below 0.2 in about a fifth of them."""
    found = [
        metrics.permutation_test(_run(25, 2, 0.5, 2 * i), _run(25, 2, 0.5, 2 * i + 1), draws=99) for i in range(150)
    ]
    assert np.mean(np.array(found) <= 0.2) == pytest.approx(0.2, abs=0.09)


def test_permutation_test_refuses_runs_of_other_persons_or_clips() -> None:
    first = _run(10, 3, 0.7, seed=1)
    with pytest.raises(InputError, match=r"\(10, 3, 3\) and \(9, 3, 3\); expected the same persons"):
        metrics.permutation_test(first, first[:9])
    with pytest.raises(InputError, match=r"persons have other targets .* number 0 has"):
        metrics.permutation_test(first, first[::-1])


def test_four_hundred_persons_and_twelve_classes_are_quick() -> None:
    first, second = _run(400, 12, 0.6, seed=1), _run(400, 12, 0.5, seed=2)
    start = time.process_time()
    metrics.intervals(first)
    metrics.class_intervals(first)
    metrics.permutation_test(first, second)
    assert time.process_time() - start < 3
    assert metrics.permutation_test(first[:1], second[:1], metrics.accuracy) == 1
