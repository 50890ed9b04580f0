"""Predictions -> scores, counted by key from the pooled table, and the figures of them."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from mer_zoo import metrics, report_text
from mer_zoo.errors import InputError
from mer_zoo.metrics import Matrix
from mer_zoo.null_model import NullScore, null_score
from mer_zoo.protocols import Protocol, get_protocol, list_protocols
from mer_zoo.published import published
from mer_zoo.report_tables import Answers, baseline_answers, check_table, failed_rows, missing_rows
from mer_zoo.report_text import Written, point
from mer_zoo.runs import PREDICTIONS, write_text
from mer_zoo.types import Counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW, PERSON = ("key", "corpus", "subject", "clip", "fold"), ["corpus", "subject"]


@dataclass(frozen=True, eq=False)
class Scored(Written):
    """A table of predictions, checked, and what is known of its making.

    Attributes:
        protocol: What was evaluated.
        table: One row a prediction, without those of failed folds, sorted by repetition and key.
        run: How it was made: model, recipe, seed, selection, versions; empty if the table did not say.
        baselines: What each baseline answers.
        losses: Mean loss of each epoch, by fold.
        gaps: What is missing of the run, one sentence each.
    """

    protocol: Protocol
    table: pd.DataFrame = field(repr=False)
    run: Mapping[str, Any] = field(repr=False)
    baselines: Mapping[str, Answers] = field(repr=False)
    losses: Mapping[str, Sequence[float]] = field(repr=False)
    gaps: Sequence[str]

    @property
    def leak(self) -> str | None:
        """What the run says of itself; if that is lost, what its rows say in the column ``note``."""
        notes = sorted({note for note in self.table["note"] if note}) if "note" in self.table else []
        return self.run.get("leak") or "; ".join(notes) or None

    @cached_property
    def found(self) -> dict[str, Counts]:
        """Persons and clips of each corpus."""
        clips = self.table.drop_duplicates("key")
        return {str(name): _count(rows, self.protocol) for name, rows in clips.groupby("corpus")}

    @property
    def notes(self) -> list[str]:
        """What is missing, and where the clips differ from what the publication counts."""
        return [*self.gaps, *self.protocol.deviations(self.found)]

    @property
    def title(self) -> str:
        """The protocol, and whether rendered persons stand in for its own."""
        return self.protocol.name + (" on rendered persons" if self.protocol.stood_in_by(self.found) else "")

    @property
    def folds_here(self) -> str | None:
        """How folds were made, if that is known and is not the way of the protocol, which its source names."""
        name, made_by = self.protocol.name, self.run.get("folds_by")
        own = get_protocol(name) if name in list_protocols() else self.protocol
        return None if made_by == own.folds_by else made_by

    def about(self) -> dict[str, Any]:
        """What was scored and how it was made, as plain values."""
        return {
            "protocol": self.protocol.name,
            "title": self.title,
            "source": self.protocol.source,
            "folds_here": self.folds_here,
            "copies": self.run.get("selection") == report_text.COPIED,
            "leak": self.leak,
            "gaps": list(self.gaps),
            "notes": self.protocol.deviations(self.found),
            "clips": sum(counts.clips for counts in self.found.values()),
            "run": dict(self.run),
        }

    @cached_property
    def persons(self) -> list[str]:
        """Each person, ``corpus/subject``."""
        return [f"{corpus}/{subject}" for corpus, subject in self.table.groupby(PERSON).size().index]

    @cached_property
    def person_of_row(self) -> Answers:
        """Number of the person of each row, in the order of ``persons``."""
        return np.asarray(self.table.groupby(PERSON).ngroup())

    def of_corpora(self, people: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
        """Parts of what there is of each person, by corpus."""
        owners = np.array([person.partition("/")[0] for person in self.persons])
        return {str(name): people[owners == name] for name in np.unique(owners)}


@dataclass(frozen=True, eq=False)
class Report(Scored):
    """Scores of one run. Counts are pooled over all folds and repetitions, rows the target class."""

    @cached_property
    def matrix(self) -> Matrix:
        """(C, C) counts of all predictions."""
        return np.asarray(self.people.sum(axis=0))

    @cached_property
    def corpora(self) -> dict[str, Matrix]:
        """(C, C) counts of each corpus."""
        return {name: people.sum(axis=0) for name, people in self.of_corpora(self.people).items()}

    @cached_property
    def people(self) -> Matrix:
        """(P, C, C) counts of each person, in the order of ``persons``."""
        return self.counts(self.table["pred"].to_numpy())

    @cached_property
    def rivals(self) -> dict[str, Matrix]:
        """(P, C, C) counts of each baseline, best first; if none is recorded, of the table's most frequent class."""
        targets = self.table["target"]
        answers = self.baselines or {"majority": np.full(len(targets), targets.value_counts().idxmax())}
        people = {name: self.counts(each) for name, each in answers.items() if name != self.run.get("model")}
        return dict(sorted(people.items(), key=lambda item: -metrics.uf1(item[1].sum(axis=0))))

    def counts(self, pred: Answers) -> Matrix:
        """(P, C, C) counts of each person, for any answers in the order of the rows."""
        size = len(self.protocol.classes)
        if not np.isin(pred, range(size)).all():
            raise InputError(f"Answers of a baseline are {np.unique(pred)}; expected class indices 0 to {size - 1}.")
        counts = np.zeros((len(self.persons), size, size), np.int64)
        np.add.at(counts, (self.person_of_row, self.table["target"], pred), 1)
        return counts

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

    @property
    def weighted_f1(self) -> float:
        """F1 over all clips, classes weighted by their clips."""
        return metrics.weighted_f1(self.matrix)

    @property
    def balanced_accuracy(self) -> float:
        """Equals ``uar``, since every class has clips."""
        return metrics.balanced_accuracy(self.matrix)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval of ``uf1`` when persons are drawn anew; two NaN where too few persons have every class."""
        return metrics.bootstrap_interval(self.people)

    @cached_property
    def null(self) -> NullScore | None:
        """What guessing scores under the rule that this run was made by; None if it leaks and the rule is lost.

        A baseline has no epochs to choose from, whatever the rule.
        """
        epochs = self.run.get("recipe", {}).get("epochs")
        if not epochs or "selection" not in self.run:
            known = not self.leak or self.run.get("parameters") == 0
            return null_score(self.table, self.protocol.classes, "last", 1) if known else None
        return null_score(self.table, self.protocol.classes, self.run["selection"], epochs)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        beside = [] if self.protocol.stood_in_by(self.found) else published(self.protocol.name)
        return {
            **self.about(),
            "pooled": scores(self.people),
            "corpora": {
                name: {"persons": len(people), **scores(people)}
                for name, people in self.of_corpora(self.people).items()
            },
            "classes": self._of_classes(),
            "confusion": self.matrix.tolist(),
            "people": {
                person: {"clips": int(matrix.sum()), "right": int(matrix.trace())}
                for person, matrix in zip(self.persons, self.people, strict=True)
            },
            "repeats": self._of_repeats(),
            "chance": _chance(self.matrix),
            "null": self.null and {**asdict(self.null), "sentence": self.null.sentence},
            "baselines_recorded": bool(self.baselines),
            "baselines_leak": bool(self.baselines) and self.about()["copies"],
            "baselines": {
                name: {**scores(people), "p": metrics.permutation_test(self.people, people)}
                for name, people in self.rivals.items()
            },
            "published": [{**asdict(row), "leaks": row.leaks} for row in beside],
        }

    def _of_classes(self) -> dict[str, dict[str, Any]]:
        values = {"f1": metrics.f1_per_class(self.matrix), "recall": metrics.recall_per_class(self.matrix)}
        ends = metrics.class_intervals(self.people)
        return {
            name: {
                "clips": int(self.matrix[i].sum()),
                **{kind: float(of_class[i]) for kind, of_class in values.items()},
                "intervals_95": {kind: plain(of_class[i], self.people) for kind, of_class in ends.items()},
            }
            for i, name in enumerate(self.protocol.classes)
        }

    def _of_repeats(self) -> dict[str, Any] | None:
        """UF1 of each repetition, and how they scatter; None if there are no two."""
        parts = [rows for _, rows in self.table.groupby("repeat")] if "repeat" in self.table else []
        if len(parts) < 2:
            return None
        size = len(self.protocol.classes)
        each = [metrics.uf1(metrics.confusion(rows["target"], rows["pred"], size)) for rows in parts]
        return {"uf1": each, "uf1_mean": float(np.mean(each)), "uf1_std": float(np.std(each, ddof=1))}

    def to_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self._facts)

    def to_markdown(self) -> str:
        return report_text.markdown(self._facts)

    def figures(self) -> dict[str, "Figure"]:
        from mer_zoo import calibration, figures

        people, classes = self._facts["people"].items(), self._facts["classes"].items()
        bars = {name: {"F1": point(each, "f1"), "recall": point(each, "recall")} for name, each in classes}
        drawn = {
            "confusion": figures.confusion_matrix(self.matrix, self.protocol.classes),
            "persons": figures.person_accuracy({name: (p["right"], p["clips"]) for name, p in people}),
            "classes": figures.class_bars(bars),
        }
        if any(map(len, self.losses.values())):
            drawn["losses"] = figures.loss_curves(self.losses)
        shares = [f"p_{name}" for name in self.protocol.classes]
        if set(shares) <= set(self.table):
            pair = self.table[shares].to_numpy(), self.table["target"].to_numpy()
            drawn["calibration"] = calibration.reliability_diagram(*pair)
        return drawn


def report(
    predictions: pd.DataFrame, protocol: str | Protocol, out: str | Path | None = None, *, incomplete: bool = False
) -> Report:
    """Score a table of predictions.

    Args:
        predictions: One row a clip, as ``evaluate`` returns it; the order of rows does not matter. If folds were
            repeated, one row a clip in each repetition.
        protocol: The protocol, or its name, that the table was made by.
        out: Folder for what ``Report.save`` writes and ``predictions.csv``.
        incomplete: Score what is there if folds failed or rows are missing, and say so.

    Raises:
        InputError: If columns are missing, a clip comes twice, a class index is none of the protocol's, a class has no
            target, the table was made by another protocol, or it is not whole and ``incomplete`` is not set.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    if protocol.units:
        raise InputError(f"{protocol.name} is of action units; score it by mer_zoo.report_units.")
    made = read(Report, predictions, protocol, ("target", "pred"), incomplete)
    size = len(protocol.classes)
    for name in ("target", "pred"):
        if not made.table[name].isin(range(size)).all():
            found = sorted(made.table[name].unique().tolist())
            raise InputError(f"Column {name} holds {found}; expected class indices 0 to {size - 1} of {protocol.name}.")
    metrics.uf1(made.matrix)
    if out is not None:
        save(made, predictions, out)
    return made


