"""Predictions of action units -> scores. A clip shows any number of units, so each unit is a question of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mer_zoo.errors import InputError
from mer_zoo.protocols import Protocol, get_protocol
from mer_zoo.reporting import check_table, how, markdown_table, write_report
from mer_zoo.runs import PREDICTIONS, write_text
from mer_zoo.types import Counts

Tally = npt.NDArray[np.int64]  # (U, 4): clips that are found, called wrongly, missed, and rightly passed over, by unit


@dataclass(frozen=True)
class UnitReport:
    """Scores of one run over action units.

    Attributes:
        protocol: What was evaluated.
        tally: (U, 4), pooled over all folds.
        corpora: The same for each corpus.
        found: Persons and clips of each corpus.
        run: How it was made; empty if the table did not say.
    """

    protocol: Protocol
    tally: Tally
    corpora: Mapping[str, Tally]
    found: Mapping[str, Counts]
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def f1(self) -> float:
        """Mean over units of F1 for "the unit is there", over all clips (AU average of Varanka et al.)."""
        return float(f1_per_unit(self.tally).mean())

    @property
    def f1_over_corpora(self) -> float:
        """Mean over corpora of the same within each (dataset average of Varanka et al.)."""
        return float(np.mean([f1_per_unit(tally).mean() for tally in self.corpora.values()]))

    @property
    def f1_of_always(self) -> float:
        """What ``f1`` would be if every unit were called in every clip: the score to beat."""
        there = self.tally[:, 0] + self.tally[:, 2]
        return float(np.mean(2 * there / (there + self.tally.sum(axis=1))))

    @property
    def notes(self) -> list[str]:
        """Where the clips differ from what the publication counts."""
        return self.protocol.deviations(self.found)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        f1 = f1_per_unit(self.tally)
        return {
            "protocol": self.protocol.name,
            "source": self.protocol.source,
            "f1": self.f1,
            "f1_over_corpora": self.f1_over_corpora,
            "f1_of_always": self.f1_of_always,
            "units": {
                name: {"clips": int(t[0] + t[2]), "f1": float(score), "tally": t.tolist()}
                for name, t, score in zip(self.protocol.classes, self.tally, f1, strict=True)
            },
            "corpora": {name: {"f1": float(f1_per_unit(t).mean())} for name, t in self.corpora.items()},
            "notes": self.notes,
            "run": dict(self.run),
        }

    def to_markdown(self) -> str:
        """The report as text with tables."""
        corpora = [
            [name, self.found[name].subjects, self.found[name].clips, f"{f1_per_unit(tally).mean():.3f}"]
            for name, tally in self.corpora.items()
        ]
        units = [
            [name, facts["clips"], f"{facts['f1']:.3f}", *facts["tally"]]
            for name, facts in self.to_dict()["units"].items()
        ]
        lines = [
            f"# {self.protocol.name}: F1 {self.f1:.3f}, mean over corpora {self.f1_over_corpora:.3f}",
            "",
            f"{self.tally[0].sum()} clips. {self.protocol.source}.",
            f"F1 is that of a unit being there, the mean of {len(self.tally)} units; one that no clip shows counts 0.",
            f"Calling every unit in every clip gives {self.f1_of_always:.3f}.",
            *(f"Note: {note}" for note in self.notes),
            "",
            *markdown_table(["corpus", "persons", "clips", "F1"], corpora),
            *markdown_table(["unit", "clips", "F1", "found", "called wrongly", "missed", "passed over"], units),
            *how(self.run),
        ]
        return "\n".join(lines)

    def save(self, folder: str | Path) -> None:
        """Write ``report.md`` and ``report.json``."""
        write_report(folder, self.to_dict(), self.to_markdown())


def report_units(predictions: pd.DataFrame, protocol: str | Protocol, out: str | Path | None = None) -> UnitReport:
    """Score a table of predicted action units.

    Args:
        predictions: One row a clip, as ``evaluate`` returns it for a protocol of action units.
        protocol: The protocol, or its name, that the table was made by.
        out: Folder for ``report.md``, ``report.json`` and ``predictions.csv``.

    Raises:
        InputError: If the protocol is none of action units, columns are missing, a clip comes twice, or the table was
            made by another protocol.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    _check(predictions, protocol)
    corpora = {str(name): rows for name, rows in predictions.groupby("corpus")}
    made = UnitReport(
        protocol=protocol,
        tally=_tally(predictions, protocol),
        corpora={name: _tally(rows, protocol) for name, rows in corpora.items()},
        found={name: _count(rows, protocol) for name, rows in corpora.items()},
        run=predictions.attrs.get("run", {}),
    )
    if out is not None:
        made.save(out)
        write_text(Path(out).expanduser() / PREDICTIONS, predictions.to_csv(index=False))
    return made


def f1_per_unit(tally: Tally) -> npt.NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) of each unit, (U,); 0 where a unit is neither there nor called."""
    found, wrong, missed = tally[:, 0], tally[:, 1], tally[:, 2]
    return np.asarray(2 * found / np.maximum(2 * found + wrong + missed, 1), np.float64)


def _tally(rows: pd.DataFrame, protocol: Protocol) -> Tally:
    there = rows[[f"target_{name}" for name in protocol.classes]].to_numpy(dtype=bool)
    called = rows[[f"pred_{name}" for name in protocol.classes]].to_numpy(dtype=bool)
    parts = [there & called, ~there & called, there & ~called, ~there & ~called]
    return np.stack([part.sum(axis=0) for part in parts], axis=1).astype(np.int64)


def _count(rows: pd.DataFrame, protocol: Protocol) -> Counts:
    classes = {name: int(rows[f"target_{name}"].sum()) for name in protocol.classes}
    return Counts(rows["subject"].nunique(), len(rows), classes)


def _check(predictions: pd.DataFrame, protocol: Protocol) -> None:
    if not protocol.units:
        raise InputError(f"{protocol.name} is no protocol of action units; score it by mer_zoo.report.")
    answers = [f"{what}_{name}" for name in protocol.classes for what in ("target", "pred")]
    check_table(predictions, protocol, ("key", "corpus", "subject", *answers))
    if not predictions[answers].isin((0, 1)).all(axis=None):
        raise InputError("Targets and predictions of action units are 0 or 1; the table holds other values.")
