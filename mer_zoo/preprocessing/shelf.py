"""Cooked inputs of many samples, made once and kept: one array and one table for each corpus and way of cooking.

Rows are only ever added. They are written beside the array first, with a journal that says which are whole, so that a
run that is stopped goes on where it was; then a longer array takes the place of the old one, and last the table. Who
reads meanwhile finds an array that fits its table.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from mer_zoo.datasets._base import Corpus
from mer_zoo.errors import CacheError, MerZooError
from mer_zoo.preprocessing.cook import VERSION, Preparation
from mer_zoo.preprocessing.flow import estimator
from mer_zoo.preprocessing.forms import Array
from mer_zoo.types import InputSpec, Sample

logger = logging.getLogger("mer_zoo")

HOME = "MER_ZOO_CACHE"  # the environment variable that names the user's cache directory


def user_folder() -> Path:
    """Where inputs are kept if nobody says: ``$MER_ZOO_CACHE``, or ``mer-zoo`` in the user's cache directory."""
    named = os.environ.get(HOME)
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mer-zoo"


@dataclass(frozen=True)
class Row:
    """What is known of one clip.

    Attributes:
        key: Of its sample.
        digest: Of the key and of what is read for it.
        sha256: Of its input; empty if it has none.
        source: The first picture's name and how many there are.
        apex: The frame that was taken as apex, where one had to be found.
        apex_by: How.
        why: Why it has no input; empty if it has one.
    """

    key: str
    digest: str
    sha256: str = ""
    source: str = ""
    apex: int | None = None
    apex_by: str = ""
    why: str = ""


