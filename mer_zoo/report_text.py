"""Reports as Markdown that reads as plain text, too, and on disk. Facts in, as ``Report.to_dict`` gives them."""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mer_zoo.rules import RULES
from mer_zoo.runs import write_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

logger = logging.getLogger("mer_zoo")

Facts = Mapping[str, Any]

SCORES = {
    "uf1": "UF1",
    "uar": "UAR",
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "balanced_accuracy": "balanced accuracy",
}
TOLD_APART = 0.05  # the p above which two runs are not told apart
FEWEST = 6  # persons, of whom p can be below that: two in 2^6 swaps
SHORT = ("uf1", "uar", "accuracy")
SHOWN = 3  # published numbers of each kind
MEANING_OF_P = (
    "p: how often UF1 would differ as much if it did not matter which of the two predicted a person (paired "
    "permutation test over persons)."
)
NAMED = 5  # folds that failed, with their reasons
LEAK_SAID = {False: "no", None: "not known", True: "**yes**"}
FLATTERS = "Such a rule flatters; it does not say how well new persons are recognised."
COPIED = "random-clip"  # the rule whose test clips are copies
BASELINES_LEAK = "The baselines leak, too: they had learnt from other copies of the clips that they answer."
UNKNOWN_NULL = "What guessing scores under this rule is not known: its epochs are not recorded."
FROM_THE_TABLE = (
    "Baselines are not recorded; majority is here the most frequent class of these very clips, not of training parts."
)


