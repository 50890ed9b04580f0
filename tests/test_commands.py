"""Every command of every page: run on specimens where that is cheap, else held against the script's own parser."""

import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from _programs import run_here

from mer_zoo.cli import _parser, main
from mer_zoo.datasets._base import CORPORA

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page for where in ("*.md", "docs/**/*.md", "benchmarks/*.md", "mer_zoo/weights/*.md") for page in ROOT.glob(where)
)
CI = (ROOT / ".ci" / "run").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
QUICKLY = ["--epochs", "1", "--jobs", "1"]
LANGUAGES = {"python", "sh", "text", "bibtex", "{toctree}", "{eval-rst}"}

# Held against their parsers alone, and why; those that .ci/run names are run there.
PARSED = {
    "benchmarks/evaluation.py": "two minutes",
    "benchmarks/explain.py": "minutes; run in part by test_benchmarks.py",
    "benchmarks/growth.py": "two minutes; run in part by test_benchmarks.py",
    "benchmarks/leakage.py": "minutes to an hour, and flow images under an agreement",
    "benchmarks/loso.py": "five minutes; run in part by test_benchmarks.py",
    "benchmarks/loso_scores.py": "hours, and flow images under an agreement; run in part by test_benchmarks.py",
    "benchmarks/models.py": "a quarter of an hour; run in part by test_benchmarks.py",
    "benchmarks/reproduce_ststnet.py": "its authors' files; run on made-up ones by test_benchmarks.py",
    "benchmarks/synthetic.py": "minutes, and flow images under an agreement",
    "tools/ablate.py": "hours of training",
    "tools/ceiling.py": "minutes",
    "tools/gates.py": "hours of training; run in part by test_pretraining.py",
    "tools/outputs.py": "a minute; .ci/run checks by it",
    "tools/pretrain.py": "half an hour of training; run in part by test_pretraining.py",
    "tools/ship.py": "needs what pretrain.py made; run in part by test_pretraining.py",
}


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """Language and text of every block of code."""
    return re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def commands_of(page: Path) -> Iterator[list[str]]:
    """The words of every command."""
    for language, text in blocks_of(page):
        for line in text.splitlines() if language == "sh" else ():
            yield from (shlex.split(part, comments=True) for part in line.split("&&"))


COMMANDS = {page: [*commands_of(page)] for page in PAGES if [*commands_of(page)]}


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_every_block_is_of_a_kind_that_is_run() -> None:
    for page in PAGES:
        for language, text in blocks_of(page):
            assert language in LANGUAGES, f"{page.name}: {text}"


def _specimens(words: list[str], place: Path) -> None:
    """Draw what a command reads, where nothing lies."""
    parts = [word.partition("=") for word in words]
    named = [(name, folder) for name, equals, folder in parts if equals and name in CORPORA.names()]
    named += [pair for pair in pairwise(words) if pair[0] in CORPORA.names() and words[0] == "verify"]
    named += [(flag[2:], folder) for flag, folder in pairwise(words) if flag[2:] in CORPORA.names()]
    if "--corpus" in words:
        named.append((words[words.index("--corpus") + 1], words[words.index("--root") + 1]))
    for corpus, folder in named:
        if not (place / folder).exists():
            CORPORA.get(corpus).write_specimen(place / folder)


def _own_folder(words: list[str]) -> list[str]:
    """Pages call every copy FOLDER: here each corpus has its own."""
    named = [re.sub(r"^(\w+)=FOLDER$", r"\1=FOLDER-\1", word) for word in words]
    return [f"FOLDER-{words[1]}" if word == "FOLDER" else word for word in named]


def run_command(words: list[str], place: Path) -> None:
    """One command of ours, in this process."""
    words = _own_folder(words)
    _specimens(words, place)
    if "--jobs" in words:
        words[words.index("--jobs") + 1] = "1"
    if words[0] == "evaluate" and words[1] not in ("svm", "ridge", "majority"):
        words += ["--epochs", "1"]
    shown = [word for word in words if word != "--open"]  # test_cli_runs.py opens pages
    assert main(shown) == (words[0] == "verify")  # a specimen lacks most clips


def run_example(file: str, words: list[str], place: Path) -> None:
    """One example, in this process."""
    _specimens(["", *words], place)
    done = run_here(ROOT / file, *words, *QUICKLY, cwd=place)
    assert done.returncode == 0, done.stderr


def parse(file: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's own parser takes the words; one without a parser takes none."""
    monkeypatch.syspath_prepend(str((ROOT / file).parent))
    spec = importlib.util.spec_from_file_location(Path(file).stem, ROOT / file)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)
    spec.loader.exec_module(script)
    assert script.parser().parse_args(words) if hasattr(script, "parser") else not words


def installs(words: list[str]) -> None:
    """What is installed is this project, and its extras are there."""
    found = re.fullmatch(r"(?:\.|mer-zoo)(?:\[([\w,]+)\])?", words[-1])
    assert found, words
    assert set((found[1] or "test").split(",")) <= set(PROJECT["optional-dependencies"])


@pytest.mark.slow
@pytest.mark.parametrize("page", COMMANDS, ids=_id)
def test_the_commands_of_every_page(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the page, in one folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MER_ZOO_CACHE", str(tmp_path / "cache"))
    for words in COMMANDS[page]:
        match words:
            case ["pip", "install", *_]:
                installs(words)
            case ["mer-zoo", "demo", *_]:
                assert _parser().parse_args(words[1:])  # it serves until Ctrl-C: test_demo_page.py
            case ["mer-zoo", *rest]:
                run_command(rest, tmp_path)
            case ["python", file, *rest] if file in PARSED:
                parse(file, rest, monkeypatch)
            case ["python", file, *rest] if file.startswith("examples/") and rest:
                run_example(file, rest, tmp_path)
            case ["python", "examples/evaluate.py"]:
                assert "<!-- output: evaluate -->" in page.read_text()  # tools/outputs.py, in .ci/run, runs it so
            case _:
                assert shlex.join(words) in CI, f"{words} is neither run here, nor in .ci/run, nor in PARSED"
        capsys.readouterr()


def test_no_script_is_excused_in_vain() -> None:
    assert {words[1] for commands in COMMANDS.values() for words in commands if words[0] == "python"} >= set(PARSED)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=_id)
def test_commands_within_sentences(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`mer-zoo …` in the text: its words are those of the command; a name alone is that of a command."""
    for text in re.findall(r"`mer-zoo ([^`]+)`", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)):
        for words in (shlex.split(text),) if "|" not in text else (each.split() for each in text.split("|")):
            if len(words) == 1:
                with pytest.raises(SystemExit, match="0"):
                    main([*words, "--help"])
            else:
                assert _parser().parse_args([word for word in words if word != "…"])
    capsys.readouterr()
