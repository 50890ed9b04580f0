"""``mer-zoo evaluate`` and ``mer-zoo report``: what they pass on, what they print and write, and what they refuse."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.metrics import f1_score

import mer_zoo
from mer_zoo import Preparation, Recipe
from mer_zoo.cli import main
from mer_zoo.errors import MerZooError
from mer_zoo.report_text import Written
from mer_zoo.selection import train_fold

Output = pytest.CaptureFixture[str]

FLOW = "synthetic-3 --set synthetic_flow.subjects=3"  # 27 clips that are quickly made
ROWS = 27


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``runs/svm`` and ``runs/ridge``, of the same clips."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(Written, "_save_pictures", lambda *_: [])
        for model in ("svm", "ridge"):
            assert main(shlex.split(f"evaluate {model} {FLOW} --out runs/{model}")) == 0
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(made: Path) -> Path:
    """A copy of both runs below the working directory."""
    return shutil.copytree(made / "runs", Path("runs"))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without figures, which take most of the time."""
    monkeypatch.setattr(Written, "_save_pictures", lambda *_: [])


def _run(line: str) -> int:
    return main(shlex.split(line))


def _uf1(report: Path) -> Any:
    return json.loads(report.read_text())["pooled"]["uf1"]


# What is passed on to the library


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``mer_zoo.evaluate`` was called with; it goes no further."""
    calls: dict[str, Any] = {}

    def stop(build: str, protocol: mer_zoo.Protocol, roots: object, **options: Any) -> None:
        calls.update(options, build=build, protocol=protocol.name, roots=roots)
        raise MerZooError("far enough")

    monkeypatch.setattr(mer_zoo, "evaluate", stop)
    return calls


def test_defaults_are_those_of_the_library(passed: dict[str, Any]) -> None:
    assert _run("evaluate hf-hub:owner/net@v1 synthetic-3") == 1
    assert passed == {
        "build": "hf-hub:owner/net@v1",
        "protocol": "synthetic-3",
        "roots": None,
        "recipe": Recipe(),
        "selection": "last",
        "jobs": 1,
        "device": "auto",
        "backend": "auto",
        "max_parallel": "auto",
        "out": Path("runs/hf-hub-owner-net-v1-synthetic-3"),
        "cache": None,
        "preparation": Preparation(),
        "keep_weights": False,
        "i_know_this_leaks": False,
    }


def test_every_field_of_the_recipe_is_an_option(passed: dict[str, Any]) -> None:
    other = Recipe(7, 5, 0.02, "sgd", 0.1, "cosine", balanced=True, flip=True, shift=2, precision="bf16", seed=9)
    words = []
    for field in dataclasses.fields(Recipe):
        value = getattr(other, field.name)
        assert value != field.default, f"{field.name} must differ here to be tested"
        words += [f"--{field.name.replace('_', '-')}", *([] if value is True else [str(value)])]
    main(["evaluate", "ststnet", "synthetic-3", *words])
    assert passed["recipe"] == other
    main(["evaluate", "ststnet", "synthetic-3", *words, "--no-flip"])
    assert passed["recipe"] == dataclasses.replace(other, flip=False)


def test_other_options(passed: dict[str, Any]) -> None:
    _run(
        "evaluate ststnet synthetic-3 --jobs 8 --out a/b --selection test_oracle --i-know-this-leaks --device cpu "
        "--cache c --keep-weights"
    )
    expected = {"jobs": 8, "out": Path("a/b"), "selection": "test_oracle", "device": "cpu", "cache": Path("c")}
    assert expected.items() <= passed.items()
    assert passed["keep_weights"] is passed["i_know_this_leaks"] is True


def test_corpora_come_from_folders_and_options(passed: dict[str, Any]) -> None:
    assert _run("specimen smic 'a=b/SMIC'") == 0
    assert _run("specimen casme2 CASME2") == 0
    _run(
        "evaluate svm megc2019 --root 'smic=a=b/SMIC' --root casme2=CASME2 --set smic.camera=NIR "
        "--set casme2.index=no --set synthetic.size=32 --set synthetic.blink_rate=0.25 --set synthetic.preset=easy"
    )
    roots = passed["roots"]
    assert list(roots) == ["smic", "casme2", "synthetic"]
    assert (roots["smic"].root, {s.fps for s in roots["smic"].samples}) == (Path("a=b/SMIC").absolute(), {25})
    assert roots["casme2"].root == Path("CASME2").absolute()
    settings = roots["synthetic"].generator.settings
    assert (settings.size, settings.blink_rate, settings.head_motion) == (32, 0.25, 0)
    _run("evaluate svm synthetic-objective --set synthetic.subjects=2")
    corpus = passed["roots"]["synthetic"]
    assert (corpus.subjects, corpus.generator.settings.classes) == (2, "objective")  # as the protocol makes it


def test_help_explains_the_recipe_in_its_own_words(capsys: Output) -> None:
    with pytest.raises(SystemExit):
        _run("evaluate --help")
    said = " ".join(capsys.readouterr().out.split())
    assert "--epochs N passes over the training clips, 1 or more (50)" in said
    assert "--flip, --no-flip mirror half of the clips; flow to the right becomes flow to the left (False)" in said
    for field in dataclasses.fields(Recipe):
        assert re.search(rf"--{field.name.replace('_', '-')}\b[^()]* [a-z][^()]* \({field.default}\)", said)


# What is printed and written


def test_an_evaluation_prints_its_report_and_where_it_lies(capsys: Output) -> None:
    assert _run(f"evaluate ststnet {FLOW} --epochs 2") == 0
    said, folder = capsys.readouterr().out, Path("runs/ststnet-synthetic-3")
    table = pd.read_csv(folder / "predictions.csv")
    assert len(table) == ROWS
    expected = f1_score(table["target"], table["pred"], average="macro")
    assert _uf1(folder / "report.json") == pytest.approx(expected)
    assert said.startswith(f"# synthetic-3: UF1 {expected:.3f}")
    assert said.endswith(f"Wrote {folder}/report.md and {folder}/report.html\n")
    assert json.loads((folder / "run.json").read_text())["recipe"]["epochs"] == 2


@pytest.mark.usefixtures("bare")
def test_a_report_says_what_the_evaluation_said(runs: Path, capsys: Output) -> None:
    before = (runs / "svm/report.json").read_text()
    (runs / "svm/report.json").unlink()
    assert _run("report runs/svm") == 0
    assert capsys.readouterr().out.endswith("Wrote runs/svm/report.md\n")
    assert (runs / "svm/report.json").read_text() == before
    assert _run("report runs/svm --out elsewhere") == 0
    assert Path("elsewhere/report.json").read_text() == before


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("name", ["svm", "ridge"])
def test_without_a_name_the_newest_run_is_reported(runs: Path, name: str, capsys: Output) -> None:
    for run in runs.iterdir():
        when = 2_000_000_000 if run.name == name else 1_000_000_000
        os.utime(run / "run.json", (when, when))
    assert _run("report") == 0
    assert capsys.readouterr().out.endswith(f"Wrote runs/{name}/report.md\n")


@pytest.mark.usefixtures("bare", "runs")
def test_several_runs_stand_side_by_side(capsys: Output) -> None:
    assert _run("report runs/svm runs/ridge") == 0
    said = capsys.readouterr().out
    for name in ("svm", "ridge"):
        score = _uf1(Path(f"runs/{name}/report.json"))
        assert re.search(rf"^\| \*\*{name}\*\* .*\| {score:.3f} ", said, re.MULTILINE)
    assert "paired permutation test" in said
    assert said.endswith("Wrote runs/comparison/report.md\n")
    assert list(json.loads(Path("runs/comparison/report.json").read_text())["runs"]) == ["svm", "ridge"]
    assert _run("report runs/ridge runs/svm --out both") == 0
    assert list(json.loads(Path("both/report.json").read_text())["runs"]) == ["ridge", "svm"]


@pytest.mark.usefixtures("bare")
def test_runs_of_one_name_are_called_by_their_paths(runs: Path) -> None:
    shutil.copytree(runs / "ridge", "other/svm")
    assert _run("report runs/svm other/svm --out both") == 0
    names = list(json.loads(Path("both/report.json").read_text())["runs"])
    assert names == [str(Path("runs/svm").resolve()), str(Path("other/svm").resolve())]


@pytest.mark.usefixtures("bare")
def test_action_units_are_scored_as_such(capsys: Output) -> None:
    assert _run("evaluate ridge synthetic-au --set synthetic.subjects=3 --set synthetic.size=32 --out au") == 0
    said = capsys.readouterr().out
    assert re.match(r"# synthetic-au: F1 0\.\d{3}", said)
    assert _run("report au") == 0
    assert capsys.readouterr().out == said
    shutil.copytree("au", "again")
    assert _run("report au again") == 1
    assert "synthetic-au is of action units; such runs are not compared" in capsys.readouterr().err


@pytest.mark.usefixtures("bare")
def test_a_leaking_rule_leaves_its_mark(capsys: Output) -> None:
    line = f"evaluate ststnet {FLOW} --epochs 2 --selection test_oracle --out leaky"
    assert _run(line) == 1
    assert "pass --i-know-this-leaks" in capsys.readouterr().err
    assert not Path("leaky").exists()
    assert _run(f"{line} --i-know-this-leaks") == 0
    assert "(chosen on test subjects)" in capsys.readouterr().out.splitlines()[0]


# The page


@pytest.mark.usefixtures("runs")
def test_a_page_is_opened(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    opened: dict[str, bool] = {}
    monkeypatch.setattr("webbrowser.open", lambda address: opened.setdefault(address, True))
    assert _run("report runs/svm --open") == 0
    page = Path("runs/svm/report.html").resolve()
    assert list(opened) == [page.as_uri()]
    assert "synthetic-3" in page.read_text()
    assert capsys.readouterr().out.endswith("Wrote runs/svm/report.md and runs/svm/report.html\n")


@pytest.mark.usefixtures("bare", "runs")
def test_where_no_browser_is_the_page_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    assert _run("report runs/svm --open") == 1
    assert "No browser could be started here; open runs/svm/report.html yourself" in capsys.readouterr().err


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("package", ["matplotlib", "markdown"])
def test_no_page_without_the_extra(package: str, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("webbrowser.open", lambda _: pytest.fail("There is no page to open."))
    assert _run("report runs/svm --open") == 1
    assert f'{package} is not installed: pip install "mer-zoo[plot]"' in capsys.readouterr().err


# Runs that are not whole


@pytest.mark.usefixtures("bare")
def test_an_unfinished_run_is_reported_on_demand_only(runs: Path, capsys: Output) -> None:
    shutil.rmtree(runs / "svm/folds/synthetic_flow/0-001")
    (runs / "svm/report.json").unlink()
    assert _run("report runs/svm") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.search("9 rows are missing: the table has 18, the run predicts 27.*pass --incomplete", said.err)
    assert not (runs / "svm/report.json").exists()
    assert _run("report runs/svm --incomplete") == 0
    assert "9 rows are missing" in capsys.readouterr().out
    assert json.loads((runs / "svm/report.json").read_text())["clips"] == 18
    assert _run("report runs/svm runs/ridge") == 1
    assert _run("report runs/svm runs/ridge --incomplete") == 1
    assert "--incomplete is for one run" in capsys.readouterr().err


@pytest.mark.usefixtures("bare")
def test_failed_folds_are_named_and_run_again(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    def fail_once(*words: Any) -> Any:
        if words[-1].name.endswith("0-001"):
            raise MerZooError("The loss became nan")
        return train_fold(*words)

    line = f"evaluate ststnet {FLOW} --epochs 1 --out 'my run'"
    with monkeypatch.context() as patch:
        patch.setattr("mer_zoo.execution.train_fold", fail_once)
        assert _run(line) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.search(r"1 of 3 folds failed.*synthetic_flow/0-001 \(MerZooError: The loss became nan\)", said.err)
    assert not Path("my run/report.md").exists()
    advice = re.findall(r"`mer-zoo (.*?)`", said.err)
    assert [main(shlex.split(command)) for command in advice] == [0]
    assert "9 rows are missing" in capsys.readouterr().out
    assert _run(line) == 0
    assert json.loads(Path("my run/report.json").read_text())["clips"] == ROWS


# What is refused


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f"svmm {FLOW}", r"No model is named 'svmm'\. Did you mean svm"),
        ("svm synthetic-33", "No protocol is named 'synthetic-33'. Did you mean .*synthetic-3"),
        (f"svm {FLOW} --selection best", "selection is 'best'; expected one of last, nested"),
        (f"svm {FLOW} --selection nested", "svm has no epochs to choose from"),
        (f"ststnet {FLOW} --selection test_oracle", r"chosen on test subjects\..*pass --i-know-this-leaks;"),
        (f"svm {FLOW} --epochs 0 --optimizer best", "epochs is 0; expected .*; optimizer is 'best'; expected one of"),
        (f"svm {FLOW} --jobs 0", "jobs is 0; expected a whole number, 1 or more"),
        (f"svm {FLOW} --device tpu", "device is 'tpu'; expected one of"),
        (f"svm {FLOW} --out file", "file is a file; pass a folder"),
        (f"svm {FLOW} --out full", r"full holds files but no run\.json"),
        ("svm casme2-3", "casme2-3 is of casme2; say where each lies, as --root casme2=FOLDER"),
        ("svm casme2-3 --root full", "--root 'full' names no folder; expected CORPUS=FOLDER"),
        ("svm casme2-3 --root casme2=", "--root 'casme2=' names no folder"),
        ("svm casme2-3 --root casme2=a --root casme2=b", "--root names casme2 twice, a and b; give one of them"),
        ("svm casme2-3 --root casme2=nowhere", "casme2: .*nowhere does not exist"),
        ("svm casme2-3 --root casmeii=full", "No corpus is named 'casmeii'. Did you mean .*casme2"),
        ("svm synthetic-3 --root synthetic_flow=full", "synthetic_flow is made, not read; leave the folder out"),
        ("svm casme2-3 --set casme2.form=raw", "casme2: no folder was given"),
        (f"svm {FLOW} --set camera=HS", "--set 'camera=HS' is no option of a corpus; expected CORPUS.NAME=VALUE"),
        (f"svm {FLOW} --set smic.camera", "--set 'smic.camera' is no option of a corpus"),
        (f"svm {FLOW} --set smic.root=full", "--set smic.root: that is no option; give the folder as --root smic="),
        ("svm synthetic-3 --set synthetic_flow.subjects=two", "subjects is 'two'; expected a whole number"),
        ("svm synthetic-3 --set synthetic_flow.knob=1", "synthetic_flow takes no option knob; it takes subjects"),
        ("svm smic-3 --set synthetic_flow.subjects=3", "No clip found in synthetic_flow that takes part in smic-3"),
    ],
)
def test_an_evaluation_that_makes_no_sense(line: str, complaint: str, capsys: Output) -> None:
    Path("file").touch()
    Path("full").mkdir()
    Path("full/taken.png").touch()
    assert _run(f"evaluate {line}") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.match(f"mer-zoo: .*{complaint}", said.err)
    assert sorted(str(path) for path in Path().rglob("*")) == ["file", "full", "full/taken.png"]


def test_a_run_of_other_settings_stays(runs: Path, capsys: Output) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    assert _run("evaluate svm synthetic-3 --set synthetic_flow.subjects=4 --out runs/svm") == 1
    assert re.search(r"runs/svm holds a run of other settings .*rows: 27 there, 36 now", capsys.readouterr().err)
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("nowhere", "nowhere holds no run.json; expected a folder that evaluate wrote"),
        ("runs", "runs holds no run.json"),
        ("runs/svm runs/none", "runs/none holds no run.json"),
        ("runs/svm runs/../runs/svm", "runs/svm is named twice; expected runs that differ"),
        ("runs/svm empty", "empty: none of 3 folds is finished"),
        ("runs/svm five", "several protocols cannot be compared: svm is of synthetic-3, five is of synthetic-5"),
        ("strange", "No protocol is named 'mine'"),
        ("broken", "broken/run.json cannot be read"),
    ],
)
def test_a_report_that_cannot_be_made(runs: Path, line: str, complaint: str, capsys: Output) -> None:
    _copy(runs / "svm", "five", protocol="synthetic-5")
    _copy(runs / "svm", "strange", protocol="mine")
    _copy(runs / "svm", "empty")
    shutil.rmtree("empty/folds")
    _copy(runs / "svm", "broken")
    Path("broken/run.json").write_text("{")
    assert _run(f"report {line}") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.match(f"mer-zoo: .*{complaint}", said.err)
    assert not (runs / "comparison").exists()


def _copy(run: Path, name: str, **changes: str) -> None:
    """A run whose description says something else."""
    description = Path(shutil.copytree(run, name)) / "run.json"
    description.write_text(json.dumps({**json.loads(description.read_text()), **changes}))


def test_nothing_to_report(capsys: Output) -> None:
    assert _run("report") == 1
    assert re.search(r"There is no run below /.*/runs; name its folder: mer-zoo report FOLDER", capsys.readouterr().err)


@pytest.mark.slow
def test_the_program_evaluates_and_reports() -> None:
    program = f"{shlex.quote(sys.executable)} -m mer_zoo.cli"
    command = f"{program} evaluate ststnet {FLOW} --epochs 2 --out runs/net && {program} report --out again"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    first, second = re.findall(r"^# synthetic-3: UF1 [\d.]+.*$", done.stdout, re.MULTILINE)
    assert first == second
    assert Path("runs/net/report.json").read_text() == Path("again/report.json").read_text()
    assert {path.suffix for path in Path("again/figures").iterdir()} == {".png", ".svg"}
