"""The whole way: honest folds, one table by key, resume, and what is refused before any training."""

import importlib.metadata
import logging
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import mer_zoo
from mer_zoo import selection, training
from mer_zoo.datasets import Corpus
from mer_zoo.datasets._base import CORPORA
from mer_zoo.datasets.megc2019_flow import MEGC2019Flow
from mer_zoo.datasets.synthetic_flow import SyntheticFlow
from mer_zoo.errors import CorpusError, InputError, RunError
from mer_zoo.runs import read_predictions
from mer_zoo.seeds import fold_seed
from mer_zoo.types import InputSpec, Sample

RECIPE = mer_zoo.Recipe(epochs=2, lr=2e-3)


class Flat(nn.Module):
    """A linear network that nobody registered."""

    def __init__(self, classes: int = 3, pixels: int = 3 * 28 * 28) -> None:
        super().__init__()
        self.fc = nn.Linear(pixels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.flatten(1) / 255)
        return logits


@pytest.fixture(scope="module")
def roots(persons: Corpus) -> dict[str, Corpus]:
    return {"synthetic_flow": persons}


@pytest.fixture(scope="module")
def table(roots: dict[str, Corpus]) -> pd.DataFrame:
    return mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE)


def test_one_row_a_clip_with_its_own_class(table: pd.DataFrame, persons: Corpus) -> None:
    protocol = mer_zoo.get_protocol("synthetic-3")
    assert list(table) == [
        *("key", "corpus", "subject", "clip", "fold", "target", "pred"),
        *("p_negative", "p_positive", "p_surprise"),
    ]
    assert sorted(table["key"]) == sorted(s.key for s in persons.samples)
    targets = {s.key: protocol.target(s) for s in persons.samples}
    assert table.set_index("key")["target"].to_dict() == targets
    assert (table["fold"] == table["corpus"] + "/" + table["subject"]).all()
    shares = table[["p_negative", "p_positive", "p_surprise"]].to_numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(shares.argmax(axis=1), table["pred"])


def test_the_table_says_how_it_was_made(table: pd.DataFrame) -> None:
    run = table.attrs["run"]
    assert run["model"] == "ststnet"
    assert run["selection"] == "last"
    assert run["recipe"]["epochs"] == 2
    assert InputSpec.from_dict(run["input_spec"]) == mer_zoo.input_spec("ststnet")
    assert run["versions"]["mer-zoo"] == mer_zoo.__version__


def test_every_fold_is_trained_alone_on_the_others(roots: dict[str, Corpus], table: pd.DataFrame) -> None:
    """One fold done by hand with fit and predict gives the rows of the table."""
    spec = mer_zoo.input_spec("ststnet")
    data = mer_zoo.create_dataset("synthetic-3", roots, spec)
    fold = mer_zoo.get_protocol("synthetic-3").folds(data.samples)[2]
    seed = fold_seed(RECIPE.seed, fold.name)
    torch.manual_seed(seed)
    model = mer_zoo.create_model("ststnet", num_classes=3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    recipe = mer_zoo.Recipe(**{**vars(RECIPE), "seed": seed})
    mer_zoo.training.fit(model, data.subset(fold.train), recipe)
    shares = mer_zoo.training.predict(model, data.subset(fold.test))
    torch.set_num_threads(threads)
    rows = table[table["fold"] == fold.name]
    assert rows["key"].tolist() == [s.key for s in fold.test]
    np.testing.assert_array_equal(rows["p_surprise"], shares[:, 2].double())


def test_held_out_clips_never_reach_fit(roots: dict[str, Corpus], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    real = training.fit

    def spy(model: nn.Module, data: Any, recipe: Any, **options: Any) -> list[float]:
        seen.append(set(data.persons))
        return real(model, data, recipe, **options)

    monkeypatch.setattr(selection, "fit", spy)
    table = mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE)
    everybody = set(table["fold"])
    assert [everybody - persons for persons in seen] == [{fold} for fold in table["fold"].unique()]


def test_folds_side_by_side_give_the_same_table(roots: dict[str, Corpus], table: pd.DataFrame) -> None:
    side_by_side = mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, jobs=2)
    pd.testing.assert_frame_equal(side_by_side, table, check_exact=True)


def test_each_fold_has_a_seed_of_its_own() -> None:
    assert fold_seed(0, "samm/006") != fold_seed(0, "samm/007") != fold_seed(1, "samm/007")
    assert len({fold_seed(0, f"samm/{i:03d}") for i in range(999)}) == 999


