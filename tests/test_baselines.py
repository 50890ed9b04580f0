"""Baselines: known answers, scikit-learn as referee, and nothing learnt from the test part."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

import mer_zoo
from mer_zoo.baselines import BASELINES, baseline_answers, pooled
from mer_zoo.errors import InputError, UnknownNameError
from mer_zoo.training import ClipDataset
from mer_zoo.types import InputSpec, Sample, Target

Array = npt.NDArray[np.floating]

FLOW = InputSpec("flow", ("u", "v", "strain"), size=14, low=-50.0, high=50.0, flow_method="tvl1")
LEARNERS = ["ridge", "svm"]


def dataset(
    inputs: npt.NDArray[Any], targets: Sequence[Target], spec: InputSpec = FLOW, classes: str = "abc"
) -> ClipDataset:
    samples = [Sample(corpus="made", subject=f"s{i}", clip="1", emotion="surprise") for i in range(len(inputs))]
    return ClipDataset(inputs.astype(np.float32), targets, samples, spec, tuple(classes))


def flow(clips: int, seed: int = 0, spread: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(3.0, spread, size=(clips, *FLOW.shape))


def labelled(clips: int, classes: int, seed: int = 0, step: float = 1.0) -> tuple[Array, list[int]]:
    """Noise, and in channel k of class k a bright corner of ``step``."""
    targets = [i % classes for i in range(clips)]
    inputs = flow(clips, seed)
    for clip, target in zip(inputs, targets, strict=True):
        clip[target, :4, :4] += step
    return inputs, targets


def naive_rows(inputs: Array) -> Array:
    """Means over blocks of 2 x 2 of 14 x 14 pixels, by loops."""
    small = np.zeros((*inputs.shape[:2], 7, 7))
    for y in range(7):
        for x in range(7):
            small[:, :, y, x] = inputs[:, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean(axis=(2, 3))
    return small.reshape(len(inputs), -1)


def referee(name: str) -> Any:
    if name == "ridge":
        return RidgeClassifier(class_weight="balanced")
    return SVC(class_weight="balanced", break_ties=True)


def referee_predictions(name: str, train: Array, targets: Sequence[int], test: Array) -> npt.NDArray[np.int64]:
    """Scikit-learn's own predictions on inputs that were standardised by hand."""
    x, x_test = naive_rows(train.astype(np.float32)), naive_rows(test.astype(np.float32))
    mean, std = x.mean(axis=0), x.std(axis=0)
    return np.asarray(referee(name).fit((x - mean) / std, targets).predict((x_test - mean) / std))


def test_no_baseline_has_the_name_of_a_model() -> None:
    assert list(BASELINES) == ["majority", "ridge", "svm"]
    assert not set(BASELINES) & set(mer_zoo.list_models())
    assert all(baseline.summary and "\n" not in baseline.summary for baseline in BASELINES.values())


@pytest.mark.parametrize("name", LEARNERS)
def test_what_can_be_told_apart_is_told_apart(name: str) -> None:
    x, y = labelled(60, 3, step=30.0)
    x_test, y_test = labelled(12, 3, seed=1, step=30.0)
    answers = baseline_answers(name, dataset(x, y), dataset(x_test, [0] * 12))
    assert answers.argmax(axis=1).tolist() == y_test


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_the_largest_number_is_what_scikit_learn_predicts(name: str, classes: int) -> None:
    x, y = labelled(50, classes, step=2.0)
    y[:6] = [1] * 6  # classes of unequal size and mistakes, so that weights and boundaries matter
    x_test, truth = labelled(90, classes, seed=1, step=2.0)
    answers = baseline_answers(name, dataset(x, y), dataset(x_test, [0] * 90))
    assert answers.dtype == np.float64
    assert answers.shape == (90, 3)
    np.testing.assert_allclose(answers.sum(axis=1), 1)
    expected = referee_predictions(name, x, y, x_test)
    np.testing.assert_array_equal(answers.argmax(axis=1), expected)
    assert 0.4 < np.mean(expected == truth) < 1  # neither trivial nor hopeless


@pytest.mark.parametrize("name", BASELINES)
def test_the_largest_number_is_the_classifiers_own_answer_where_classes_are_close(name: str) -> None:
    x, y = labelled(60, 3, step=0.0)  # noise: some votes of pairs of classes are equal
    x_test = flow(600, seed=1)
    own = BASELINES[name].make().fit(naive_rows(x), y).predict(naive_rows(x_test))
    answers = baseline_answers(name, dataset(x, y), dataset(x_test, [0] * 600))
    np.testing.assert_array_equal(answers.argmax(axis=1), own)


