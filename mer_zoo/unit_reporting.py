"""Predictions of action units -> scores. A clip shows any number of units, so each unit is a question of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mer_zoo import metrics
from mer_zoo.errors import InputError
from mer_zoo.protocols import Protocol, get_protocol
from mer_zoo.report_text import about_clips, heading, how, number, point, scored, table
from mer_zoo.reporting import Scored, plain, read, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIDDLE = (0.025, 0.975)  # quantiles at the ends of a 95 % interval

NOT_BESIDE = "Guessing under the rule of the run does not stand beside scores of action units."
NEITHER_BESIDE = "Guessing under the rule of the run, and baselines, do not stand beside scores of action units."

Tally = npt.NDArray[np.int64]  # (U, 4): clips that are found, called wrongly, missed, and rightly passed over, by unit


@dataclass(frozen=True, eq=False)
class UnitReport(Scored):
    """Scores of one run over action units."""

    @cached_property
    def tally(self) -> Tally:
        """(U, 4), pooled over all folds."""
        return _tally(self._people.sum(axis=0))

    @cached_property
    def corpora(self) -> Mapping[str, Tally]:
        """The same for each corpus."""
        return {name: _tally(people.sum(axis=0)) for name, people in self.of_corpora(self._people).items()}

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
        """What ``f1`` would be if every unit were called in every clip, which is the score to beat."""
        there = self.tally[:, 0] + self.tally[:, 2]
        return float(np.mean(2 * there / (there + self.tally.sum(axis=1))))

    @property
    def f1_of_baselines(self) -> dict[str, float]:
        """``f1`` of each baseline that the table has answers of."""
        tallies = {name: _tally(self._counts(called).sum(axis=0)) for name, called in self.baselines.items()}
        return {name: float(f1_per_unit(tally).mean()) for name, tally in tallies.items()}

    @cached_property
    def _people(self) -> npt.NDArray[np.int64]:
        return self._counts(self.table[[f"pred_{name}" for name in self.protocol.classes]].to_numpy(dtype=np.int64))

    def _counts(self, called: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Clips of each person and unit by whether it is there and whether it is called: (P, U, 2, 2)."""
        there = self.table[[f"target_{name}" for name in self.protocol.classes]].to_numpy(dtype=np.int64)
        if called.shape != there.shape or not np.isin(called, (0, 1)).all():
            raise InputError(f"Answers of a baseline are {called.shape}; expected {there.shape} of 0 and 1.")
        units = np.arange(there.shape[1])
        counts = np.zeros((len(self.persons), len(units), 2, 2), np.int64)
        np.add.at(counts, (self.person_of_row[:, None], units, there, called), 1)
        return counts

    @cached_property
    def _drawn(self) -> npt.NDArray[np.float64]:
        """F1 of each unit when persons are drawn anew, (draws, U)."""
        pooled = [metrics.bootstrap(self._people[:, unit]) for unit in range(self._people.shape[1])]
        return f1_per_unit(_tally(np.stack(pooled, axis=1)))

    def to_dict(self) -> dict[str, Any]:
        f1, ends = f1_per_unit(self.tally), np.quantile(self._drawn, MIDDLE, axis=0).T
        return {
            **self.about(),
            "f1": self.f1,
            "intervals_95": {"f1": plain(np.quantile(self._drawn.mean(axis=1), MIDDLE), self._people)},
            "f1_over_corpora": self.f1_over_corpora,
            "f1_of_always": self.f1_of_always,
            "f1_of_baselines": self.f1_of_baselines,
            "units": {
                name: {
                    "clips": int(t[0] + t[2]),
                    "f1": float(score),
                    "intervals_95": {"f1": plain(between, self._people) if t[0] + t[2] else None},
                    "tally": t.tolist(),
                }
                for name, t, score, between in zip(self.protocol.classes, self.tally, f1, ends, strict=True)
            },
            "corpora": {name: {"f1": float(f1_per_unit(t).mean())} for name, t in self.corpora.items()},
        }

    def to_markdown(self) -> str:
        facts = self.to_dict()
        corpora = [
            [name, self.found[name].subjects, self.found[name].clips, number(scores["f1"])]
            for name, scores in facts["corpora"].items()
        ]
        units = [[name, unit["clips"], scored(unit, "f1"), *unit["tally"]] for name, unit in facts["units"].items()]
        lines = [
            *heading(
                f"{self.title}: F1 {self.f1:.3f}, mean over corpora {self.f1_over_corpora:.3f}", self.leak, self.gaps
            ),
            about_clips(facts, len(self.persons)),
            "",
            f"- F1, with its 95 % interval over persons: {scored(facts, 'f1')}. It is that of a unit being there, the "
            f"mean of {len(self.tally)} units; one that no clip shows counts 0.",
            f"- Calling every unit in every clip gives {self.f1_of_always:.3f}.",
            *(f"- The baseline {name} gives {f1:.3f}." for name, f1 in facts["f1_of_baselines"].items()),
            f"- {NOT_BESIDE if facts['f1_of_baselines'] else NEITHER_BESIDE}",
            *(f"- Note: {note}" for note in facts["notes"]),
            "",
            *table(["corpus", "persons", "clips", "F1"], corpora),
            *table(["unit", "clips", "F1", "found", "called wrongly", "missed", "passed over"], units),
            *how(self.run),
        ]
        return "\n".join(lines)

    def figures(self) -> dict[str, "Figure"]:
        from mer_zoo import figures

        units = self.to_dict()["units"]
        drawn = {"units": figures.class_bars({name: {"F1": point(unit, "f1")} for name, unit in units.items()})}
        return drawn | ({"losses": figures.loss_curves(self.losses)} if any(map(len, self.losses.values())) else {})


def report_units(
    predictions: pd.DataFrame, protocol: str | Protocol, out: str | Path | None = None, *, incomplete: bool = False
) -> UnitReport:
    """Score a table of predicted action units.

    Args:
        predictions: One row a clip, as ``evaluate`` returns it for a protocol of action units.
        protocol: The protocol, or its name, that the table was made by.
        out: Folder for what ``UnitReport.save`` writes and ``predictions.csv``.
        incomplete: Score what is there if folds failed or rows are missing, and say so.

    Raises:
        InputError: If the protocol is none of action units, columns are missing, a clip comes twice, the table was
            made by another protocol, or it is not whole and ``incomplete`` is not set.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    if not protocol.units:
        raise InputError(f"{protocol.name} is no protocol of action units; score it by mer_zoo.report.")
    answers = [f"{what}_{name}" for name in protocol.classes for what in ("target", "pred")]
    made = read(UnitReport, predictions, protocol, answers, incomplete)
    if not made.table[answers].isin((0, 1)).all(axis=None):
        raise InputError("Targets and predictions of action units are 0 or 1; the table holds other values.")
    if out is not None:
        save(made, predictions, out)
    return made


def f1_per_unit(tally: Tally) -> npt.NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) of each unit, (..., U, 4) -> (..., U); 0 where a unit is neither there nor called."""
    found, wrong, missed = (tally[..., i] for i in range(3))
    return np.asarray(2 * found / np.maximum(2 * found + wrong + missed, 1), np.float64)


def _tally(counts: npt.NDArray[np.int64]) -> Tally:
    """Counts by there and called, (..., U, 2, 2) -> (..., U, 4)."""
    return np.stack([counts[..., there, called] for there, called in ((1, 1), (0, 1), (1, 0), (0, 0))], axis=-1)
