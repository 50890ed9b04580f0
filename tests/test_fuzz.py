"""Spoilt copies of every corpus give a result or a refusal of this library, and nothing else, and not never.

Where nothing is said, 600 copies are spoilt; MER_ZOO_FUZZ=10000 spoils so many, and MER_ZOO_FUZZ_SEED begins elsewhere.
"""

import contextlib
import io
import logging
import os
import random
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from _copies import KINDS, files_below, number_of, opened, values_of_options
from _mutations import Rows, as_csv, as_xls, as_xlsx, linked, mutated_bytes, mutated_parts, mutated_rows, mutated_tree

from mer_zoo.datasets._tables import FORMULA, read_pages
from mer_zoo.datasets._tree import Tree
from mer_zoo.errors import MerZooError

EXAMPLES = int(os.environ.get("MER_ZOO_FUZZ", "600"))
FIRST = int(os.environ.get("MER_ZOO_FUZZ_SEED", "0"))
LONGEST = 10  # seconds for one example

Pages = dict[str, Rows]


class HangError(BaseException):
    """One example took too long; no ``except Exception`` may catch it."""


@contextlib.contextmanager
def hurry() -> Iterator[None]:
    def stop(_: int, frame: FrameType | None) -> None:
        raise HangError("".join(traceback.format_stack(frame)[-3:]))

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Sound:
    """A sound copy of one corpus and what is in its sheet, from which the spoilt ones are made."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.whole, self.small = name, root / "whole", root / "small"
        KINDS[name].write_specimen(self.whole)
        KINDS[name].draw(self.small, KINDS[name].made_up(random.Random(1)))
        self.tree = Tree(self.whole)
        assert self.tree.folders
        corpus = opened(name, self.whole)
        self.file: Path | None = getattr(corpus, "sheet_file", None)
        self.options = dict(values_of_options(name, self.whole))
        where = corpus.rows[0].where if self.file else ""
        self.page = next((page for page in (self.pages() if self.file else ()) if repr(page) in where), "")

    def pages(self) -> Pages:
        assert self.file is not None
        return pages_of(self.file)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sound]:
    return {name: Sound(name, tmp_path_factory.mktemp(name)) for name in KINDS}


def pages_of(file: Path) -> Pages:
    """Cells as they were written; formulas lose their values."""
    pages = _pages(file, _content(file))
    return {n: [["=A1" if c is FORMULA else c for c in row] for row in rows] for n, rows in pages.items()}


@lru_cache(maxsize=64)
def _pages(file: Path, _: bytes) -> Any:
    return read_pages(file)


@lru_cache(maxsize=64)
def _content(file: Path) -> bytes:
    return file.read_bytes()


def spoilt_sheet(sound: Sound, folder: Path, rng: random.Random) -> Path:
    """A sheet with other cells, or other bytes, in one of the formats."""
    assert sound.file is not None
    way = rng.choices(["csv", "xlsx", "xls", "parts", "bytes"], [60, 10, 10, 10, 10])[0]
    if way in ("parts", "bytes"):
        change = mutated_parts if way == "parts" else mutated_bytes
        file = folder / "sheet.xlsx"
        file.write_bytes(change(_content(sound.file), rng))
        return file
    pages = sound.pages()
    if len(pages) > 1 and way == "csv" and sum(map(bool, pages.values())) > 1:
        way = "xlsx"  # one whose other pages are read, too
    chosen = rng.choice([sound.page, sound.page, rng.choice(sorted(pages))])
    pages[chosen] = mutated_rows(pages[chosen], rng)
    content = as_csv(pages[chosen], rng) if way == "csv" else as_xlsx(pages) if way == "xlsx" else as_xls(pages)
    if way != "xlsx" and rng.random() < 0.2:
        content = mutated_bytes(content, rng)
    file = folder / f"sheet.{way}"
    file.write_bytes(content)
    return file


def spoil_a_sheet_within(root: Path, rng: random.Random) -> None:
    """Change one of the sheets in a copy, where it lies."""
    sheets = files_below(root, (".xlsx",))
    if sheets:
        file = rng.choice(sheets)
        pages = pages_of(file)
        name = rng.choice(sorted(pages))
        pages[name] = mutated_rows(pages[name], rng)
        file.unlink()  # it is a link to the sound one
        file.write_bytes(as_xlsx(pages))


def look_at(corpus: Any, rng: random.Random) -> None:
    """Read it all; what is read must hold together."""
    samples = corpus.samples
    assert len({s.key for s in samples}) == len(samples) > 0
    assert all(s.onset is None or 0 <= s.onset <= s.offset for s in samples)
    assert all(s.apex is None or s.onset <= s.apex <= s.offset for s in samples)
    for sample in rng.sample(samples, min(3, len(samples))):
        with contextlib.suppress(MerZooError):
            files, numbers = corpus.frames(sample), corpus.frame_numbers(sample)
            assert len(files) == len(numbers) > 0
            assert numbers == sorted(numbers)
            assert [number_of(file) for file in files] == sorted(number_of(file) for file in files)
            assert "frames_missing" not in sample.flags or len(files) < 2
            assert 0 <= corpus.apex_index(sample) < len(files)
            assert corpus.fingerprint(sample).encode()
            assert len(corpus.clip(sample)) == len(files)


def example(sound: Sound, folder: Path, rng: random.Random) -> None:
    """Spoil one copy and read it."""
    options: dict[str, Any] = {"missing": rng.choice(["error", "skip", "skip"])}
    if rng.random() < 0.2:
        options["form"] = rng.choice(list(KINDS[sound.name].layouts))
    if sound.options and rng.random() < 0.2:
        option = rng.choice(sorted(sound.options))
        options[option] = rng.choice(sound.options[option])
    whole = sound.file is not None and rng.random() < 0.7
    if sound.file is not None and (whole or rng.random() < 0.2):
        options["sheet"] = spoilt_sheet(sound, folder, rng)
    root = sound.whole
    if not whole:
        root = linked(sound.small, folder / "copy")
        if rng.random() < 0.3:
            spoil_a_sheet_within(root, rng)
        mutated_tree(root, rng)
        options["index"] = rng.random() < 0.2
    complaints = []
    for step in (look_at, lambda corpus, _: corpus.verify(rng.random() < 0.2)):
        try:
            corpus = opened(sound.name, root, **options)
            if whole:
                corpus.tree = sound.tree  # listed once
            step(corpus, rng)
        except MerZooError as error:
            complaints.append(str(error))
    assert all(complaint.strip().encode() for complaint in complaints)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_spoilt_copy_is_read_or_refused(name: str, sound: dict[str, Sound], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("mer_zoo"), "disabled", True)
    place, failed = list(KINDS).index(name), {}
    for seed in range(FIRST + place, FIRST + EXAMPLES, len(KINDS)):
        printed = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with hurry(), contextlib.redirect_stdout(printed):
                    example(sound[name], Path(folder), random.Random(seed))
                assert printed.getvalue().encode() is not None
            except (Exception, HangError) as error:  # that is what is looked for
                where = traceback.extract_tb(error.__traceback__)[-1]
                failed[seed] = f"{type(error).__name__} in {where.name}, {where.lineno}: {error}"[:300]
    assert not failed
