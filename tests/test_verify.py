"""What ``verify`` says of a copy: right where it is right, and which clip where it is not."""

import hashlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from _copies import KINDS, PICTURES, files_below, opened, write_copy

from mer_zoo.cli import main
from mer_zoo.datasets import casme2
from mer_zoo.datasets._base import CORPORA, Fix
from mer_zoo.datasets._folders import Known
from mer_zoo.datasets._specimen import Made
from mer_zoo.types import Counts

Output = pytest.CaptureFixture[str]
COLUMNS = ["corpus", "what", "expected", "found", "ok", "note"]
every = pytest.mark.parametrize("name", KINDS)


def lines(corpus: Any, **options: Any) -> dict[str, dict[str, Any]]:
    """The table by what was looked at; where that comes twice, the last."""
    return {row["what"]: row for row in corpus.verify(**options).to_dict("records")}


def wrong(corpus: Any, **options: Any) -> set[str]:
    return {what for what, row in lines(corpus, **options).items() if not row["ok"]}


@pytest.fixture
def copy(name: str, tmp_path: Path) -> Path:
    write_copy(name, tmp_path / "copy")
    return tmp_path / "copy"


# A sound copy, of which only the counts are wrong


@every
def test_it_prints_what_it_returns(name: str, copy: Path, capsys: Output) -> None:
    table = opened(name, copy).verify()
    printed = capsys.readouterr().out.splitlines()
    assert list(table) == COLUMNS
    assert set(table["corpus"]) == {name}
    assert table["ok"].dtype == bool
    assert len(printed) == len(table) + 1
    for line, row in zip(printed, table.to_dict("records"), strict=False):
        assert line.split()[:2] == ["ok" if row["ok"] else "WRONG", name]
        assert row["what"] in line
        assert row["found"] in line
        assert row["note"] in line
        assert row["ok"] or f"{row['found']}, expected {row['expected']}" in line
        assert all(type(row[column]) is str for column in set(COLUMNS) - {"ok"})
    number = int((~table["ok"]).sum())
    assert printed[-1] == f"{number} of {len(table)} lines are wrong."
    assert number > 0


@every
def test_counts_are_those_of_the_samples(name: str, copy: Path) -> None:
    corpus = opened(name, copy)
    said = lines(corpus)
    assert said["clips found"]["found"] == said["clips found"]["expected"] == str(len(corpus.samples))
    for what, row in said.items():
        emotion = re.fullmatch(r"clips of (\w+)", what)
        if emotion:
            assert row["found"] == str(sum(s.emotion == emotion[1] for s in corpus.samples))
        flag = re.fullmatch(r"clips with (\w+)", what)
        if flag and flag[1] in {f for s in corpus.samples for f in s.flags}:
            having = [s for s in corpus.samples if flag[1] in s.flags]
            assert row["found"] == str(len(having))
            assert row["ok"]
    published = corpus.edition(len(corpus.samples)) or next(iter(corpus.counts.values()))
    assert any(row["expected"] == str(published.clips) and not row["ok"] for row in said.values())


