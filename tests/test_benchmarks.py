"""The scripts of benchmarks/ do what the pages say of them, on made-up files."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _programs import Done, run_apart, run_here
from sklearn.metrics import accuracy_score, f1_score, recall_score

import mer_zoo
from mer_zoo.datasets.megc2019_flow import EMOTIONS, MEGC2019Flow

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *arguments: str | Path, cwd: Path) -> Done:
    return run_here(BENCHMARKS / script, *arguments, cwd=cwd)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Two persons of each data set."""
    MEGC2019Flow.write_specimen(tmp_path / "images")
    return tmp_path / "images"


def weights_that_say(answers: dict[str, int], folder: Path) -> Path:
    """One file a person; its network gives the same answer about every clip."""
    folder.mkdir()
    for subject, answer in answers.items():
        state = mer_zoo.create_model("ststnet").state_dict()
        state["fc.weight"].zero_()
        state["fc.bias"].copy_(torch.eye(3)[answer])
        torch.save(state, folder / f"{subject}.pth")
    return folder


def test_the_authors_files_are_scored_person_by_person(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against scikit-learn; each end of the script, as if so many clips with these scores were published."""
    samples = mer_zoo.open_corpus("megc2019_flow", release).samples
    subjects = sorted({sample.subject for sample in samples})
    answers = {subject: i % 3 for i, subject in enumerate(subjects)}
    weights = weights_that_say(answers, tmp_path / "weights")
    truth = [EMOTIONS.index(str(sample.emotion)) for sample in samples]
    pred = [answers[sample.subject] for sample in samples]
    scores = {
        "uf1": f1_score(truth, pred, average="macro"),
        "uar": recall_score(truth, pred, average="macro"),
        "accuracy": accuracy_score(truth, pred),
    }
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    script: Any = importlib.import_module("reproduce_ststnet")
    monkeypatch.setattr(sys, "argv", ["reproduce_ststnet.py", str(release), str(weights)])
    assert script.main() == 2
    out = capsys.readouterr().out
    assert f"all: uf1 {scores['uf1']:.4f}, uar {scores['uar']:.4f}, accuracy {scores['accuracy']:.4f}" in out
    assert "36 clips of 6 persons; published are 442 of 68" in out
    monkeypatch.setattr(script, "CLIPS", 36)
    monkeypatch.setattr(script, "PERSONS", 6)
    assert script.main() == 1
    assert "Not as published" in capsys.readouterr().out
    monkeypatch.setattr(script, "EXPECTED", scores)
    assert script.main() == 0
    assert "As published." in capsys.readouterr().out


def test_a_person_without_a_file_is_named(release: Path, tmp_path: Path) -> None:
    done = run("reproduce_ststnet.py", release, weights_that_say({"006": 0}, tmp_path / "weights"), cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r"weights has no file for \w+; there are 6", done.stderr)
    (tmp_path / "none").mkdir()
    done = run("reproduce_ststnet.py", release, tmp_path / "none", cwd=tmp_path)
    assert done.returncode == 1
    assert "holds no .pth file" in done.stderr


def test_scores_of_networks_in_one_table(release: Path, tmp_path: Path) -> None:
    command = (
        "flow",
        release,
        "--epochs",
        "1",
        "--jobs",
        "1",
        "--only",
        "ststnet",
        "dual_inception",
        "--seeds",
        "0",
        "1",
    )
    done = run("loso_scores.py", *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines()]
    assert len({len(row) for row in rows}) == 1
    assert {row[0].strip("| `") for row in rows[2:]} == {"ststnet", "dual_inception", "majority"}
    again = run("loso_scores.py", *command, "--table", cwd=tmp_path)
    assert again.stdout == done.stdout
    for file in (tmp_path / "runs").rglob("run.json"):
        file.write_text(file.read_text().replace('"lr": 5e-05', '"lr": 0.1'))
    other = run("loso_scores.py", *command, "--table", cwd=tmp_path)
    assert other.returncode == 1
    assert "was trained by" in other.stderr


@pytest.mark.parametrize(("wrong", "said"), [(("--only", "ststnt"), "--only ststnt"), (("--seeds", "7"), "--seeds")])
def test_names_and_seeds_that_are_not_there(wrong: tuple[str, str], said: str, release: Path, tmp_path: Path) -> None:
    done = run("loso_scores.py", "flow", release, *wrong, cwd=tmp_path)
    assert done.returncode == 1
    assert f"{said}" in done.stderr
    assert "expected of" in done.stderr


@linux_only
def test_costs_of_networks_in_two_tables(tmp_path: Path) -> None:
    done = run_apart(BENCHMARKS / "models.py", "ststnet", "--rounds", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| `ststnet` | 1,683 |" in done.stdout
    assert "| `ststnet` | straightforward port |" in done.stdout


def test_backends_in_turn(tmp_path: Path) -> None:
    done = run("loso.py", "--only", "ststnet", "--rounds", "1", "--folds", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split(" | ")[1] for line in done.stdout.splitlines()[2:]] == ["eager", "loop", "folds"]


@linux_only
def test_growth_in_a_table_and_a_figure(tmp_path: Path) -> None:
    done = run_apart(BENCHMARKS / "growth.py", "--most", "16", "--figure", ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| persons | 16 | `ststnet` | folds |" in done.stdout
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_maps_of_learnt_weights_lie_where_the_face_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    seen = importlib.import_module("explain").measured("ststnet.synth_3", 2)
    assert len(seen.area) == len(seen.hits) == 6
    assert np.mean(seen.shares["hirescam"]) > 1.2 * np.mean(seen.area) > np.mean(seen.shares["gradcam"])
    assert seen.row("a").count("|") == 11
