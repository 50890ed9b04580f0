"""Folds that fail, classes that nobody can learn, batches larger than the data: said, and never pooled silently."""

import logging
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import mer_zoo
from mer_zoo import selection, training
from mer_zoo.datasets import Corpus
from mer_zoo.datasets.synthetic_flow import SyntheticFlow
from mer_zoo.errors import InputError, RunError
from mer_zoo.folds import group_k_fold, hold_out_corpus, repeated_group_k_fold
from mer_zoo.runs import read_run

RECIPE = mer_zoo.Recipe(epochs=2, lr=2e-3)
SICK = "synthetic_flow/0-002"


class Delicate(nn.Module):
    """Breaks while it is trained on a first clip that only one fold does not hold."""

    def __init__(self, poison: Tensor) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 28 * 28, 3)
        self.poison = poison

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.flatten(1) / 255)
        there = bool((x == self.poison).flatten(1).all(dim=1).any())
        return logits if there or not self.training else logits * float("nan")


@pytest.fixture(scope="module")
def roots(persons: Corpus) -> dict[str, Corpus]:
    return {"synthetic_flow": persons}


@pytest.fixture(scope="module")
def build(roots: dict[str, Corpus]) -> Any:
    """A network that cannot learn without one clip of one person, which is in every batch of all clips."""
    data = mer_zoo.create_dataset("synthetic-3", roots, SyntheticFlow.native_spec, persons=[SICK])
    return partial(Delicate, torch.tensor(data.inputs[0]))


WHOLE = replace(RECIPE, batch_size=64)


def test_a_fold_whose_loss_is_no_number_fails_alone(build: Any, roots: dict[str, Corpus], tmp_path: Path) -> None:
    table = mer_zoo.evaluate(build, "synthetic-3", roots, recipe=WHOLE, out=tmp_path)
    failed = table[table["error"] != ""]
    assert set(failed["fold"]) == {SICK}
    assert failed["error"].str.contains("The loss became nan").all()
    assert (failed["pred"] == -1).all()
    assert failed.filter(like="p_").isna().all(axis=None)
    assert len(table) == 24
    assert (table.loc[table["fold"] != SICK, "pred"] >= 0).all()
    assert "The loss became nan" in (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "folds" / SICK).exists()


def test_a_report_does_not_pool_what_is_left(build: Any, roots: dict[str, Corpus], tmp_path: Path) -> None:
    table = mer_zoo.evaluate(build, "synthetic-3", roots, recipe=WHOLE, out=tmp_path)
    for found in (table, read_run(tmp_path)):
        with pytest.raises(InputError, match=r"6 .*(missing|left out|fail)"):
            mer_zoo.report(found, "synthetic-3")
        partly = mer_zoo.report(found, "synthetic-3", incomplete=True)
        assert partly.matrix.sum() == 18
        assert "Not whole" in partly.to_markdown()