class Written(ABC):
    """What can be saved as text, plain values and figures."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is about."""

    @property
    @abstractmethod
    def leak(self) -> str | None:
        """What must be said wherever these scores are, such as "chosen on test subjects"; None if nothing leaks."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; a score that cannot be given is None."""

    @abstractmethod
    def to_markdown(self) -> str:
        """All of it as text with tables."""

    @abstractmethod
    def figures(self) -> dict[str, "Figure"]:
        """Pictures by name; they need the extra ``plot``."""

    def save(self, folder: str | Path) -> None:
        """Write ``report.md`` and ``report.json``; with the extra ``plot`` also ``report.html`` and ``figures/``."""
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        text = self.to_markdown()
        files = self._save_pictures(folder, text)
        write_text(folder / "report.json", json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
        write_text(folder / "report.md", "\n".join([text, *pictures(files)]))

    def _save_pictures(self, folder: Path, text: str) -> list[str]:
        """Write figures and the page; their paths from the folder, none where the extra ``plot`` is missing."""
        try:
            from mer_zoo import figures, pages
        except ModuleNotFoundError as error:
            if error.name not in ("matplotlib", "markdown"):
                raise
            logger.warning('No figures: %s is not installed. pip install "mer-zoo[plot]" brings it.', error.name)
            return []
        drawn = self.figures()
        files = figures.save(drawn, folder / "figures", self.leak)
        pages.write_page(folder, self.title, text, files, self.leak)
        return [file.relative_to(folder).as_posix() for file in files if file.suffix == ".png"]


def markdown(facts: Facts) -> str:
    """The report of classes; ``facts`` are ``Report.to_dict()``."""
    scores = facts["pooled"]
    said = ", ".join(f"{SCORES[name]} {scores[name]:.3f}" for name in SHORT)
    lines = [
        *heading(f"{facts['title']}: {said}", facts["leak"], facts["gaps"]),
        about_clips(facts, len(facts["people"])),
        "",
        f"- 95 % interval of UF1 over persons: {_between(scores['intervals_95']['uf1'])}.",
        f"- Accuracy by person: {_by_person(facts['people'])}.",
        *_repeats(facts["repeats"]),
        *(f"- Note: {note}" for note in facts["notes"]),
        "",
        *_corpora(facts),
        *_beside(facts),
        *_classes(facts),
        *_published(facts),
        *how(facts["run"]),
    ]
    return "\n".join(lines)


def heading(title: str, leak: str | None, gaps: Sequence[str] = ()) -> list[str]:
    """The title, with what readers must know of a leak and of what is missing in it and beneath it."""
    lines = title_line(title, leak, "incomplete" if gaps else None)
    if leak:
        lines += [f"**No result: {leak}.** {FLATTERS} Do not set it beside honest numbers.", ""]
    return lines + [line for gap in gaps for line in (f"**Not whole: {gap}**", "")]


def title_line(title: str, *marks: str | None) -> list[str]:
    """The title with its marks."""
    said = ", ".join(mark for mark in marks if mark)
    return [f"# {title} ({said})" if said else f"# {title}", ""]


def about_clips(facts: Facts, persons: int) -> str:
    """How many clips of how many persons, whose protocol, and by which folds if not by those of its source."""
    what = "copies of clips" if facts["copies"] else "clips"
    folds = f" Folds here: {facts['folds_here']}." if facts["folds_here"] else ""
    source = facts["source"][:1].upper() + facts["source"][1:]
    return f"{facts['clips']} {what} of {persons} persons. {source}.{folds}"


def _between(ends: Sequence[float] | None) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "not given: too few persons show every class"


def _by_person(people: Mapping[str, Facts]) -> str:
    shares = sorted(person["right"] / person["clips"] for person in people.values())
    return f"{shares[0]:.2f} to {shares[-1]:.2f}, median {np.median(shares):.2f}"


def _repeats(repeats: Facts | None) -> list[str]:
    if not repeats:
        return []
    each = ", ".join(number(value) for value in repeats["uf1"])
    return [
        f"- Predicted {len(repeats['uf1'])} times over, by other folds each time; counts are pooled. UF1: {each}; "
        f"mean {number(repeats['uf1_mean'])}, standard deviation {number(repeats['uf1_std'])}."
    ]


def _corpora(facts: Facts) -> list[str]:
    rows = {"all": {"persons": len(facts["people"]), **facts["pooled"]}}
    if len(facts["corpora"]) > 1:
        rows |= facts["corpora"]
    return table(
        ["corpus", "persons", "clips", *SCORES.values()],
        [[name, s["persons"], s["clips"], *(scored(s, kind) for kind in SCORES)] for name, s in rows.items()],
    )


def _classes(facts: Facts) -> list[str]:
    return [
        "## Classes",
        "",
        *table(
            ["class", "clips", "F1", "recall", *(f"predicted {name}" for name in facts["classes"])],
            [
                [
                    name,
                    c["clips"],
                    scored(c, "f1"),
                    scored(c, "recall"),
                    *row,
                ]
                for (name, c), row in zip(facts["classes"].items(), facts["confusion"], strict=True)
            ],
        ),
    ]


def _beside(facts: Facts) -> list[str]:
    """The run among what is simple, best first, and in words whether it is better."""
    model, persons = facts["run"].get("model", "this run"), len(facts["people"])
    leaks = (facts["leak"], facts["leak"] if facts["baselines_leak"] else None)
    others = {**facts["baselines"], "chance, each class as often": facts["chance"], **_guessing(facts["null"])}
    rows = [[f"**{model}**", *(facts["pooled"][kind] for kind in SHORT), None]]
    rows += [[name, *(s[kind] for kind in SHORT), s.get("p")] for name, s in others.items()]
    rows.sort(key=lambda row: -row[1])
    return [
        "## Beside simple baselines",
        "",
        *table(
            ["", *(SCORES[kind] for kind in SHORT), "p"],
            [[name, *map(number, values), p_cell(p)] for name, *values, p in rows],
        ),
        *([f"- {BASELINES_LEAK}"] if facts["baselines_leak"] else []),
        *(
            f"- {verdict(model, name, facts['pooled']['uf1'] - s['uf1'], s['p'], persons, leaks)}"
            for name, s in facts["baselines"].items()
        ),
        f"- {_beside_guessing(model, facts['pooled']['uf1'], facts['null'])}",
        *([] if facts["baselines_recorded"] else [f"- {FROM_THE_TABLE}"]),
        f"- {MEANING_OF_P}",
        "",
    ]


def _guessing(null: Facts | None) -> dict[str, Facts]:
    """Scores of guessing by the name of a row, if they are known."""
    if not null:
        return {}
    looks = f"best of {null['epochs']} epochs on each test part" if null["epochs"] > 1 else "by frequency of classes"
    return {f"guessing, {looks}": null}


def _beside_guessing(model: str, uf1: float, null: Facts | None) -> str:
    if not null:
        return UNKNOWN_NULL
    within = uf1 <= null["uf1"] + 2 * null["uf1_std"]
    return f"{null['sentence']} {model} is within what guessing reaches." if within else str(null["sentence"])


def verdict(
    one: str, other: str, ahead: float, p: float, persons: int, leaks: tuple[str | None, str | None] = (None, None)
) -> str:
    """Whether one is better than another: ``ahead`` by so much UF1, with ``p``; ``leaks`` are the marks of both."""
    better, worse, mark = (one, other, leaks[0]) if ahead >= 0 else (other, one, leaks[1])
    flattered = f" But {better} was {mark}, so this shows nothing." if mark and leaks[0] != leaks[1] else ""
    if persons < FEWEST:
        return f"{one} and {other} differ by {abs(ahead):.3f} UF1; {persons} are too few persons to tell.{flattered}"
    if p > TOLD_APART:
        said = f"{one} and {other} differ by {abs(ahead):.3f} UF1, which is not told apart from chance ({_p(p)})."
    else:
        said = f"{better} scores higher than {worse}, by {abs(ahead):.3f} UF1 ({_p(p)})."
    return said + flattered


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def p_cell(p: float | None) -> str:
    """A p in a cell."""
    return "" if p is None else _p(p).removeprefix("p ").removeprefix("= ")


def _published(facts: Facts) -> list[str]:
    """The best few published numbers of honest rules, of rules that are not known, and of leaking ones."""
    numbers = [n for n in facts["published"] if n["part"] == "all"]
    shown = [n for leaks in (False, None, True) for n in [n for n in numbers if n["leaks"] is leaks][:SHOWN]]
    if not shown:
        return []
    rows = [
        [
            n["method"],
            *(n["digits"].get(kind, "-") for kind in SHORT),
            n["selection"],
            LEAK_SAID[n["leaks"]],
            n["source"],
        ]
        for n in shown
    ]
    of_other_folds = facts["folds_here"] is not None
    return [
        "## Published for the protocol's own folds" if of_other_folds else "## Published numbers of this protocol",
        "",
        *table(["method", *(SCORES[kind] for kind in SHORT), "epoch chosen by", "leaks", "source"], rows),
        "Their clips and preparation may differ a little. Numbers that leak are no measure for a run that does not"
        + _not_shown(len(numbers) - len(shown), len(facts["published"]) - len(numbers)),
        "",
    ]


def _not_shown(more: int, of_corpora: int) -> str:
    rest = [*([f"{more} more"] if more else []), *(["those of single corpora"] if of_corpora else [])]
    return f"; report.json has {' and '.join(rest)}." if rest else "."


def number(value: float | None) -> str:
    """Three digits, or a dash for what cannot be given."""
    return "-" if value is None else f"{value:.3f}"


def scored(scores: Facts, kind: str) -> str:
    """One of the scores, with its interval."""
    ends = scores["intervals_95"][kind]
    return number(scores[kind]) + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else "")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A Markdown table, padded so that it reads as text too: words to the left, numbers to the right."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    words = [i == 0 or any(cell.strip("*")[:1].isalpha() for cell in column[1:]) for i, column in enumerate(columns)]
    put = [str.ljust if left else str.rjust for left in words]
    lines = [
        f"| {' | '.join(place(cell, width) for place, cell, width in zip(put, row, widths, strict=True))} |"
        for row in cells
    ]
    rule = "|".join("-" * (width + 1) + ("-" if left else ":") for width, left in zip(widths, words, strict=True))
    return [lines[0], f"|{rule}|", *lines[1:], ""]