class Shelf:
    """The inputs of one corpus, cooked one way: ``<corpus>-<hash>.npy`` and ``.json``.

    The hash covers all that decides on pixels but the clips themselves, which each row has a hash for.

    Args:
        file: The array, whether it is there or not.
        facts: What the table says of the array as a whole.
    """

    def __init__(self, file: Path, facts: dict[str, Any]) -> None:
        self.file, self.facts = file, facts
        self.shape = tuple(InputSpec.from_dict(facts["input_spec"]).shape)
        self.table, self.part = file.with_suffix(".json"), file.with_suffix(".part")
        self.journal = file.with_suffix(".part.jsonl")

    @classmethod
    def of(cls, folder: Path, corpus: Corpus, spec: InputSpec, preparation: Preparation) -> "Shelf":
        """The shelf on which such inputs lie."""
        facts = {
            "corpus": corpus.name,
            "input_spec": spec.to_dict(),
            "preparation": preparation.says if corpus.native_spec is None else "",
            "cooked_by": _cooks(corpus, spec),
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        return cls(folder / f"{corpus.name}-{digest}.npy", facts)

    @property
    def says(self) -> str:
        """What these inputs are, in a few words."""
        spec = InputSpec.from_dict(self.facts["input_spec"])
        how = f" by {spec.flow_method}" if spec.flow_method else ""
        shape = " x ".join(map(str, spec.shape))
        return f"{spec.kind} {shape}{how}, {', '.join(spec.channels)}, {spec.low:g} to {spec.high:g}"

    # What is there

    def rows(self) -> list[Row]:
        """What the table says; nothing if there is no table, or no array that fits it."""
        try:
            rows = [Row(**row) for row in json.loads(self.table.read_text(encoding="utf-8"))["clips"]]
            return rows if len(self.array()) >= inputs_among(rows) else []
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def array(self) -> Array:
        """All inputs, (rows, *shape), not read before they are used.

        Raises:
            ValueError: If the file holds something else.
        """
        array = np.load(self.file, mmap_mode="r", allow_pickle=False)
        if array.shape[1:] != self.shape or array.dtype != np.float32:
            raise ValueError(f"{self.file} holds {array.dtype} {array.shape}")
        return np.asanyarray(array)

    def places(self) -> dict[str, tuple[Row, int]]:
        """Rows by digest, the latest of each, with their position in the array; -1 for those without input."""
        found, position = {}, -1
        for row in self.rows():
            position += not row.why
            found[row.digest] = (row, -1 if row.why else position)
        return found

    def sound(self, digests: Collection[str]) -> dict[str, Row]:
        """Those of these rows whose inputs are what the table says, or that have none."""
        asked = {digest: place for digest, place in self.places().items() if digest in digests}
        array = self.array() if asked else np.empty(0)
        return {digest: row for digest, (row, at) in asked.items() if row.why or _sha256(array[at]) == row.sha256}

    @property
    def fitted_on(self) -> frozenset[str]:
        """Keys of clips that the inputs were made with parameters of."""
        try:
            return frozenset(json.loads(self.table.read_text(encoding="utf-8"))["fitted_on"])
        except (OSError, ValueError, KeyError, TypeError):
            return frozenset()

    # Adding to it

    def add(self, done: list[Row], outcomes: Iterator[tuple[Row, Array | None]], fitted_on: frozenset[str]) -> None:
        """Append rows as they come to those that are ``resumed``, and in the end put all in their place.

        Raises:
            CacheError: If the disk is full; what was done before is kept.
        """
        try:
            if not self.table.exists():  # so that what a killed run leaves can be listed and deleted
                self._write_table([], frozenset())
            with self.part.open("ab") as part, self.journal.open("a", encoding="utf-8") as journal:
                for row, values in outcomes:
                    part.write(b"" if values is None else np.ascontiguousarray(values, np.float32).tobytes())
                    part.flush()
                    journal.write(json.dumps(asdict(row)) + "\n")
                    journal.flush()
                    done.append(row)
            self._shelve(done, fitted_on)
        except OSError as error:
            if isinstance(error, MerZooError):
                raise
            raise CacheError(
                f"{self.file.parent} cannot be written ({error.strerror}); {len(done)} clips are done and kept. See to "
                "the disk, and call again to go on."
            ) from error

    def resumed(self) -> list[Row]:
        """What a run that was stopped has done, the last row being cut away where it is not whole."""
        size, rows, end = 4 * int(np.prod(self.shape)), [], 0
        there = self.part.stat().st_size if self.part.exists() else 0
        for line in self.journal.read_text(encoding="utf-8").splitlines() if self.journal.exists() else ():
            try:
                row = Row(**json.loads(line))
            except (ValueError, TypeError):
                break
            if not row.why and (end + size > there or self._part_sha256(end, size) != row.sha256):
                break
            end += 0 if row.why else size
            rows.append(row)
        if there or self.journal.exists():
            with self.part.open("ab") as part:
                part.truncate(end)
            _write(self.journal, "".join(json.dumps(asdict(row)) + "\n" for row in rows))
        return rows

    def _part_sha256(self, start: int, size: int) -> str:
        with self.part.open("rb") as part:
            part.seek(start)
            return hashlib.sha256(part.read(size)).hexdigest()

    def _shelve(self, added: list[Row], fitted_on: frozenset[str]) -> None:
        """The old rows and the new ones in one array under a temporary name, which then takes the old one's place."""
        old = self.rows()
        kept = inputs_among(old)
        temporary = self.file.with_suffix(f".{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as out:
                shape = (kept + inputs_among(added), *self.shape)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(out, header)
                for values in self.array()[:kept] if kept else ():
                    out.write(values.tobytes())
                with self.part.open("rb") as part:
                    shutil.copyfileobj(part, out)
            temporary.replace(self.file)
        finally:
            temporary.unlink(missing_ok=True)
        self._write_table([*old, *added], self.fitted_on | fitted_on)
        self.part.unlink()
        self.journal.unlink()

    def _write_table(self, rows: list[Row], fitted_on: frozenset[str]) -> None:
        said = {**self.facts, "fitted_on": sorted(fitted_on), "clips": [asdict(row) for row in rows]}
        _write(self.table, json.dumps(said, indent=1, ensure_ascii=False) + "\n")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Held by the one process that adds to this shelf; others wait, and then find what it did.

        Raises:
            CacheError: If the folder cannot be made or written to.
        """
        lock = FileLock(self.file.with_suffix(".lock"))
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning("%s: another process prepares it; waiting.", self.file)
            lock.acquire()
        except OSError as error:
            raise CacheError(
                f"{self.file.parent} cannot be written ({error.strerror}); name another folder."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def remove(self) -> None:
        """Delete all its files.

        Raises:
            CacheError: If a process is adding to it.
        """
        lock = FileLock(self.file.with_suffix(".lock"))
        try:
            with lock.acquire(timeout=0):
                for file in (self.table, self.file, self.part, self.journal):
                    file.unlink(missing_ok=True)
                for file in self.file.parent.glob(f"{self.file.stem}.*.tmp"):
                    file.unlink()
        except Timeout:
            raise CacheError(f"{self.file} is being prepared; delete it when that is done.") from None
        Path(lock.lock_file).unlink(missing_ok=True)


def shelves_in(folder: Path) -> list[Shelf]:
    """All that lie in a folder, by name; files that are none of ours are left alone."""
    found = []
    for table in sorted(folder.glob("*-????????????????.json")):
        try:
            facts = json.loads(table.read_text(encoding="utf-8"))
            facts.pop("clips")
            facts.pop("fitted_on")
            found.append(Shelf(table.with_suffix(".npy"), facts))
        except (OSError, ValueError, KeyError, TypeError, MerZooError):
            logger.debug("%s is no table of a cache.", table)
    return found


def digest_of(corpus: Corpus, sample: Sample) -> str:
    """What tells this clip, as it lies on disk now, from all others; of one that is not there its key, and why."""
    try:
        there = corpus.fingerprint(sample)
    except MerZooError as error:
        there = str(error)
    return hashlib.sha256(f"{sample.key} {sample.fps} {there}".encode()).hexdigest()[:16]


def row_of(corpus: Corpus, digest: str, outcome: tuple[Sample, Array | MerZooError]) -> tuple[Row, Array | None]:
    """What the table will say of a clip, and its input."""
    sample, values = outcome
    by = next((flag.removeprefix("apex_by_") for flag in sample.flags if flag.startswith("apex_by_")), "")
    facts: dict[str, Any] = {"key": sample.key, "digest": digest, "source": _source(corpus, sample)}
    if isinstance(values, MerZooError):
        return Row(**facts, why=str(values)), None
    return Row(**facts, sha256=_sha256(values), apex=sample.apex if by else None, apex_by=by), values


def _source(corpus: Corpus, sample: Sample) -> str:
    try:
        files = corpus.frames(sample)
    except MerZooError:
        return ""
    return f"{files[0].parent.name}/{files[0].name}, {len(files)} pictures"


def _cooks(corpus: Corpus, spec: InputSpec) -> list[str]:
    """Our version of cooking; of raw frames the libraries', too, whose decoding, flow and resizing differ."""
    if corpus.native_spec is not None:
        return [f"cook {VERSION}"]
    import cv2
    from PIL import features

    libraries = ("scikit-image", "pillow", "scipy")
    flow = [estimator(spec.flow_method)] if spec.flow_method else []
    here = [f"cook {VERSION}", f"cv2 {cv2.getVersionString()}", *(f"{name} {version(name)}" for name in libraries)]
    return [*here, f"libjpeg-turbo {features.version('libjpeg_turbo')}", *flow]


def inputs_among(rows: Sequence[Row]) -> int:
    """How many of these rows have an input."""
    return sum(not row.why for row in rows)


def _sha256(values: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, np.float32).data).hexdigest()


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
