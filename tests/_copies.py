"""Made-up copies of every corpus of pictures, for tests that run over the registry."""

import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import mer_zoo
from mer_zoo.datasets import open_corpus
from mer_zoo.datasets._base import CORPORA
from mer_zoo.datasets._folders import PictureCorpus
from mer_zoo.errors import InputError
from mer_zoo.types import Sample

KINDS: dict[str, Any] = {  # a new file in mer_zoo/datasets is in here by itself
    name: kind for name in mer_zoo.list_corpora() if issubclass(kind := CORPORA.get(name), PictureCorpus)
}
PICTURES = (".jpg", ".bmp", ".png")
SHEETS = (".xlsx", ".xls", ".csv")


@cache
def _specimen(name: str) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    KINDS[name].write_specimen(Path(folder.name) / "copy")
    return folder


def write_copy(name: str, root: Path) -> None:
    """A specimen, drawn once and copied: that is several times quicker."""
    shutil.copytree(Path(_specimen(name).name) / "copy", root)


def opened(name: str, root: Path, **options: Any) -> Any:
    """A corpus of pictures, of whatever class."""
    return open_corpus(name, root, **options)


def values_of_options(name: str, root: Path) -> Iterator[tuple[str, list[str]]]:
    """Options of one corpus alone, such as a camera or a part, and what the refusal of another value lists."""
    for word in inspect.signature(KINDS[name]).parameters.values():
        if isinstance(word.default, str) and word.name != "missing":
            with pytest.raises(InputError, match=rf"{name}: {word.name} is 'no'; expected one of ") as caught:
                opened(name, root, **{word.name: "no"})
            yield word.name, re.findall(r"'(\w+)'", str(caught.value).partition("expected")[2])


def keys(samples: Iterable[Sample]) -> list[str]:
    return [sample.key for sample in samples]


def number_of(file: Path) -> int:
    """The last number in a picture's name."""
    return int(re.findall(r"\d+", file.name.split(".")[0])[-1])


def frames_of(corpus: Any) -> dict[str, list[str]]:
    """Paths below the root of each clip's pictures."""
    return {s.key: [str(file.relative_to(corpus.root)) for file in corpus.frames(s)] for s in corpus.samples}


def files_below(root: Path, endings: tuple[str, ...] = ("",)) -> list[Path]:
    """Files with such an ending, hidden ones too."""
    return sorted(path for path in root.rglob("*") if path.is_file() and path.name.lower().endswith(endings))


def sheets_of(corpus: Any) -> list[Path]:
    """Tables in a copy, whichever of them are read."""
    return files_below(corpus.root, SHEETS)


def copy_of(root: Path, to: Path, wanted: Callable[[Path], bool]) -> Path:
    """The files of a folder that are wanted, at the same paths below another."""
    for file in filter(wanted, files_below(root)):
        target = to / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return to


def old(root: Path, seconds: float = 60) -> None:
    """Make every folder look as if nothing had changed in it for so long."""
    then = time.time_ns() - int(seconds * 1e9)
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        os.utime(folder, ns=(then, then))


PRELUDE = """
import os
import openpyxl, pandas, PIL.JpegImagePlugin, PIL.BmpImagePlugin, PIL.PngImagePlugin
from pathlib import Path
from mer_zoo.datasets import _verify, open_corpus
from mer_zoo.datasets._tree import Tree
from mer_zoo.errors import MerZooError
"".encode("cp437")
os.setuid(65534)
"""


def by_nobody(root: Path, code: str) -> list[str]:
    """What a program prints that is not root; what it imports is loaded before it becomes somebody else."""
    program = f"{PRELUDE}root = Path({str(root)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@contextmanager
def open_to_all() -> Iterator[Path]:
    """A folder that everybody can look into, as the test's own cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