def how(run: Facts) -> list[str]:
    """Model, selection rule, folds, recipe and versions, as far as the table says."""
    lines = ["## How it was made", ""]
    if not run:
        return [*lines, "How these predictions were made is not recorded in the table.", ""]
    said = {
        "Model": run.get("model", "not recorded") + _size(run),
        "Weights had been trained on": ", ".join(run.get("trained_on") or []),
        "Selection": rule(run["selection"]) if "selection" in run else "",
        "Folds": run.get("folds_by", ""),
        "Recipe": _pairs(run.get("recipe", {})),
        **{f"Recipe {i} to choose from": _pairs(recipe) for i, recipe in enumerate(run.get("recipes", []))},
        "Versions": _pairs(run.get("versions", {})),
    }
    return [*lines, *(f"- {name}: {values}." for name, values in said.items() if values), ""]


def rule(selection: str) -> str:
    """A rule by its name and what it means, if that is known."""
    return f"`{selection}`" + (f", {RULES[selection].meaning}" if selection in RULES else "")


def _pairs(values: Facts) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _size(run: Facts) -> str:
    """How many weights, and what it eats."""
    said = f", {run['parameters']:,} weights" if run.get("parameters") else ""
    if spec := run.get("input_spec"):
        channels = ", ".join(spec["channels"])
        said += f"; eats {spec['kind']}, channels {channels}, values {spec['low']:g} to {spec['high']:g}"
    return said


def pictures(files: Sequence[str]) -> list[str]:
    """Figures, by their paths from the report's folder."""
    if not files:
        return []
    return ["## Figures", "", *(line for file in files for line in (f"![{Path(file).stem}]({file})", ""))]


def point(scores: Facts, kind: str) -> tuple[float, float, float]:
    """One of the scores, with its interval, as figures take it: NaN for what is not given."""
    low, high = scores["intervals_95"][kind] or (np.nan, np.nan)
    return (np.nan if scores[kind] is None else scores[kind]), low, high


def failures(table: "pd.DataFrame", failed: "pd.Series[bool]") -> list[str]:
    """Which folds failed and why, and how many rows that leaves without prediction."""
    if not failed.any():
        return []
    rows = table[failed].assign(error=lambda rows: rows.get("error", ""))
    reasons = rows.groupby("fold")["error"].first()
    said = [f"{fold} ({' '.join(reason.split())[:200] or 'no reason recorded'})" for fold, reason in reasons.items()]
    more = f" and {len(said) - NAMED} more" if len(said) > NAMED else ""
    return [
        f"{len(said)} of {table['fold'].nunique()} folds failed, which leaves {len(rows)} of {len(table)} clips "
        f"without prediction: {'; '.join(said[:NAMED])}{more}."
    ]