@every
def test_the_sheet_is_named_with_its_checksum(name: str, copy: Path) -> None:
    corpus = opened(name, copy)
    rows = [row for row in corpus.verify().to_dict("records") if row["what"] == "sheet"]
    files = [*corpus.sheet_files, *corpus.further_sheets] if hasattr(corpus, "sheet_files") else []
    assert [row["found"] for row in rows] == [file.name for file in files]
    assert [row["note"] for row in rows] == [f"sha256 {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files]
    assert bool(files) == hasattr(corpus, "rows")


def _line(known: Known) -> str:
    return f"{known.subject}/{known.clip}: {known.flag or known.what}"


@every
def test_known_irregularities_are_looked_for(name: str, copy: Path) -> None:
    corpus = opened(name, copy)
    said, flags = lines(corpus), {s: s.flags for s in corpus.samples}
    about = {what: row for what, row in said.items() if what in {_line(known) for known in corpus.known}}
    for known in corpus.known:
        if known.form in ("", corpus.form):
            row, own = about.pop(_line(known)), [f for clip, f in flags.items() if known.is_of(clip)]
            found = any(known.flag in (*f, "") for f in own)
            assert row["found"] in (["found"] if found else ["mended", "not there"] if own else ["not there"])
            assert (row["ok"], row["note"]) == (True, known.what)
    assert about == {}  # none of another form
    if corpus.known:  # a specimen has some of them
        assert "found" in {said[what]["found"] for what in said if what in {_line(known) for known in corpus.known}}


@every
def test_known_fixes_are_said(name: str, copy: Path) -> None:
    corpus = opened(name, copy)
    said = lines(corpus)
    for fix in getattr(corpus, "fixes", ()):
        row = said[f"{fix.subject}/{fix.clip}: {fix.column} {fix.was} is {fix.now}"]
        there = any((s.subject, s.clip) == (fix.subject, fix.clip) for s in corpus.samples)
        assert (row["found"], row["ok"], row["note"]) == ("mended" if there else "not there", True, fix.why)


# A copy that is spoilt


@every
def test_a_removed_clip_is_named(name: str, copy: Path) -> None:
    corpus = opened(name, copy)
    before, sample = wrong(corpus), corpus.samples[0]
    for file in corpus.frames(sample):
        file.unlink()
    said = lines(opened(name, copy))
    assert int(said["clips missing"]["found"]) >= 1
    assert f"{sample.subject}: " in said["clips missing"]["note"]
    assert sample.clip in said["clips missing"]["note"]
    assert {what for what, row in said.items() if not row["ok"]} - before == {"clips missing", "clips found"}


@every
def test_a_clip_cut_short_is_named(name: str, copy: Path) -> None:
    """Where owners' clips may be cut, or no sheet says where a clip ends, nothing can be told."""
    corpus = opened(name, copy)
    before, sample = lines(corpus), next(s for s in corpus.samples if not any(f.startswith("frames") for f in s.flags))
    last, number = corpus.frames(sample)[-1], corpus.frame_numbers(sample)[-1]
    last.unlink()
    after = opened(name, copy)
    row = lines(after)["clips truncated"]
    if not hasattr(corpus, "sheet_files"):
        assert next(s for s in after.samples if s.key == sample.key).offset == number - 1
    elif not any(f == "numbered_by_position" for s in after.samples if s.key == sample.key for f in s.flags):
        assert int(row["found"]) > int(before["clips truncated"]["found"])
        assert sample.clip in row["note"]
        assert bool(row["ok"]) == bool(corpus.lossy)


@every
def test_a_gap_is_named(name: str, copy: Path) -> None:
    corpus = opened(name, copy)
    sample = next(s for s in corpus.samples if not any(f.startswith("frames") for f in s.flags))
    corpus.frames(sample)[1].unlink()
    after = opened(name, copy)
    if "position" not in " ".join(f for s in after.samples if s.key == sample.key for f in s.flags):
        assert sample.clip in lines(after)["clips with gaps"]["note"]


@every
def test_a_folder_that_no_row_is_about_is_named(name: str, copy: Path) -> None:
    corpus = opened(name, copy)
    folder = corpus.frames(corpus.samples[0])[0].parent
    numbers = re.findall(r"\d+", str(folder.relative_to(copy)))
    before = lines(corpus)["folders that no row is about"]
    other = next(
        path
        for path in (
            re.sub(rf"{numbers[-1]}(?=\D*$)", str(n).zfill(len(numbers[-1])), str(folder)) for n in range(1, 99)
        )
        if not Path(path).exists()
    )
    for file in files_below(folder, PICTURES):
        target = Path(other) / file.name.replace(folder.name, Path(other).name)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.read_bytes())
    after = opened(name, copy)
    row = lines(after)["folders that no row is about"]
    if hasattr(corpus, "sheet_files"):
        assert int(row["found"]) == int(before["found"]) + 1
        assert row["ok"] != bool(corpus.known_extra)  # where it is known which there are, no others are expected
        assert len(row["note"]) > len(before["note"])
    else:  # without a sheet each folder is a clip
        assert len(after.samples) == len(corpus.samples) + 1