@pytest.mark.parametrize("name", LEARNERS)
def test_numbers_are_the_softmax_of_the_decision_function(name: str) -> None:
    x, y = labelled(40, 3)
    x_test = flow(5, seed=1)
    rows = naive_rows(x.astype(np.float32))
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    scores = referee(name).fit((rows - mean) / std, y)
    powers = np.exp(scores.decision_function((naive_rows(x_test.astype(np.float32)) - mean) / std))
    answers = baseline_answers(name, dataset(x, y), dataset(x_test, [0] * 5))
    np.testing.assert_allclose(answers, powers / powers.sum(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
def test_an_answer_depends_on_no_other_test_clip(name: str) -> None:
    x, y = labelled(40, 3)
    first, second = flow(10, seed=1), flow(10, seed=2, spread=9.0)
    second[3] = first[3]
    train = dataset(x, y)
    one, other = (baseline_answers(name, train, dataset(test, [0] * 10)) for test in (first, second))
    np.testing.assert_allclose(one[3], other[3], rtol=1e-9)
    alone = baseline_answers(name, train, dataset(first[3:4], [2]))
    np.testing.assert_allclose(one[3], alone[0], rtol=1e-9)


@pytest.mark.parametrize("name", LEARNERS)
def test_inputs_of_any_scale_give_the_same_answers(name: str) -> None:
    x, y = labelled(40, 3)
    x_test = flow(8, seed=1)
    plain = baseline_answers(name, dataset(x, y), dataset(x_test, [0] * 8))
    scale = np.array([0.01, 1.0, 4.0]).reshape(1, 3, 1, 1)
    other = baseline_answers(name, dataset(x * scale, y), dataset(x_test * scale, [0] * 8))
    np.testing.assert_allclose(other, plain, atol=1e-4)


@pytest.mark.parametrize("name", LEARNERS)
def test_pixels_that_never_change_do_no_harm(name: str) -> None:
    x, y = labelled(40, 3, step=30.0)
    x_test, y_test = labelled(6, 3, seed=1, step=30.0)
    x[:, 1:, 8:] = x_test[:, 1:, 8:] = 0.1  # no binary number, so that its mean is rounded
    answers = baseline_answers(name, dataset(x, y), dataset(x_test, [0] * 6))
    assert np.isfinite(answers).all()
    assert answers.argmax(axis=1).tolist() == y_test


@pytest.mark.parametrize("name", LEARNERS)
def test_balanced_classes_let_a_rare_class_be_found(name: str) -> None:
    x, y = labelled(200, 3, step=4.0)
    kept = [i for i, target in enumerate(y) if target == 0 or i < 30]  # 67 clips, and 10 of each other class
    x_test, truth = labelled(60, 3, seed=1, step=4.0)
    answers = baseline_answers(name, dataset(x[kept], [y[i] for i in kept]), dataset(x_test, [0] * 60))
    found = answers.argmax(axis=1)[np.array(truth) > 0] > 0
    assert found.mean() > 0.6


@pytest.mark.parametrize(("targets", "answer"), [([2, 0, 2, 1], 2), ([2, 1, 2, 1], 1), ([2, 0, 1], 0)])
def test_majority_answers_the_commonest_class_and_of_equal_ones_the_first(targets: list[int], answer: int) -> None:
    answers = baseline_answers("majority", dataset(flow(len(targets)), targets), dataset(flow(2, seed=1), [0, 1]))
    np.testing.assert_array_equal(answers, np.eye(3)[[answer, answer]])


@pytest.mark.parametrize("name", LEARNERS)
def test_a_class_without_training_clips_gets_nothing(name: str) -> None:
    x, y = labelled(40, 3, step=30.0)
    without = np.array(y) != 1
    train = dataset(x[without], [target for target in y if target != 1])
    x_test, y_test = labelled(12, 3, seed=1, step=30.0)
    answers = baseline_answers(name, train, dataset(x_test, [0] * 12))
    assert not answers[:, 1].any()
    np.testing.assert_allclose(answers.sum(axis=1), 1)
    assert [a for a, y in zip(answers.argmax(axis=1), y_test, strict=True) if y != 1] == [0, 2] * 4


@pytest.mark.parametrize("name", BASELINES)
def test_a_training_part_of_one_class_answers_that_class(name: str) -> None:
    answers = baseline_answers(name, dataset(flow(4), [1] * 4), dataset(flow(3, seed=1), [0, 1, 2]))
    np.testing.assert_array_equal(answers, np.eye(3)[[1, 1, 1]])


@pytest.mark.parametrize("name", BASELINES)
def test_two_training_clips_are_enough(name: str) -> None:
    x = np.zeros((2, *FLOW.shape))
    alike = baseline_answers(name, dataset(x, [0, 2]), dataset(x, [0, 2]))
    assert np.isfinite(alike).all()
    np.testing.assert_allclose(alike.sum(axis=1), 1)


def units(clips: int, seed: int = 0) -> tuple[Array, list[tuple[int, ...]]]:
    """Three units, each a bright corner of a channel, and two that no clip and every clip shows."""
    shown = np.random.default_rng(seed + 100).integers(2, size=(clips, 3))
    inputs = flow(clips, seed)
    inputs[:, :, :4, :4] += 30.0 * shown[:, :, None, None]
    return inputs, [(*map(int, row), 0, 1) for row in shown]


@pytest.mark.parametrize("name", LEARNERS)
def test_action_units_are_told_one_by_one(name: str) -> None:
    x, shown = units(60)
    x_test, truth = units(20, seed=1)
    answers = baseline_answers(name, dataset(x, shown, classes="pqrst"), dataset(x_test, truth, classes="pqrst"))
    assert answers.shape == (20, 5)
    assert ((answers >= 0) & (answers <= 1)).all()
    np.testing.assert_array_equal(answers > 0.5, np.array(truth) > 0)
    np.testing.assert_array_equal(answers[:, 3:], [[0.0, 1.0]] * 20)
    first = referee_predictions(name, x, [row[0] for row in shown], x_test)
    np.testing.assert_array_equal(answers[:, 0] > 0.5, first > 0)


def test_majority_of_action_units_needs_more_than_half() -> None:
    shown = [(1, 1, 0, 0, 1), (1, 0, 0, 0, 1), (1, 1, 1, 0, 1), (0, 0, 0, 0, 1)]
    test = dataset(flow(2, seed=1), shown[:2], classes="pqrst")
    answers = baseline_answers("majority", dataset(flow(4), shown, classes="pqrst"), test)
    np.testing.assert_array_equal(answers, [[1, 0, 0, 0, 1]] * 2)


def test_flow_is_pooled_to_means_of_blocks() -> None:
    data = dataset(flow(5), [0] * 5)
    small = pooled(data)
    np.testing.assert_allclose(small.inputs.reshape(5, -1), naive_rows(data.inputs), rtol=1e-5)
    assert small.inputs.shape == (5, *small.spec.shape) == (5, 3, 7, 7)
    assert (small.targets, small.samples, small.classes) == (data.targets, data.samples, data.classes)


def test_clips_are_pooled_in_time_too_and_each_by_itself() -> None:
    spec = InputSpec("clip", ("grey",), size=21, frames=12)
    clips = np.random.default_rng(0).random((70, *spec.shape))  # more than one batch
    small = pooled(dataset(clips, [0] * 70, spec))
    blocks = clips.reshape(70, 1, 4, 3, 7, 3, 7, 3).mean(axis=(3, 5, 7))
    np.testing.assert_allclose(small.inputs, blocks, rtol=1e-5)


def test_small_inputs_stay_as_they_are() -> None:
    spec = InputSpec("clip", ("grey",), size=5, frames=3)
    data = dataset(np.random.default_rng(0).random((4, *spec.shape)), [0] * 4, spec)
    assert pooled(data) is data
    assert pooled(pooled(dataset(flow(2), [0, 1]))).inputs.shape == (2, 3, 7, 7)


@pytest.mark.parametrize("name", BASELINES)
def test_pooling_first_changes_no_answer(name: str) -> None:
    x, y = labelled(40, 3)
    train, test = dataset(x, y), dataset(flow(8, seed=1), [0] * 8)
    whole, small = baseline_answers(name, train, test), baseline_answers(name, pooled(train), pooled(test))
    np.testing.assert_array_equal(whole, small)


@pytest.mark.parametrize("name", LEARNERS)
def test_answers_are_the_same_to_the_last_digit_on_more_threads(name: str) -> None:
    x, y = labelled(300, 3)
    train, test = dataset(x, y), dataset(flow(50, seed=1), [0] * 50)
    answers = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            answers.append(baseline_answers(name, train, test))
    np.testing.assert_array_equal(answers[1], answers[0])
    np.testing.assert_array_equal(answers[2], answers[0])


def test_an_unknown_name_is_refused() -> None:
    data = dataset(flow(2), [0, 1])
    with pytest.raises(UnknownNameError, match=r"No baseline is named 'svn'\. Did you mean svm"):
        baseline_answers("svn", data, data)


def test_parts_that_differ_are_refused() -> None:
    train = dataset(flow(2), [0, 1])
    other = replace(FLOW, channels=("strain", "v", "u"))
    with pytest.raises(InputError, match="expected the same"):
        baseline_answers("ridge", train, dataset(flow(2), [0, 1], other))
    with pytest.raises(InputError, match="Take both from one dataset"):
        baseline_answers("ridge", train, dataset(flow(2), [0, 1], classes="abd"))