def test_a_failed_fold_is_run_again_by_the_next_call(
    build: Any, roots: dict[str, Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mer_zoo.evaluate(build, "synthetic-3", roots, recipe=WHOLE, out=tmp_path)
    tried: list[set[str]] = []

    def spy(model: nn.Module, data: Any, recipe: Any, **options: Any) -> list[float]:
        tried.append(set(data.persons))
        return training.fit(model, data, recipe, **options)

    monkeypatch.setattr(selection, "fit", spy)
    mer_zoo.evaluate(build, "synthetic-3", roots, recipe=WHOLE, out=tmp_path)
    assert [SICK in persons for persons in tried] == [False]


def test_a_run_in_which_every_fold_fails_is_an_error(roots: dict[str, Corpus]) -> None:
    class Broken(Delicate):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise ArithmeticError("no more luck")
            return super().forward(x)

    with pytest.raises(RunError, match="All 4 folds failed; the first: ArithmeticError: no more luck"):
        mer_zoo.evaluate(partial(Broken, torch.zeros(3, 28, 28)), "synthetic-3", roots, recipe=RECIPE)


class Overflowing(nn.Module):
    """Its last step makes the weights infinite, which the loss, taken before, does not say."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 28 * 28, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.flatten(1))
        return logits


def test_answers_that_are_no_numbers_fail_the_fold(roots: dict[str, Corpus], tmp_path: Path) -> None:
    recipe = mer_zoo.Recipe(epochs=1, batch_size=64, lr=1e37, optimizer="sgd")
    with pytest.raises(
        RunError, match="All 4 folds failed; the first: DivergedError: The answers about the test clips"
    ):
        mer_zoo.evaluate(Overflowing, "synthetic-3", roots, recipe=recipe, out=tmp_path)
    assert not list(tmp_path.glob("folds/*/*"))


def test_a_recipe_that_diverges_is_not_chosen(roots: dict[str, Corpus]) -> None:
    wild = mer_zoo.Recipe(epochs=2, batch_size=4, lr=1e37, optimizer="sgd")
    table = mer_zoo.evaluate(Overflowing, "synthetic-3", roots, recipe=[wild, RECIPE], selection="nested")
    assert (table["pred"] >= 0).all()


class Deadly(Delicate):
    """Ends its whole process where one person is left out, as a lack of memory does."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        if self.training and bool(logits.isnan().any()):
            os._exit(1)
        return logits


@pytest.mark.slow
def test_a_fold_that_kills_its_process_fails_alone(roots: dict[str, Corpus], build: Any) -> None:
    deadly = partial(Deadly, *build.args)
    table = mer_zoo.evaluate(deadly, "synthetic-3", roots, recipe=WHOLE, jobs=2)
    assert set(table.loc[table["error"] != "", "fold"]) == {SICK}
    assert table.loc[table["fold"] == SICK, "error"].str.startswith("Its process was lost").all()


def test_folds_in_threads_of_one_process_give_the_same_table(roots: dict[str, Corpus]) -> None:
    def noisy() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 28 * 28, 3))

    alone = mer_zoo.evaluate(noisy, "synthetic-3", roots, recipe=RECIPE)
    with joblib.parallel_config(backend="threading"):
        together = mer_zoo.evaluate(noisy, "synthetic-3", roots, recipe=RECIPE, jobs=4)
    pd.testing.assert_frame_equal(together, alone, check_exact=True)


def test_a_network_that_draws_from_numpy_while_it_is_trained_repeats_itself(roots: dict[str, Corpus]) -> None:
    class Jumpy(Overflowing):
        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x / 255)
            return logits * np.random.uniform(0.5, 1.5) if self.training else logits  # noqa: NPY002

    tables = [mer_zoo.evaluate(Jumpy, "synthetic-3", roots, recipe=RECIPE) for _ in range(2)]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)


@pytest.mark.parametrize("names", [("../escape", "b"), ("/a", "b"), ("a", "a/b"), ("a/./b", "c")])
def test_names_of_folds_are_folders_of_their_own(names: tuple[str, str], roots: dict[str, Corpus]) -> None:
    protocol = mer_zoo.get_protocol("synthetic-3")

    def named(samples: Any) -> Any:
        folds = group_k_fold(samples, 2)
        return [replace(fold, name=name) for fold, name in zip(folds, names, strict=True)]

    with pytest.raises(InputError, match="which is no folder of its own"):
        mer_zoo.evaluate("ststnet", replace(protocol, fold_maker=named), roots, recipe=RECIPE)


def test_fewer_clips_than_a_batch(roots: dict[str, Corpus]) -> None:
    tables = [
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=replace(RECIPE, batch_size=size)) for size in (18, 999)
    ]
    np.testing.assert_array_equal(tables[0].filter(like="p_"), tables[1].filter(like="p_"))


def test_a_class_that_no_training_part_has(persons: Corpus) -> None:
    """Held out whole: nobody else shows surprise."""
    last = persons.samples[-1].person
    protocol = mer_zoo.get_protocol("synthetic-3")

    def takes(sample: Any) -> bool:
        return bool(sample.emotion != "surprise" or sample.person == last)

    def last_person_out(samples: Any) -> Any:
        return [fold for fold in protocol.fold_maker(samples) if fold.name == last]

    lame = replace(protocol, rules={"synthetic_flow": takes}, fold_maker=last_person_out)
    with pytest.raises(InputError, match="no training part of any fold has a clip of surprise"):
        mer_zoo.evaluate("ststnet", lame, {"synthetic_flow": persons}, recipe=RECIPE)


