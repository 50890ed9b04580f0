"""A run on disk: what it is, and each finished fold, renamed into place whole."""

import importlib.metadata
import json
import os
import platform
import shutil
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
        settings: Everything that the predictions depend on.

    Raises:
        RunError: If the folder holds a run of other settings, or files that are no run.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path = path
        self.description = {**json.loads(json.dumps(settings)), "versions": versions()}
        if path is None:
            return
        if (path / RUN).exists():
            self._compare(json.loads((path / RUN).read_text()))
        elif path.exists() and any(path.iterdir()):
            raise RunError(f"{path} holds files but no {RUN}; pass an empty folder or one of an earlier run.")
        else:
            path.mkdir(parents=True, exist_ok=True)
            write_text(path / RUN, json.dumps(self.description, indent=2) + "\n")

    def _compare(self, found: dict[str, Any]) -> None:
        there = _flat(found)
        differences = [
            f"{name}: {there.get(name)!r} there, {value!r} now"
            for name, value in _flat(self.description).items()
            if name.split(".")[0] != "versions" and there.get(name) != value
        ]
        if differences:
            raise RunError(
                f"{self.path} holds a run of other settings ({'; '.join(differences)}). Nothing was changed; pass "
                "another folder, or the settings of that run."
            )

    def read(self, fold: Fold) -> pd.DataFrame | None:
        """Predictions of a finished fold, or None."""
        if self.path is None or not (_place(self.path, fold) / PREDICTIONS).exists():
            return None
        return read_predictions(_place(self.path, fold) / PREDICTIONS)

    def write(self, fold: Fold, table: pd.DataFrame, facts: dict[str, Any]) -> None:
        """Keep a finished fold: all of it, or nothing if the process dies meanwhile."""
        if self.path is None:
            return
        temporary = self.path / f".unfinished-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        table.to_csv(temporary / PREDICTIONS, index=False)
        (temporary / FOLD).write_text(json.dumps(facts, indent=2) + "\n")
        place = _place(self.path, fold)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(place)


def _place(run: Path, fold: Fold) -> Path:
    return run / "folds" / fold.name


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