def test_an_interrupted_run_goes_on_to_the_same_table(
    roots: dict[str, Corpus], table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    real, calls = training.fit, []

    def dies(model: nn.Module, data: Any, recipe: Any, **options: Any) -> list[float]:
        calls.append(recipe.seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(model, data, recipe, **options)

    monkeypatch.setattr(selection, "fit", dies)
    with pytest.raises(KeyboardInterrupt):
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=out)
    assert len(list(out.glob("folds/*/*"))) == 2
    (out / ".unfinished-1").mkdir()  # what a killed process leaves behind
    again = mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=out)
    assert len(calls) == 3 + 2
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    third = mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=out)
    assert len(calls) == 5
    pd.testing.assert_frame_equal(third, table, check_exact=True)
    assert third.attrs == table.attrs


OTHERS = mer_zoo.open_corpus("synthetic_flow", subjects=4, clips_per_subject=6, seed=5)


def _files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(f): (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipe": mer_zoo.Recipe(epochs=3, lr=2e-3)}, r"recipe.epochs: 2 there, 3 now"),
        ({"recipe": mer_zoo.Recipe(epochs=2, lr=2e-3, seed=1)}, r"recipe.seed: 0 there, 1 now"),
        ({"build": Flat}, r"model: 'ststnet' there, '.*Flat' now"),
        ({"roots": {"synthetic_flow": OTHERS}}, r"data: '\w+' there, '\w+' now"),
        ({"build": lambda: mer_zoo.create_model("ststnet", drop_rate=0.1)}, r"structure: '\w+' there, '\w+' now"),
    ],
)
def test_a_folder_of_another_run_is_refused_and_left_alone(
    changes: dict[str, Any], words: str, roots: dict[str, Corpus], tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"build": "ststnet", "protocol": "synthetic-3", "roots": roots, "recipe": RECIPE}
    mer_zoo.evaluate(**arguments, out=tmp_path)
    before = _files(tmp_path)
    with pytest.raises(RunError, match=words):
        mer_zoo.evaluate(**{**arguments, **changes}, out=tmp_path)
    assert _files(tmp_path) == before


def test_a_network_whose_code_changed_is_another(roots: dict[str, Corpus], tmp_path: Path) -> None:
    """The same name, structure and first weights, but another function."""
    mer_zoo.evaluate(Flat, "synthetic-3", roots, recipe=RECIPE, out=tmp_path)

    class Bent(Flat):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sin() * 5

    Bent.__name__ = Bent.__qualname__ = "Flat"
    with pytest.raises(RunError, match="initial_answers"):
        mer_zoo.evaluate(Bent, "synthetic-3", roots, recipe=RECIPE, out=tmp_path)


def test_another_version_does_not_go_on(
    roots: dict[str, Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=tmp_path)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "99")
    with pytest.raises(RunError, match=r"versions.torch: '.*' there, '99' now"):
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=tmp_path)


def test_a_fold_made_by_two_processes_at_once_is_kept_once(
    roots: dict[str, Corpus], table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orphan of a killed run finishes a fold that the new run has begun."""
    out = tmp_path / "run"
    mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=out)
    fold = next(f for f in out.glob("folds/*/*"))
    shutil.move(fold, tmp_path / "orphan")

    def late(model: nn.Module, data: Any, recipe: Any, **options: Any) -> list[float]:
        losses = training.fit(model, data, recipe, **options)
        shutil.move(tmp_path / "orphan", fold)
        return losses

    monkeypatch.setattr(selection, "fit", late)
    again = mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=out)
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert not list(out.glob(".unfinished-*"))


@pytest.mark.parametrize("step", ["to_csv", "rename"])
def test_a_fold_is_there_whole_or_not_at_all(
    step: str, roots: dict[str, Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dying at any step of writing leaves no folder under folds/."""

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame if step == "to_csv" else Path, step, dies)
    with pytest.raises(KeyboardInterrupt):
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=tmp_path)
    assert not list(tmp_path.glob("folds/*/*"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: f.write_text(""), "cannot be read"),
        (lambda f: f.unlink(), "cannot be read"),
        (lambda f: f.write_text("".join(f.read_text().splitlines(keepends=True)[:3])), "does not hold the 6 clips"),
    ],
)
def test_a_spoilt_fold_is_named(spoil: Any, words: str, roots: dict[str, Corpus], tmp_path: Path) -> None:
    mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=tmp_path)
    spoil(next(tmp_path.glob("folds/*/*/predictions.csv")))
    with pytest.raises(RunError, match=words):
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=tmp_path)


