"""Folders and the pictures in them: each folder is listed once, pictures are ordered by number."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mer_zoo.errors import CorpusError

DEPTH = 10  # folders below the root; the deepest corpus has six, and one may be nested once or twice more
ARCHIVES = (".7z", ".gz", ".rar", ".tar", ".zip")
INDEX_VERSION = 1
UNSETTLED = 2_000_000_000  # nanoseconds: a folder changed so recently may change again without its time showing it

Listing = tuple[list[str], list[str], list[str]]  # folders, links to folders, and files in a folder


def shown(path: object) -> str:
    """A path that can be printed and saved, whatever bytes are in it."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def holds(question: Callable[[], bool]) -> bool:
    """The answer to a question about a file; no, where a link leads in a circle or a folder may not be opened."""
    try:
        return question()
    except OSError:
        return False


@dataclass(frozen=True)
class Layout:
    """Where one form of a corpus keeps its pictures.

    Attributes:
        folder: Found in the path of a clip's folder, written with slashes, the root's own name first; its groups say
            whose clip it is.
        frame: A picture's whole name; its group is the frame's number.
        example: Such a path, for messages.
        cropped: Whether the owners cut the face out.
        within: What the path must have, too: a folder whose whole name is such as ``RAW_selected``.
        without: What it must not have.
    """

    folder: re.Pattern[str]
    frame: re.Pattern[str]
    example: str
    cropped: bool = False
    within: re.Pattern[str] = re.compile("")
    without: re.Pattern[str] = re.compile("(?!)")

    def match(self, path: str) -> re.Match[str] | None:
        """Whose clip the folder at this path is; None if it is none of this form."""
        found = self.folder.search(path)
        return found if found and self.within.search(path) and not self.without.search(path) else None

    def numbers(self, names: list[str]) -> list[tuple[int, str]]:
        """Number and name of each picture, in the order of the numbers; what has another name is left out."""
        found = ((self.frame.fullmatch(name), name) for name in names)
        return sorted((int(match[1]), name) for match, name in found if match)


def layout(
    folder: str, frame: str, example: str, *, cropped: bool = False, within: str = "", without: str = "(?!)"
) -> Layout:
    """A ``Layout`` from the end of a folder's path and a name without its ending, whatever the case.

    Pictures end in jpg, bmp or png; an ending may come twice, as in some folders of CAS(ME)^2.
    """
    return Layout(
        re.compile(rf"(?:^|/){folder}$", re.IGNORECASE),
        re.compile(rf"{frame}(?:\.(?:jpe?g|bmp|png))+", re.IGNORECASE),
        example,
        cropped,
        re.compile(within, re.IGNORECASE),
        re.compile(without, re.IGNORECASE),
    )


class Tree:
    """What lies below a folder, links followed, loops not.

    Args:
        root: The folder.
        index: Keep what was found beside the root, in ``.<name>.mer-zoo.json``, where that can be written; next time
            only folders whose time has changed are listed again.
    """

    def __init__(self, root: Path, index: bool = False) -> None:
        self.root = root
        self.name = _plain_path(root).name  # a folder's own name counts where it is opened as "."
        self.refused: list[str] = []
        self._index = index

    @cached_property
    def folders(self) -> dict[str, list[str]]:
        """Files of each folder, sorted, by its path below the root, such as ``a/b``; the root's own is ``""``.

        Raises:
            CorpusError: If the root is no folder, or cannot be opened.
        """
        if not holds(self.root.is_dir):
            packed = " Unpack it first." if self.root.suffix.lower() in ARCHIVES else ""
            raise CorpusError(
                f"{shown(self.root)} is no folder; expected the folder that the owners' archive makes.{packed}"
            )
        known = self._load_index()
        began = time.time_ns()
        kept: dict[str, list[object]] = {}
        found: dict[str, list[str]] = {}
        for path, status, listing in self._walk(known):
            found[path] = listing[2]
            if began - status.st_mtime_ns > UNSETTLED:
                kept[path] = [status.st_mtime_ns, status.st_ino, *listing]
        if "" in self.refused:
            raise CorpusError(f"{shown(self.root)} cannot be opened; see to its permissions.")
        if self._index and kept != known:
            self._save_index(kept)
        return found

    def empty(self) -> list[str]:
        """Paths of folders with nothing in them, sorted."""
        above = {path.rpartition("/")[0] for path in self.folders if path}
        return sorted(path for path, files in self.folders.items() if not files and path not in above)

    def path_of(self, folder: Path) -> str:
        """A folder's key in ``folders``."""
        path = folder.relative_to(self.root).as_posix()
        return "" if path == "." else path

    def files(self, endings: tuple[str, ...]) -> list[Path]:
        """Every file with one of these endings, whatever the case."""
        return [
            self.root / path / name
            for path, names in self.folders.items()
            for name in names
            if name.lower().endswith(endings)
        ]

    def _walk(self, known: dict[str, list[object]]) -> Iterator[tuple[str, os.stat_result, Listing]]:
        """Path, status and content of each folder; what cannot be opened goes to ``refused``.

        Each real folder comes once, by its own path if it has one below the root, else by that of a link.
        """
        seen: set[tuple[int, int]] = set()
        waiting, linked = [("", 0)], list[tuple[str, int]]()
        while waiting or linked:
            path, depth = (waiting or linked).pop()
            try:
                status = (self.root / path).stat()
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                entry = known.get(path)
                if entry is not None and entry[:2] == [status.st_mtime_ns, status.st_ino]:  # a moved one keeps its time
                    listing: Listing = (entry[2], entry[3], entry[4])  # type: ignore[assignment]
                else:
                    listing = _list(self.root / path)
            except OSError:
                self.refused.append(path)
                continue
            yield path, status, listing
            for later, names in ((waiting, listing[0]), (linked, listing[1])) if depth < DEPTH else ():
                later += [(f"{path}/{name}" if path else name, depth + 1) for name in reversed(names)]

    @property
    def _index_file(self) -> Path:
        return _plain_path(self.root).parent / f".{self.name}.mer-zoo.json"

    def _load_index(self) -> dict[str, list[object]]:
        """What was kept; nothing if it is not there or is not ours."""
        if not self._index:
            return {}
        try:
            saved = json.loads(self._index_file.read_text(encoding="utf-8"))
            folders = saved["folders"] if saved["version"] == INDEX_VERSION else {}
            return folders if all(_is_entry(entry) for entry in folders.values()) else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def _save_index(self, folders: dict[str, list[object]]) -> None:
        temporary = self._index_file.with_name(f"{self._index_file.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps({"version": INDEX_VERSION, "folders": folders}), encoding="utf-8")
            temporary.replace(self._index_file)
        except OSError:  # beside the root nothing may be written; then it is listed every time
            temporary.unlink(missing_ok=True)


def _plain_path(path: Path) -> Path:
    """A path from the top without ``.`` and ``..``; links stay."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.absolute keeps ``..``, Path.resolve follows links


def _list(folder: Path) -> Listing:
    """What is in a folder, sorted; what is hidden, a link to nowhere, or no file, such as a pipe, is left out."""
    folders: list[str] = []
    links: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if holds(entry.is_dir):
                (links if entry.is_symlink() else folders).append(entry.name)
            elif holds(entry.is_file):
                files.append(entry.name)
    return sorted(folders), sorted(links), sorted(files)


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 5
        and all(isinstance(number, int) for number in entry[:2])
        and all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in entry[2:])
    )
