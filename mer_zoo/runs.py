"""A run on disk: what it is, and each finished fold, renamed into place whole; and the table that a run makes."""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mer_zoo.errors import RunError
from mer_zoo.types import Fold

RUN, PREDICTIONS, BASELINES, LOSSES, FOLD = "run.json", "predictions.csv", "baselines.csv", "losses.csv", "fold.json"
TEXT = ("key", "corpus", "subject", "clip", "fold", "note", "error")


@dataclass(frozen=True)
class Outcome:
    """What came of a fold.

    Attributes:
        table: Its predictions; of a fold that failed, rows with ``pred`` -1 and no probabilities.
        baselines: What the baselines predict of the same clips: ``key`` and a column for each.
        losses: Mean loss of each epoch trained.
        facts: Seed, epoch scored, seconds.
        error: Why it failed; empty if it did not.
    """

    table: pd.DataFrame
    baselines: pd.DataFrame = field(default_factory=pd.DataFrame)
    losses: Sequence[float] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


class RunFolder:
    """``run.json`` and ``folds/<name of the fold>/``; without a path nothing is kept.

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
            f"{name}: {_brief(there.get(name))} there, {_brief(now.get(name))} now"
            for name in sorted(there.keys() | now.keys())
            if there.get(name) != now.get(name)
        ]
        if differences:
            raise RunError(
                f"{self.path} holds a run of other settings ({'; '.join(differences)}). Nothing was changed; pass "
                "another folder, or the settings of that run."
            )

    def read(self, fold: Fold) -> Outcome | None:
        """A finished fold, or None.

        Raises:
            RunError: If what lies there is not that fold whole.
        """
        if self.path is None or not _place(self.path, fold.name).exists():
            return None
        outcome = _read_fold(_place(self.path, fold.name))
        if outcome.table["key"].tolist() != [sample.key for sample in fold.test]:
            place = _place(self.path, fold.name)
            raise RunError(
                f"{place / PREDICTIONS} does not hold the {len(fold.test)} clips of its fold; delete {place}."
            )
        return outcome

    def write(self, fold: Fold, outcome: Outcome, save_weights: Callable[[Path], object] | None = None) -> None:
        """Keep a finished fold: all of it, or nothing if the process dies meanwhile.

        If another process has kept the same fold in between, its result, which is the same, stays.
        """
        if self.path is None:
            return
        place = _place(self.path, fold.name)
        temporary = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=self.path))
        try:
            self._write(outcome, temporary)
            if save_weights is not None:
                save_weights(temporary / "weights")
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(place)
        except OSError:
            if not place.exists():
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _write(self, outcome: Outcome, folder: Path) -> None:
        """The files of a fold; each says so if the run leaks."""
        leak = self.description.get("leak")
        note = {"note": leak} if leak else {}
        losses = pd.DataFrame({"epoch": range(1, len(outcome.losses) + 1), "loss": outcome.losses})
        outcome.table.to_csv(folder / PREDICTIONS, index=False)
        outcome.baselines.assign(**note).to_csv(folder / BASELINES, index=False)
        losses.assign(**note).to_csv(folder / LOSSES, index=False)
        facts = {**note, **outcome.facts, "versions": versions()}
        (folder / FOLD).write_text(json.dumps(facts, indent=2) + "\n")

    def sweep(self) -> None:
        """Take away what killed processes left behind; once every fold is there, nobody needs it."""
        if self.path is None:
            return
        for path in self.path.glob(".unfinished-*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.path.glob(f".{RUN}.*"):
            path.unlink(missing_ok=True)


class Kept(dict[str, Any]):
    """A part of a table's ``attrs``, to be read only: pandas copies attrs at every step, which this one survives."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Kept":
        return self


def assemble(outcomes: Mapping[str, Outcome], description: Mapping[str, Any]) -> pd.DataFrame:
    """One table of all folds, in their order.

    ``attrs`` hold ``run``, the description; ``baselines``, by name and then by ``fold key`` what each predicts; and
    ``losses`` of each fold. A run that leaks says so in the column ``note``, one with failed folds why in ``error``.
    """
    table = pd.concat([outcome.table for outcome in outcomes.values()], ignore_index=True)
    if any(outcome.error for outcome in outcomes.values()):
        table["error"] = table["fold"].map({name: outcome.error for name, outcome in outcomes.items()})
    baselines: dict[str, dict[str, int]] = {}
    for fold, outcome in outcomes.items():
        for name in outcome.baselines.columns.drop(["key", "note"], errors="ignore"):
            keyed = zip(outcome.baselines["key"], outcome.baselines[name].tolist(), strict=True)
            baselines.setdefault(str(name), {}).update({f"{fold} {key}": pred for key, pred in keyed})
    table.attrs["run"] = dict(description)
    table.attrs["baselines"] = Kept(baselines)
    table.attrs["losses"] = Kept({fold: list(o.losses) for fold, o in outcomes.items() if not o.error})
    return table


def read_run(folder: str | Path) -> pd.DataFrame:
    """The table of a run folder, as ``evaluate`` returns it; folds that are not finished are missing.

    Raises:
        RunError: If there is no run, no finished fold, or one that cannot be read.
    """
    folder = Path(folder).expanduser()
    if not (folder / RUN).exists():
        raise RunError(f"{folder} holds no {RUN}; expected a folder that evaluate wrote.")
    description = _read_json(folder / RUN)
    if "fold_names" not in description:
        raise RunError(f"{folder / RUN} is of no run of this version; expected one that evaluate wrote.")
    places = {name: _place(folder, name) for name in description["fold_names"]}
    outcomes = {name: _read_fold(place) for name, place in places.items() if place.exists()}
    if not outcomes:
        raise RunError(f"{folder}: none of {len(places)} folds is finished; call evaluate again with out={folder}.")
    return assemble(outcomes, description)


def rows_hash(names: Iterable[str]) -> str:
    """A short name for a set of rows, each written ``fold key``, whatever their order."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


def _place(run: Path, fold: str) -> Path:
    return run / "folds" / fold


def _read_fold(place: Path) -> Outcome:
    try:
        facts = json.loads((place / FOLD).read_text())
        table, baselines = read_predictions(place / PREDICTIONS), read_predictions(place / BASELINES)
        losses = pd.read_csv(place / LOSSES, dtype=str)["loss"].astype(float).tolist()
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{place} cannot be read ({error}); delete it to have the fold made anew.") from error
    return Outcome(table, baselines, losses, facts)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise RunError(f"{file} cannot be read ({error}); delete it with its folds, or pass another folder.") from error
    return found


def read_predictions(file: Path) -> pd.DataFrame:
    """A table of predictions as it was written: numbers to the last digit, subject 006 as text."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    shares = [name for name in table.columns if name.startswith("p_")]
    table[shares] = table[shares].replace("", "nan")  # of a fold that failed
    return table.astype({name: float if name in shares else int for name in table.columns if name not in TEXT})


def versions() -> dict[str, str]:
    """What the numbers were computed with."""
    packages = ("mer-zoo", "torch", "timm", "numpy", "pandas", "scikit-learn")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def write_text(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(file)


def _brief(value: Any) -> str:
    """A setting in a message: a long list only by its length."""
    return f"{len(value)} of them" if isinstance(value, list) and len(value) > 5 else repr(value)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``recipe.lr``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
