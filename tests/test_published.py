"""The table of published numbers is well formed, and some of it against numbers copied from the sources by hand."""

import csv
from importlib.resources import files

import pytest

import mer_zoo
from mer_zoo.published import LEAKS, SCORES, Published, published

ROWS = list(csv.reader((files("mer_zoo") / "published.csv").read_text(encoding="utf-8").splitlines()))
ALL = [row for name in mer_zoo.list_protocols() for row in published(name)]


def test_every_line_has_every_cell_and_its_protocol_exists() -> None:
    assert ROWS[0] == ["protocol", "part", "method", "uf1", "uar", "accuracy", "selection", "source"]
    assert {len(row) for row in ROWS} == {8}
    assert {row[0] for row in ROWS[1:]} <= set(mer_zoo.list_protocols())
    assert len(ALL) == len(ROWS) - 1


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.protocol} {row.part} {row.method}")
def test_a_row_has_scores_a_known_selection_and_a_source(row: Published) -> None:
    scores = [score for score in (row.uf1, row.uar, row.accuracy) if score is not None]
    assert scores
    assert all(0 < score < 1 for score in scores)
    assert row.selection in LEAKS
    assert len(row.source) > 20
    assert row.digits == {name: text for name, text in row.digits.items() if getattr(row, name) == float(text)}
    assert set(row.digits) == {name for name in SCORES if getattr(row, name) is not None}
    assert row.part == "all" or row.part in mer_zoo.get_protocol(row.protocol).counts


def test_no_number_comes_twice() -> None:
    names = [(row.protocol, row.part, row.method) for row in ALL]
    assert len(set(names)) == len(names)


def test_rows_are_sorted_and_those_without_uf1_come_last() -> None:
    for name in mer_zoo.list_protocols():
        scores = [row.uf1 for row in published(name)]
        given = [score for score in scores if score is not None]
        assert scores == sorted(given, reverse=True) + [None] * (len(scores) - len(given))


def test_known_numbers_are_there_with_their_mark() -> None:
    found = {(row.protocol, row.part, row.method): row for row in ALL}
    honest = found["megc2019", "all", "STSTNet, authors' PyTorch weights"]
    assert (honest.uf1, honest.uar, honest.leaks) == (0.7209, 0.725, False)
    assert found["megc2019", "all", "HTNet"].leaks
    assert found["megc2019", "all", "FeatRef"].leaks is None
    leaky = [found[name, "all", "3D-DAT-DenseNet"] for name in ("smic-3", "casme2-5", "samm-5")]
    assert [row.accuracy for row in leaky] == [0.9085, 0.9228, 0.8382]
    assert all(row.leaks for row in leaky)
    assert ["inferred" in row.source for row in leaky] == [False, True, True]
    assert found["casme2-5", "all", "SODA4MER"].digits == {"uf1": "0.8141", "accuracy": "0.8418"}
    assert found["megc2019", "samm", "CausalNet"].digits == {"uf1": "0.8780", "uar": "0.8582", "accuracy": "0.9173"}
    assert found["megc2019", "casme2", "Ra-ICL"].digits == {"uf1": "0.9620"}


def test_digits_are_those_printed_not_rounded_again_in_binary() -> None:
    paper = next(row for row in published("megc2019") if (row.part, row.method) == ("all", "STSTNet"))
    assert paper.digits == {"uf1": "0.7353", "uar": "0.7605"}
    assert f"{paper.uar:.3f}" == "0.760"  # why the text is kept


@pytest.mark.parametrize("method", ["STSTNet, authors' PyTorch weights", "CausalNet"])
def test_pooled_accuracy_is_the_mean_over_the_clips_of_the_corpora(method: str) -> None:
    """A number copied into the wrong row or column would show."""
    share = {row.part: row.accuracy or 0.0 for row in published("megc2019") if row.method == method}
    pooled = 164 * share["smic"] + 145 * share["casme2"] + 133 * share["samm"]
    assert share["all"] == pytest.approx(pooled / 442, abs=1e-4)


def test_a_protocol_that_nobody_published_has_none() -> None:
    assert published("synthetic-3") == []
    assert published("of-my-own") == []