def test_a_call_that_was_refused_leaves_no_run_behind(roots: dict[str, Corpus], tmp_path: Path) -> None:
    one = {"synthetic_flow": _OnePerson()}
    with pytest.raises(InputError, match="two persons"):
        mer_zoo.evaluate("ststnet", "synthetic-3", one, recipe=RECIPE, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".run.json.4242").write_text("{")  # a process killed while it wrote
    assert len(mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=tmp_path / "run")) == 24


class _OnePerson(SyntheticFlow):
    def read(self) -> Iterator[Sample]:
        return (s for s in super().read() if s.subject == "0-000")


def test_modules_that_share_weights_are_refused(roots: dict[str, Corpus]) -> None:
    one = Flat()
    backbone = nn.Linear(3 * 28 * 28, 4)

    def over_one_storage() -> Flat:
        model = Flat()
        model.fc.weight = nn.Parameter(one.fc.weight.detach())
        return model

    def assigned() -> Flat:
        model = Flat()
        model.load_state_dict(one.state_dict(), assign=True)
        return model

    def beside() -> nn.Module:
        return nn.Sequential(nn.Flatten(), backbone, nn.Linear(4, 3))

    for build in (lambda: one, beside, over_one_storage, assigned):
        with pytest.raises(InputError, match="share weights"):
            mer_zoo.evaluate(build, "synthetic-3", roots, recipe=RECIPE)
    with pytest.raises(InputError, match="build is a Flat; expected a model name, or a function"):
        mer_zoo.evaluate(one, "synthetic-3", roots, recipe=RECIPE)


def test_a_network_that_draws_from_numpy_repeats_itself(roots: dict[str, Corpus], tmp_path: Path) -> None:
    def build() -> Flat:
        model, weight = Flat(), np.random.normal(size=(3, 2352))  # noqa: NPY002
        with torch.no_grad():
            model.fc.weight.copy_(torch.from_numpy(weight * random.random() / 50))
        return model

    tables = [mer_zoo.evaluate(build, "synthetic-3", roots, recipe=RECIPE, out=tmp_path / x) for x in ("a", "b", "a")]
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    pd.testing.assert_frame_equal(tables[0], tables[2], check_exact=True)


def test_a_folder_of_other_files_is_refused(roots: dict[str, Corpus], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("three years")
    with pytest.raises(RunError, match="is a file; pass a folder"):
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=tmp_path / "thesis.tex")
    with pytest.raises(RunError, match=r"holds files but no run.json"):
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE, out=tmp_path)


def test_a_network_that_nobody_registered_gets_the_corpus_as_it_is(roots: dict[str, Corpus]) -> None:
    table = mer_zoo.evaluate(Flat, "synthetic-3", roots, recipe=RECIPE)
    assert table.attrs["run"]["input_spec"]["channels"] == ["u", "v", "strain"]


def test_a_network_that_nobody_registered_may_say_what_it_eats(roots: dict[str, Corpus]) -> None:
    spec = InputSpec("flow", ("v",), size=28, high=255.0, scaling="channel_min_max", flow_method="tvl1")

    def build() -> Flat:
        model = Flat(pixels=28 * 28)
        model.input_spec = spec  # type: ignore[assignment]
        return model

    table = mer_zoo.evaluate(build, "synthetic-3", roots, recipe=RECIPE)
    assert table.attrs["run"]["input_spec"] == spec.to_dict()


def test_saved_weights_are_where_each_fold_starts(roots: dict[str, Corpus], tmp_path: Path) -> None:
    trained = mer_zoo.create_model("ststnet")
    others = {"synthetic_flow": mer_zoo.open_corpus("synthetic_flow", seed=9)}
    data = mer_zoo.create_dataset("synthetic-3", others, mer_zoo.input_spec(trained))
    mer_zoo.training.fit(trained, data, mer_zoo.Recipe(epochs=10, lr=2e-3))
    mer_zoo.save_pretrained(trained, tmp_path / "m")
    barely = mer_zoo.Recipe(epochs=1, lr=1e-9)
    table = mer_zoo.evaluate(f"local-dir:{tmp_path / 'm'}", "synthetic-3", roots, recipe=barely)
    alone = mer_zoo.create_dataset("synthetic-3", roots, mer_zoo.input_spec(trained))
    expected = mer_zoo.training.predict(trained, alone)
    assert (table["pred"].to_numpy() == expected.argmax(dim=1).numpy()).mean() > 0.9


