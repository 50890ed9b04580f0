"""Which epoch answers: each rule done again by hand, with fit and predict alone."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

import mer_zoo
from mer_zoo import selection, training
from mer_zoo.datasets import Corpus
from mer_zoo.errors import InputError, LeakError
from mer_zoo.folds import group_k_fold
from mer_zoo.rules import RULES
from mer_zoo.seeds import fold_seed, one_thread, seeded
from mer_zoo.training import ClipDataset
from mer_zoo.types import Fold

RECIPE = mer_zoo.Recipe(epochs=4, lr=5e-3)


@pytest.fixture(scope="module")
def roots(persons: Corpus) -> dict[str, Corpus]:
    return {"synthetic_flow": persons}


@pytest.fixture(scope="module")
def data(roots: dict[str, Corpus]) -> ClipDataset:
    return mer_zoo.create_dataset("synthetic-3", roots, mer_zoo.input_spec("ststnet"))


@pytest.fixture(scope="module")
def folds(data: ClipDataset) -> list[Fold]:
    return mer_zoo.get_protocol("synthetic-3").folds(data.samples)


def _epochs(data: ClipDataset, fold: Fold, name: str, recipe: mer_zoo.Recipe = RECIPE) -> Iterator[Any]:
    """Probabilities of the test part after 1, 2, … epochs, each by a training of its own."""
    seed = fold_seed(recipe.seed, name)
    for epochs in range(1, recipe.epochs + 1):
        with one_thread():
            with seeded(seed):
                model = mer_zoo.create_model("ststnet", num_classes=3)
            mer_zoo.training.fit(model, data.subset(fold.train), replace(recipe, epochs=epochs, seed=seed))
            yield mer_zoo.training.predict(model, data.subset(fold.test)).double().numpy()


def _shares(table: pd.DataFrame, fold: str) -> Any:
    return table[table["fold"] == fold].filter(like="p_").to_numpy()


def test_the_oracle_takes_the_epoch_that_is_best_on_the_test_part(
    roots: dict[str, Corpus], data: ClipDataset, folds: list[Fold]
) -> None:
    table = mer_zoo.evaluate(
        "ststnet", "synthetic-3", roots, recipe=RECIPE, selection="test_oracle", i_know_this_leaks=True
    )
    for fold in folds:
        truth = np.array(data.subset(fold.test).targets)
        answers = list(_epochs(data, fold, fold.name))
        right = [(answer.argmax(axis=1) == truth).sum() for answer in answers]
        last_of_the_best = max(range(len(right)), key=lambda i: (right[i], i))
        np.testing.assert_array_equal(_shares(table, fold.name), answers[last_of_the_best])


def test_nested_takes_the_epoch_that_is_best_on_other_training_persons(
    roots: dict[str, Corpus], data: ClipDataset, folds: list[Fold]
) -> None:
    table = mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, selection="nested")
    fold = folds[1]
    inner = group_k_fold(fold.train, 3)
    curves = [list(_epochs(data, part, f"{fold.name}/inner/{part.name}")) for part in inner]
    truth = np.concatenate([data.subset(part.test).targets for part in inner])
    scores = [
        f1_score(truth, np.concatenate([curve[epoch] for curve in curves]).argmax(axis=1), average="macro")
        for epoch in range(RECIPE.epochs)
    ]
    chosen = scores.index(max(scores))
    np.testing.assert_array_equal(_shares(table, fold.name), list(_epochs(data, fold, fold.name))[chosen])


def test_nested_never_trains_on_the_person_tested(
    roots: dict[str, Corpus], folds: list[Fold], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    def spy(model: nn.Module, data: Any, recipe: Any, **options: Any) -> list[float]:
        seen.append(set(data.persons))
        return training.fit(model, data, recipe, **options)

    monkeypatch.setattr(selection, "fit", spy)
    mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, selection="nested")
    assert len(seen) == len(folds) * (3 + 1)
    for i, fold in enumerate(folds):
        *inner, refit = seen[4 * i : 4 * i + 4]
        assert all(fold.name not in persons for persons in (*inner, refit))
        assert set.union(*inner) == refit
        assert all(len(refit - persons) >= 1 for persons in inner)


def test_nested_ends_a_schedule_early_and_does_not_squeeze_it(data: ClipDataset) -> None:
    """The chosen epoch is that of the schedule that was looked at, so a refit must follow the same one."""
    cosine = replace(RECIPE, schedule="cosine")
    model = mer_zoo.create_model("ststnet")
    rates: list[float] = []

    def stop(done: int) -> bool:
        rates.append(done)
        return done == 2

    torch.manual_seed(0)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    losses = mer_zoo.training.fit(model, data, cosine, each_epoch=stop)
    model.load_state_dict(state)
    whole = mer_zoo.training.fit(model, data, cosine)
    assert len(losses) == 2
    assert rates == [1, 2]
    assert losses == whole[:2]


def test_nested_chooses_the_better_of_several_recipes(roots: dict[str, Corpus]) -> None:
    useless, good = mer_zoo.Recipe(epochs=3, lr=1e-8), mer_zoo.Recipe(epochs=12, lr=5e-3)
    table = mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=[useless, good], selection="nested")
    run = table.attrs["run"]
    assert [recipe["lr"] for recipe in run["recipes"]] == [1e-8, 5e-3]
    assert all(len(losses) > 0 for losses in table.attrs["losses"].values())
    assert max(len(losses) for losses in table.attrs["losses"].values()) > 3
    with pytest.raises(InputError, match="2 recipes to choose from; only selection='nested' chooses"):
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=[useless, good])


def test_nested_needs_two_training_persons(persons: Corpus) -> None:
    protocol = mer_zoo.get_protocol("synthetic-3")
    two = {s.person for s in persons.samples[:12]}
    small = replace(protocol, rules={"synthetic_flow": lambda s: s.person in two})
    with pytest.raises(InputError, match="nested' needs two training persons or more in every fold"):
        mer_zoo.evaluate("ststnet", small, {"synthetic_flow": persons}, recipe=RECIPE, selection="nested")


@pytest.mark.parametrize("selection", [name for name, rule in RULES.items() if rule.leak])
def test_a_rule_that_leaks_must_be_asked_for(selection: str, roots: dict[str, Corpus]) -> None:
    for said in (False, "yes", 1):
        with pytest.raises(LeakError, match="i_know_this_leaks=True"):
            mer_zoo.evaluate("ststnet", "synthetic-3", roots, selection=selection, i_know_this_leaks=said)  # type: ignore[arg-type]


@pytest.mark.parametrize("selection", [name for name, rule in RULES.items() if rule.leak])
def test_a_rule_that_leaks_marks_everything(selection: str, roots: dict[str, Corpus], tmp_path: Any) -> None:
    table = mer_zoo.evaluate(
        *("ststnet", "synthetic-3", roots),
        recipe=mer_zoo.Recipe(epochs=1),
        selection=selection,
        out=tmp_path,
        keep_weights=True,
        i_know_this_leaks=True,
    )
    mer_zoo.report(table, "synthetic-3", out=tmp_path)
    assert table["note"].str.startswith("chosen on test subjects").all()
    texts = {f for f in tmp_path.rglob("*") if f.suffix in (".csv", ".json", ".md", ".html", ".svg", ".txt")}
    assert not {f.name for f in texts if "chosen on test subjects" not in f.read_text()}
    assert {"predictions.csv", "run.json", "report.md", "report.json", "config.json", "log.txt", "progress.csv"} <= {
        f.name for f in texts
    }


def test_random_clips_are_ten_copies_split_within_classes(roots: dict[str, Corpus], data: ClipDataset) -> None:
    recipe = mer_zoo.Recipe(epochs=1)
    table = mer_zoo.evaluate(
        "ststnet", "synthetic-3", roots, recipe=recipe, selection="random-clip", i_know_this_leaks=True
    )
    copies = 10 * len(data)
    assert len(table) == np.ceil(0.111 * copies)
    shares = np.bincount(table["target"]) / len(table)
    np.testing.assert_allclose(shares, np.bincount(data.targets) / len(data), atol=0.03)
    assert set(table["key"].str.partition("#")[0]) <= {s.key for s in data.samples}
    assert table["key"].is_unique


def test_rules_that_do_not_leak_leave_no_note(roots: dict[str, Corpus]) -> None:
    for name in [name for name, rule in RULES.items() if not rule.leak]:
        table = mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, selection=name)
        assert "note" not in table
        assert table.attrs["run"]["leak"] is None
