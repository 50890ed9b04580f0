"""Scores out of a table: by key, pooled, against scikit-learn, and legible; what leaks or lacks is said."""

import copy
import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, recall_score

import mer_zoo
from mer_zoo import report_text
from mer_zoo.datasets import Corpus
from mer_zoo.errors import InputError
from mer_zoo.folds import group_k_fold
from mer_zoo.null_model import null_score
from mer_zoo.runs import read_predictions, rows_hash

CORPORA = {"casme2": 24, "samm": 28, "smic": 16}
SCORES = ("uf1", "uar", "accuracy", "weighted_f1", "balanced_accuracy")
MARK = "chosen on test subjects"


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


def as_run(table: pd.DataFrame, **facts: Any) -> pd.DataFrame:
    """The table as ``evaluate`` would hand it back: baselines answer at random, majority says 0."""
    names = (table["fold"] + " " + table["key"]).tolist()
    rng = np.random.default_rng(9)
    table.attrs["run"] = {
        "model": "net",
        "protocol": "megc2019",
        "selection": "last",
        "leak": None,
        "rows": len(table),
        "keys": rows_hash(names),
        "recipe": {"epochs": 800},
        **facts,
    }
    answers = {"majority": [0] * len(table), "svm": rng.integers(3, size=len(table)).tolist()}
    table.attrs["baselines"] = {name: dict(zip(names, each, strict=True)) for name, each in answers.items()}
    table.attrs["losses"] = {fold: [1.0, 0.5] for fold in table["fold"].unique()}
    return table


def probable(table: pd.DataFrame) -> pd.DataFrame:
    """With probabilities that fit the predictions."""
    shares = np.full((len(table), 3), 0.1)
    shares[np.arange(len(table)), table["pred"]] = 0.8
    names = ("p_negative", "p_positive", "p_surprise")
    return table.assign(**{name: shares[:, i] for i, name in enumerate(names)})