def test_real_looking_flow_of_three_corpora(flow_release: Path, tmp_path: Path) -> None:
    table = mer_zoo.evaluate("ststnet", "megc2019", {"megc2019_flow": flow_release}, recipe=RECIPE, out=tmp_path)
    assert set(table["corpus"]) == {"casme2", "samm", "smic"}
    assert "006" in set(table["subject"])
    written = read_predictions(next(tmp_path.glob("folds/samm/006/predictions.csv")))
    expected = table[table["fold"] == "samm/006"].reset_index(drop=True)
    pd.testing.assert_frame_equal(written, expected, check_exact=True)


def test_missing_corpora_are_named(flow_release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(flow_release, tmp_path / "part")
    listing = tmp_path / "part" / "combined_3class_gt.csv"
    listing.write_text("\n".join(line for line in listing.read_text().splitlines() if "samm" not in line))
    for file in (tmp_path / "part" / "flow").glob("0*.png"):
        file.unlink()
    with caplog.at_level(logging.WARNING):
        table = mer_zoo.evaluate("ststnet", "megc2019", {"megc2019_flow": tmp_path / "part"}, recipe=RECIPE)
    assert len(table) == 24
    assert "samm is missing: 133 clips of 28 persons." in caplog.text


def test_a_cache_is_used_and_notices_changes(
    flow_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(flow_release, tmp_path / "copy")
    roots, spec, folder = {"megc2019_flow": tmp_path / "copy"}, mer_zoo.input_spec("ststnet"), tmp_path / "cache"

    def inputs() -> Any:
        return mer_zoo.create_dataset("megc2019", roots, spec, cache=folder).inputs

    plain = mer_zoo.create_dataset("megc2019", roots, spec).inputs
    np.testing.assert_array_equal(inputs(), plain)
    with monkeypatch.context() as patch:
        patch.setattr("mer_zoo.preprocessing.many.cook", lambda *_: pytest.fail("cooked again"))
        np.testing.assert_array_equal(inputs(), plain)
    assert {f.suffix for f in folder.iterdir()} - {".lock"} == {".json", ".npy"}
    array = next(folder.glob("*.npy"))
    for spoil in (
        lambda: array.write_bytes(array.read_bytes()[:200]),
        lambda: np.save(array, np.zeros_like(plain)),
        lambda: array.with_suffix(".json").unlink(),
        lambda: array.with_suffix(".json").write_text("{}"),
    ):
        spoil()
        np.testing.assert_array_equal(inputs(), plain)
    time.sleep(0.01)
    picture = next((tmp_path / "copy" / "flow").glob("sub01*"))
    shutil.copy(next((tmp_path / "copy" / "flow").glob("sub17*")), picture)
    assert not np.array_equal(inputs(), plain)
    assert len(np.load(array)) == len(plain) + 1  # the picture as it was lies there, too


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"build": "ststnot"}, ValueError, "No model is named 'ststnot'. Did you mean ststnet"),
        ({"build": "dat_densenet3d"}, InputError, "eats a difference of 20 frames; synthetic_flow holds flow images"),
        ({"build": lambda: Flat(classes=5)}, InputError, r"gives \(5,\) logits a clip; expected 3"),
        ({"protocol": "megc19"}, ValueError, "No protocol is named 'megc19'. Did you mean megc2019"),
        ({"protocol": "megc2019", "roots": None}, InputError, "megc2019 is of smic, casme2, samm and needs a mapping"),
        ({"protocol": "megc2019", "roots": "/data"}, InputError, "roots is '/data'; .* needs a mapping"),
        ({"recipe": {"epochs": 3}}, InputError, r"recipe is \{'epochs': 3\}; expected mer_zoo.Recipe"),
        ({"protocol": "megc2019"}, CorpusError, "No clip found in synthetic_flow that takes part in megc2019"),
        ({"roots": {"megc2019_flow": "/no/such/folder"}}, CorpusError, "does not exist"),
        ({"roots": {"synthetic_flow": "/tmp"}}, CorpusError, "leave the folder out"),
        ({"selection": "best"}, InputError, "selection is 'best'; expected one of last, nested"),
        ({"selection": ["last"]}, InputError, r"selection is \['last'\]; expected one of last, nested"),
        ({"recipe": []}, InputError, r"recipe is \[\]; expected mer_zoo.Recipe"),
        ({"recipe": 5}, InputError, "recipe is 5; expected mer_zoo.Recipe"),
        ({"build": "svmm"}, ValueError, "No model is named 'svmm'. Did you mean svm"),
        (
            {"build": lambda: nn.Sequential(Flat(), nn.Flatten(0))},
            InputError,
            r"a tensor \(6,\) for 2 clips; expected log",
        ),
        ({"build": "svm", "keep_weights": True, "out": "runs"}, InputError, "a baseline has none to keep"),
        ({"jobs": 0}, InputError, "jobs is 0"),
        ({"device": "gpu"}, InputError, "device is 'gpu'"),
    ],
)
def test_bad_arguments_are_refused_before_training(
    changes: dict[str, Any], error: type[Exception], words: str, persons: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "fit", lambda *_, **__: pytest.fail("trained"))
    arguments = {"build": "ststnet", "protocol": "synthetic-3", "roots": {"synthetic_flow": persons}, "recipe": RECIPE}
    with pytest.raises(error, match=words):
        mer_zoo.evaluate(**{**arguments, **changes})


