"""Copies as people have them: edited sheets, folders of other names, windows of one frame, labels that are none."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest

import mer_zoo
from mer_zoo.datasets import open_corpus
from mer_zoo.datasets._annotated import window
from mer_zoo.datasets._base import CORPORA
from mer_zoo.datasets._folders import PictureCorpus
from mer_zoo.datasets._labels import parse_aus
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets.casme2 import CASME2
from mer_zoo.datasets.megc2019_flow import MEGC2019Flow
from mer_zoo.errors import CorpusError
from mer_zoo.types import FLAGS, Sample

PICTURE_CORPORA = [name for name in mer_zoo.list_corpora() if issubclass(CORPORA.get(name), PictureCorpus)]
SHEET = "CASME2-coding-20140508.xlsx"


def _write(root: Path, name: str = "casme2") -> Path:
    CORPORA.get(name).write_specimen(root)
    return root


def _edit(root: Path, cell: str, value: Any) -> None:
    book = openpyxl.load_workbook(root / SHEET)
    book.worksheets[0][cell] = value
    book.save(root / SHEET)


@pytest.mark.parametrize(("cell", "value", "said"), [("B3", "EP2_01f", "01 EP2_01f"), ("A4", "?", r"\? EP12_01f")])
def test_a_row_whose_name_cannot_be_read_is_an_error(cell: str, value: str, said: str, tmp_path: Path) -> None:
    root = _write(tmp_path / "c")
    _edit(root, cell, value)
    whole = len(open_corpus("casme2", _write(tmp_path / "whole")).samples)
    with pytest.raises(CorpusError, match=f"1 rows cannot be read.*row {cell[1]}: '{said}' names no clip of casme2"):
        _ = open_corpus("casme2", root).samples
    assert len(open_corpus("casme2", root, missing="skip").samples) == whole - 1


def test_rows_of_text_below_the_table_are_let_go(tmp_path: Path) -> None:
    root = _write(tmp_path / "c")
    before = len(open_corpus("casme2", root).samples)
    for cell, value in (("A30", "mean"), ("D31", 67.2), ("B32", "* coded twice"), ("F33", "END")):
        _edit(root, cell, value)
    corpus: Any = open_corpus("casme2", root)
    assert len(corpus.samples) == before
    assert len(corpus.rows) == before + 4


@pytest.mark.parametrize("value", ["XII", "8", "I or II"])
def test_an_objective_class_that_is_none_is_flagged(value: str, tmp_path: Path) -> None:
    root = _write(tmp_path / "c")
    book = openpyxl.load_workbook(root / "CASME2-ObjectiveClasses.xlsx")
    book.worksheets[0]["C2"] = value
    book.save(root / "CASME2-ObjectiveClasses.xlsx")
    first, second, *_ = open_corpus("casme2", root).samples
    assert (first.objective, "objective_unexpected" in first.flags) == (None, True)
    assert second.objective == "VII"


@pytest.mark.parametrize(
    ("name", "folder", "form"),
    [
        ("casme2", "my_selected_data", "raw"),
        ("casme2", "my_selected_data", "raw_selected"),
        ("casme2", "not selected yet", "cropped"),
        ("samm", "samm_cropped_and_raw", "raw"),
        ("samm", "samm_cropped_and_raw", "cropped"),
        ("smic", "smic_non_micro_removed", "cropped"),
        ("smic", "HS and others", "raw"),
    ],
)
def test_the_name_of_the_root_decides_nothing(name: str, folder: str, form: str, tmp_path: Path) -> None:
    plain, odd = _write(tmp_path / "a" / name, name), _write(tmp_path / "b" / folder, name)
    assert open_corpus(name, odd, form=form).samples == open_corpus(name, plain, form=form).samples


def test_a_folder_that_is_the_form_itself_may_be_opened(tmp_path: Path) -> None:
    root = _write(tmp_path / "c")
    corpus: Any = open_corpus("casme2", root / "CASME2_RAW_selected")
    assert corpus.form == "raw_selected"


@pytest.mark.parametrize(("name", "inside"), [("samm", "SAMM"), ("casme2", "Cropped"), ("smic", "SMIC_all_cropped")])
def test_the_folder_of_the_shell_will_do(
    name: str, inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _write(tmp_path / "c", name)
    monkeypatch.chdir(root / inside)
    assert open_corpus(name, ".").samples == open_corpus(name, root / inside).samples


def test_windows_of_one_frame_are_flagged_and_can_be_skipped(tmp_path: Path) -> None:
    made = [Made(subject="sub01", clip=f"EP0{i}_01f", onset=20, apex=20, offset=20 + i) for i in range(3)]
    CASME2.draw(tmp_path / "c", made)
    alone, *others = open_corpus("casme2", tmp_path / "c").samples
    assert "window_of_one" in alone.flags
    assert not [s for s in others if "window_of_one" in s.flags]
    protocol = mer_zoo.get_protocol("casme2-7")
    skipping = open_corpus("casme2", tmp_path / "c", missing="skip").samples
    assert [s.clip for s in protocol.select(skipping)] == [s.clip for s in others]


@pytest.mark.parametrize(
    ("ends", "first", "apex", "last", "flags"),
    [
        ((5, 7, 9), 5, 7, 9, ()),
        ((5, None, 9), 5, None, 9, ("apex_missing",)),
        ((5, 0, 9), 5, None, 9, ("apex_missing",)),
        ((5, 3, 9), 5, None, 9, ("apex_outside",)),
        ((5, 12, 9), 5, None, 9, ("apex_outside",)),
        ((0, 7, 9), 7, 7, 9, ("onset_missing",)),
        ((5, 7, 0), 5, 7, 7, ("offset_missing",)),
        ((0, 7, 0), 7, 7, 7, ("onset_missing", "offset_missing")),
        ((9, 7, 5), 5, 7, 9, ("window_reversed",)),
        ((5, 5, 9), 5, 5, 9, ("apex_is_onset",)),
        ((5, 9, 9), 5, 9, 9, ("apex_is_offset",)),
        ((5, None, None), 5, None, 5, ("offset_missing", "apex_missing")),
    ],
)
def test_windows(ends: tuple[Any, Any, Any], first: int, apex: int | None, last: int, flags: tuple[str, ...]) -> None:
    assert window(*ends) == (first, apex, last, flags)


def test_nought_is_a_number_where_frames_count_from_it() -> None:
    assert window(0, 0, 9, zero=True) == (0, 0, 9, ("apex_is_onset",))
    assert window(0, None, 9, zero=True) == (0, None, 9, ("apex_missing",))


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("(6+12)?", ["6?", "12?"]),
        ("12.0", ["12"]),
        ("12.0+4.0", ["12", "4"]),
        ("6or12", ["6?", "12?"]),
        ("R6orL12", ["R6?", "L12?"]),
        ("R 12 + AU 4", ["R12", "4"]),
        ("AUR2+L1", ["R2", "L1"]),
    ],
)
def test_action_units_as_people_write_them(text: str, codes: list[str]) -> None:
    units, unread = parse_aus(text)
    assert ([str(unit) for unit in units], unread) == (codes, ())


@pytest.mark.parametrize("name", PICTURE_CORPORA)
def test_every_flag_has_a_meaning(name: str, tmp_path: Path) -> None:
    corpus: Any = open_corpus(name, _write(tmp_path / "c", name), missing="skip")
    assert {flag for sample in corpus.samples for flag in sample.flags} <= set(FLAGS)
    assert {known.flag for known in corpus.known} <= {"", *FLAGS}


def test_gaps_and_folders_that_nobody_knows_of_are_wrong(tmp_path: Path) -> None:
    root = _write(tmp_path / "c")
    before = open_corpus("casme2", root).verify().set_index("what")
    assert before.loc[["clips with gaps", "folders that no row is about"], "ok"].all()
    (root / "Cropped" / "sub01" / "EP02_01f" / "reg_img99.jpg").unlink()
    shutil.copytree(root / "Cropped" / "sub01" / "EP02_01f", root / "Cropped" / "sub01" / "EP99_01f")
    after = open_corpus("casme2", root).verify().set_index("what")
    assert not after.loc[["clips with gaps", "folders that no row is about"], "ok"].any()
    assert "sub01: EP02_01f" in after.loc["clips with gaps", "note"]
    assert "1/ep99_01f" in after.loc["folders that no row is about", "note"]


def test_the_older_list_of_megc_2019_leaves_one_clip_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """441 rows, one of 442 pictures too many: the clip is named and left out."""
    root = tmp_path / "release"
    MEGC2019Flow.write_specimen(root)
    picture = next((root / "flow").glob("sub01*.png")).read_bytes()
    rows = [f"samm,{31 + i % 2},{31 + i % 2:03d}_7_{i + 1},0" for i in range(441)]
    shutil.rmtree(root / "flow")
    (root / "flow").mkdir()
    for row in [*rows, "samm,32,032_3_1,0"]:
        clip = row.split(",")[2]
        (root / "flow" / f"{clip[:3]}_{clip}.png").write_bytes(picture)
    (root / "combined_3class_gt.csv").write_text("\r\n".join(rows))
    samples: list[Sample] = open_corpus("megc2019_flow", root).samples
    assert len(samples) == 441
    assert "032_3_1" not in {s.clip for s in samples}
    assert "it lacks 032_3_1 of SAMM, which is left out" in caplog.text


def test_the_middle_of_what_is_there_stands_in_for_an_apex(tmp_path: Path) -> None:
    """Not the middle of the numbers: 10 to 15 are lost."""
    frames = (*range(1, 10), *range(16, 20))
    CASME2.draw(tmp_path / "c", [Made(subject="sub01", clip="EP01", onset=1, apex=None, offset=19, frames=frames)])
    corpus = open_corpus("casme2", tmp_path / "c")
    sample = corpus.samples[0]
    assert corpus.frame_numbers(sample) == list(frames)
    assert np.array(frames)[corpus.apex_index(sample)] == frames[len(frames) // 2]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_text_may_be_parted_by_semicolons_or_tabs(delimiter: str, tmp_path: Path) -> None:
    root = _write(tmp_path / "c")
    expected = open_corpus("casme2", root).samples
    rows = openpyxl.load_workbook(root / SHEET).worksheets[0].iter_rows(values_only=True)
    text = "\n".join(delimiter.join("" if cell is None else str(cell) for cell in row) for row in rows)
    (root / SHEET).unlink()
    (root / "CASME2-coding-20140508.csv").write_text(text, encoding="utf-8")
    assert open_corpus("casme2", root).samples == expected


def test_the_folder_above_the_shell_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _write(tmp_path / "c")
    expected = open_corpus("casme2", root).samples
    monkeypatch.chdir(root / "Cropped")
    assert open_corpus("casme2", "..", index=True).samples == expected
    assert not list(root.rglob("*.mer-zoo.json"))
