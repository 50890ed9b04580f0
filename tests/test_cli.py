"""The command line: its help, its lists, specimens of every corpus, contact sheets, and what it refuses."""

import argparse
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from _hub import connected
from PIL import Image

import mer_zoo
from mer_zoo.cli import _parser, main
from mer_zoo.datasets import Corpus
from mer_zoo.datasets._base import CORPORA
from mer_zoo.synth import Generator
from mer_zoo.synth.settings import settings_of
from mer_zoo.synth.sheet import COLUMNS, GAIN, Layout, draw_sheet, flow_colours

SIZE, PERSONS = 64, 3
Output = pytest.CaptureFixture[str]


def _commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command as words, ``()`` first."""
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from _commands(child, (*words, name))


# All but the demo, which serves until Ctrl-C: tests/test_demo_page.py.
COMMANDS = [words for words in _commands(_parser()) if words != ("demo",)]
BEFORE: dict[tuple[str, ...], str] = {  # what an example needs
    ("prepare",): "specimen casme2 CASME2",
    ("report",): "evaluate svm synthetic-3 --set synthetic_flow.subjects=3 --out runs/svm",
    ("verify",): "specimen smic SMIC_all_cropped",
}


def _help(words: tuple[str, ...], output: Output) -> str:
    with pytest.raises(SystemExit) as done:
        main([*words, "--help"])
    assert done.value.code == 0
    return output.readouterr().out


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with connected(tmp_path / "cache", monkeypatch):
        yield


def _write_clip(folder: Path) -> None:
    faces: Any = mer_zoo.open_corpus("synthetic", subjects=2, clips_per_subject=3)
    folder.mkdir()
    for number, frame in enumerate(faces.clip(faces.samples[0])):
        Image.fromarray(frame).save(folder / f"{number}.png")


# Help, lists and the program itself


@pytest.mark.usefixtures("_a_hub")
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "mer-zoo")
def test_the_example_of_every_help_runs(words: tuple[str, ...], capsys: Output) -> None:
    examples = re.findall(r"^  (mer-zoo .*)$", _help(words, capsys), re.MULTILINE)
    assert examples
    if words == ("push",):
        mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), "my_model")
    if words in (("predict",), ("explain",)):
        _write_clip(Path("CLIP"))
    if words in BEFORE:
        assert main(shlex.split(BEFORE[words])) == 0
        capsys.readouterr()
    for example in examples:
        assert example.startswith(" ".join(["mer-zoo", *words]))
        assert main(shlex.split(example)[1:]) == (words == ("verify",))  # a specimen lacks most clips
        assert capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("synth",)])
def test_without_a_command_there_is_help(words: tuple[str, ...], capsys: Output) -> None:
    assert main(words) == 2
    assert capsys.readouterr().out == _help(words, capsys)


def test_lists_name_everything_one_a_line(capsys: Output) -> None:
    lists = {
        "models": sorted([*mer_zoo.list_models(), *mer_zoo.list_models(pretrained=True)]),
        "corpora": mer_zoo.list_corpora(),
        "protocols": mer_zoo.list_protocols(),
    }
    for command, names in lists.items():
        assert main([command]) == 0
        lines = capsys.readouterr().out.partition("\n\n")[0].splitlines()
        assert [line.split()[0] for line in lines] == names
        assert all(len(line.split()) > 1 for line in lines)


def test_models_by_pattern(capsys: Output) -> None:
    assert main(["models", "st*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ststnet           flow 3 x 28 x 28, strain, v, u"
    assert [line.split()[0] for line in lines[1:4]] == ["ststnet.synth_3", "ststnet.synth_5", "ststnet.synth_au"]
    assert lines[-1] == "A name with a tag has weights: mer_zoo.create_model(NAME, pretrained=True)."


def test_version(capsys: Output) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"mer-zoo {mer_zoo.__version__}\n"


def test_the_program_says_errors_in_one_line() -> None:
    script = Path(sysconfig.get_path("scripts")) / "mer-zoo"
    program = [str(script)] if script.exists() else [sys.executable, "-m", "mer_zoo.cli"]
    done = subprocess.run([*program, "specimen", "synthetics", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "mer-zoo: No corpus is named 'synthetics'. Did you mean synthetic or synthetic_flow?\n"


def test_a_command_does_not_load_what_another_needs() -> None:
    code = "import sys; from mer_zoo.cli import main; main(['models']); print('cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


# Specimens


@pytest.mark.parametrize("name", mer_zoo.list_corpora())
def test_a_specimen_is_written_and_opens_as_it_says(name: str, capsys: Output) -> None:
    assert main(["specimen", name, "new/my copy"]) == 0
    said = capsys.readouterr().out
    files = [path for path in Path("new/my copy").rglob("*") if path.is_file()]
    assert f"Wrote {len(files)} files" in said
    assert files
    corpus = eval(said[said.index("mer_zoo.open_corpus") :])
    assert isinstance(corpus, Corpus)
    kind = CORPORA.get(name)
    read_back = kind.needs_root or kind.folder_form is not None
    assert corpus.root == (Path("new/my copy").absolute() if read_back else None)
    sample = corpus.samples[0]
    assert (corpus.clip(sample) if corpus.native_spec is None else corpus.flow_image(sample)).dtype == np.uint8


def test_an_empty_folder_will_do() -> None:
    Path("copy").mkdir()
    assert main(["specimen", "synthetic_flow", "copy"]) == 0
    assert list(Path("copy").glob("*.png"))


def test_a_specimen_is_not_mixed_with_what_is_there() -> None:
    Path("copy").mkdir()
    Path("copy/notes.txt").write_text("mine")
    assert main(["specimen", "synthetic_flow", "copy"]) == 1
    assert [path.name for path in Path("copy").iterdir()] == ["notes.txt"]


# Contact sheets


def _generator(seed: int = 0) -> Generator:
    return Generator(settings_of("default", size=SIZE), seed)


def _cell(sheet: npt.NDArray[np.uint8], row: int, column: int) -> npt.NDArray[np.uint8]:
    """A cell as it was before it was enlarged, (S, S, 3)."""
    layout = Layout(SIZE, PERSONS)
    x, y = layout.corner(row, column)
    large = sheet[y : y + layout.cell, x : x + layout.cell]
    small = large[:: layout.factor, :: layout.factor]
    np.testing.assert_array_equal(small.repeat(layout.factor, 0).repeat(layout.factor, 1), large)
    return small


def test_a_sheet_shows_the_frames_the_difference_and_the_flow() -> None:
    assert main(["synth", "sheet", "new/faces.png", "--size", str(SIZE), "--persons", str(PERSONS)]) == 0
    assert [path.name for path in Path("new").iterdir()] == ["faces.png"]
    sheet, generator = np.asarray(Image.open("new/faces.png")), _generator()
    assert sheet.shape == (*Layout(SIZE, PERSONS).whole[::-1], 3)
    for row in range(PERSONS):
        clip, apex = generator.clip(row, row), generator.script(row, row).coding.apex
        for column, frame in enumerate((clip[0], clip[apex], clip[-1])):
            np.testing.assert_array_equal(_cell(sheet, row, column), np.stack([frame] * 3, axis=-1))
        change = 128 + GAIN * (clip[apex].astype(int) - clip[0])
        np.testing.assert_array_equal(_cell(sheet, row, 3)[..., 0], np.clip(change, 0, 255))
        still = ~generator.flow(row, row)[apex].any(axis=-1)
        assert (_cell(sheet, row, 4)[still] == 255).all()
        assert (_cell(sheet, row, 4).min(axis=-1) < 255).mean() > 0.5


@pytest.mark.parametrize(("size", "factor"), [(32, 8), (64, 4), (128, 2), (224, 1), (512, 1)])
def test_small_frames_are_enlarged(size: int, factor: int) -> None:
    layout = Layout(size, rows=2)
    assert (layout.factor, layout.cell) == (factor, factor * size)
    assert layout.whole[0] > len(COLUMNS) * layout.cell
    assert layout.whole[1] > 2 * layout.cell
    assert 900 <= layout.whole[0] <= 1600 or size == 512


def test_labels_vary_over_the_rows() -> None:
    generator = _generator()
    assert len({generator.label(row, row)[1] for row in range(PERSONS)}) == PERSONS


def test_a_seed_draws_the_same_sheet() -> None:
    first, again, other = (draw_sheet(_generator(seed), 2).tobytes() for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_colours_of_flow() -> None:
    right, up, left, rest, far = (1, 0), (0, -1), (-1, 0), (0, 0), (9, 0)
    colours = flow_colours(np.array([[right, up, left, rest, far]], np.float32), full=1.0)
    expected: list[list[float]] = [[255, 0, 0], [127.5, 255, 0], [0, 255, 255], [255, 255, 255], [255, 0, 0]]
    np.testing.assert_allclose(colours[0], expected, atol=0.6)


# What is refused


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("models nonsense", "No model is named like 'nonsense'.*There are: .*dat_densenet3d, "),
        ("specimen synthetic file", "file is a file; name a folder that is new or empty"),
        ("specimen synthetic full", r"full is not empty, it holds taken\.png; name a folder that is new or empty"),
        ("specimen synthetic file/below", "Not a directory"),
        ("specimen megc2018_flow new", "Did you mean megc2019_flow"),
        ("synth sheet faces.jpg", r"written as PNG; faces\.jpg does not end in \.png"),
        ("synth sheet .", r"does not end in \.png"),
        ("synth sheet full/taken.png --size 32 --persons 1", "is a folder; expected the name of a picture"),
        ("synth sheet file/faces.png --size 32 --persons 1", "exists|Not a directory"),
        ("synth sheet faces.png --size 31", "size 31; expected a whole number 32 to 512"),
        ("synth sheet faces.png --persons 0", "A sheet of 0 persons; expected 1 to 100"),
        ("synth sheet faces.png --persons 101", "A sheet of 101 persons; expected 1 to 100"),
        ("synth sheet faces.png --seed -1", r"seed is -1; expected a whole number, 0 to 2 \*\* 32 - 1\."),
        ("synth sheet faces.png --preset medium", "preset 'medium'; expected one of easy, default, hard"),
        ("synth sheet faces.png --family foot", "family 'foot'; expected one of head, field"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(line: str, complaint: str, capsys: Output) -> None:
    Path("file").touch()
    Path("full/taken.png").mkdir(parents=True)
    assert main(shlex.split(line)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(f"mer-zoo: .*({complaint}).*\n", said.err)
    assert sorted(str(path) for path in Path().rglob("*")) == ["file", "full", "full/taken.png"]


@pytest.mark.parametrize(
    "line", ["nonsense", "specimen synthetic", "synth sheet x.png --size big", "evaluate svm", "synth nonsense"]
)
def test_words_that_make_no_command(line: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as done:
        main(shlex.split(line))
    assert done.value.code == 2
    assert "usage: mer-zoo" in capsys.readouterr().err
