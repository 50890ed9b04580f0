"""Trees are listed once a folder, and with ``index=True`` not again where nothing has changed."""

import json
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _copies import KINDS, PICTURES, files_below, frames_of, old, opened, write_copy

import mer_zoo.datasets
from mer_zoo.datasets._tree import INDEX_VERSION, Tree

every = pytest.mark.parametrize("name", KINDS)


@pytest.fixture
def copy(name: str, tmp_path: Path) -> Path:
    """A made-up copy, none of whose folders changed of late."""
    write_copy(name, tmp_path / "copy")
    old(tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    for path in ("a/x/1.jpg", "a/x/2.jpg", "a/y/3.jpg", "b/4.jpg"):
        (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / path).touch()
    old(tmp_path / "tree")
    return tmp_path / "tree"


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often each folder was listed."""
    times: Counter[str] = Counter()
    scan = os.scandir

    def counting(path: Any = ".") -> Any:
        times[str(path)] += 1
        return scan(path)

    monkeypatch.setattr(os, "scandir", counting)
    yield times
    monkeypatch.undo()


def index_of(root: Path) -> Path:
    return root.parent / f".{root.name}.mer-zoo.json"


# Each folder once


@every
def test_each_folder_is_listed_once(name: str, copy: Path, listed: Counter[str]) -> None:
    folders = {str(path) for path in (copy, *copy.rglob("*")) if path.is_dir()}
    listed.clear()  # rglob lists them, too
    corpus = opened(name, copy)
    for sample in corpus.samples:
        corpus.frames(sample)
    corpus.verify()
    assert listed == dict.fromkeys(folders, 1)
    assert not index_of(copy).exists()


@every
def test_with_an_index_no_folder_is_listed_again(name: str, copy: Path, listed: Counter[str]) -> None:
    first = opened(name, copy, index=True)
    expected = (first.samples, frames_of(first))
    listed.clear()
    again = opened(name, copy, index=True)
    assert (again.samples, frames_of(again)) == expected
    assert listed == {}
    plain = opened(name, copy)
    assert (plain.samples, frames_of(plain)) == expected
    assert sum(listed.values()) == len({path for path in (copy, *copy.rglob("*")) if path.is_dir()})


@every
def test_a_changed_copy_is_seen_in_spite_of_the_index(name: str, copy: Path, listed: Counter[str]) -> None:
    first = opened(name, copy, index=True)
    sample = first.samples[0]
    files = first.frames(sample)
    files[1].unlink()
    changed = str(files[1].parent)
    listed.clear()
    again = opened(name, copy, index=True)
    assert frames_of(again) == frames_of(opened(name, copy))
    assert files[1] not in [file for s in again.samples for file in again.frames(s)]
    assert listed[changed] == 2  # with the index and without
    others = {path: times for path, times in listed.items() if path != changed}
    assert set(others.values()) == {1}  # without


def _added(root: Path) -> None:
    (root / "a" / "x" / "9.jpg").touch()


def _removed(root: Path) -> None:
    (root / "a" / "x" / "1.jpg").unlink()


def _renamed(root: Path) -> None:
    (root / "a" / "x" / "1.jpg").rename(root / "a" / "x" / "11.jpg")


def _more(root: Path) -> None:
    (root / "b" / "new" / "deep").mkdir(parents=True)
    (root / "b" / "new" / "deep" / "5.jpg").touch()


def _fewer(root: Path) -> None:
    (root / "b" / "4.jpg").unlink()
    (root / "b").rmdir()


def _moved(root: Path) -> None:
    (root / "a" / "y").rename(root / "b" / "y")


def _swapped(root: Path) -> None:
    for before, after in (("x", "z"), ("y", "x"), ("z", "y")):
        (root / "a" / before).rename(root / "a" / after)


@pytest.mark.parametrize("change", [_added, _removed, _renamed, _more, _fewer, _moved, _swapped])
@pytest.mark.parametrize("aged", [False, True], ids=["just now", "long ago"])
def test_every_change_is_seen(change: Callable[[Path], None], aged: bool, small: Path) -> None:
    before = Tree(small, index=True).folders
    assert index_of(small).exists()
    change(small)
    if aged:
        old(small, seconds=30)
    after = Tree(small, index=True).folders
    assert after == Tree(small).folders
    assert after != before
    assert Tree(small, index=True).folders == after  # by the index as it is now


def test_what_changed_a_moment_ago_is_not_kept(small: Path) -> None:
    """A second change in the same tick of the clock would not show in the folder's time."""
    (small / "b" / "5.jpg").touch()
    assert Tree(small, index=True).folders["b"] == ["4.jpg", "5.jpg"]
    kept = json.loads(index_of(small).read_text())["folders"]
    assert set(kept) == {"", "a", "a/x", "a/y"}
    stamp = (small / "b").stat()
    (small / "b" / "6.jpg").touch()
    os.utime(small / "b", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert Tree(small, index=True).folders["b"] == ["4.jpg", "5.jpg", "6.jpg"]


# An index that is none


def _deep() -> bytes:
    return b"[" * 100_000


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("exploded",)


def _kept(**entries: object) -> bytes:
    return json.dumps({"version": INDEX_VERSION, "folders": entries}).encode()


FOREIGN = {
    "empty": b"",
    "binary": bytes(range(256)),
    "another encoding": '{"version": 1, "é": 1}'.encode("utf-16"),
    "pickled": pickle.dumps(_Bomb()),
    "nested": _deep(),
    "a list": b"[1, 2]",
    "a number": b"3",
    "of others": b'{"version": 1}',
    "of the future": json.dumps({"version": INDEX_VERSION + 1, "folders": {"": [0, 0, ["no"], [], []]}}).encode(),
    "folders as a list": json.dumps({"version": INDEX_VERSION, "folders": [1]}).encode(),
    "an entry as a number": _kept(a=1),
    "an entry that is short": _kept(a=[1, 2, []]),
    "names that are numbers": _kept(a=[1, 2, [2], [], [3]]),
    "names that are null": _kept(a=[1, 2, None, None, None]),
    "another root": _kept(**{"": [5, 1, ["elsewhere"], [], ["9.jpg"]], "elsewhere": [6, 2, [], [], ["8.jpg"]]}),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_broken_or_foreign_index_does_no_harm(content: bytes, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small.parent)
    expected = Tree(small).folders
    index_of(small).write_bytes(content)
    assert Tree(small, index=True).folders == expected
    assert json.loads(index_of(small).read_text())["version"] == INDEX_VERSION  # made anew
    assert Tree(small, index=True).folders == expected
    assert {path.name for path in small.parent.iterdir()} == {small.name, index_of(small).name}


def test_where_nothing_can_be_written_nothing_is_kept(small: Path) -> None:
    index_of(small).mkdir()
    expected = Tree(small).folders
    assert [Tree(small, index=True).folders for _ in range(2)] == [expected, expected]
    assert {path.name for path in small.parent.iterdir()} == {small.name, index_of(small).name}


def test_an_index_is_names_and_times_in_json_beside_the_root(small: Path) -> None:
    Tree(small, index=True).folders  # noqa: B018
    content = index_of(small).read_bytes()
    assert content.isascii()
    saved = json.loads(content)
    assert saved["version"] == INDEX_VERSION
    assert saved["folders"]["a/x"][2:] == [[], [], ["1.jpg", "2.jpg"]]
    status = (small / "a" / "x").stat()
    assert saved["folders"]["a/x"][:2] == [status.st_mtime_ns, status.st_ino]
    assert str(small) not in content.decode()
    package = Path(str(mer_zoo.datasets.__file__)).parent
    assert not [file.name for file in package.glob("*.py") if "pickle" in file.read_text().replace("allow_pickle", "")]


@every
def test_pictures_are_not_opened_to_list_them(name: str, copy: Path) -> None:
    expected = opened(name, copy).samples
    for file in files_below(copy, PICTURES):
        file.write_bytes(b"")
    assert opened(name, copy).samples == expected
