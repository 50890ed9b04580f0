"""The examples, each as its user runs it, on specimens: they say what they did, and where it lies."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from _programs import Done, run_apart, run_here

import mer_zoo
from mer_zoo.datasets._base import CORPORA

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
MEGC2019 = ("smic", "casme2", "samm")
QUICKLY = ("--epochs", "1", "--jobs", "1")
STARTS = {"from scratch": "from-scratch", "fine-tuned": "fine-tuned"}


def _run(example: str, *options: str, cwd: Path) -> Done:
    return run_here(next(file for file in EXAMPLES if file.stem == example), *options, cwd=cwd)


def _output(example: str, *options: str, cwd: Path) -> str:
    """What an example prints that ends well."""
    done = _run(example, *options, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Specimens, each in a folder of its name."""
    folder = tmp_path_factory.mktemp("copies")
    for name in (*MEGC2019, "megc2019_flow"):
        CORPORA.get(name).write_specimen(folder / name)
    return folder


def _keys(protocol: str, roots: dict[str, Path]) -> list[str]:
    """Of the clips that a protocol takes from specimens."""
    taken = mer_zoo.get_protocol(protocol)
    return sorted(
        sample.key for name, root in roots.items() for sample in taken.select(mer_zoo.open_corpus(name, root).samples)
    )


def _predicted(run: Path) -> list[str]:
    return sorted(pd.read_csv(run / "predictions.csv")["key"])


def _rows(output: str) -> dict[str, list[str]]:
    """Cells of a Markdown table by their row's name."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line[:1] == "|"]
    return {name: rest for name, *rest in cells}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_is_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) < 60


# Fine-tuning


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where fine-tuning on rendered persons ran, and what it said."""
    folder = tmp_path_factory.mktemp("finetune")
    return folder / "runs" / "finetune", _output("finetune", *QUICKLY, cwd=folder)


def _check_table(output: str, out: Path, protocol: str) -> None:
    """One row for each start, with the scores of its report."""
    rows = _rows(output)
    for name, stem in STARTS.items():
        report = json.loads((out / f"{protocol}-{stem}" / "report.json").read_text())["pooled"]
        assert rows[name][:3] == [f"{report[score]:.3f}" for score in ("uf1", "uar", "accuracy")]


@pytest.mark.slow
def test_fine_tuning_needs_no_arguments(tuned: tuple[Path, str]) -> None:
    out, output = tuned
    _check_table(output, out, "synthetic-3")
    scratch, pretrained = (float(_rows(output)[name][0]) for name in STARTS)
    assert pretrained > scratch + 0.2  # on rendered persons one epoch is enough to tell
    assert f"fold: {Path('runs/finetune')}." in output
    for stem in STARTS.values():
        assert len(_predicted(out / f"synthetic-3-{stem}")) == 60
        weights = sorted(out.glob(f"synthetic-3-{stem}/folds/*/*/weights"))
        assert len(weights) == 10
        model = mer_zoo.create_model(f"local-dir:{weights[0]}", pretrained=True)
        assert mer_zoo.input_spec(model) == mer_zoo.input_spec("ststnet.synth_3")


@pytest.mark.slow
def test_both_starts_differ_in_their_weights_alone(tuned: tuple[Path, str]) -> None:
    runs = [json.loads((tuned[0] / f"synthetic-3-{stem}" / "run.json").read_text()) for stem in STARTS.values()]
    for shared in ("recipe", "input_spec", "data", "folds", "keys", "selection"):
        assert runs[0][shared] == runs[1][shared]
    scratch, pretrained = ((tuned[0] / f"synthetic-3-{stem}" / "report.md").read_text() for stem in STARTS.values())
    assert "Weights had been trained on: synthetic/600????-*" in pretrained
    assert "Weights had been trained on" not in scratch


