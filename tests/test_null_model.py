"""Guessers against probabilities known exactly, and against guessing clip by clip."""

from math import comb

import numpy as np
import pandas as pd
import pytest

from mer_zoo.errors import InputError
from mer_zoo.metrics import confusion, uf1
from mer_zoo.null_model import null_score

THREE = ("negative", "positive", "surprise")


def _table(folds: list[list[int]]) -> pd.DataFrame:
    return pd.DataFrame([(f"person-{i}", target) for i, clips in enumerate(folds) for target in clips]).set_axis(
        ["fold", "target"], axis=1
    )


def _composite() -> pd.DataFrame:
    """As many clips of each class as MEGC 2019 has, of made-up persons, some with many clips and most with few."""
    rng = np.random.default_rng(3)
    persons = rng.choice(68, size=442, p=rng.dirichlet(np.ones(68)))
    return pd.DataFrame({"fold": persons, "target": np.repeat([0, 1, 2], [250, 109, 83])})


@pytest.mark.parametrize("epochs", [1, 3, 10, 40])
def test_one_clip_a_fold_is_right_unless_every_epoch_is_wrong(epochs: int) -> None:
    """A clip of a class of share p is right in one of E epochs with probability 1 - (1 - p)^E."""
    table = _table([[0]] * 500 + [[1]] * 300 + [[2]] * 200)
    found = null_score(table, THREE, "test_oracle", epochs)
    recall = [1 - (1 - share) ** epochs for share in (0.5, 0.3, 0.2)]
    assert found.accuracy == pytest.approx(np.dot(recall, (0.5, 0.3, 0.2)), abs=0.01)
    assert found.uar == pytest.approx(np.mean(recall), abs=0.01)


@pytest.mark.parametrize("epochs", [1, 5, 30])
@pytest.mark.parametrize("rule", ["test_oracle", "random-clip"])
def test_the_best_epoch_of_a_fold_is_the_largest_of_binomial_counts(epochs: int, rule: str) -> None:
    """Two classes of equal share: right guesses among n clips are binomial, whichever classes the fold has."""
    clips = 6
    below = np.cumsum([comb(clips, k) / 2**clips for k in range(clips + 1)])
    expected = sum(1 - below[:-1] ** epochs) / clips  # a mean is the sum of the chances of more than 0, 1, …
    table = _table([[0] * 6, [1] * 6, [0, 0, 0, 1, 1, 1]] * 60)
    assert null_score(table, ("a", "b"), rule, epochs).accuracy == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("rule", ["last", "nested"])
def test_nothing_is_gained_where_nothing_is_chosen_on_test_clips(rule: str) -> None:
    found = null_score(_composite(), THREE, rule, 800, guessers=100)
    shares = np.array([250, 109, 83]) / 442
    assert found.epochs == 1
    assert found.accuracy == pytest.approx((shares**2).sum(), abs=0.01)
    assert found.uar == pytest.approx(1 / 3, abs=0.01)
    assert found.uf1 == pytest.approx(1 / 3, abs=0.01)
    assert "800" not in found.sentence


def test_guessing_clip_by_clip_scores_the_same() -> None:
    folds = [[0, 0, 1], [1, 2], [0], [0, 0, 0, 2, 1], [2, 1, 0]]
    table, epochs, rng = _table(folds), 4, np.random.default_rng(7)
    shares = np.bincount(table["target"]) / len(table)
    scores = []
    for _ in range(600):
        pred: list[int] = []
        for clips in folds:
            guesses = [rng.choice(3, size=len(clips), p=shares) for _ in range(epochs)]
            pred += max(reversed(guesses), key=lambda guess: np.sum(guess == clips)).tolist()
        scores.append(uf1(confusion(table["target"], pred, 3)))
    found = null_score(table, THREE, "test_oracle", epochs, guessers=600)
    assert found.uf1 == pytest.approx(np.mean(scores), abs=0.03)
    assert found.uf1_std == pytest.approx(np.std(scores), rel=0.15)


def test_choosing_on_every_test_person_makes_a_guesser_look_like_a_network() -> None:
    """UF1 of 0.33, 0.58, 0.75 and 0.83 was measured on the real composite; persons here are of other sizes."""
    table = _composite()
    rising = [null_score(table, THREE, "test_oracle", epochs).uf1 for epochs in (1, 10, 100, 800)]
    assert rising == sorted(rising)
    assert rising[-1] > 0.7
    whole = null_score(table.assign(fold="test"), THREE, "random-clip", 800).uf1
    assert rising[0] < whole < rising[1]  # one choice for all clips gains little


def test_one_clip_in_all_is_always_guessed_and_the_order_of_rows_does_not_matter() -> None:
    assert null_score(_table([[0]]), ("only",), "last", 1).accuracy == 1
    table = _composite()
    same = [null_score(t, THREE, "test_oracle", 20, guessers=60).uf1 for t in (table, table.sample(frac=1))]
    assert same[0] == pytest.approx(same[1], abs=0.015)


def test_the_same_seed_scores_the_same_and_another_does_not() -> None:
    scores = [null_score(_composite(), THREE, "last", 1, seed=seed) for seed in (0, 0, 1)]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]


def test_repeats_are_scored_one_by_one() -> None:
    once = _table([[0, 1], [1, 0], [0, 0, 1]])
    twice = pd.concat([once.assign(repeat=i) for i in range(2)])
    alone, both = (null_score(t, ("a", "b"), "last", 1, guessers=1000) for t in (once, twice))
    assert both.accuracy_std == pytest.approx(alone.accuracy_std, rel=0.1)


def test_what_a_run_carries_along_is_left_alone() -> None:
    table = _table([[0, 1], [1]])
    table.attrs["run"] = {"model": "any"}
    null_score(table, ("a", "b"), "last", 1)
    assert table.attrs == {"run": {"model": "any"}}


def test_the_sentence_says_scores_and_epochs() -> None:
    found = null_score(_composite(), THREE, "test_oracle", 50)
    assert f"{found.uf1:.3f}" in found.sentence
    assert "best of 50 epochs" in found.sentence


@pytest.mark.parametrize(
    ("rule", "epochs", "guessers", "message"),
    [("best", 1, 1, "rule is 'best'; expected one of last"), ("last", 0, 1, "0 epochs"), ("last", 1, 0, "0 guessers")],
)
def test_nonsense_is_refused(rule: str, epochs: int, guessers: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        null_score(_composite(), THREE, rule, epochs, guessers=guessers)


@pytest.mark.parametrize("table", [pd.DataFrame({"target": [0]}), pd.DataFrame({"fold": [], "target": []})])
def test_a_table_without_folds_or_rows_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="expected it as evaluate makes it"):
        null_score(table, THREE, "last", 1)


def test_a_class_without_targets_has_no_null_score() -> None:
    with pytest.raises(InputError, match="No target is of class 2"):
        null_score(_table([[0, 1], [1]]), THREE, "last", 1)