def failing(table: pd.DataFrame) -> pd.DataFrame:
    """Two folds fail, as ``evaluate`` says it."""
    failed = table["fold"].isin(["smic/003", "samm/001"])
    return table.assign(
        pred=table["pred"].where(~failed, -1),
        error=np.where(failed, "MerZooError: the loss of epoch 3\nis NaN", ""),
    )


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
        assert scores["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(*pair))
        assert scores["clips"] == len(rows)
    assert [getattr(report, name) for name in SCORES] == [facts["pooled"][name] for name in SCORES]
    each = f1_score(table["target"], table["pred"], average=None)
    assert [c["f1"] for c in facts["classes"].values()] == pytest.approx(each.tolist())
    each = recall_score(table["target"], table["pred"], average=None)
    assert [c["recall"] for c in facts["classes"].values()] == pytest.approx(each.tolist())
    assert [c["clips"] for c in facts["classes"].values()] == np.bincount(table["target"]).tolist()
    right = (table["target"] == table["pred"]).groupby([table["corpus"], table["subject"]]).sum()
    people = {
        person: (facts["people"][person]["right"], facts["people"][person]["clips"]) for person in facts["people"]
    }
    assert people == {f"{corpus}/{subject}": (n, 6) for (corpus, subject), n in right.items()}


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
    wide, narrow = (mer_zoo.report(predictions(clips=n), "megc2019") for n in (2, 20))
    for report in (wide, narrow):
        low, high = report.interval
        assert low < report.uf1 < high
        assert (low, high) == pytest.approx(_bootstrap(report), abs=0.015)
    assert narrow.interval[1] - narrow.interval[0] < wide.interval[1] - wide.interval[0]


def _bootstrap(report: mer_zoo.Report) -> tuple[float, float]:
    """Written apart from the library: persons as lists of clips, 2.5th and 97.5th percentile."""
    table = predictions(clips=int(report.matrix.sum()) // 68)
    ends = np.percentile([scores["uf1"] for scores in _drawn(table)], [2.5, 97.5])
    return float(ends[0]), float(ends[1])


def _drawn(table: pd.DataFrame, draws: int = 1000) -> list[dict[str, float]]:
    """Scores, in plain words, of persons that are drawn anew."""
    people = [rows[["target", "pred"]].to_numpy() for _, rows in table.groupby("fold")]
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(draws):
        target, pred = np.concatenate([people[i] for i in rng.integers(len(people), size=len(people))]).T
        number, called = (np.bincount(each, minlength=3) for each in (target, pred))
        right = np.bincount(target[target == pred], minlength=3)
        recall, f1 = right / number, 2 * right / (number + called)
        means = {"uf1": f1, "uar": recall, "balanced_accuracy": recall}
        scores.append(
            {
                **{name: float(each.mean()) for name, each in means.items()},
                "accuracy": float((target == pred).mean()),
                "weighted_f1": float((f1 * number).sum() / number.sum()),
                **{f"f1 {i}": float(value) for i, value in enumerate(f1)},
                **{f"recall {i}": float(value) for i, value in enumerate(recall)},
            }
        )
    return scores


def test_every_interval_is_that_of_persons_drawn_anew() -> None:
    table = predictions()
    facts = mer_zoo.report(table, "megc2019").to_dict()
    parts = {"all": (table, facts["pooled"])}
    parts["samm"] = (table[table["corpus"] == "samm"], facts["corpora"]["samm"])
    for rows, scores in parts.values():
        drawn = pd.DataFrame(_drawn(rows))
        for name in SCORES:
            assert scores["intervals_95"][name] == pytest.approx(np.percentile(drawn[name], [2.5, 97.5]), abs=0.02)
    drawn = pd.DataFrame(_drawn(table))
    for i, scores in enumerate(facts["classes"].values()):
        for name in ("f1", "recall"):
            ends = np.percentile(drawn[f"{name} {i}"], [2.5, 97.5])
            assert scores["intervals_95"][name] == pytest.approx(ends, abs=0.02)


def test_the_interval_of_uf1_keeps_its_digits() -> None:
    """Those of docs/results.md were drawn one by one by this generator."""
    table = predictions()
    people = [np.zeros((3, 3), int) for _ in range(68)]
    for person, (_, rows) in zip(people, table.groupby(["corpus", "subject"]), strict=True):
        np.add.at(person, (rows["target"], rows["pred"]), 1)
    generator = np.random.default_rng(0)
    scores = []
    for _ in range(2000):
        pooled = np.sum([people[i] for i in generator.integers(68, size=68)], axis=0)
        scores.append(np.mean(2 * pooled.diagonal() / (pooled.sum(axis=0) + pooled.sum(axis=1))))
    report = mer_zoo.report(table, "megc2019")
    assert report.interval == pytest.approx(np.quantile(scores, [0.025, 0.975]).tolist(), abs=1e-12)
    assert report.to_dict()["pooled"]["intervals_95"]["uf1"] == list(report.interval)


def test_one_person_has_no_interval() -> None:
    table = predictions()
    table = table[(table["corpus"] != "smic") | (table["subject"] == "000")]
    facts = mer_zoo.report(table, "megc2019").to_dict()
    assert set(facts["corpora"]["smic"]["intervals_95"].values()) == {None}


# Beside what is simple


def test_chance_and_the_majority_of_the_table_stand_beside_every_run() -> None:
    table = predictions()
    report = mer_zoo.report(table, "megc2019")
    facts = report.to_dict()
    assert facts["chance"]["uar"] == pytest.approx(1 / 3)
    assert facts["chance"]["accuracy"] == pytest.approx(1 / 3)
    many = [np.random.default_rng(i).integers(3, size=len(table)) for i in range(60)]
    guessed = np.mean([f1_score(table["target"], guess, average="macro") for guess in many])
    assert facts["chance"]["uf1"] == pytest.approx(guessed, abs=0.01)
    most = [table["target"].mode()[0]] * len(table)
    assert facts["baselines"]["majority"]["uf1"] == pytest.approx(f1_score(table["target"], most, average="macro"))
    assert list(facts["baselines"]) == ["majority"]
    assert "Baselines are not recorded; majority is here the most frequent class" in report.to_markdown()


def test_recorded_baselines_are_scored_as_the_run_is() -> None:
    table = as_run(predictions())
    said = table.attrs["baselines"]["svm"]
    answers = [said[f"{fold} {key}"] for fold, key in zip(table["fold"], table["key"], strict=True)]
    report = mer_zoo.report(table.sample(frac=1, random_state=2), "megc2019")
    svm = report.to_dict()["baselines"]["svm"]
    assert svm["uf1"] == pytest.approx(f1_score(table["target"], answers, average="macro"))
    assert svm["accuracy"] == pytest.approx(accuracy_score(table["target"], answers))
    alone = mer_zoo.report(table.assign(pred=answers), "megc2019").to_dict()["pooled"]
    assert {name: svm[name] for name in alone} == alone
    assert "not recorded" not in report.to_markdown()


def test_p_is_that_of_persons_swapped_by_a_coin() -> None:
    """With six persons, all 64 ways to swap them can be counted."""
    table = predictions(right=0.6)
    table = as_run(table[table["subject"].isin([f"{i:03d}" for i in range(6)]) & (table["corpus"] == "samm")])
    svm = table.attrs["baselines"]["svm"]
    ours = table["pred"]
    theirs = pd.Series(
        [svm[f"{fold} {key}"] for fold, key in zip(table["fold"], table["key"], strict=True)], ours.index
    )

    def gap(swapped: Any) -> float:
        pair = ours.where(~swapped, theirs), theirs.where(~swapped, ours)
        return abs(float(np.subtract(*(f1_score(table["target"], pred, average="macro") for pred in pair))))

    person = pd.factorize(table["fold"])[0]
    gaps = np.array([gap(np.array(swaps)[person]) for swaps in itertools.product([False, True], repeat=6)])
    expected = np.mean(gaps >= gaps[0] - 1e-12)
    assert 0.02 < expected < 0.98
    p = mer_zoo.report(table, "megc2019").to_dict()["baselines"]["svm"]["p"]
    assert p == expected


def test_a_network_that_does_not_beat_a_baseline_is_seen_not_to() -> None:
    table = as_run(predictions(right=0.7))
    better = as_run(predictions(right=0.9, seed=5))
    names = table.attrs["baselines"]["svm"]
    for right, words in (
        (1.0, "svm scores higher than net, by "),
        (0.0, "net scores higher than svm, by "),
    ):
        hits = np.random.default_rng(1).random(len(table)) < right
        answers = np.where(hits, table["target"], 2)
        table.attrs["baselines"]["svm"] = dict(zip(names, answers.tolist(), strict=True))
        text = mer_zoo.report(table, "megc2019").to_markdown()
        assert f"- {words}" in text
        order = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith(("| **net", "| svm"))]
        assert order == (["svm", "**net**"] if right else ["**net**", "svm"])
    table.attrs["baselines"]["svm"] = dict(zip(names, table["pred"].tolist(), strict=True))
    words = "net and svm differ by 0.000 UF1, which is not told apart from chance (p = 1.000)."
    assert words in mer_zoo.report(table, "megc2019").to_markdown()
    assert "net scores higher than majority" in mer_zoo.report(better, "megc2019").to_markdown()


def test_a_baseline_is_not_set_beside_itself() -> None:
    facts = mer_zoo.report(as_run(predictions(), model="svm", recipe={}), "megc2019").to_dict()
    assert list(facts["baselines"]) == ["majority"]


def test_guessing_is_scored_by_the_rule_that_the_run_was_made_by() -> None:
    classes = mer_zoo.get_protocol("megc2019").classes
    honest, leaky = as_run(predictions()), as_run(predictions(), selection="test_oracle", leak=MARK)
    sorted_rows = honest.sort_values("key", ignore_index=True)
    for table, rule, epochs in ((honest, "last", 1), (leaky, "test_oracle", 800)):
        report = mer_zoo.report(table, "megc2019")
        null = null_score(sorted_rows, classes, rule, epochs)
        assert report.null == null
        assert null.sentence in report.to_markdown()
    assert null.uf1 > 0.9 > report.uf1
    assert f"{null.sentence} net is within what guessing reaches." in report.to_markdown()


@pytest.mark.parametrize("above", [-0.001, 0.001])
def test_up_to_two_standard_deviations_a_score_is_within_what_guessing_reaches(above: float) -> None:
    report = mer_zoo.report(predictions(), "megc2019")
    facts = report.to_dict()
    facts["null"] |= {"uf1": report.uf1 - 0.02 - above, "uf1_std": 0.01}
    assert ("this run is within what guessing reaches." in report_text.markdown(facts)) == (above < 0)


@pytest.mark.parametrize("facts", [{"recipe": {}}, {"recipe": {"lr": 1.0}}, None])
def test_what_guessing_scores_is_not_known_if_a_rule_leaks_and_its_epochs_are_lost(
    facts: dict[str, Any] | None, tmp_path: Path
) -> None:
    table = as_run(predictions().assign(note=MARK), selection="test_oracle", leak=MARK, **(facts or {}))
    if facts is None:
        table.attrs = {}
    report = mer_zoo.report(table, "megc2019", out=tmp_path)
    assert report.null is report.to_dict()["null"] is None
    text = report.to_markdown()
    assert "- What guessing scores under this rule is not known: its epochs are not recorded." in text
    assert "Guessing scores" not in text
    assert "| guessing" not in text


def test_a_baseline_guesses_once_whatever_the_rule() -> None:
    table = as_run(predictions(), model="svm", parameters=0, recipe={}, selection="random-clip", leak=MARK)
    null = mer_zoo.report(table, "megc2019").null
    assert null is not None
    assert null.epochs == 1


def test_of_copies_it_is_said_that_they_are_and_that_baselines_leak() -> None:
    mark = "chosen on test subjects, whose other copies were trained on"
    facts = {"folds_by": "ten copies of each clip, split at random", "selection": "random-clip", "leak": mark}
    copied = mer_zoo.report(as_run(predictions(0.9), **facts), "megc2019").to_markdown()
    honest = mer_zoo.report(as_run(predictions(0.9)), "megc2019").to_markdown()
    assert "408 copies of clips of 68 persons. See et al." in copied
    assert "Folds here: ten copies of each clip, split at random." in copied
    for words in ("The baselines leak, too", "copies of clips of"):
        assert words in copied
        assert words not in honest
    assert "net scores higher than svm" in copied
    assert "so this shows nothing" not in copied  # both leak alike
    oracle = mer_zoo.report(as_run(predictions(0.9), selection="test_oracle", leak=MARK), "megc2019").to_markdown()
    assert f"But net was {MARK}, so this shows nothing." in oracle


@pytest.mark.parametrize("changed", [False, True])
def test_folds_that_are_not_those_of_the_source_are_named(changed: bool) -> None:
    """Whether the protocol is passed as it is registered or as it was changed."""
    own = mer_zoo.get_protocol("megc2019")
    protocol = replace(own, fold_maker=partial(group_k_fold, k=5)) if changed else own
    other = mer_zoo.report(as_run(predictions(), folds_by="group_k_fold(k=5)"), protocol)
    text = other.to_markdown()
    assert "leave-one-subject-out. Folds here: group_k_fold(k=5)." in text
    assert "## Published for the protocol's own folds" in text
    for facts in ({"folds_by": own.folds_by}, {}):
        same = mer_zoo.report(as_run(predictions(), **facts), "megc2019").to_markdown()
        assert "Folds here" not in same
        assert "## Published numbers of this protocol" in same


def test_published_numbers_stand_beside_with_their_rule_and_leaks_are_marked() -> None:
    report = mer_zoo.report(predictions(), "megc2019")
    text = report.to_markdown()
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("| ")]
    rows = {row[1]: row[2:7] for row in cells if len(row) == 9}
    rows = {name: row for name, row in rows.items() if row[-1] in ("no", "not known", "**yes**")}
    assert rows["STSTNet"] == ["0.7353", "0.7605", "-", "last epoch", "no"]
    assert rows["HTNet"] == ["0.8603", "0.8475", "-", MARK, "**yes**"]
    numbers = report.to_dict()["published"]
    more = sum(row["part"] == "all" for row in numbers) - len(rows)
    assert 0 < more < len(numbers) - len(rows)
    assert f"; report.json has {more} more and those of single corpora." in text
    assert "| epoch chosen by" in text
    assert [row[-1] for row in rows.values()] == [*["no"] * 3, *["not known"] * 3, *["**yes**"] * 3]
    assert {"STSTNet", "CapsuleNet"} <= {row["method"] for row in report.to_dict()["published"]}
    faces = predictions().assign(corpus="synthetic", subject=lambda t: t["fold"].str.replace("/", "-"))
    stood_in = mer_zoo.report(faces, "megc2019")
    assert stood_in.to_dict()["published"] == []
    assert "Published" not in stood_in.to_markdown()
    assert "# megc2019 on rendered persons: " in stood_in.to_markdown()


