"""Predictions -> scores, as Markdown and JSON. Everything is computed by key from the pooled table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mer_zoo import metrics
from mer_zoo.errors import InputError
from mer_zoo.metrics import Matrix
from mer_zoo.protocols import Protocol, get_protocol
from mer_zoo.runs import PREDICTIONS, write_text
from mer_zoo.types import Counts

SELECTIONS = {"last": "last epoch, the same for every fold; nothing was chosen on test persons"}


@dataclass(frozen=True)
class Report:
    """Scores of one run.

    Attributes:
        protocol: What was evaluated.
        matrix: (C, C) counts pooled over all folds, rows the target class.
        corpora: The same for each corpus.
        people: (P, C, C), the same for each person.
        found: Persons and clips of each corpus.
        run: How it was made: model, recipe, seed, selection, versions; empty if the table did not say.
    """

    protocol: Protocol
    matrix: Matrix
    corpora: Mapping[str, Matrix]
    people: Matrix
    found: Mapping[str, Counts]
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def uf1(self) -> float:
        """Unweighted F1 over all clips."""
        return metrics.uf1(self.matrix)

    @property
    def uar(self) -> float:
        """Unweighted average recall over all clips."""
        return metrics.uar(self.matrix)

    @property
    def accuracy(self) -> float:
        """Share of clips that were predicted right."""
        return metrics.accuracy(self.matrix)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval of ``uf1`` when persons are drawn anew; two NaN where too few persons have every class."""
        return metrics.bootstrap_interval(self.people)

    @property
    def notes(self) -> list[str]:
        """Where the clips differ from what the publication counts."""
        return self.protocol.deviations(self.found)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; a score that cannot be given is None."""
        return {
            "protocol": self.protocol.name,
            "source": self.protocol.source,
            "pooled": {**_scores(self.matrix), "uf1_interval_95": [_plain(end) for end in self.interval]},
            "corpora": {name: _scores(matrix) for name, matrix in self.corpora.items()},
            "classes": {
                name: {"clips": int(clips), "f1": f1, "recall": recall}
                for name, clips, f1, recall in zip(
                    self.protocol.classes,
                    self.matrix.sum(axis=1),
                    metrics.f1_per_class(self.matrix).tolist(),
                    metrics.recall_per_class(self.matrix).tolist(),
                    strict=True,
                )
            },
            "confusion": self.matrix.tolist(),
            "notes": self.notes,
            "run": dict(self.run),
        }

    def to_markdown(self) -> str:
        """The report as text with tables."""
        facts = self.to_dict()
        persons = sum(c.subjects or 0 for c in self.found.values())
        low, high = self.interval
        between = f"{low:.3f} to {high:.3f}" if np.isfinite(low) else "not given: too few persons show every class"
        title = self.protocol.name + (" on rendered persons" if self.protocol.stood_in_by(self.found) else "")
        lines = [
            f"# {title}: UF1 {self.uf1:.3f}, UAR {self.uar:.3f}, accuracy {self.accuracy:.3f}",
            "",
            f"{self.matrix.sum()} clips of {persons} persons. {self.protocol.source}.",
            f"95 % interval of UF1 over persons: {between}.",
            *(f"Note: {note}" for note in self.notes),
            "",
            *markdown_table(
                ["corpus", "persons", "clips", "UF1", "UAR", "accuracy", "weighted F1"],
                [
                    ["all", persons, *_cells(facts["pooled"])],
                    *([name, self.found[name].subjects, *_cells(s)] for name, s in facts["corpora"].items()),
                ],
            ),
            *markdown_table(
                ["class", "clips", "F1", "recall", *(f"predicted {name}" for name in self.protocol.classes)],
                [
                    [name, c["clips"], _number(c["f1"]), _number(c["recall"]), *row]
                    for (name, c), row in zip(facts["classes"].items(), facts["confusion"], strict=True)
                ],
            ),
            *how(self.run),
        ]
        return "\n".join(lines)

    def save(self, folder: str | Path) -> None:
        """Write ``report.md`` and ``report.json``."""
        write_report(folder, self.to_dict(), self.to_markdown())


def write_report(folder: str | Path, facts: Mapping[str, Any], text: str) -> None:
    """Write ``report.json`` and ``report.md``."""
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "report.json", json.dumps(facts, indent=2) + "\n")
    write_text(folder / "report.md", text)


def report(predictions: pd.DataFrame, protocol: str | Protocol, out: str | Path | None = None) -> Report:
    """Score a table of predictions.

    Args:
        predictions: One row a clip, as ``evaluate`` returns it; the order of rows does not matter.
        protocol: The protocol, or its name, that the table was made by.
        out: Folder for ``report.md``, ``report.json`` and ``predictions.csv``.

    Raises:
        InputError: If columns are missing, a clip comes twice, a class index is none of the protocol's, or the table
            was made by another protocol.
        ValueError: If a class has no target, so that a mean over classes would be a guess.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    _check(predictions, protocol)
    size = len(protocol.classes)

    def matrix(rows: pd.DataFrame) -> Matrix:
        return metrics.confusion(rows["target"], rows["pred"], size)

    corpora = {str(name): rows for name, rows in predictions.groupby("corpus")}
    people = [matrix(rows) for _, rows in predictions.groupby(["corpus", "subject"])]
    made = Report(
        protocol=protocol,
        matrix=matrix(predictions),
        corpora={name: matrix(rows) for name, rows in corpora.items()},
        people=np.stack(people),
        found={name: _count(rows, protocol) for name, rows in corpora.items()},
        run=predictions.attrs.get("run", {}),
    )
    metrics.uf1(made.matrix)
    if out is not None:
        made.save(out)
        write_text(Path(out).expanduser() / PREDICTIONS, predictions.to_csv(index=False))
    return made


