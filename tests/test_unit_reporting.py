"""Scores of action units: each unit a question of its own, pooled, against scikit-learn, and legible."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, f1_score

import mer_zoo
from mer_zoo import selection
from mer_zoo.datasets import Corpus, open_corpus
from mer_zoo.errors import InputError
from mer_zoo.protocols import STAND_IN
from mer_zoo.runs import read_predictions, rows_hash
from mer_zoo.unit_reporting import f1_per_unit

CD6ME = mer_zoo.get_protocol("cd6me")
UNITS = CD6ME.classes


def clips(corpus: str, number: int, persons: int) -> pd.DataFrame:
    """Rows without answers; persons of two corpora have the same numbers."""
    table = pd.DataFrame({"clip": [f"{i}" for i in range(number)]})
    table.insert(0, "subject", [f"{i % persons:02d}" for i in range(number)])
    table.insert(0, "corpus", corpus)
    table.insert(0, "key", table["corpus"] + "/" + table["subject"] + "/" + table["clip"])
    return table.assign(fold=corpus)


def predictions(seed: int = 0) -> pd.DataFrame:
    """Made-up answers on six corpora of unlike size: some units are rare, one is never there, one never called."""
    rng = np.random.default_rng(seed)
    table = pd.concat([clips(corpus, 9 + 7 * i, 4 + i) for i, corpus in enumerate(CD6ME.counts)], ignore_index=True)
    for i, unit in enumerate(UNITS):
        there = rng.random(len(table)) < 0.05 * (i + 1)
        called = np.where(rng.random(len(table)) < 0.3, rng.random(len(table)) < 0.5, there)
        table[f"target_{unit}"], table[f"pred_{unit}"] = there.astype(int), called.astype(int)
    table["target_AU2"], table["pred_AU14"] = 0, 0
    return table.assign(target_AU1=0, pred_AU1=0)


def naive(rows: pd.DataFrame) -> tuple[list[list[int]], list[float]]:
    """Tallies and F1 of each unit by scikit-learn."""
    tallies, scores = [], []
    for unit in UNITS:
        pair = (rows[f"target_{unit}"], rows[f"pred_{unit}"])
        tn, fp, fn, tp = confusion_matrix(*pair, labels=[0, 1]).ravel().tolist()
        tallies.append([tp, fp, fn, tn])
        scores.append(float(f1_score(*pair, zero_division=0)))
    return tallies, scores


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_scikit_learn_pooled_and_per_corpus(seed: int) -> None:
    table = predictions(seed)
    report = mer_zoo.report_units(table, "cd6me")
    facts = report.to_dict()
    tallies, scores = naive(table)
    assert report.tally.tolist() == [unit["tally"] for unit in facts["units"].values()] == tallies
    assert f1_per_unit(report.tally).tolist() == pytest.approx(scores)
    assert [unit["f1"] for unit in facts["units"].values()] == pytest.approx(scores)
    assert list(facts["units"]) == list(UNITS)
    assert report.f1 == facts["f1"] == pytest.approx(np.mean(scores))
    assert scores[0] == scores[1] == scores[UNITS.index("AU14")] == 0
    means = []
    for corpus in CD6ME.counts:
        rows = table[table["corpus"] == corpus]
        tallies, scores = naive(rows)
        means.append(np.mean(scores))
        assert report.corpora[corpus].tolist() == tallies
        assert facts["corpora"][corpus]["f1"] == pytest.approx(means[-1])
        assert report.found[corpus].subjects == rows["subject"].nunique()
        assert report.found[corpus].clips == len(rows)
        assert report.found[corpus].classes == {unit: rows[f"target_{unit}"].sum() for unit in UNITS}
    assert report.f1_over_corpora == facts["f1_over_corpora"] == pytest.approx(np.mean(means))
    assert report.f1_over_corpora != pytest.approx(report.f1)


def test_what_calling_everything_gives() -> None:
    """``f1_of_always`` is told from the targets alone, whatever was predicted."""
    table = predictions()
    ones = {f"pred_{unit}": 1 for unit in UNITS}
    always = np.mean(naive(table.assign(**ones))[1])
    for said in (table, table.assign(**ones), table.assign(**dict.fromkeys(ones, 0))):
        assert mer_zoo.report_units(said, "cd6me").f1_of_always == pytest.approx(always)


def test_the_constant_baseline_of_cd6me() -> None:
    """Varanka et al., arXiv 2211.11425: always "there" scores 17.8 as mean over units, and over data sets too."""
    parts = []
    for corpus, counts in CD6ME.counts.items():
        part = clips(corpus, counts.clips, counts.subjects or 20)
        for unit in UNITS:
            part[f"target_{unit}"] = (np.arange(counts.clips) < counts.classes[unit]).astype(int)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True).assign(**{f"pred_{unit}": 1 for unit in UNITS})
    report = mer_zoo.report_units(table, CD6ME)
    assert len(table) == 2031
    assert round(report.f1_of_always, 3) == round(report.f1, 3) == 0.178
    assert round(report.f1_over_corpora, 3) == 0.178
    assert report.notes == []
    assert "Calling every unit in every clip gives 0.178." in report.to_markdown()


def test_perfect_answers() -> None:
    table = predictions()
    report = mer_zoo.report_units(table.assign(**{f"pred_{u}": table[f"target_{u}"] for u in UNITS}), "cd6me")
    assert report.f1 == pytest.approx(10 / 12)  # units 1 and 2 are never there, and so count nought
    assert not report.tally[:, 1:3].any()


def test_the_order_of_rows_and_columns_moves_nothing() -> None:
    table = predictions()
    turned = table.sample(frac=1, random_state=1)[list(table)[::-1]]
    one, other = (mer_zoo.report_units(t, "cd6me") for t in (table, turned))
    assert one.to_dict() == other.to_dict()
    assert one.to_markdown() == other.to_markdown()


def test_answers_may_be_true_and_false() -> None:
    table = predictions()
    answers = {name: bool for name in table if name.startswith(("target_", "pred_"))}
    one, other = (mer_zoo.report_units(t, "cd6me").to_dict() for t in (table, table.astype(answers)))
    assert one == other


def test_notes_say_where_clips_differ_from_the_publication() -> None:
    notes = mer_zoo.report_units(predictions()[lambda t: t["corpus"] != "mmew"], "cd6me").notes
    assert len(notes) == 6
    assert "mmew is missing: 300 clips." in notes
    assert notes[0].startswith("casme has 9 clips of 4 persons (AU1 0, ")
    faces = predictions().assign(corpus=STAND_IN)
    assert "rendered persons stand in" in mer_zoo.report_units(faces, "cd6me").notes[0]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.drop(columns="subject"), r"lacks \['subject'\]; expected it as evaluate returns it"),
        (lambda t: t.drop(columns=["target_AU12", "pred_AU4"]), r"lacks \['pred_AU4', 'target_AU12'\]"),
        (lambda t: t.head(0), "The table has 0 rows"),
        (lambda t: pd.concat([t, t.head(2)]), "2 clips come more than once"),
        (lambda t: t.assign(pred_AU4=2), "are 0 or 1; the table holds other values"),
        (lambda t: t.assign(target_AU4=-1), "are 0 or 1"),
        (lambda t: t.assign(pred_AU4=0.5), "are 0 or 1"),
        (lambda t: t.assign(target_AU17=np.nan), "are 0 or 1"),
        (lambda t: t.assign(target_AU17="1"), "are 0 or 1"),
    ],
)
def test_a_spoilt_table_is_refused(spoil: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        mer_zoo.report_units(spoil(predictions()), "cd6me")


def test_each_kind_of_protocol_has_its_own_report() -> None:
    with pytest.raises(InputError, match=r"megc2019 is no protocol of action units; score it by mer_zoo\.report\."):
        mer_zoo.report_units(predictions(), "megc2019")
    with pytest.raises(InputError, match=r"cd6me is of action units; score it by mer_zoo\.report_units"):
        mer_zoo.report(predictions(), "cd6me")


def test_what_is_written(tmp_path: Path) -> None:
    table = predictions()
    report = mer_zoo.report_units(table, "cd6me", out=tmp_path / "report")
    names = ["figures", "predictions.csv", "report.html", "report.json", "report.md"]
    assert sorted(f.name for f in (tmp_path / "report").iterdir()) == names
    assert sorted(f.name for f in (tmp_path / "report" / "figures").iterdir()) == ["units.png", "units.svg"]
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == report.to_dict()
    text = (tmp_path / "report" / "report.md").read_text()
    for words in (
        f"# cd6me: F1 {report.f1:.3f}, mean over corpora {report.f1_over_corpora:.3f}",
        f"{len(table)} clips of 39 persons. Varanka et al.",
        "- Guessing under the rule of the run, and baselines, do not stand beside scores of action units.",
        f"gives {report.f1_of_always:.3f}",
        "not recorded in the table",
    ):
        assert words in text
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["casme", "4", "9", f"{f1_per_unit(report.corpora['casme']).mean():.3f}"] in lines
    tp, fp, fn, tn = report.tally[8].tolist()
    low, high = report.to_dict()["units"]["AU12"]["intervals_95"]["f1"]
    f1 = f"{f1_per_unit(report.tally)[8]:.3f} ({low:.2f} to {high:.2f})"
    assert ["AU12", f"{tp + fn}", f1, f"{tp}", f"{fp}", f"{fn}", f"{tn}"] in lines


def test_intervals_are_those_of_persons_drawn_anew() -> None:
    table = predictions()
    facts = mer_zoo.report_units(table, "cd6me").to_dict()
    people = [rows for _, rows in table.groupby(["corpus", "subject"])]
    answers = [
        np.stack([rows[[f"{what}_{unit}" for unit in UNITS]].to_numpy() for what in ("target", "pred")])
        for rows in people
    ]
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(1000):
        there, called = np.concatenate([answers[i] for i in rng.integers(len(people), size=len(people))], axis=1)
        both = there.sum(axis=0) + called.sum(axis=0)
        drawn.append(2 * (there & called).sum(axis=0) / np.maximum(both, 1))
    ends = np.percentile(drawn, [2.5, 97.5], axis=0)
    assert [name for name, unit in facts["units"].items() if not unit["clips"]] == ["AU1", "AU2"]
    for unit, low, high in zip(facts["units"].values(), *ends, strict=True):
        between = pytest.approx([low, high], abs=0.035) if unit["clips"] else None
        assert unit["intervals_95"]["f1"] == between
    ends = np.percentile(np.mean(drawn, axis=1), [2.5, 97.5])
    assert facts["intervals_95"]["f1"] == pytest.approx(ends, abs=0.015)


def test_losses_are_drawn_where_they_are_known() -> None:
    table = predictions()
    assert set(mer_zoo.report_units(table, "cd6me").figures()) == {"units"}
    table.attrs["losses"] = {fold: [1.0, 0.5] for fold in table["fold"].unique()}
    assert set(mer_zoo.report_units(table, "cd6me").figures()) == {"units", "losses"}


def test_leaks_and_baselines_are_said() -> None:
    table = predictions().assign(note="chosen on test subjects")
    names = table["fold"] + " " + table["key"]
    called = np.random.default_rng(2).integers(2, size=(len(table), len(UNITS)))
    table.attrs["baselines"] = {"ridge": dict(zip(names, called.tolist(), strict=True))}
    report = mer_zoo.report_units(table, "cd6me")
    ones = {f"pred_{unit}": called[:, i] for i, unit in enumerate(UNITS)}
    ridge = np.mean(naive(table.assign(**ones))[1])
    assert report.to_dict()["f1_of_baselines"] == {"ridge": pytest.approx(ridge)}
    lines = report.to_markdown().splitlines()
    assert lines[0].endswith("(chosen on test subjects)")
    assert lines[2].startswith("**No result: chosen on test subjects.**")
    assert f"- The baseline ridge gives {ridge:.3f}." in lines
    assert "- Guessing under the rule of the run does not stand beside scores of action units." in lines
    table.attrs["baselines"] = {"ridge": dict.fromkeys(names, 1)}
    with pytest.raises(InputError, match=r"Answers of a baseline are \(159,\); expected \(159, 12\) of 0 and 1"):
        _ = mer_zoo.report_units(table, "cd6me").f1_of_baselines


def test_a_run_that_is_not_whole_is_refused_unless_it_is_asked_for() -> None:
    table = predictions()
    failed = table["corpus"] == "samm"
    answers = [f"pred_{unit}" for unit in UNITS]
    broken = table.assign(error=np.where(failed, "MerZooError: NaN", ""))
    broken[answers] = broken[answers].where(~failed, -1)
    with pytest.raises(InputError, match=r"1 of 6 folds failed, .*: samm \(MerZooError: NaN\)"):
        mer_zoo.report_units(broken, "cd6me")
    report = mer_zoo.report_units(broken, "cd6me", incomplete=True)
    tallies, _ = naive(table[~failed])
    assert report.tally.tolist() == tallies
    assert report.notes[0].startswith("1 of 6 folds failed")
    assert "(incomplete)" in report.to_markdown().splitlines()[0]
    names = table["fold"] + " " + table["key"]
    table.attrs["run"] = {"rows": len(table), "keys": rows_hash(names)}
    mer_zoo.report_units(table, "cd6me")
    with pytest.raises(InputError, match="9 rows are missing: the table has 150, the run predicts 159"):
        mer_zoo.report_units(table.iloc[9:], "cd6me")


# From faces to a report


@pytest.fixture(scope="module")
def faces() -> Corpus:
    return open_corpus(STAND_IN, subjects=3, clips_per_subject=5, size=48, frames=8, classes="au")


@pytest.fixture(scope="module")
def run(faces: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A finished run: its folder and its table."""
    out = tmp_path_factory.mktemp("runs") / "au"
    return out, evaluate(faces, out)