# What leaks, and what lacks


def test_a_leak_is_said_wherever_the_scores_are(tmp_path: Path) -> None:
    table = probable(as_run(predictions().assign(note=MARK), selection="test_oracle", leak=MARK))
    mer_zoo.report(table, "megc2019", out=tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.splitlines()[0].endswith(f"({MARK})")
    assert text.splitlines()[2].startswith(f"**No result: {MARK}.**")
    assert json.loads((tmp_path / "report.json").read_text())["leak"] == MARK
    assert MARK in (tmp_path / "predictions.csv").read_text()
    assert f"({MARK})</title>" in (tmp_path / "report.html").read_text()
    pictures = list((tmp_path / "figures").glob("*.svg"))
    assert {file.stem for file in pictures} == {"confusion", "persons", "classes", "losses", "calibration"}
    assert all(MARK in file.read_text() for file in pictures)
    assert f"But net was {MARK}, so this shows nothing." in text


def test_a_leak_is_told_from_the_rows_where_attrs_are_lost(tmp_path: Path) -> None:
    as_run(predictions().assign(note=MARK), leak=MARK).to_csv(tmp_path / "p.csv", index=False)
    for table in (read_predictions(tmp_path / "p.csv"), pd.read_csv(tmp_path / "p.csv")):
        assert not table.attrs
        report = mer_zoo.report(table, "megc2019")
        assert report.leak == report.to_dict()["leak"] == MARK
        assert report.to_markdown().splitlines()[0].endswith(f"({MARK})")
    assert mer_zoo.report(predictions(), "megc2019").leak is None


def test_failed_folds_are_not_passed_over() -> None:
    table = failing(as_run(predictions()))
    with pytest.raises(
        InputError, match=r"2 of 68 folds failed, which leaves 12 of 408 clips without prediction: "
    ) as e:
        mer_zoo.report(table, "megc2019")
    assert "smic/003 (MerZooError: the loss of epoch 3 is NaN)" in str(e.value)
    assert "pass incomplete=True" in str(e.value)
    report = mer_zoo.report(table, "megc2019", incomplete=True)
    whole = table[~table["fold"].isin(["smic/003", "samm/001"])]
    assert report.uf1 == pytest.approx(f1_score(whole["target"], whole["pred"], average="macro"))
    assert report.notes[0].startswith("2 of 68 folds failed")
    assert report.to_markdown().splitlines()[0].endswith("(incomplete)")
    assert report.to_markdown().splitlines()[2].startswith("**Not whole: 2 of 68 folds failed")
    with pytest.raises(InputError, match=r"smic/003 \(no reason recorded\)"):
        mer_zoo.report(table.drop(columns="error"), "megc2019")


def test_failures_are_still_there_in_a_csv(tmp_path: Path) -> None:
    failing(probable(predictions())).to_csv(tmp_path / "p.csv", index=False)
    for table in (read_predictions(tmp_path / "p.csv"), pd.read_csv(tmp_path / "p.csv")):
        with pytest.raises(InputError, match="2 of 68 folds failed"):
            mer_zoo.report(table, "megc2019")
        assert mer_zoo.report(table, "megc2019", incomplete=True).matrix.sum() == 396


def test_nothing_is_left_to_score_if_all_folds_failed() -> None:
    with pytest.raises(InputError, match="68 of 68 folds failed"):
        mer_zoo.report(predictions().assign(pred=-1), "megc2019", incomplete=True)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.iloc[5:], "5 rows are missing: the table has 403, the run predicts 408"),
        (
            lambda t: t.assign(fold=t["fold"].shift(6, fill_value="smic/015")),
            "Some rows are missing: there are as many",
        ),
        (lambda t: pd.concat([t, t.head(2).assign(key=["a", "b"])]), "2 rows are too many"),
    ],
)
def test_other_rows_than_the_run_predicts_are_refused(
    spoil: Callable[[pd.DataFrame], pd.DataFrame], words: str
) -> None:
    table = as_run(predictions())
    spoilt = spoil(table)
    spoilt.attrs = {"run": table.attrs["run"]}
    with pytest.raises(InputError, match=words):
        mer_zoo.report(spoilt, "megc2019")
    assert words in mer_zoo.report(spoilt, "megc2019", incomplete=True).notes[0]