@pytest.mark.slow
def test_a_second_call_finds_what_the_first_did(tuned: tuple[Path, str]) -> None:
    out, output = tuned
    folds = [*out.glob("*/folds/*/*/*.csv"), *out.glob("cache/**/*.npy")]
    before = {file: file.stat().st_mtime_ns for file in folds}
    assert any(file.suffix == ".npy" for file in folds)
    assert _output("finetune", *QUICKLY, cwd=out.parents[1]) == output
    assert {file: file.stat().st_mtime_ns for file in folds} == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corpus", "protocol", "options"),
    [
        ("casme2", "casme2-3", ()),
        ("casme2", "casme2-5", ("--protocol", "casme2-5", "--weights", "ststnet.synth_5")),
        ("megc2019_flow", "megc2019", ()),
    ],
)
def test_fine_tuning_on_a_copy(
    corpus: str, protocol: str, options: tuple[str, ...], copies: Path, tmp_path: Path
) -> None:
    """Specimens of CASME II show single classes with one person, so that there is no interval to give."""
    where = ("--corpus", corpus, "--root", str(copies / corpus), "--out", "here")
    output = _output("finetune", *where, *options, *QUICKLY, cwd=tmp_path)
    _check_table(output, tmp_path / "here", protocol)
    for stem in STARTS.values():
        assert _predicted(tmp_path / "here" / f"{protocol}-{stem}") == _keys(protocol, {corpus: copies / corpus})
    intervals = {_rows(output)[name][3] == "too few persons" for name in STARTS}
    assert intervals == {corpus == "casme2"}


def test_a_folder_of_another_corpus_is_said(tmp_path: Path) -> None:
    done = _run("finetune", "--corpus", "casme2", "--root", ".", cwd=tmp_path)
    assert "CorpusError: casme2: No sheet such as CASME2-coding-20140508.xlsx" in done.stderr


def test_a_network_without_weights_is_said(tmp_path: Path) -> None:
    done = _run("finetune", "--weights", "ststnet", cwd=tmp_path)
    assert done.returncode == 2
    assert "--weights ststnet is a network without weights; name a tag, such as" in done.stderr


@pytest.mark.slow
def test_an_example_is_a_program() -> None:
    done = run_apart(EXAMPLES[0], "--help", cwd=EXAMPLES[0].parent)
    assert done.stdout.startswith(f"usage: {EXAMPLES[0].name}")


# Evaluating


@pytest.mark.slow
def test_evaluating_needs_no_arguments(tmp_path: Path) -> None:
    output = _output("evaluate", *QUICKLY, cwd=tmp_path)
    run = tmp_path / "runs" / "evaluate" / "ststnet.synth_3-synthetic-3"
    assert output.startswith("# synthetic-3: UF1 0.")
    assert output.splitlines()[0] == (run / "report.md").read_text().splitlines()[0]
    assert output.rstrip().endswith(f"predictions: {run.relative_to(tmp_path)}")
    table = pd.read_csv(run / "predictions.csv")
    assert (len(table), table["subject"].nunique()) == (60, 10)
    np.testing.assert_allclose(table.filter(regex="^p_").sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("corpora", [("samm",), ("smic", "casme2"), MEGC2019], ids="-".join)
def test_evaluating_on_copies(corpora: tuple[str, ...], copies: Path, tmp_path: Path) -> None:
    """All three together are a composite; fewer are scored one by one."""
    given = [text for name in corpora for text in (f"--{name}", str(copies / name))]
    output = _output("evaluate", *given, *QUICKLY, cwd=tmp_path)
    protocols = {"megc2019": corpora} if len(corpora) == 3 else {f"{name}-3": (name,) for name in corpora}
    runs = {folder.name for folder in (tmp_path / "runs" / "evaluate").iterdir() if (folder / "run.json").exists()}
    assert runs == {f"ststnet.synth_3-{protocol}" for protocol in protocols}
    for protocol, members in protocols.items():
        run = tmp_path / "runs" / "evaluate" / f"ststnet.synth_3-{protocol}"
        assert f"# {protocol}: UF1 0." in output
        assert _predicted(run) == _keys(protocol, {name: copies / name for name in members})
        assert (run / "figures" / "confusion.png").exists()
        assert "Weights had been trained on: synthetic/600????-*" in output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = _run("evaluate", "--device", "cuda", cwd=tmp_path)
    assert "device is 'cuda', but torch sees no GPU; use 'cpu' or 'auto'" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_is_used(tmp_path: Path) -> None:
    assert "# synthetic-3: UF1 0." in _output("evaluate", "--device", "cuda", "--epochs", "1", cwd=tmp_path)
