"""A run on disk: what it is, and each finished fold, renamed into place whole."""

import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from mer_zoo.errors import RunError
from mer_zoo.types import Fold

RUN, PREDICTIONS, FOLD = "run.json", "predictions.csv", "fold.json"
TEXT = ("key", "corpus", "subject", "clip", "fold")


class RunFolder:
    """``run.json`` and ``folds/<corpus>/<subject>/``; without a path nothing is kept.

    Args:
        path: The folder; made if it is not there.
        settings: Everything that the predictions depend on; the versions of what computes them are added.

    Raises:
        RunError: If the folder holds a run of other settings or versions, or files that are no run.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path = path
        self.description = {**json.loads(json.dumps(settings)), "versions": versions()}
        if path is None:
            return
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; pass a folder.")
        if (path / RUN).exists():
            self._compare(_read_json(path / RUN))
        elif path.exists() and any(not file.name.startswith(".") for file in path.iterdir()):
            raise RunError(f"{path} holds files but no {RUN}; pass an empty folder or one of an earlier run.")
        else:
            path.mkdir(parents=True, exist_ok=True)
            write_text(path / RUN, json.dumps(self.description, indent=2) + "\n")

    def _compare(self, found: dict[str, Any]) -> None:
        there, now = _flat(found), _flat(self.description)
        differences = [
            f"{name}: {there.get(name)!r} there, {now.get(name)!r} now"
            for name in sorted(there.keys() | now.keys())
            if there.get(name) != now.get(name)
        ]
        if differences:
            raise RunError(
                f"{self.path} holds a run of other settings ({'; '.join(differences)}). Nothing was changed; pass "
                "another folder, or the settings of that run."
            )

    def read(self, fold: Fold) -> pd.DataFrame | None:
        """Predictions of a finished fold, or None.

        Raises:
            RunError: If what lies there is not that fold whole.
        """
        if self.path is None or not _place(self.path, fold).exists():
            return None
        file = _place(self.path, fold) / PREDICTIONS
        try:
            table = read_predictions(file)
            whole = table["key"].tolist() == [sample.key for sample in fold.test]
        except (OSError, ValueError, KeyError) as error:
            raise RunError(f"{file} cannot be read ({error}); delete {file.parent} to have it made anew.") from error
        if not whole:
            raise RunError(f"{file} does not hold the {len(fold.test)} clips of its fold; delete {file.parent}.")
        return table

    def write(self, fold: Fold, table: pd.DataFrame, facts: dict[str, Any]) -> None:
        """Keep a finished fold: all of it, or nothing if the process dies meanwhile.

        If another process has kept the same fold in between, its result, which is the same, stays.
        """
        if self.path is None:
            return
        place = _place(self.path, fold)
        temporary = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=self.path))
        try:
            table.to_csv(temporary / PREDICTIONS, index=False)
            (temporary / FOLD).write_text(json.dumps({**facts, "versions": versions()}, indent=2) + "\n")
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(place)
        except OSError:
            if not place.exists():
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _place(run: Path, fold: Fold) -> Path:
    return run / "folds" / fold.name


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise RunError(f"{file} cannot be read ({error}); delete it with its folds, or pass another folder.") from error
    return found


def read_predictions(file: Path) -> pd.DataFrame:
    """A table of predictions as it was written: numbers to the last digit, subject 006 as text."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    kinds = {name: float if name.startswith("p_") else int for name in table.columns if name not in TEXT}
    return table.astype(kinds)


def versions() -> dict[str, str]:
    """What the numbers were computed with."""
    packages = ("mer-zoo", "torch", "timm", "numpy", "pandas")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(file)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``recipe.lr``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