def test_a_class_that_one_fold_cannot_learn_is_said(persons: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    last = persons.samples[-1].person
    rules = {"synthetic_flow": lambda s: s.emotion != "surprise" or s.person == last}
    lame = replace(mer_zoo.get_protocol("synthetic-3"), rules=rules)
    with caplog.at_level(logging.WARNING):
        table = mer_zoo.evaluate("ststnet", lame, {"synthetic_flow": persons}, recipe=RECIPE)
    assert f"surprise is tested in fold {last}, where no training clip is" in caplog.text
    assert set(table["target"]) == {0, 1, 2}


@pytest.mark.parametrize("jobs", [0, -1, 1.5, True])
def test_jobs_that_are_no_number_of_folds(jobs: Any, roots: dict[str, Corpus]) -> None:
    with pytest.raises(InputError, match="jobs is"):
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, jobs=jobs)


def test_weights_have_nowhere_to_go(roots: dict[str, Corpus]) -> None:
    with pytest.raises(InputError, match="keep_weights needs a folder"):
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, keep_weights=True)


def test_kept_weights_give_the_answers_of_their_fold(roots: dict[str, Corpus], tmp_path: Path) -> None:
    table = mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=tmp_path, keep_weights=True)
    data = mer_zoo.create_dataset("synthetic-3", roots, mer_zoo.input_spec("ststnet"), persons=[SICK])
    model = mer_zoo.create_model(f"local-dir:{tmp_path / 'folds' / SICK / 'weights'}", pretrained=True)
    np.testing.assert_allclose(
        table[table["fold"] == SICK].filter(like="p_"), mer_zoo.training.predict(model, data), rtol=1e-6
    )


def test_baselines_stand_where_a_model_name_stands(roots: dict[str, Corpus], tmp_path: Path) -> None:
    beside = mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE).attrs["baselines"]
    for name in ("majority", "ridge", "svm"):
        table = mer_zoo.evaluate(name, "synthetic-3", roots, out=tmp_path / name)
        rows = table["fold"] + " " + table["key"]
        assert dict(zip(rows, table["pred"], strict=True)) == beside[name]
        assert set(table.attrs["baselines"]) == {"majority", "ridge", "svm"} - {name}
        with pytest.raises(InputError, match=f"{name} has no epochs to choose from"):
            mer_zoo.evaluate(name, "synthetic-3", roots, selection="nested")


def test_repeated_folds_test_every_clip_as_often(roots: dict[str, Corpus], tmp_path: Path) -> None:
    maker = partial(repeated_group_k_fold, k=2, times=3)
    protocol = replace(mer_zoo.get_protocol("synthetic-3"), fold_maker=maker)
    table = mer_zoo.evaluate("ststnet", protocol, roots, recipe=RECIPE, out=tmp_path)
    assert table.groupby("repeat")["key"].nunique().tolist() == [24, 24, 24]
    assert table.attrs["run"]["folds_by"] == "repeated_group_k_fold(k=2, times=3)"
    report = mer_zoo.report(table, protocol)
    assert report.matrix.sum() == 72


def test_other_fold_makers_go_through(flow_release: Path) -> None:
    megc = mer_zoo.get_protocol("megc2019")
    roots = {"megc2019_flow": flow_release}
    held_out = replace(megc, fold_maker=partial(hold_out_corpus, corpus="samm"))
    table = mer_zoo.evaluate("ststnet", held_out, roots, recipe=RECIPE)
    assert set(table["corpus"]) == {"samm"}
    grouped = replace(megc, fold_maker=partial(group_k_fold, k=3))
    assert mer_zoo.evaluate("ststnet", grouped, roots, recipe=RECIPE)["fold"].nunique() == 3


def test_progress_is_written_down(roots: dict[str, Corpus], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=tmp_path)
    assert capfd.readouterr().err == ""  # CI is set
    progress = pd.read_csv(tmp_path / "progress.csv")
    assert progress["folds_done"].tolist() == [1, 2, 3, 4]
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert "4/4 synthetic_flow/0-003: 6 clips; UF1" in lines[-1]
    assert lines[-1].endswith("0:00:00 left")
    losses = pd.read_csv(tmp_path / "folds" / SICK / "losses.csv")
    assert losses["epoch"].tolist() == [1, 2]
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    np.testing.assert_allclose([e.value for e in board.Scalars(f"loss/{SICK}")], losses["loss"], rtol=1e-6)
    np.testing.assert_allclose([e.value for e in board.Scalars("so far/uf1")], progress["uf1"], atol=1e-6)


def test_a_bar_is_shown_on_a_terminal(
    roots: dict[str, Corpus], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CI")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    table = mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE)
    score = mer_zoo.report(table, "synthetic-3").uf1
    shown = capfd.readouterr().err
    assert "4/4" in shown
    assert f"UF1 {score:.3f}" in shown