def evaluate(faces: Corpus, out: Path) -> pd.DataFrame:
    recipe = mer_zoo.Recipe(epochs=2, balanced=True)
    return mer_zoo.evaluate("ststnet", "synthetic-au", {STAND_IN: faces}, recipe=recipe, out=out, device="cpu")


def test_a_run_over_units_holds_targets_answers_and_probabilities(
    faces: Corpus, run: tuple[Path, pd.DataFrame]
) -> None:
    table = run[1]
    names = [f"{what}_{unit}" for what in ("target", "pred", "p") for unit in UNITS]
    assert list(table) == ["key", "corpus", "subject", "clip", "fold", *names]
    assert sorted(table["key"]) == sorted(s.key for s in faces.samples)
    rows = table.set_index("key")
    for sample in faces.samples:
        coded = {f"AU{unit.number}" for unit in sample.aus}
        assert {unit for unit in UNITS if rows.loc[sample.key, f"target_{unit}"]} == coded & set(UNITS)
    for unit in UNITS:
        assert table[f"p_{unit}"].between(0, 1).all()
        assert (table[f"pred_{unit}"] == (table[f"p_{unit}"] > 0.5)).all()
    assert table[[f"pred_{unit}" for unit in UNITS]].to_numpy().any()
    assert not np.allclose(table[[f"p_{unit}" for unit in UNITS]].sum(axis=1), 1)
    assert table.attrs["run"]["protocol"] == "synthetic-au"