S = TypeVar("S", bound=Scored)


def read(kind: type[S], predictions: pd.DataFrame, protocol: Protocol, answers: Sequence[str], incomplete: bool) -> S:
    """Check a table whose targets and predictions are the columns ``answers``, and make a report of it.

    Raises:
        InputError: If it is no table of this protocol, or not whole and ``incomplete`` is not set.
    """
    if not isinstance(predictions, pd.DataFrame):
        raise InputError(f"predictions is a {type(predictions).__name__}; expected a table as evaluate returns it.")
    table, attrs = pd.DataFrame(predictions), predictions.attrs  # a table without attrs, which each step would copy
    run = attrs.get("run", {})
    check_table(table, protocol, (*ROW, *answers), run.get("protocol", protocol.name))
    for name in {"note", "error"} & set(table):
        table[name] = table[name].astype(object).fillna("")
    failed = failed_rows(table, answers)
    gaps = [*report_text.failures(table, failed), *missing_rows(table, run)]
    if failed.all() or (gaps and not incomplete):
        raise InputError(
            f"The run is not whole. {' '.join(gaps)} Call evaluate again with the same out, which runs only what is "
            "missing, or pass incomplete=True to score what is there."
        )
    table = table[~failed].sort_values([*({"repeat"} & set(table)), "key"], ignore_index=True)
    return kind(protocol, table, run, baseline_answers(attrs, table), attrs.get("losses", {}), gaps)