@every
def test_pictures_that_cannot_be_read_are_named(name: str, copy: Path) -> None:
    corpus = opened(name, copy)
    before = lines(corpus, pictures=True)["clips with unreadable pictures"]
    assert (before["found"], before["ok"], before["note"]) == ("0", True, "")
    file = corpus.frames(corpus.samples[1])[0]
    file.write_bytes(file.read_bytes()[:80])
    after = lines(opened(name, copy), pictures=True)["clips with unreadable pictures"]
    assert int(after["found"]) >= 1
    assert not after["ok"]
    assert file.name in after["note"]
    assert "clips with unreadable pictures" not in lines(opened(name, copy))


@every
def test_the_command_says_that_a_specimen_is_not_the_whole(name: str, copy: Path, capsys: Output) -> None:
    assert main(["verify", name, str(copy)]) == 1
    printed = capsys.readouterr()
    assert re.search(r"\d+ of \d+ lines are wrong\.$", printed.out.strip())
    assert printed.err == ""
    with_pictures = main(["verify", name, str(copy), "--pictures", "--set", "missing=skip"])
    assert with_pictures == 1
    assert "clips with unreadable pictures" in capsys.readouterr().out


# A made-up corpus that says of itself what it holds


def made(clip: str, apex: int | None = 33, emotion: str = "surprise") -> Made:
    fields: dict[str, Any] = {"subject": "sub01", "aus": "12", "written": emotion, "onset": 30, "offset": 38}
    return Made(clip=clip, apex=apex, emotion=emotion, **fields)


CLIPS = [made("EP01_01"), made("EP01_02", None), made("EP01_03", 30, "fear"), made("EP01_04", 38)]


class Small(casme2.CASME2):
    """Four clips; whoever draws them spells one emotion otherwise."""

    name = "small"
    counts: ClassVar = {"small": Counts(1, 4, {"surprise": 3, "fear": 1})}
    editions: ClassVar[Any] = ()
    known_extra: ClassVar = frozenset({("sub01", "EP09_09")})
    known: ClassVar[Any] = (
        Known("sub01", "EP01_02", "apex_missing", "so it is"),
        Known("sub01", "EP01_01", "apex_missing", "once"),
        Known("sub02", "EP01_01", "apex_missing", "elsewhere"),
    )
    fixes = (
        Fix("sub01", "EP01_03", "emotion", "sadness", "fear", "we saw it"),
        Fix("sub01", "EP01_04", "apex", "38", "36", "a slip"),
        Fix("sub02", "EP01_04", "apex", "38", "36", "a slip of another"),
    )


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(CORPORA._items, "small", Small)
    return tmp_path / "copy"


def draw(folder: Path, clips: Sequence[Made] = CLIPS, **written: str) -> Path:
    """Some clips' emotions as they are written."""
    Small.draw(folder, [replace(m, written=written.get(m.clip, m.written)) for m in clips])
    return folder


FEAR, APEX, OTHER = (f"{f.subject}/{f.clip}: {f.column} {f.was} is {f.now}" for f in Small.fixes)


def test_a_copy_without_fault(small: Path, capsys: Output) -> None:
    draw(small, EP01_03="Sadness")
    assert main(["verify", "small", str(small), "--pictures"]) == 0
    assert capsys.readouterr().out.endswith("\nNothing is wrong.\n")
    said = lines(Small(small))
    assert [said[what]["found"] for what in (FEAR, APEX, OTHER)] == ["mended", "mended", "not there"]
    outcomes = [said[f"{k.subject}/{k.clip}: {k.flag}"]["found"] for k in Small.known]
    assert outcomes == ["found", "mended", "not there"]
    samples = {s.clip: s for s in Small(small).samples}
    assert (samples["EP01_03"].emotion, samples["EP01_03"].emotion_as_written) == ("fear", "Sadness")
    assert samples["EP01_04"].apex == 36


