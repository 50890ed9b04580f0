"""What pages say holds: code, links, the reference, examples in docstrings. (Of tables: tools/tables.py --check.)"""

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from _programs import run_apart, run_here
from skimage import data

import mer_zoo
from mer_zoo.datasets._base import CORPORA
from mer_zoo.datasets.megc2019_flow import MEGC2019Flow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/api/*.md")),
    *sorted(ROOT.glob("mer_zoo/weights/*.md")),
]
HERE = {  # a scheduler of this process in place of a cluster's, and a folder that may be written to
    '"scheduler:8786"': 'n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"',
    '"/shared/': '"shared/',
}
MODULES = [m.name for m in pkgutil.walk_packages(mer_zoo.__path__, "mer_zoo.")]


def test_ci_runs_the_commands_of_the_readme() -> None:
    commands = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)
    assert len(commands) == 2
    for command in commands:
        assert command in (ROOT / ".ci" / "run").read_text()


def _python(text: str) -> list[str]:
    """The blocks of Python of a page."""
    return re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)


def _write_video(file: Path) -> None:
    """A second of a photograph that moves a little."""
    face = data.astronaut()[:320, 60:380, ::-1]
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 320))
    for number in range(10):
        writer.write(np.roll(face, number % 3, axis=0))
    writer.release()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_code_of_every_page_runs(page: Path, tmp_path: Path) -> None:
    """As it stands, on a specimen, but for one epoch."""
    elsewhere = [] if page == PAGES[0] else _python(README)  # the README's lines run once
    blocks = [block for block in _python(page.read_text()) if block not in elsewhere]
    if not blocks:
        return
    MEGC2019Flow.write_specimen(tmp_path / "FOLDER")
    for folder in ("SMIC", "CASME2", "SAMM"):
        CORPORA.get(folder.lower()).write_specimen(tmp_path / folder)
    _write_video(tmp_path / "interview.mp4")
    code = re.sub(r"epochs=\d+, ", "", "\n".join(blocks)).replace("Recipe(", "Recipe(epochs=1, ")
    for there, here in HERE.items():
        code = code.replace(there, here)
    (tmp_path / "page.py").write_text(code)
    run = run_apart if "register" in code else run_here  # names that a page adds are not for other tests
    done = run(tmp_path / "page.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    assert (
        doctest.testmod(importlib.import_module(name), extraglobs={"np": importlib.import_module("numpy")}).failed == 0
    )


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_describe_arguments_that_are_there(name: str) -> None:
    """Those of functions, methods, and classes by their constructor."""
    for described in _documented(importlib.import_module(name)):
        part = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.getdoc(described) or "", re.DOTALL | re.MULTILINE)
        for argument in re.findall(r"^    \*{0,2}(\w+): ", part[1], re.MULTILINE) if part else ():
            assert argument in inspect.signature(described).parameters, f"{described}: {argument}"


def _documented(module: ModuleType) -> Iterator[Any]:
    """Functions and classes of a module, and their methods."""
    own = [each for each in vars(module).values() if getattr(each, "__module__", "") == module.__name__]
    for each in own:
        if inspect.isfunction(each) or inspect.isclass(each):
            yield each
        if inspect.isclass(each):
            yield from (method for method in vars(each).values() if inspect.isfunction(method))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_reference_has_every_public_name() -> None:
    """A new name of ``mer_zoo.__all__`` needs a line in a page of docs/api/."""
    pages = "\n".join(page.read_text() for page in ROOT.glob("docs/api/*.md"))
    described = set(re.findall(r"^\.\. auto\w+:: mer_zoo\.(\w+)$", pages, re.MULTILINE))
    assert described == set(mer_zoo.__all__) - {"__version__"} | {"errors"}


def test_versions_agree() -> None:
    assert f"version: {mer_zoo.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {mer_zoo.__version__}" in (ROOT / "CHANGELOG.md").read_text()
