"""Backends give what the plain loop gives, fold by fold, and say why where they cannot."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mer_zoo
from mer_zoo import chunks, execution, selection
from mer_zoo.augmentation import Augmentation
from mer_zoo.backends import BACKENDS, backend_of, cores
from mer_zoo.cost import step_cost
from mer_zoo.datasets import Corpus
from mer_zoo.datasets._base import CORPORA
from mer_zoo.errors import InputError, RunError
from mer_zoo.recipe import Recipe
from mer_zoo.together import Clips, fit_together
from mer_zoo.training import fit

CLIPS, MODELS = 21, 3
RECIPE = Recipe(epochs=2, batch_size=8, lr=1e-3)
IN_FLOAT32 = Recipe(epochs=2, batch_size=9, lr=1e-4, optimizer="sgd")  # Adam makes steps of what is noise


def model_of(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return mer_zoo.create_model(name, drop_rate=0.0).double()


def clips_of(name: str) -> Clips:
    """Made-up clips, of which each model is without some, so that parts and last batches are of several sizes."""
    spec = mer_zoo.input_spec(name)
    generator = torch.Generator().manual_seed(0)
    x = spec.low + torch.rand(CLIPS, *spec.shape, generator=generator, dtype=torch.float64) * (spec.high - spec.low)
    rows = [torch.tensor([i for i in range(CLIPS - k) if i % MODELS != k]) for k in range(MODELS)]
    return Clips(x, torch.arange(CLIPS) % 3, rows, spec)


def alone(name: str, clips: Clips, recipes: list[Recipe]) -> tuple[list[nn.Module], list[list[float]]]:
    """Each model by ``fit``."""
    models = [model_of(name, k) for k in range(MODELS)]
    return models, [
        fit(model, (clips.x[rows], clips.y[rows]), recipe, device="cpu")
        for model, rows, recipe in zip(models, clips.rows, recipes, strict=True)
    ]


@pytest.mark.parametrize("name", ["ststnet", "dat_densenet3d_se"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd", "schedule": "cosine", "balanced": True},
        {"optimizer": "adam", "flip": True, "shift": 2, "weight_decay": 0.1},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_together_is_alone(name: str, changes: dict[str, Any]) -> None:
    """Losses of four steps and more, and every weight and statistic, in float64; dropout off."""
    clips = clips_of(name)
    recipes = [replace(RECIPE, seed=seed, **changes) for seed in range(MODELS)]
    one_by_one, expected = alone(name, clips, recipes)
    models = [model_of(name, k) for k in range(MODELS)]
    found = fit_together(models, clips, recipes)
    for losses, plain in zip(found, expected, strict=True):
        assert losses == pytest.approx(plain, abs=1e-9)
    for model, twin in zip(models, one_by_one, strict=True):
        for value, other in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
            torch.testing.assert_close(value, other, rtol=1e-8, atol=1e-8)


def test_targets_of_units_go_together_too() -> None:
    clips = replace(
        clips_of("ststnet"), y=(torch.rand(CLIPS, 3, generator=torch.Generator().manual_seed(1)) > 0.6).long()
    )
    recipes = [replace(RECIPE, seed=seed, balanced=True) for seed in range(MODELS)]
    _, expected = alone("ststnet", clips, recipes)
    found = fit_together([model_of("ststnet", k) for k in range(MODELS)], clips, recipes)
    for losses, plain in zip(found, expected, strict=True):
        assert losses == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("held_out", range(MODELS))
def test_what_a_model_is_without_never_reaches_it(held_out: int) -> None:
    """Clips that are no numbers spoil every model that learns from them, its statistics included, and no other."""
    clips = clips_of("ststnet")
    rest = sorted(set(range(CLIPS)) - set(clips.rows[held_out].tolist()))
    x = clips.x.clone()
    x[rest] = float("nan")
    recipes = [replace(RECIPE, seed=seed) for seed in range(MODELS)]
    models = [model_of("ststnet", k) for k in range(MODELS)]
    spoilt = fit_together(models, replace(clips, x=x), recipes)
    clean = fit_together([model_of("ststnet", k) for k in range(MODELS)], clips, recipes)
    assert spoilt[held_out] == clean[held_out]
    assert all(value.isfinite().all() for value in models[held_out].state_dict().values())
    for k in range(MODELS):
        assert k == held_out or not all(map(torch.tensor(spoilt[k]).isfinite().tolist().__getitem__, range(2)))


def test_dropout_differs_between_models() -> None:
    clips = replace(clips_of("ststnet"), rows=[torch.arange(CLIPS)] * MODELS)
    torch.manual_seed(0)
    first = mer_zoo.create_model("ststnet", drop_rate=0.5).double()
    losses = fit_together([copy.deepcopy(first) for _ in range(MODELS)], clips, [RECIPE] * MODELS)
    assert len({curve[0] for curve in losses}) == MODELS


# Whole runs


@pytest.fixture
def roots(persons: Corpus) -> dict[str, Corpus]:
    return {"synthetic_flow": persons}


def run(roots: Any, build: Any = "ststnet", **options: Any) -> Any:
    return mer_zoo.evaluate(build, "synthetic-3", roots, recipe=IN_FLOAT32, **options)


def without_dropout() -> nn.Module:
    return mer_zoo.create_model("ststnet", drop_rate=0.0)


def test_a_run_by_folds_is_a_run_by_the_loop(roots: Any, tmp_path: Path) -> None:
    loop = run(roots, without_dropout, backend="loop")
    folds = run(roots, without_dropout, backend="folds", out=tmp_path / "run")
    assert loop["key"].tolist() == folds["key"].tolist()
    for name in ("p_negative", "p_positive", "p_surprise"):
        assert folds[name].tolist() == pytest.approx(loop[name].tolist(), abs=1e-4)
    assert {k: len(v) for k, v in folds.attrs["losses"].items()} == {k: len(v) for k, v in loop.attrs["losses"].items()}
    assert folds.attrs["run"]["backend"] == "folds"
    assert "backend" not in loop.attrs["run"]
    again = run(roots, without_dropout, backend="folds", out=tmp_path / "run")
    assert again.equals(folds)


def test_each_fold_is_handed_the_rows_of_its_training_part_alone(roots: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[list[int]] = []

    def note(models: Any, clips: Clips, recipes: Any) -> list[list[float]]:
        handed.extend(rows.tolist() for rows in clips.rows)
        return fit_together(models, clips, recipes)

    monkeypatch.setattr(chunks, "fit_together", note)
    run(roots, backend="folds")
    data = mer_zoo.create_dataset("synthetic-3", roots, mer_zoo.input_spec("ststnet"))
    folds = mer_zoo.get_protocol("synthetic-3").folds(data.samples)
    assert len(handed) == len(folds) == 4
    for rows, fold in zip(handed, folds, strict=True):
        assert {data.persons[row] for row in rows} == {sample.person for sample in fold.train}
        assert not {data.persons[row] for row in rows} & {sample.person for sample in fold.test}


def test_processes_and_the_loop_are_the_same_run(roots: Any, tmp_path: Path) -> None:
    """One goes on where the other stopped."""
    loop = run(roots, backend="loop", out=tmp_path / "run")
    for fold in sorted((tmp_path / "run" / "folds").rglob("fold.json"))[:2]:
        shutil.rmtree(fold.parent)
    assert run(roots, backend="processes", jobs=2, out=tmp_path / "run").equals(loop)
    assert run(roots, backend="processes", jobs=2).equals(loop)


def test_a_chunk_that_fails_leaves_its_folds_to_the_loop(
    roots: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> list[list[float]]:
        raise ValueError("no batch statistics of one clip")

    expected = run(roots, without_dropout, backend="loop")
    monkeypatch.setattr(chunks, "fit_together", fail)
    found = run(roots, without_dropout, backend="folds")
    assert "4 folds go one after the other: ValueError: no batch statistics" in caplog.text
    assert found["pred"].tolist() == expected["pred"].tolist()


def test_units_and_kept_weights(tmp_path: Path) -> None:
    roots = {"synthetic": mer_zoo.open_corpus("synthetic", subjects=3, clips_per_subject=4, classes="au")}
    tables = [
        mer_zoo.evaluate(
            without_dropout_for_units,
            "synthetic-au",
            roots,
            recipe=IN_FLOAT32,
            backend=name,
            out=tmp_path / name,
            keep_weights=True,
            cache=False,
        )
        for name in ("loop", "folds")
    ]
    shown = [name for name in tables[0] if name.startswith("p_")]
    for name in shown:
        assert tables[1][name].tolist() == pytest.approx(tables[0][name].tolist(), abs=1e-4)
    sizes = [sorted(f.stat().st_size for f in (tmp_path / n).rglob("model.safetensors")) for n in ("loop", "folds")]
    assert len(sizes[0]) == 3
    assert sizes[0] == sizes[1]


def without_dropout_for_units() -> nn.Module:
    return mer_zoo.create_model("ststnet", drop_rate=0.0, num_classes=len(mer_zoo.get_protocol("synthetic-au").classes))


def test_a_rule_that_looks_at_each_epoch_falls_back(roots: Any, caplog: pytest.LogCaptureFixture) -> None:
    run(roots, backend="folds", selection="test_oracle", i_know_this_leaks=True)
    assert "selection 'test_oracle' looks at each epoch" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_many_at_once_are_halved(
    error: Exception, roots: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes: list[int] = []

    def cramped(models: Any, clips: Any, recipes: Any) -> list[list[float]]:
        sizes.append(len(models))
        if len(models) > 1:
            raise error
        return fit_together(models, clips, recipes)

    expected = run(roots, without_dropout, backend="folds")
    monkeypatch.setattr(chunks, "fit_together", cramped)
    found = run(roots, without_dropout, backend="folds", max_parallel=4)
    assert sizes == [4, 2, 1, 1, 1, 1]
    assert "memory does not suffice for 4 folds at once; 2 are tried" in caplog.text
    assert found["p_negative"].tolist() == pytest.approx(expected["p_negative"].tolist(), abs=1e-4)


def test_a_fold_whose_loss_is_no_number_fails_alone(roots: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(models: Any, clips: Any, recipes: Any) -> list[list[float]]:
        losses = fit_together(models, clips, recipes)
        losses[1][-1] = float("nan")
        return losses

    monkeypatch.setattr(chunks, "fit_together", spoil)
    table = run(roots, backend="folds")
    failed = table[table["pred"] == -1]
    assert failed["fold"].nunique() == 1
    assert failed["error"].str.contains("DivergedError").all()


def test_a_gpu_that_is_lost_stops_the_run_and_keeps_what_was_finished(
    roots: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    whole = selection.train_fold

    def lost(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered", 710)
        return whole(*args)

    monkeypatch.setattr(execution, "train_fold", lost)
    with pytest.raises(RunError, match=r"The GPU was lost in fold .*CUDA error.* call again to go on"):
        run(roots, out=tmp_path / "run")
    assert len(list((tmp_path / "run").rglob("fold.json"))) == 2
    monkeypatch.undo()
    assert run(roots, out=tmp_path / "run").equals(run(roots))


def test_batches_larger_than_a_fold(roots: Any) -> None:
    recipe = replace(IN_FLOAT32, batch_size=500)
    tables = [
        mer_zoo.evaluate(without_dropout, "synthetic-3", roots, recipe=recipe, backend=name)
        for name in ("loop", "folds")
    ]
    assert tables[1]["p_negative"].tolist() == pytest.approx(tables[0]["p_negative"].tolist(), abs=1e-4)


def test_the_first_guess_is_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    training = selection.Training(without_dropout, [RECIPE], "last", "cpu")
    data = mer_zoo.create_dataset("synthetic-3", None, mer_zoo.input_spec("ststnet"))
    assert chunks.first_guess(training, data) == chunks.MOST
    monkeypatch.setattr(chunks, "free_bytes", lambda _: data.inputs.nbytes * 2)
    cost = step_cost(without_dropout).training_bytes(RECIPE.batch_size)
    expected = int((chunks.SHARE * 2 - 1) * data.inputs.nbytes / (2 * cost))
    assert chunks.first_guess(training, data) == max(1, min(chunks.MOST, expected))
    monkeypatch.setattr(chunks, "free_bytes", lambda _: 0)
    assert chunks.first_guess(training, data) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": "fast"}, r"backend is 'fast'; expected one of auto, loop, processes, graphs, folds"),
        ({"backend": "folds", "max_parallel": 0}, "max_parallel is 0"),
        ({"backend": "loop", "max_parallel": 3}, "only 'folds' takes several at once"),
        ({"backend": "folds", "jobs": 2}, "backend 'folds' takes one process and jobs is 2"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], said: str, roots: Any) -> None:
    with pytest.raises(InputError, match=said):
        run(roots, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_graphs_need_a_gpu(roots: Any) -> None:
    with pytest.raises(InputError, match="backend 'graphs' needs a GPU"):
        run(roots, backend="graphs")


def test_what_auto_picks() -> None:
    assert set(BACKENDS) == {"auto", "loop", "processes", "graphs", "folds"}
    assert backend_of("auto", 1, "auto", "cpu").name == "loop"
    assert backend_of("auto", 3, "auto", "cpu").jobs == 3
    assert backend_of("processes", 1, "auto", "cpu").jobs == cores()
    assert backend_of("folds", 1, 7, "cpu").most == 7


def test_an_augmentation_that_draws_from_its_own_generator_leaves_torchs_alone() -> None:
    before = torch.get_rng_state()
    change = Augmentation(Recipe(flip=True, shift=2), None, torch.Generator().manual_seed(0))
    change(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_workers_find_folders_that_are_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers stay where they were started; the second call finds them in another folder."""
    for place in ("first", "second"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        CORPORA.get("megc2019_flow").write_specimen(Path("copy"))
        roots = {"megc2019_flow": "copy"}
        run = mer_zoo.evaluate("ststnet", "megc2019", roots, recipe=Recipe(epochs=1), jobs=2, out="run")
        assert len([*(tmp_path / place / "run").glob("folds/**/predictions.csv")]) == len(run["subject"].unique())