def test_a_cell_that_was_right_already(small: Path) -> None:
    said = lines(Small(draw(small, EP01_03="FEAR")))
    assert (said[FEAR]["found"], said[FEAR]["ok"]) == ("right already", True)


def test_a_cell_that_says_something_else_is_left_alone(small: Path) -> None:
    corpus = Small(draw(small, EP01_03="disgust"))
    said = lines(corpus)
    assert (said[FEAR]["found"], said[FEAR]["expected"], said[FEAR]["ok"]) == (
        "the sheet says 'disgust'",
        "mended",
        False,
    )
    assert {s.clip: s.emotion for s in corpus.samples}["EP01_03"] == "disgust"
    assert main(["verify", "small", str(small)]) == 1


def test_folders_that_are_known_to_be_more_are_expected(small: Path) -> None:
    draw(small, [*CLIPS, made("EP09_09"), made("EP08_08")], EP01_03="sadness")
    sheet = small / "CASME2-coding-20140508.xlsx"
    Small.draw(
        small.parent / "other", [replace(m, written="sadness" if m.clip == "EP01_03" else m.written) for m in CLIPS]
    )
    sheet.write_bytes((small.parent / "other" / sheet.name).read_bytes())
    row = lines(Small(small))["folders that no row is about"]
    assert (row["expected"], row["found"], row["ok"]) == ("1", "2", False)
    assert row["note"] == "1/ep08_08, 1/ep09_09"
    shutil.rmtree(small / "Cropped" / "sub01" / "EP08_08")
    assert wrong(Small(small)) == set()


@pytest.mark.parametrize(
    ("clips", "expected"),
    [
        (CLIPS[:3], {"clips", "clips of surprise"}),
        ([*CLIPS, made("EP02_01", emotion="others")], {"clips", "clips of others"}),
        ([*CLIPS[:3], replace(CLIPS[3], subject="sub02")], {"persons"}),
        ([*CLIPS[:3], replace(CLIPS[3], frames=(30, 31, 32))], {"clips truncated"}),
        ([*CLIPS[:3], replace(CLIPS[3], frames=())], {"clips found", "clips missing"}),
    ],
    ids=["fewer", "more", "person", "truncated", "missing"],
)
def test_what_differs_from_the_publication_is_wrong(clips: list[Made], expected: set[str], small: Path) -> None:
    assert wrong(Small(draw(small, clips, EP01_03="sadness"))) == expected


@pytest.mark.parametrize("option", ["form=moon", "camera=HS", "form", "=x", "a b=c"])
def test_an_option_that_there_is_not_is_one_line(option: str, small: Path, capsys: Output) -> None:
    assert main(["verify", "small", str(draw(small)), "--set", option]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"mer-zoo: .*(expected|takes no option).*\n", printed.err)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["root=x"], "--set root: that is CORPUS or FOLDER itself"),
        (["name=x"], "--set name: that is CORPUS or FOLDER itself"),
        (["index=maybe"], "index is 'maybe'; expected one of True, False"),
        (["form"], "expected NAME=VALUE"),
        (["colour=red"], "takes no option colour"),
    ],
)
def test_options_that_are_none(options: list[str], words: str, tmp_path: Path, capsys: Output) -> None:
    CORPORA.get("casme3").write_specimen(tmp_path / "copy")
    chosen = [word for option in options for word in ("--set", option)]
    assert main(["verify", "casme3", str(tmp_path / "copy"), *chosen]) == 1
    assert words in capsys.readouterr().err


def test_yes_and_no_are_options(tmp_path: Path, capsys: Output) -> None:
    CORPORA.get("casme3").write_specimen(tmp_path / "copy")
    for value in ("yes", "True", "no", "false"):
        assert main(["verify", "casme3", str(tmp_path / "copy"), "--set", "part=C", "--set", f"positions={value}"]) == 1
        assert "WRONG" in capsys.readouterr().out