def test_a_class_without_clips_is_refused(tmp_path: Path) -> None:
    MEGC2019Flow.write_specimen(tmp_path, "npz")
    with np.load(tmp_path / "flow.npz") as saved:
        keep = saved["label"] != 2
        arrays = {name: saved[name][keep] for name in saved}
    np.savez(tmp_path / "flow.npz", **arrays)
    with pytest.raises(InputError, match="megc2019: no clip is surprise"):
        mer_zoo.evaluate("ststnet", "megc2019", {"megc2019_flow": tmp_path}, recipe=RECIPE)


def test_the_same_clips_twice_are_refused(flow_release: Path) -> None:
    again = mer_zoo.open_corpus("megc2019_flow", flow_release)
    with pytest.raises(InputError, match="Two corpora hold the same 36 clips"):
        mer_zoo.evaluate("ststnet", "megc2019", {"megc2019_flow": flow_release, "again": again}, recipe=RECIPE)


def test_channels_without_names_cannot_be_cooked(roots: dict[str, Corpus]) -> None:
    with pytest.raises(InputError, match="5 unnamed channels"):
        mer_zoo.evaluate(lambda: mer_zoo.create_model("ststnet", in_chans=5), "synthetic-3", roots, recipe=RECIPE)


def test_under_torchrun_it_says_what_to_call(roots: dict[str, Corpus], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"under torchrun call mer_zoo\.training\.fit"):
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=RECIPE)


def test_a_cache_of_raw_clips_knows_what_cooked_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = mer_zoo.open_corpus("synthetic", subjects=2, clips_per_subject=3, size=32, frames=5)
    spec = mer_zoo.InputSpec("clip", ("grey",), size=32, frames=5)

    def files() -> int:
        mer_zoo.create_dataset("synthetic-3", {"synthetic": faces}, spec, cache=tmp_path)
        return len(list(tmp_path.glob("*.npy")))

    assert [files(), files()] == [1, 1]
    monkeypatch.setattr("cv2.getVersionString", lambda: "another")
    assert files() == 2
    monkeypatch.setattr("mer_zoo.preprocessing.shelf.VERSION", 99)
    assert files() == 3


def test_flow_of_another_method_is_said(flow_release: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = mer_zoo.input_spec("ststnet")
    mer_zoo.create_dataset("megc2019", {"megc2019_flow": flow_release}, spec)
    assert "holds flow by" not in caplog.text
    mer_zoo.create_dataset("megc2019", {"megc2019_flow": flow_release}, replace(spec, flow_method="dis"))
    assert "megc2019_flow holds flow by tvl1; this network was made for flow by dis" in caplog.text


def test_one_clip_in_two_spellings_is_in_two_corpora(tmp_path: Path) -> None:
    """The flow release writes s01_ne_01 where SMIC's own folders say s1_ne_01: one person, on both sides of a fold."""
    MEGC2019Flow.write_specimen(tmp_path / "flow")
    CORPORA.get("smic").write_specimen(tmp_path / "smic")
    roots = {"megc2019_flow": tmp_path / "flow", "smic": tmp_path / "smic"}
    with pytest.raises(InputError, match=r"the same \d+ clips: \['smic/s01/s01_ne_01 = smic/s1/s1_ne_01'"):
        mer_zoo.evaluate("ststnet", "megc2019", roots, recipe=mer_zoo.Recipe(epochs=1))