def _count(rows: pd.DataFrame, protocol: Protocol) -> Counts:
    there = [
        rows[f"target_{name}"] if protocol.units else rows["target"] == i for i, name in enumerate(protocol.classes)
    ]
    clips = {name: int(each.sum()) for name, each in zip(protocol.classes, there, strict=True)}
    return Counts(rows["subject"].nunique(), len(rows), clips)


def scores(people: Matrix) -> dict[str, Any]:
    """Clips, scores and their intervals over persons, (P, C, C); None for what cannot be given."""
    matrix = people.sum(axis=0)
    of = {name: getattr(metrics, name) for name in report_text.SCORES}
    whole = set(of) if matrix.sum(axis=1).all() else {"accuracy", "balanced_accuracy"}
    ends = metrics.intervals(people)
    return {
        "clips": int(matrix.sum()),
        **{name: score(matrix) if name in whole else None for name, score in of.items()},
        "intervals_95": {name: plain(ends[name], people) for name in of},
    }


def _chance(matrix: Matrix) -> dict[str, float]:
    """What is to be expected where each class is called as often, whatever the clip."""
    guessed = np.repeat(matrix.sum(axis=1)[:, None], len(matrix), axis=1)
    return {name: getattr(metrics, name)(guessed) for name in ("uf1", "uar", "accuracy")}


def plain(ends: npt.ArrayLike, people: npt.NDArray[np.int64]) -> list[float] | None:
    """An interval, or None where it cannot be given; one person, drawn anew, is always the same."""
    low, high = np.asarray(ends, np.float64).tolist()
    return [low, high] if np.isfinite([low, high]).all() and len(people) > 1 else None


def save(made: Scored, predictions: pd.DataFrame, out: str | Path) -> None:
    """Write a report and the table that it is of."""
    made.save(out)
    write_text(Path(out).expanduser() / PREDICTIONS, pd.DataFrame(predictions).to_csv(index=False))
