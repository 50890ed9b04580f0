"""Runs of one protocol side by side: over the same clips only, and in words whether they can be told apart."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from mer_zoo import metrics, report_text
from mer_zoo.errors import InputError
from mer_zoo.protocols import Protocol
from mer_zoo.report_text import SCORES, SHORT, Written, p_cell, point, scored, verdict
from mer_zoo.reporting import Report, report, scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Comparison(Written):
    """Runs over the same clips.

    Attributes:
        reports: Of each run by its name; the first one is what the others are held against.
    """

    reports: Mapping[str, Report]

    @property
    def first(self) -> str:
        """Name of the run that the others are held against."""
        return next(iter(self.reports))

    @property
    def title(self) -> str:
        return f"{len(self.reports)} runs of {self.reports[self.first].title}"

    @property
    def leak(self) -> str | None:
        marks = {name: made.leak for name, made in self.reports.items()}
        return "; ".join(f"{name} is {mark}" for name, mark in marks.items() if mark) or None

    @cached_property
    def _facts(self) -> dict[str, Any]:
        reference = self.reports[self.first].to_dict()
        return {
            **{name: reference[name] for name in ("protocol", "source", "clips", "notes")},
            "persons": len(reference["people"]),
            "leak": self.leak,
            "runs": {name: self._of_run(name) for name in self.reports},
            "baselines": reference["baselines"],
            "chance": reference["chance"],
        }

    def _of_run(self, name: str) -> dict[str, Any]:
        """Scores of a run, and what there is between it and the first one."""
        made, first = self.reports[name], self.reports[self.first]
        same = name == self.first
        return {
            **{fact: made.run.get(fact) for fact in ("model", "selection")},
            "leak": made.leak,
            **scores(made.people),
            "ahead": None if same else made.uf1 - first.uf1,
            "p": None if same else metrics.permutation_test(made.people, first.people),
        }

    def to_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self._facts)

    def to_markdown(self) -> str:
        facts = self._facts
        header = ["run", "model", "epoch", *(SCORES[kind] for kind in SHORT), f"UF1 against {self.first}", "p"]
        verdicts = [
            verdict(name, self.first, run["ahead"], run["p"], (run["leak"], facts["runs"][self.first]["leak"]))
            for name, run in facts["runs"].items()
            if name != self.first
        ]
        rules = dict.fromkeys(run["selection"] for run in facts["runs"].values() if run["selection"])
        lines = [
            *report_text.heading(self.title, self.leak),
            f"{facts['clips']} clips of {facts['persons']} persons, the same for all. {facts['source']}.",
            "",
            *(f"- Note: {note}" for note in facts["notes"]),
            "",
            *report_text.table(header, [*self._rows(), *self._reference_rows()]),
            *(f"- {line}" for line in [*verdicts, report_text.MEANING_OF_P]),
            *(f"- Epoch: {report_text.rule(name)}." for name in rules),
            "",
        ]
        return "\n".join(lines)

    def _rows(self) -> list[list[Any]]:
        return [
            [
                f"**{name}**",
                run["model"] or "-",
                (run["selection"] or "-") + (" (**leaks**)" if run["leak"] else ""),
                *(scored(run, kind) for kind in SHORT),
                "" if run["ahead"] is None else f"{run['ahead']:+.3f}",
                p_cell(run["p"]),
            ]
            for name, run in self._facts["runs"].items()
        ]

    def _reference_rows(self) -> list[list[Any]]:
        """The baselines beside the first run, and chance."""
        first = self._facts["runs"][self.first]["uf1"]
        chance = {**self._facts["chance"], "p": None, "intervals_95": dict.fromkeys(SHORT)}
        others = {**self._facts["baselines"], "chance": chance}
        return [
            [name, "", "", *(scored(s, kind) for kind in SHORT), f"{s['uf1'] - first:+.3f}", p_cell(s["p"])]
            for name, s in others.items()
        ]

    def figures(self) -> dict[str, "Figure"]:
        from mer_zoo import figures

        facts = self._facts
        runs = {
            f"{name} ({run['leak']})" if run["leak"] else name: point(run, "uf1") for name, run in facts["runs"].items()
        }
        others = {**facts["baselines"], "chance": facts["chance"]}
        return {"runs": figures.runs_side_by_side(runs, {name: s["uf1"] for name, s in others.items()})}


def compare(tables: Mapping[str, pd.DataFrame], protocol: str | Protocol) -> Comparison:
    """Set runs side by side, each against the first.

    Args:
        tables: Predictions of each run, by the name that it is to have; two or more. Baselines are those of the first.
        protocol: The protocol, or its name, that all were made by.

    Raises:
        InputError: If there are fewer than two, they are not of the same clips with the same targets, or one cannot be
            reported, since folds failed, for example.
    """
    if len(tables) < 2:
        raise InputError(f"{len(tables)} run to compare; expected two or more. Score one by mer_zoo.report.")
    reports = {name: report(table, protocol) for name, table in tables.items()}
    (first, reference), *others = ((name, _targets(made.table)) for name, made in reports.items())
    for name, targets in others:
        _check_same(first, reference, name, targets)
    return Comparison(reports)


def _targets(table: pd.DataFrame) -> dict[str, int]:
    """Target of each row, by its key, and its repetition if there are any."""
    names = table["key"] + (" in repetition " + table["repeat"].astype(str) if "repeat" in table else "")
    return dict(zip(names, table["target"], strict=True))


def _check_same(first: str, reference: Mapping[str, int], name: str, targets: Mapping[str, int]) -> None:
    both = reference.keys() & targets.keys()
    differences = {
        f"only {first} has": sorted(reference.keys() - both),
        f"only {name} has": sorted(targets.keys() - both),
        "the target differs in": sorted(key for key in both if reference[key] != targets[key]),
    }
    said = [f"{what} {len(keys)} clips, such as {keys[:2]}" for what, keys in differences.items() if keys]
    if said:
        raise InputError(
            f"{first} and {name} are not of the same clips: {'; '.join(said)}. Compare runs that were made from the "
            "same corpora and by the same folds."
        )
