"""Folders as they lie on people's disks: links, permissions, odd names, half an archive, broken pictures."""

import os
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _copies import (
    KINDS,
    PICTURES,
    by_nobody,
    files_below,
    frames_of,
    keys,
    old,
    open_to_all,
    opened,
    sheets_of,
    write_copy,
)
from PIL import Image

from mer_zoo.cli import main
from mer_zoo.datasets._pictures import read_picture, read_pictures
from mer_zoo.datasets._tree import DEPTH, Tree
from mer_zoo.errors import CorpusError, InputError

Output = pytest.CaptureFixture[str]
every = pytest.mark.parametrize("name", KINDS)


@pytest.fixture
def copy(name: str, tmp_path: Path) -> Path:
    write_copy(name, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def samm(tmp_path: Path) -> Path:
    KINDS["samm"].write_specimen(tmp_path / "copy")
    return tmp_path / "copy"


# Links


@every
def test_links_in_circles_and_twice_change_nothing(name: str, copy: Path) -> None:
    expected = frames_of(opened(name, copy))
    file = opened(name, copy).frames(opened(name, copy).samples[0])[0]
    for link, target in (
        ("A", file.parent),  # before every other folder, and to one of them
        ("A2", file.parent.parent),
        ("up", ".."),
        ("self", "self"),
        ("here", "."),
        ("there", "back"),
        ("back", "there"),
        ("nowhere", "no such folder"),
    ):
        (copy / link).symlink_to(target)
        (file.parent / link).symlink_to(target)
    file.with_name(f"nowhere{file.suffix}").symlink_to("no such file")
    assert frames_of(opened(name, copy)) == expected


def test_each_real_folder_comes_once_by_its_own_path(tmp_path: Path) -> None:
    (tmp_path / "tree" / "m" / "n").mkdir(parents=True)
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    for link, target in {"a": "m", "b": "m/n", "m/o": "..", "out": "../outside", "out2": "../outside"}.items():
        (tmp_path / "tree" / link).symlink_to(target)
    assert set(Tree(tmp_path / "tree").folders) in ({"", "m", "m/n", f"{o}", f"{o}/deep"} for o in ("out", "out2"))


@every
def test_links_to_folders_elsewhere_are_followed(name: str, copy: Path) -> None:
    expected = frames_of(opened(name, copy))
    for folder in [path for path in copy.iterdir() if path.is_dir()]:
        folder.rename(copy.parent / f"disk {folder.name}")
        folder.symlink_to(copy.parent / f"disk {folder.name}")
    copy.rename(copy.parent / "real")
    copy.symlink_to("real")
    assert frames_of(opened(name, copy)) == expected


def test_pictures_that_are_links_to_nowhere_are_not_there(samm: Path) -> None:
    corpus = opened("samm", samm)
    sample = corpus.samples[0]
    first, second = corpus.frames(sample)[:2]
    first.unlink()
    first.symlink_to("no such picture")
    second.unlink()
    os.mkfifo(second)  # reading it would wait for ever
    after = opened("samm", samm)
    assert after.frames(sample) == corpus.frames(sample)[2:]
    assert "frames_truncated" in after.samples[0].flags
    assert after.fingerprint(sample)


def test_a_very_deep_tree_is_left_at_some_depth(tmp_path: Path) -> None:
    tmp_path.joinpath(*["d"] * (DEPTH + 5)).mkdir(parents=True)
    assert len(Tree(tmp_path).folders) == DEPTH + 1


# Permissions

REFUSED = """
def attempt(what):
    try:
        return str(what())
    except MerZooError as error:
        return f"{type(error).__name__} {error}".replace(chr(10), " ")
clip = root / "SAMM_CROP" / "006" / "006_1_1"
corpus = open_corpus("samm", root, missing="skip")
print(attempt(lambda: open_corpus("samm", root).samples))
print(attempt(lambda: [s.clip for s in corpus.samples if "frames_missing" in s.flags]))
print(attempt(lambda: corpus.clip(corpus.samples[2]).shape))
table = _verify.as_table(corpus.checks(pictures=True))
print(table[~table.ok & table.what.str.contains("folders|pictures")][["what", "found", "note"]].values.tolist())
print(attempt(lambda: open_corpus("samm", root / "SAMM" / "007").samples))
print(attempt(lambda: open_corpus("samm", root / "SAMM" / "007" / "007_6_1").samples))
print(attempt(lambda: open_corpus("samm", root, sheet=root / "closed.xlsx").samples))
print(Tree(root, index=True).folders == Tree(root).folders)
"""


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can become somebody else")
def test_what_may_not_be_opened_is_said() -> None:
    with open_to_all() as folder:
        root = folder / "copy"
        KINDS["samm"].write_specimen(root)
        shutil.copyfile(root / "SAMM_Micro_FACS_Codes_v2.xlsx", root / "closed.xlsx")
        closed = root / "SAMM_CROP" / "006" / "006_1_1", root / "SAMM" / "007", root / "closed.xlsx"
        closed[0].parent.joinpath("006_1_2", "006_00301.jpg").chmod(0)
        for path in closed:
            path.chmod(0)
        old(root)  # so that an index would be kept if there were a place for it
        said = by_nobody(root, REFUSED)
        assert [path.name for path in folder.iterdir()] == ["copy"]
        for path in closed[:2]:
            path.chmod(0o755)
    assert re.search(r"^CorpusError samm: 1 of 11 clips .*006: 006_1_1\. 2 folders cannot be opened\. Unpack", said[0])
    assert said[1] == "['006_1_1']"
    assert re.search(r"^CorpusError samm/006/006_1_2: 1 of 10 pictures: .*006_00301\.jpg .*Permission denied", said[2])
    assert "['folders that cannot be opened', '2', 'SAMM/007, SAMM_CROP/006/006_1_1']" in said[3]
    assert re.search(r"'clips with unreadable pictures', '1', .samm/006/006_1_2: 1 of 10", said[3])
    assert re.search(r"^CorpusError .*SAMM/007 cannot be opened; see to its permissions", said[4])
    assert re.search(r"^CorpusError .*007_6_1.*(cannot be opened|does not exist)", said[5])
    assert re.search(r"^CorpusError .*closed\.xlsx cannot be read", said[6])
    assert said[7] == "True"


# Names in other encodings


@every
def test_names_that_are_no_utf8_do_no_harm(name: str, copy: Path, capsys: Output) -> None:
    plain = opened(name, copy)
    expected, folder = frames_of(plain), plain.frames(plain.samples[0])[0].parent
    for place in (copy, folder, folder.parent):
        os.mkdir(os.fsencode(place) + b"/\xb1\xed\xc7\xe9")  # noqa: PTH102  # as Chinese Windows writes it
        for ending in (folder.suffix.encode(), b".jpg", b".png", b".bmp", b".xlsx", b".csv"):
            Path(os.fsdecode(os.fsencode(place) + b"/img1\xff" + ending)).write_bytes(b"1")
    # A folder like that of a clip, with a picture in it, whose name nobody can write.
    shutil.copytree(folder, os.fsdecode(os.fsencode(folder) + b"\xff"))
    assert frames_of(opened(name, copy)) == expected
    table = opened(name, copy, index=True).verify()
    assert table.to_csv().encode()
    assert capsys.readouterr().out.encode()
    assert frames_of(opened(name, copy, index=True)) == expected


@every
def test_errors_can_be_printed_wherever_the_root_lies(name: str, tmp_path: Path, capsys: Output) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/copy \xc3\x28\xff"))
    messages = [_refusal(name, root)]  # it is not there
    root.mkdir()
    messages.append(_refusal(name, root))  # it is empty
    KINDS[name].write_specimen(root)
    corpus = opened(name, root)
    assert corpus.verify().to_csv().encode()
    file = corpus.frames(corpus.samples[0])[0]
    file.write_bytes(b"")
    with pytest.raises(CorpusError) as caught:
        corpus.clip(corpus.samples[0])
    messages.append(str(caught.value))
    file.unlink()
    for sheet in sheets_of(corpus):
        sheet.write_bytes(b"no sheet")
    assert main(["verify", name, str(root)]) == 1
    for picture in files_below(root, PICTURES):
        picture.unlink()
    messages.append(_refusal(name, root))
    shutil.rmtree(root)
    root.write_bytes(b"a file")
    messages.append(_refusal(name, root))
    assert all(message.encode() for message in messages)
    assert sum("copy (\\udcff" in message or r"copy" in message for message in messages) == len(messages)
    assert main(["verify", name, str(root)]) == 1
    assert capsys.readouterr().err.encode()


def _refusal(name: str, root: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        _ = opened(name, root).samples
    return str(caught.value)


# What is not a copy, or half of one


@every
def test_an_empty_folder_and_a_file_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert re.search(r"(?s)(No sheet|No picture).*Owner:.*Terms:", _refusal(name, tmp_path / "empty"))
    (tmp_path / "copy.zip").write_bytes(b"PK\x03\x04")
    assert re.search(r"copy\.zip is no folder; expected the folder that", _refusal(name, tmp_path / "copy.zip"))


@every
def test_half_an_archive_is_told_from_a_whole_one(name: str, copy: Path) -> None:
    """Unpacking stopped: the later clips are empty folders or not there, and one ends too early."""
    whole = opened(name, copy)
    before = {s.key: whole.frames(s) for s in whole.samples}
    files = sorted({file for frames in before.values() for file in frames})
    for file in files[len(files) // 2 + 1 :]:
        file.unlink()
    left = {key: [file for file in frames if file.exists()] for key, frames in before.items()}
    with pytest.raises(CorpusError, match=r"clips have no pictures .* Unpack the whole archive"):
        _ = opened(name, copy).samples
    half = opened(name, copy, missing="skip")
    for sample in half.samples:
        if "frames_missing" in sample.flags:
            assert len(left[sample.key]) < 2
        else:
            assert half.frames(sample) == left[sample.key]
    assert {s.key for s in half.samples} == set(before)


@every
def test_names_may_be_in_upper_case(name: str, copy: Path) -> None:
    expected = opened(name, copy)
    for file in files_below(copy, (*PICTURES, ".xlsx")):
        file.rename(file.with_name(file.stem.replace(".jpg", ".JPG") + file.suffix.upper()))
    after = opened(name, copy)
    assert after.samples == expected.samples
    assert [len(after.frames(s)) for s in after.samples] == [len(expected.frames(s)) for s in expected.samples]
    assert len(after.clip(after.samples[0])) == len(expected.frames(expected.samples[0]))


@every
def test_a_number_that_comes_twice_is_flagged(name: str, copy: Path) -> None:
    corpus = opened(name, copy)
    sample = corpus.samples[0]
    second = corpus.frames(sample)[1]
    again = re.sub(r"(\d+)(\.\w+)+$", r"0\1\2", second.name)
    shutil.copyfile(second, second.with_name(again))
    after = opened(name, copy)
    if "frames_twice" not in after.samples[0].flags:  # where positions count there is no number
        assert after.frame_numbers(sample) == list(range(sample.onset, sample.offset + 1))
        return
    assert after.frame_numbers(sample) == sorted([*corpus.frame_numbers(sample), corpus.frame_numbers(sample)[1]])
    row = after.verify().set_index("what").loc["clips with a number twice"]
    assert (row["ok"], row["note"]) == (False, f"{sample.subject}: {sample.clip}")


def test_a_name_that_begins_another_is_another_clip(samm: Path) -> None:
    corpus = opened("samm", samm)
    assert {"samm/006/006_1_1", "samm/006/006_1_12"} <= set(keys(corpus.samples))
    for sample in corpus.samples:
        assert {file.parent.name for file in corpus.frames(sample)} == {sample.clip}
    shutil.rmtree(samm / "SAMM_CROP" / "006" / "006_1_1")
    left = opened("samm", samm, missing="skip")
    assert [s.clip for s in left.samples if s.flags == ("frames_missing",)] == ["006_1_1"]


def test_a_clip_in_two_places_is_refused(samm: Path) -> None:
    shutil.copytree(samm / "SAMM_CROP", samm / "old" / "SAMM_CROP")
    with pytest.raises(CorpusError, match=r"11 clips lie in more than one folder, such as .*form=cropped\|raw"):
        _ = opened("samm", samm).samples
    assert len(opened("samm", samm, form="raw").samples) == 11


# Pictures


def _png(mode: str, size: tuple[int, int] = (8, 6)) -> Callable[[Path], None]:
    return lambda file: Image.new(mode, size).save(file, "PNG")


def _bytes(content: bytes) -> Callable[[Path], None]:
    return lambda file: void(file.write_bytes(content))


def void(_: Any) -> None: ...


def _cut(file: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    file.write_bytes(file.read_bytes()[:500])


def _crc(file: Path) -> None:
    _png("L")(file)
    content = bytearray(file.read_bytes())
    content[-20] ^= 255
    file.write_bytes(content)


def _bomb(file: Path) -> None:
    """A header that promises 10 ** 10 pixels."""
    head = b"IHDR" + (100_000).to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + head + zlib.crc32(head).to_bytes(4) + b"\0\0\0\x10IDAT" + bytes(20)
    )


BROKEN: dict[str, Callable[[Path], None]] = {
    "empty": _bytes(b""),
    "text": _bytes(b"<html>404</html>"),
    "pointer": _bytes(b"version https://git-lfs.github.com/spec/v1\n"),
    "jpeg": _bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
    "bmp": _bytes(b"BM" + bytes(60)),
    "cut": _cut,
    "crc": _crc,
    "bomb": _bomb,
    "12bit": _png("I;16"),
    "32bit": lambda file: Image.new("I", (8, 6)).save(file, "TIFF"),
    "float": lambda file: Image.new("F", (8, 6)).save(file, "TIFF"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_all_pictures_that_are_wrong_are_in_one_error(tmp_path: Path) -> None:
    files = [tmp_path / f"img{i}.png" for i in range(4)]
    for file in files:
        _png("L")(file)
    wrong = {kind: tmp_path / f"{kind}.png" for kind in BROKEN}
    for kind, spoil in BROKEN.items():
        spoil(wrong[kind])
    sizes = {"wider": (9, 6), "turned": (6, 8)}
    for kind, size in sizes.items():
        wrong[kind] = tmp_path / f"{kind}.png"
        _png("L", size)(wrong[kind])
    with pytest.raises(CorpusError) as caught:
        read_pictures([*files, *wrong.values()], "me/1/2")
    said = str(caught.value)
    assert said.startswith(f"me/1/2: {len(wrong)} of {len(files) + len(wrong)} pictures")
    for kind, file in wrong.items():
        assert file.name in said, kind
    assert "img" not in said.replace(str(tmp_path), "")
    assert "mode I; expected 8 or 16 bits" in said
    assert "16 bits a value, but none above 0 of 65535" in said
    assert "(6, 9)" in said
    assert said.isprintable()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA"])
def test_every_picture_of_eight_bits_is_read(mode: str, tmp_path: Path) -> None:
    _png(mode)(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").shape == ((6, 8) if mode in ("L", "1", "LA") else (6, 8, 3))


def test_of_sixteen_bits_the_upper_eight_are_read(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256], [40_000, 65_279, 65_535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png"), [[0, 0, 1], [156, 254, 255]])


@pytest.mark.parametrize(("suffix", "slack"), [("png", 0.501), ("bmp", 0.501), ("jpg", 1.6)])
def test_of_colour_grey_is_the_brightness(suffix: str, slack: float, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(colours).save(tmp_path / f"x.{suffix}")
    seen, grey = read_picture(tmp_path / f"x.{suffix}"), read_picture(tmp_path / f"x.{suffix}", grey=True)
    assert grey.shape == (32, 40)
    assert grey.dtype == np.uint8
    difference = np.abs(grey - seen @ np.array([0.299, 0.587, 0.114]))
    assert np.median(difference) < 0.501  # what a JPEG's colours were clipped by is another matter
    assert (difference if suffix != "jpg" else difference[:1]).min() < slack


def test_grey_among_coloured_pictures_becomes_coloured(tmp_path: Path) -> None:
    for number, mode in enumerate(("L", "RGB", "L")):
        Image.new(mode, (8, 6), 7 if mode == "L" else (7, 7, 7)).save(tmp_path / f"{number}.png")
    clip = read_pictures(sorted(tmp_path.iterdir()), "me/1/2")
    assert clip.shape == (3, 6, 8, 3)
    assert set(clip.ravel()) == {7}


@every
def test_a_sample_of_another_corpus_is_refused(name: str, copy: Path, samm: Path) -> None:
    stranger = opened("samm", samm).samples[0] if name != "samm" else None
    if stranger is None:
        with pytest.raises(InputError, match="takes no option camera"):
            opened(name, copy, camera="HS")
        return
    with pytest.raises(CorpusError, match=f"{stranger.key}: no picture in .*; take usable samples of this corpus"):
        opened(name, copy).clip(stranger)
