"""Scores out of a table: by key, pooled, against scikit-learn, and legible."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

import mer_zoo
from mer_zoo.datasets import Corpus
from mer_zoo.errors import InputError
from mer_zoo.runs import read_predictions

CORPORA = {"casme2": 24, "samm": 28, "smic": 16}


def predictions(right: float = 0.7, seed: int = 0, clips: int = 6) -> pd.DataFrame:
    """Made-up predictions of 68 persons in three corpora."""
    rng = np.random.default_rng(seed)
    rows = [
        {"corpus": corpus, "subject": f"{subject:03d}", "clip": f"{clip}"}
        for corpus, subjects in CORPORA.items()
        for subject in range(subjects)
        for clip in range(clips)
    ]
    table = pd.DataFrame(rows)
    table.insert(0, "key", table["corpus"] + "/" + table["subject"] + "/" + table["clip"])
    table["fold"] = table["corpus"] + "/" + table["subject"]
    table["target"] = rng.integers(3, size=len(table))
    table["pred"] = np.where(rng.random(len(table)) < right, table["target"], rng.integers(3, size=len(table)))
    return table


def test_scores_equal_scikit_learn_pooled_and_per_corpus() -> None:
    table = predictions()
    report = mer_zoo.report(table, "megc2019")
    facts = report.to_dict()
    parts = {"all": (table, facts["pooled"])}
    parts |= {name: (table[table["corpus"] == name], facts["corpora"][name]) for name in CORPORA}
    for rows, scores in parts.values():
        pair = (rows["target"], rows["pred"])
        assert scores["uf1"] == pytest.approx(f1_score(*pair, average="macro"))
        assert scores["uar"] == pytest.approx(recall_score(*pair, average="macro"))
        assert scores["accuracy"] == pytest.approx(accuracy_score(*pair))
        assert scores["weighted_f1"] == pytest.approx(f1_score(*pair, average="weighted"))
        assert scores["clips"] == len(rows)
    assert (report.uf1, report.uar) == (facts["pooled"]["uf1"], facts["pooled"]["uar"])
    each = f1_score(table["target"], table["pred"], average=None)
    assert [c["f1"] for c in facts["classes"].values()] == pytest.approx(each.tolist())


def test_a_perfect_classifier_scores_one_on_shuffled_rows() -> None:
    table = predictions(right=1.0)
    for seed in range(3):
        report = mer_zoo.report(table.sample(frac=1, random_state=seed), "megc2019")
        assert report.uf1 == report.uar == report.accuracy == 1.0
        assert report.interval == (1.0, 1.0)


def test_the_order_of_rows_moves_nothing() -> None:
    table = predictions()
    one, other = (mer_zoo.report(t, "megc2019").to_dict() for t in (table, table.sample(frac=1, random_state=1)))
    assert one == other


def test_the_score_is_pooled_and_not_a_mean_over_folds() -> None:
    """One person with one clip, wrong, and one with nine, right: 0.9, not 0.5."""
    table = predictions(right=1.0).head(10).assign(target=[0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    table["pred"] = table["target"]
    table.loc[9, "pred"] = 1
    assert mer_zoo.report(table, "megc2019").accuracy == pytest.approx(0.9)


def test_the_interval_holds_the_score_and_narrows_with_persons() -> None:
    wide, narrow = (mer_zoo.report(predictions(clips=n), "megc2019") for n in (2, 40))
    for report in (wide, narrow):
        low, high = report.interval
        assert low < report.uf1 < high
        assert (low, high) == pytest.approx(_bootstrap(report), abs=0.01)
    assert narrow.interval[1] - narrow.interval[0] < wide.interval[1] - wide.interval[0]


def _bootstrap(report: mer_zoo.Report) -> tuple[float, float]:
    """Written apart from the library: persons as lists of clips, scikit-learn's score, 2.5th and 97.5th percentile."""
    table = predictions(clips=int(report.matrix.sum()) // 68)
    people = [rows[["target", "pred"]].to_numpy() for _, rows in table.groupby("fold")]
    assert len(people) == 68
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(1000):
        clips = np.concatenate([people[i] for i in rng.integers(68, size=68)])
        scores.append(f1_score(clips[:, 0], clips[:, 1], average="macro"))
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def test_scores_under_the_name_of_another_protocol_are_refused(persons: Corpus) -> None:
    table = mer_zoo.evaluate("ststnet", "synthetic-3", {"synthetic_flow": persons}, recipe=mer_zoo.Recipe(epochs=1))
    for made_up in (table, pd.DataFrame(table.to_dict("list"))):
        with pytest.raises(InputError, match=r"holds synthetic_flow; megc2019 is of smic, casme2, samm"):
            mer_zoo.report(made_up, "megc2019")
    path: Any = "predictions.csv"
    with pytest.raises(InputError, match="predictions is a str"):
        mer_zoo.report(path, "megc2019")


def test_a_corpus_without_a_class_has_no_mean_over_classes() -> None:
    table = predictions()
    table = table[(table["corpus"] != "samm") | (table["target"] != 2)]
    report = mer_zoo.report(table, "megc2019")
    samm = report.to_dict()["corpora"]["samm"]
    assert samm["uf1"] is None
    assert samm["accuracy"] is not None
    line = next(line for line in report.to_markdown().splitlines() if line.startswith("| samm"))
    assert [cell.strip() for cell in line.split("|")][4:6] == ["-", "-"]


def test_no_score_at_all_without_a_class() -> None:
    table = predictions()
    with pytest.raises(ValueError, match="No target is of class 2"):
        mer_zoo.report(table[table["target"] != 2], "megc2019")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.drop(columns="subject"), "one row a clip and at least key, corpus, subject"),
        (lambda t: t.head(0), "The table has 0 rows"),
        (lambda t: pd.concat([t, t.head(2)]), "2 clips come more than once"),
        (lambda t: t.assign(pred=3), r"Column pred holds \[3\]; expected class indices 0 to 2 of megc2019"),
        (lambda t: t.assign(target="surprise"), "Column target holds"),
    ],
)
def test_a_spoilt_table_is_refused(spoil: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        mer_zoo.report(spoil(predictions()), "megc2019")


def test_what_is_written(persons: Corpus, tmp_path: Path) -> None:
    recipe = mer_zoo.Recipe(epochs=1, seed=7)
    table = mer_zoo.evaluate("ststnet", "synthetic-3", {"synthetic_flow": persons}, recipe=recipe)
    report = mer_zoo.report(table, "synthetic-3", out=tmp_path / "report")
    assert sorted(f.name for f in (tmp_path / "report").iterdir()) == ["predictions.csv", "report.json", "report.md"]
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    assert facts == report.to_dict()
    assert facts["run"]["recipe"]["seed"] == 7
    assert facts["run"]["selection"] == "last"
    assert np.sum(facts["confusion"]) == len(table)
    text = (tmp_path / "report" / "report.md").read_text()
    for words in (
        f"UF1 {report.uf1:.3f}",
        "95 % interval of UF1 over persons",
        "last epoch, the same for every fold; nothing was chosen on test persons",
        "seed 7",
        f"mer-zoo {mer_zoo.__version__}",
        "channels strain, v, u, values 0 to 255",
        "| negative |",
    ):
        assert words in text
    again = read_predictions(tmp_path / "report" / "predictions.csv")
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert mer_zoo.report(again, "synthetic-3").uf1 == report.uf1


def test_a_table_from_elsewhere_says_that_its_making_is_not_recorded() -> None:
    text = mer_zoo.report(predictions(), "megc2019").to_markdown()
    assert "not recorded" in text
    assert "casme2 has 144 clips of 24 persons" in text
