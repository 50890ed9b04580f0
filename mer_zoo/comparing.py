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

CARRIED = ("protocol", "source", "folds_here", "copies", "clips", "baselines_leak", "baselines", "chance")
GUESSING = "UF1 of guessing: what guessing scores under the rule of that run; a dash where its epochs are not recorded."


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
            **{name: reference[name] for name in CARRIED},
            "notes": [*reference["notes"], *self._differences()],
            "persons": len(reference["people"]),
            "leak": self.leak,
            "runs": {name: self._of_run(name) for name in self.reports},
        }

    def _of_run(self, name: str) -> dict[str, Any]:
        """Scores of a run, and what there is between it and the first one."""
        made, first = self.reports[name], self.reports[self.first]
        same = name == self.first
        return {
            **{fact: made.run.get(fact) for fact in ("model", "selection")},
            "leak": made.leak,
            "null_uf1": None if made.null is None else made.null.uf1,
            **scores(made.people),
            "ahead": None if same else made.uf1 - first.uf1,
            "p": None if same else metrics.permutation_test(made.people, first.people),
        }

    def _differences(self) -> list[str]:
        """Settings that differ between runs, one sentence each; where a run does not say, it is passed over."""
        settings = {name: _settings(made.run) for name, made in self.reports.items()}
        notes = []
        for key in dict.fromkeys(key for of_run in settings.values() for key in of_run):
            said = {name: of_run[key] for name, of_run in settings.items() if key in of_run}
            if len(set(map(repr, said.values()))) > 1:
                each = ", ".join(f"{value} ({name})" for name, value in said.items())
                notes.append(f"the runs differ in {key}: {each}.")
        return notes

    def to_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self._facts)

    def to_markdown(self) -> str:
        facts = self._facts
        measured = [*(SCORES[kind] for kind in SHORT), "UF1 of guessing", f"UF1 against {self.first}", "p"]
        first_leak = facts["runs"][self.first]["leak"]
        verdicts = [
            verdict(name, self.first, run["ahead"], run["p"], facts["persons"], (run["leak"], first_leak))
            for name, run in facts["runs"].items()
            if name != self.first
        ]
        leak = [report_text.BASELINES_LEAK] if facts["baselines_leak"] else []
        rules = dict.fromkeys(run["selection"] for run in facts["runs"].values() if run["selection"])
        lines = [
            *report_text.title_line(self.title, self.leak),
            *self._no_results(),
            f"{report_text.about_clips(facts, facts['persons'])} They are the same for all.",
            "",
            *(f"- Note: {note}" for note in facts["notes"]),
            "",
            *report_text.table(
                ["run", "model", "epoch chosen by", *measured], [*self._rows(), *self._reference_rows()]
            ),
            *(f"- {line}" for line in [*leak, *verdicts, GUESSING, report_text.MEANING_OF_P]),
            *(f"- Epoch: {report_text.rule(name)}." for name in rules),
            "",
        ]
        return "\n".join(lines)

    def _no_results(self) -> list[str]:
        """Which runs are no result, if any."""
        marks = {name: run["leak"] for name, run in self._facts["runs"].items() if run["leak"]}
        lines = [
            f"**{name} is no result: {mark}.** {report_text.FLATTERS} It says nothing against runs that do not leak."
            for name, mark in marks.items()
        ]
        return [part for line in lines for part in (line, "")]

    def _rows(self) -> list[list[Any]]:
        return [
            [
                f"**{name}**",
                run["model"] or "-",
                (run["selection"] or "-") + (" (**leaks**)" if run["leak"] else ""),
                *(scored(run, kind) for kind in SHORT),
                report_text.number(run["null_uf1"]),
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
            [name, "", "", *(scored(s, kind) for kind in SHORT), "", f"{s['uf1'] - first:+.3f}", p_cell(s["p"])]
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


def _settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """Folds and recipe of a run, seed and all, as far as the table says; a baseline has no recipe."""
    recipe, several = run.get("recipe", {}), run.get("recipes", [])
    folds = {"folds": run["folds_by"]} if "folds_by" in run else {}
    return {**folds, **({"recipes to choose from": len(several) or 1} if recipe else {}), **recipe}


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