def test_a_baseline_must_answer_every_row_with_a_class() -> None:
    table = as_run(predictions())
    name = "casme2/000 casme2/000/0"
    answers = table.attrs["baselines"]["svm"]
    table.attrs["baselines"]["svm"] = {**answers, name: 3}
    with pytest.raises(InputError, match="expected class indices 0 to 2"):
        mer_zoo.report(table, "megc2019").to_dict()
    del table.attrs["baselines"]["svm"][name]
    with pytest.raises(InputError, match=rf"svm has no answer to 1 of 408 rows, such as \['{name}'\]"):
        mer_zoo.report(table, "megc2019")


def test_repeated_folds_are_pooled_and_their_scatter_is_said() -> None:
    parts = [predictions(seed=0).assign(pred=predictions(seed=0, right=r)["pred"]) for r in (0.5, 0.7, 0.9)]
    parts = [part.assign(repeat=i, fold=f"repeat-{i}/fold-0") for i, part in enumerate(parts)]
    table = pd.concat(parts, ignore_index=True)
    report = mer_zoo.report(table, "megc2019")
    assert report.uf1 == pytest.approx(f1_score(table["target"], table["pred"], average="macro"))
    each = [f1_score(part["target"], part["pred"], average="macro") for part in parts]
    facts = report.to_dict()
    assert facts["repeats"]["uf1"] == pytest.approx(each)
    assert facts["repeats"]["uf1_mean"] == pytest.approx(np.mean(each))
    assert facts["repeats"]["uf1_std"] == pytest.approx(np.std(each, ddof=1))
    assert facts["clips"] == 408
    assert facts["pooled"]["clips"] == 3 * 408
    assert "408 clips of 68 persons" in report.to_markdown()
    words = f"mean {np.mean(each):.3f}, standard deviation {np.std(each, ddof=1):.3f}"
    assert words in report.to_markdown()
    assert report.found["casme2"].clips == 144
    with pytest.raises(InputError, match="1 clips come more than once"):
        mer_zoo.report(pd.concat([table, table.tail(1)]), "megc2019")