def check_table(predictions: pd.DataFrame, protocol: Protocol, columns: Sequence[str]) -> None:
    """Refuse what is no table of this protocol with these columns, one row a clip.

    Raises:
        InputError: If it is not.
    """
    if not isinstance(predictions, pd.DataFrame):
        raise InputError(f"predictions is a {type(predictions).__name__}; expected a table as evaluate returns it.")
    missing = [name for name in columns if name not in predictions]
    if missing or not len(predictions):
        raise InputError(
            f"The table has {len(predictions)} rows and columns {list(predictions)[:12]} and lacks {missing}; expected "
            f"it as evaluate returns it, one row a clip and at least {', '.join(columns[:12])}."
        )
    twice = predictions["key"][predictions["key"].duplicated()].tolist()
    if twice:
        raise InputError(f"{len(twice)} clips come more than once: {twice[:3]}; expected each once.")
    made_by = predictions.attrs.get("run", {}).get("protocol", protocol.name)
    corpora = set(predictions["corpus"])
    alone = len(corpora) == 1 and protocol.stood_in_by(corpora)
    if (corpora - set(protocol.counts) and not alone) or made_by != protocol.name:
        raise InputError(
            f"The table was made by {made_by} and holds {', '.join(sorted(corpora))}; "
            f"{protocol.name} is of {', '.join(protocol.counts)}. Name the protocol that it was made by."
        )


def _check(predictions: pd.DataFrame, protocol: Protocol) -> None:
    if protocol.units:
        raise InputError(f"{protocol.name} is of action units; score it by mer_zoo.report_units.")
    check_table(predictions, protocol, ("key", "corpus", "subject", "clip", "fold", "target", "pred"))
    size = len(protocol.classes)
    for name in ("target", "pred"):
        if not predictions[name].isin(range(size)).all():
            found = sorted(predictions[name].unique().tolist())
            raise InputError(f"Column {name} holds {found}; expected class indices 0 to {size - 1} of {protocol.name}.")


def _count(rows: pd.DataFrame, protocol: Protocol) -> Counts:
    numbers = rows["target"].value_counts()
    classes = {name: int(numbers[i]) for i, name in enumerate(protocol.classes) if i in numbers}
    return Counts(rows["subject"].nunique(), len(rows), classes)


def _scores(matrix: Matrix) -> dict[str, Any]:
    """Clips and the four scores; means over classes are None where a class has no clip."""
    whole = bool(matrix.sum(axis=1).all())
    return {
        "clips": int(matrix.sum()),
        "uf1": metrics.uf1(matrix) if whole else None,
        "uar": metrics.uar(matrix) if whole else None,
        "accuracy": metrics.accuracy(matrix),
        "weighted_f1": metrics.weighted_f1(matrix) if whole else None,
    }


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cells(scores: Mapping[str, Any]) -> list[Any]:
    return [scores["clips"], *(_number(scores[name]) for name in ("uf1", "uar", "accuracy", "weighted_f1"))]


def markdown_table(header: list[str], rows: list[list[Any]]) -> list[str]:
    """A Markdown table, padded so that it reads as text too."""
    cells = [header, *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return [lines[0], rule, *lines[1:], ""]


def how(run: Mapping[str, Any]) -> list[str]:
    """Model, selection rule, recipe and versions, as far as the table says."""
    if not run:
        return ["How these predictions were made is not recorded in the table.", ""]
    recipe = ", ".join(f"{name} {value}" for name, value in run["recipe"].items())
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    spec = run["input_spec"]
    return [
        f"- Model: {run['model']}, {run['parameters']:,} weights; eats {spec['kind']}, channels "
        f"{', '.join(spec['channels'])}, values {spec['low']:g} to {spec['high']:g}.",
        f"- Selection: {SELECTIONS[run['selection']]}.",
        f"- Recipe: {recipe}.",
        f"- Versions: {versions}.",
        "",
    ]
