"""Runs side by side: the same clips only, differences against a naive reference, leaks marked."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

import mer_zoo
from mer_zoo.comparing import compare
from mer_zoo.errors import InputError

MARK = "chosen on test subjects"


def predictions(right: float, seed: int = 0, **facts: Any) -> pd.DataFrame:
    """Six persons with eight clips each; who is predicted right depends on the seed, who they are does not."""
    table = pd.DataFrame(
        [{"subject": f"{subject:03d}", "clip": f"{clip}"} for subject in range(6) for clip in range(8)]
    )
    table.insert(0, "corpus", "samm")
    table.insert(0, "key", "samm/" + table["subject"] + "/" + table["clip"])
    table["fold"] = "samm/" + table["subject"]
    table["target"] = np.random.default_rng(0).permutation(np.arange(48) % 3)
    rng = np.random.default_rng(seed)
    table["pred"] = np.where(rng.random(48) < right, table["target"], rng.integers(3, size=48))
    table.attrs["run"] = {"model": "net", "protocol": "samm-3", "selection": "last", "leak": None, **facts}
    return table


def scores(table: pd.DataFrame) -> list[float]:
    pair = table["target"], table["pred"]
    return [f1_score(*pair, average="macro"), recall_score(*pair, average="macro"), accuracy_score(*pair)]


def test_each_run_has_its_scores_and_the_difference_to_the_first() -> None:
    tables = {"a": predictions(0.5), "b": predictions(0.8, seed=1), "c": predictions(0.2, seed=2)}
    facts = compare(tables, "samm-3").to_dict()
    assert list(facts["runs"]) == ["a", "b", "c"]
    for name, table in tables.items():
        run = facts["runs"][name]
        assert [run["uf1"], run["uar"], run["accuracy"]] == pytest.approx(scores(table))
        alone = mer_zoo.report(table, "samm-3").to_dict()["pooled"]
        assert run["intervals_95"] == alone["intervals_95"]
        if name != "a":
            assert run["ahead"] == pytest.approx(scores(table)[0] - scores(tables["a"])[0])
    assert facts["runs"]["a"]["ahead"] is facts["runs"]["a"]["p"] is None
    assert facts["baselines"]["majority"]["accuracy"] == pytest.approx(1 / 3)
    assert (facts["clips"], facts["persons"]) == (48, 6)


def test_p_is_that_of_all_ways_to_swap_persons() -> None:
    one, other = predictions(0.5), predictions(0.7, seed=1)
    person = pd.factorize(one["subject"])[0]

    def gap(swapped: Any) -> float:
        pair = np.where(swapped, other["pred"], one["pred"]), np.where(swapped, one["pred"], other["pred"])
        return abs(float(np.subtract(*(f1_score(one["target"], pred, average="macro") for pred in pair))))

    gaps = np.array([gap(np.array(swaps)[person]) for swaps in itertools.product([False, True], repeat=6)])
    expected = float(np.mean(gaps >= gaps[0] - 1e-12))
    assert 0.05 < expected < 0.95
    shuffled = other.sample(frac=1, random_state=0)
    facts = compare({"one": one, "other": shuffled}, "samm-3").to_dict()
    assert facts["runs"]["other"]["p"] == expected


def test_it_is_said_in_words_which_run_is_better() -> None:
    tables = {"a": predictions(0.3), "b": predictions(1.0), "c": predictions(0.3)}
    text = compare(tables, "samm-3").to_markdown()
    better = 1 - scores(tables["a"])[0]
    assert f"- b scores higher than a, by {better:.3f} UF1 (p = " in text
    assert "- c and a differ by 0.000 UF1, which is not told apart from chance (p = 1.000)." in text
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert [row[0] for row in cells[1:]] == ["**a**", "**b**", "**c**", "majority", "chance"]
    assert cells[0][-2:] == ["UF1 against a", "p"]
    assert cells[1][-2:] == ["", ""]
    assert cells[2][-2] == f"{better:+.3f}"
    assert cells[2][3].startswith("1.000 (1.00 to 1.00)")


def test_a_leaking_run_is_marked_and_does_not_win(tmp_path: Path) -> None:
    tables = {"last": predictions(0.4), "oracle": predictions(0.9, selection="test_oracle", leak=MARK)}
    made = compare(tables, "samm-3")
    made.save(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.splitlines()[0] == f"# 2 runs of samm-3 (oracle is {MARK})"
    assert text.splitlines()[2].startswith(f"**oracle is no result: {MARK}.**")
    assert "honest numbers" not in text
    assert "last is no result" not in text
    assert "test_oracle (**leaks**)" in text
    assert f"But oracle was {MARK}, so this shows nothing." in text
    assert "- Epoch: `last`, last epoch, the same for every fold" in text
    facts = json.loads((tmp_path / "report.json").read_text())
    assert facts == made.to_dict()
    assert (facts["runs"]["last"]["leak"], facts["runs"]["oracle"]["leak"]) == (None, MARK)
    for file in ("report.html", "figures/runs.svg"):
        assert MARK in (tmp_path / file).read_text()
    turned = compare({"oracle": tables["oracle"], "last": tables["last"]}, "samm-3").to_markdown()
    assert f"oracle scores higher than last, by {facts['runs']['oracle']['ahead']:.3f} UF1" in turned
    assert f"But oracle was {MARK}, so this shows nothing." in turned


@pytest.mark.parametrize("turned", [False, True])
def test_a_difference_by_chance_is_said_alike_whichever_is_ahead(turned: bool) -> None:
    tables = {"a": predictions(0.5), "b": predictions(0.55, seed=1)}
    ahead = scores(tables["b"])[0] - scores(tables["a"])[0]
    names = ["b", "a"] if turned else ["a", "b"]
    text = compare({name: tables[name] for name in names}, "samm-3").to_markdown()
    words = f"- {names[1]} and {names[0]} differ by {abs(ahead):.3f} UF1, which is not told apart from chance (p = "
    assert abs(ahead) > 0.001
    assert words in text


def test_of_few_persons_nothing_is_told() -> None:
    tables = {"a": predictions(0.2), "b": predictions(1.0, seed=1)}
    few = {name: table[table["subject"] < "005"] for name, table in tables.items()}
    assert "b scores higher than a" in compare(tables, "samm-3").to_markdown()
    text = compare(few, "samm-3").to_markdown()
    assert "UF1; 5 are too few persons to tell." in text
    assert "scores higher" not in text


def test_guessing_stands_beside_each_run_under_its_own_rule() -> None:
    recipe = {"epochs": 30, "seed": 0}
    tables = {
        "last": predictions(0.5, recipe=recipe),
        "oracle": predictions(0.6, recipe=recipe, selection="test_oracle", leak=MARK),
        "lost": predictions(0.6, leak=MARK, selection="test_oracle"),
    }
    made = compare(tables, "samm-3")
    guessed = {name: run["null_uf1"] for name, run in made.to_dict()["runs"].items()}
    assert guessed["lost"] is None
    assert [guessed[name] for name in ("last", "oracle")] == [made.reports[n].null.uf1 for n in ("last", "oracle")]  # type: ignore[union-attr]
    assert guessed["oracle"] > guessed["last"] + 0.1
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in made.to_markdown().splitlines()]
    [column] = [row.index("UF1 of guessing") for row in cells if row[:3] == ["run", "model", "epoch chosen by"]]
    found = {row[0].strip("*"): row[column] for row in cells if len(row) > column}
    assert [found[name] for name in tables] == [f"{guessed['last']:.3f}", f"{guessed['oracle']:.3f}", "-"]
    assert found["majority"] == ""


def test_it_is_said_where_runs_were_made_otherwise() -> None:
    tables = {
        "a": predictions(0.5, folds_by="leave_one_subject_out", recipe={"lr": 0.1, "epochs": 30, "seed": 0}),
        "b": predictions(0.5, folds_by="group_k_fold(k=5)", recipe={"lr": 0.1, "epochs": 800, "seed": 1}),
        "svm": predictions(0.5, folds_by="leave_one_subject_out", recipe={}),
    }
    notes = compare(tables, "samm-3").to_dict()["notes"][-3:]
    assert notes == [
        "the runs differ in folds: leave_one_subject_out (a), group_k_fold(k=5) (b), leave_one_subject_out (svm).",
        "the runs differ in epochs: 30 (a), 800 (b).",
        "the runs differ in seed: 0 (a), 1 (b).",
    ]
    alike = compare({"a": tables["a"], "svm": tables["svm"]}, "samm-3").to_markdown()
    assert "the runs differ" not in alike
    assert "Folds here" not in alike
    assert "Folds here: group_k_fold(k=5). They" in compare({n: tables[n] for n in "ba"}, "samm-3").to_markdown()


def test_tables_without_attrs_can_be_compared() -> None:
    tables = {"a": predictions(0.5), "b": predictions(0.6, seed=4)}
    for table in tables.values():
        table.attrs = {}
    made = compare(tables, "samm-3")
    assert made.leak is None
    assert made.to_dict()["runs"]["a"]["model"] is None
    row = next(line for line in made.to_markdown().splitlines() if line.startswith("| **a**"))
    assert [cell.strip() for cell in row.split("|")][1:4] == ["**a**", "-", "-"]


def test_only_the_same_clips_can_be_compared() -> None:
    one, other = predictions(0.5), predictions(0.6)
    moved = (other["target"] + (other["key"] == "samm/003/4")) % 3
    for spoilt, words in (
        (other.iloc[2:], r"only one has 2 clips, such as \['samm/000/0', 'samm/000/1'\]\. Compare"),
        (other.assign(target=moved), "the target differs in 1 clips"),
        (other.assign(repeat=0), "only other has 48 clips, such as .*'samm/000/0 in repetition 0'"),
    ):
        with pytest.raises(InputError, match=f"one and other are not of the same clips: .*{words}"):
            compare({"one": one, "other": spoilt}, "samm-3")


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="1 run to compare; expected two or more"):
        compare({"a": predictions(0.5)}, "samm-3")
    with pytest.raises(InputError, match="6 of 6 folds failed"):
        compare({"a": predictions(0.5), "b": predictions(0.5).assign(pred=-1)}, "samm-3")


def test_repeated_runs_are_compared_repetition_by_repetition() -> None:
    tables = {
        name: pd.concat([predictions(right, seed=i).assign(repeat=i) for i in range(2)], ignore_index=True)
        for name, right in (("a", 0.4), ("b", 0.8))
    }
    facts = compare(tables, "samm-3").to_dict()
    assert facts["runs"]["b"]["uf1"] == pytest.approx(scores(tables["b"])[0])
    assert facts["clips"] == 48