def test_a_report_leaves_the_table_as_it_is() -> None:
    table = as_run(failing(predictions()).assign(note=None))
    columns, attrs = table.copy(), copy.deepcopy(table.attrs)
    facts = mer_zoo.report(table, "megc2019", incomplete=True)
    facts.to_dict()["run"]["model"] = "another"
    pd.testing.assert_frame_equal(table, columns)
    assert table.attrs == attrs
    assert facts.to_dict()["run"]["model"] == "net"


def test_without_the_extra_a_report_is_text_only_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("figures", "pages"):
        monkeypatch.delitem(sys.modules, f"mer_zoo.{name}", raising=False)
        monkeypatch.delattr(mer_zoo, name, raising=False)
    mer_zoo.report(predictions(), "megc2019", out=tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["predictions.csv", "report.json", "report.md"]
    assert 'pip install "mer-zoo[plot]"' in caplog.text


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
    assert samm["intervals_95"]["uf1"] is None
    for name in ("accuracy", "balanced_accuracy"):
        low, high = samm["intervals_95"][name]
        assert low < samm[name] < high
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
    names = ["figures", "predictions.csv", "report.html", "report.json", "report.md"]
    assert sorted(f.name for f in (tmp_path / "report").iterdir()) == names
    for figure in ("confusion", "persons", "classes", "losses", "calibration"):
        assert all((tmp_path / "report" / "figures" / f"{figure}.{kind}").stat().st_size for kind in ("png", "svg"))
        assert f"](figures/{figure}.png)" in (tmp_path / "report" / "report.md").read_text()
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    assert facts == report.to_dict()
    assert facts["run"]["recipe"]["seed"] == 7
    assert facts["run"]["selection"] == "last"
    assert np.sum(facts["confusion"]) == len(table)
    text = (tmp_path / "report" / "report.md").read_text()
    for words in (
        f"UF1 {report.uf1:.3f}",
        "persons. This library: made-up persons",
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