def test_a_run_over_units_ends_in_a_report(run: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    table = run[1]
    report = mer_zoo.report_units(table, "synthetic-au", out=tmp_path)
    tallies, scores = naive(table)
    assert report.tally.tolist() == tallies
    assert report.f1 == report.f1_over_corpora == pytest.approx(np.mean(scores))
    assert report.notes == []
    assert report.found["synthetic"].subjects == 3
    assert "- Model: ststnet" in report.to_markdown()
    again = read_predictions(tmp_path / "predictions.csv")
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    with pytest.raises(InputError, match=r"synthetic-au is of action units; score it by mer_zoo\.report_units"):
        mer_zoo.report(table, "synthetic-au")


def test_a_finished_run_over_units_is_read_and_not_made_anew(
    faces: Corpus, run: tuple[Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_fit(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished fold was trained again")

    monkeypatch.setattr(selection, "fit", no_fit)
    again = evaluate(faces, run[0])
    pd.testing.assert_frame_equal(again, run[1], check_exact=True)
    one, other = (mer_zoo.report_units(table, "synthetic-au").to_dict() for table in (again, run[1]))
    assert one == other


def test_an_interrupted_run_over_units_goes_on(faces: Corpus, run: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    shutil.copytree(run[0], tmp_path / "au")
    shutil.rmtree(tmp_path / "au" / "folds" / faces.samples[0].person)
    pd.testing.assert_frame_equal(evaluate(faces, tmp_path / "au"), run[1], check_exact=True)
