"""One contract for every corpus of pictures: what a made-up copy holds is what is read."""

import os
import random
import re
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _copies import (
    KINDS,
    PICTURES,
    copy_of,
    files_below,
    frames_of,
    keys,
    number_of,
    opened,
    sheets_of,
    values_of_options,
    write_copy,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mer_zoo
from mer_zoo.datasets._specimen import Made
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.protocols import Protocol
from mer_zoo.types import UNUSABLE, Counts, InputSpec, Sample

pytestmark = pytest.mark.parametrize("name", KINDS)

PROTOCOLS = {
    name: [p for p in map(mer_zoo.get_protocol, mer_zoo.list_protocols()) if name in p.counts] for name in KINDS
}
FLOW = InputSpec("flow", ("u", "v", "strain"), size=16, low=-8, high=8)
CLIP = InputSpec("clip", ("grey",), size=16, frames=4)


@pytest.fixture(scope="module")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A made-up copy of each, not to be changed."""
    roots = {name: tmp_path_factory.mktemp(name) / "copy" for name in KINDS}
    for name, root in roots.items():
        KINDS[name].write_specimen(root)
    return roots


@pytest.fixture
def root(name: str, specimens: dict[str, Path]) -> Path:
    return specimens[name]


@pytest.fixture
def copy(name: str, tmp_path: Path) -> Path:
    """A made-up copy that may be changed."""
    write_copy(name, tmp_path / "copy")
    return tmp_path / "copy"


# Pictures


def test_frames_are_those_on_disk_in_the_order_of_their_numbers(name: str, root: Path) -> None:
    corpus = opened(name, root)
    for sample in corpus.samples:
        files = corpus.frames(sample)
        numbers, given = [number_of(file) for file in files], corpus.frame_numbers(sample)
        assert numbers == sorted(set(numbers))
        assert len({b - a for a, b in zip(numbers, given, strict=True)}) == 1  # the owners' numbers, or all moved
        start, ending = re.split(r"\d+(?=\.)", files[0].name)
        beside = [f for f in files[0].parent.iterdir() if re.fullmatch(rf"{re.escape(start)}\d+({ending})+", f.name)]
        first, last = (sample.onset, sample.offset) if given == numbers else (numbers[0], numbers[-1])
        assert set(files) == {file for file in beside if first <= number_of(file) <= last}


def test_a_clip_is_its_pictures(name: str, root: Path) -> None:
    corpus = opened(name, root)
    for sample in corpus.samples:
        files, clip = corpus.frames(sample), corpus.clip(sample)
        assert (len(clip), clip.dtype) == (len(files), np.uint8)
        for i in (0, len(files) // 2, -1):
            np.testing.assert_array_equal(clip[i], np.asarray(Image.open(files[i])))
        assert len({frame.tobytes() for frame in clip}) > 1
        assert 0 <= corpus.apex_index(sample) < len(clip)


def test_the_pictures_decide_the_fingerprint(name: str, copy: Path) -> None:
    corpus = opened(name, copy)
    sample = corpus.samples[0]
    before, file = corpus.fingerprint(sample), corpus.frames(sample)[1]
    assert opened(name, copy).fingerprint(sample) == before
    file.write_bytes(file.read_bytes() + b"more")
    assert corpus.fingerprint(sample) != before
    file.unlink()
    for method in (corpus.fingerprint, corpus.clip):
        with pytest.raises(CorpusError, match=f"{re.escape(sample.key)}: .*{re.escape(file.name)}"):
            method(sample)


def forms_of(name: str, root: Path) -> list[str]:
    """Those that a specimen has; what one accepts as a last resort need not be among them."""
    files = [str(file.relative_to(root.parent)) for file in files_below(root, PICTURES)]
    layouts = KINDS[name].layouts
    forms = [
        form
        for form, layout in layouts.items()
        if any(layout.match(str(Path(file).parent)) and layout.frame.fullmatch(Path(file).name) for file in files)
    ]
    assert opened(name, root).form == forms[0]
    return forms


def test_every_form_has_the_same_clips(name: str, root: Path) -> None:
    expected = keys(opened(name, root).samples)
    forms = forms_of(name, root)
    for form, layout in KINDS[name].layouts.items():
        corpus = opened(name, root, form=form)
        assert (corpus.form, corpus.cropped) == (form, layout.cropped)
        if form not in forms:
            with pytest.raises(CorpusError, match=f"No picture of any clip in .*{re.escape(layout.example)}"):
                _ = corpus.samples
            continue
        assert keys(corpus.samples) == expected
        assert all(layout.frame.fullmatch(file.name) for s in corpus.samples for file in corpus.frames(s))
        assert form in corpus.fingerprint(corpus.samples[0])


def test_a_form_that_is_there_alone_is_found(name: str, root: Path, tmp_path: Path) -> None:
    for form in forms_of(name, root):
        corpus = opened(name, root, form=form)
        wanted = {*sheets_of(corpus), *(file for s in corpus.samples for file in corpus.frames(s))}
        alone = opened(name, copy_of(root, tmp_path / form / "copy", wanted.__contains__))
        assert frames_of(alone) == frames_of(corpus)


def test_unknown_options_name_those_there_are(name: str, root: Path) -> None:
    with pytest.raises(InputError, match=f"form is 'no'; expected one of .*{next(iter(KINDS[name].layouts))}"):
        opened(name, root, form="no")
    with pytest.raises(InputError, match=r"missing is 'no'; expected one of .*'error', 'skip'"):
        opened(name, root, missing="no")


def test_every_value_of_every_option_reads_its_clips(name: str, root: Path) -> None:
    """Such as cameras, parts and splits: what an option takes is what its refusal lists."""
    for option, values in values_of_options(name, root):
        for value in values:
            corpus = opened(name, root, **{option: value})
            assert len({s.key for s in corpus.samples}) == len(corpus.samples) > 0
            for sample in corpus.samples:
                assert len(corpus.clip(sample)) == len(corpus.frames(sample)) > 1
            assert {s.corpus for s in corpus.samples} == {name}
            assert set(corpus.verify()["corpus"]) == {name}
        assert getattr(opened(name, root), option) in values


# Where the root may be


def test_the_root_may_be_nested_once_more(name: str, copy: Path) -> None:
    expected = opened(name, copy).samples
    inner = copy.parent / "unpacked" / "archive"
    inner.parent.mkdir()
    copy.rename(inner)
    assert opened(name, inner.parent).samples == expected


def test_the_root_may_be_below_the_sheet(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to the folder that all pictures share, as long as the sheet is no more than two folders above it."""
    corpus = opened(name, root)
    shared = Path(os.path.commonpath([file.parent.parent for s in corpus.samples for file in corpus.frames(s)]))
    sheets = [file.parent for file in getattr(corpus, "sheet_files", [])]
    folders = [folder for folder in (shared, *shared.parents) if folder.is_relative_to(root)]
    near = [f for f in folders if all(s.is_relative_to(f) or s in (f.parent, f.parent.parent) for s in sheets)]
    assert near
    for folder in near:
        assert keys(opened(name, folder).samples) == keys(corpus.samples)
        monkeypatch.chdir(folder)
        assert keys(opened(name, Path()).samples) == keys(corpus.samples)
    for folder in set(folders) - set(near):
        with pytest.raises(CorpusError, match=r"(?s)No sheet such as .* or the two folders above it.*sheet=PATH"):
            _ = opened(name, folder).samples


def test_the_sheet_may_be_named(name: str, copy: Path) -> None:
    corpus = opened(name, copy)
    expected = keys(corpus.samples)
    if not hasattr(corpus, "sheet_files"):
        with pytest.raises(InputError, match="takes no option sheet"):
            opened(name, copy, sheet=copy / "no.xlsx")
        return
    first, *others = corpus.sheet_files
    elsewhere = copy.parent / "my own table.xlsx"
    first.rename(elsewhere)
    for other in others:
        other.unlink()
    there = opened(name, copy, sheet=str(elsewhere)).samples
    assert keys(there) == expected[: len(there)]
    assert there
    with pytest.raises(CorpusError, match=r"no\.xlsx is no file; expected a sheet such as .*\.xlsx"):
        _ = opened(name, copy, sheet=copy / "no.xlsx").samples


# What is missing


def without_pictures(corpus: Any, samples: list[Sample]) -> list[Sample]:
    """Remove the pictures of these clips; those that now have fewer than two, which may share them."""
    before = {s.key: corpus.frames(s) for s in corpus.samples}
    for file in {file for sample in samples for file in before[sample.key]}:
        file.unlink()
    return [s for s in corpus.samples if sum(file.exists() for file in before[s.key]) < 2]


def test_missing_clips_are_named_all_at_once_or_flagged(name: str, copy: Path) -> None:
    whole = opened(name, copy)
    gone = without_pictures(whole, [whole.samples[0], whole.samples[-2]])
    assert 2 <= len(gone) < len(whole.samples)
    with pytest.raises(CorpusError, match=rf"{len(gone)} of {len(whole.samples)} clips have no pictures") as caught:
        _ = opened(name, copy).samples
    for sample in gone:
        assert re.search(rf"\b{sample.subject}: [^;]*\b{re.escape(sample.clip)}(?![\w#])", str(caught.value))
    assert "missing='skip'" in str(caught.value)
    left = opened(name, copy, missing="skip")
    assert [s.key for s in left.samples if UNUSABLE in s.flags] == keys(gone)
    for protocol in PROTOCOLS[name]:
        assert keys(protocol.select(left.samples)) == [
            k for k in keys(protocol.select(whole.samples)) if k not in keys(gone)
        ]
    with pytest.raises(CorpusError, match=f"{re.escape(gone[0].key)}: no picture.*take usable samples"):
        left.clip(next(s for s in left.samples if s.key == gone[0].key))


def test_without_any_picture_it_says_what_was_looked_for(name: str, copy: Path) -> None:
    for file in files_below(copy, PICTURES):
        file.unlink()
    for missing in ("error", "skip"):
        with pytest.raises(CorpusError) as caught:
            _ = opened(name, copy, missing=missing).samples
        for layout in KINDS[name].layouts.values():
            assert layout.example in str(caught.value)
        assert opened(name, copy).how_to_obtain in str(caught.value)


def test_the_folder_of_another_corpus_is_refused(name: str, specimens: dict[str, Path]) -> None:
    for other in set(KINDS) - {name}:
        with pytest.raises(CorpusError, match=r"(?s)(No sheet|No picture of any clip).*Owner:.*Ask:.*Terms:"):
            _ = opened(name, specimens[other]).samples


# Whatever is drawn is read


def frames_expected(made: Made) -> int:
    """Pictures from onset to offset; a folder that is numbered from 1 though the clip is not is the clip."""
    numbers = list(made.numbers)
    whole = len(numbers) == made.offset - made.onset + 1
    return len(numbers) if whole else sum(made.onset <= number <= made.offset for number in numbers)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_drawn_is_read(name: str, seed: int) -> None:
    clips = KINDS[name].made_up(random.Random(seed))
    with tempfile.TemporaryDirectory() as folder:
        KINDS[name].draw(Path(folder) / "copy", clips)
        corpus = opened(name, Path(folder) / "copy")
        samples = {(s.subject, s.clip): s for s in corpus.samples}
        assert set(samples) == {(made.subject, made.clip) for made in clips}
        for made in clips:
            sample = samples[made.subject, made.clip]
            # A clip without a sheet begins and ends with the pictures that are there.
            numbers = sorted(made.numbers)
            ends = (numbers[0], numbers[-1]) if not hasattr(corpus, "sheet_files") else (made.onset, made.offset)
            assert (sample.onset, sample.offset, sample.apex) == (*ends, made.apex)
            assert (sample.emotion, sample.objective) == (made.emotion, made.objective)
            assert sample.emotion_as_written == " ".join(made.written.split())
            assert len(corpus.frames(sample)) == frames_expected(made)


# What users do with it


def test_clips_become_tensors(name: str, root: Path) -> None:
    samples = opened(name, root).samples
    emotions = {s.emotion: s.emotion for s in samples}
    own = Protocol("own", tuple(emotions), emotions, {name: Counts(None, 0)}, "these tests")
    for protocol in [own, *PROTOCOLS[name][:1]]:
        expected = protocol.select(samples)
        for spec in (FLOW, CLIP):
            data = mer_zoo.create_dataset(protocol, {name: root}, spec)
            assert [s.key for s in data.samples] == [s.key for s in expected]
            assert data.targets == [protocol.target(s) for s in expected]
            assert set(data.persons) == {s.person for s in expected}
            assert all(data[i][0].shape == spec.shape for i in range(len(expected)))
            assert len({data[i][0].numpy().tobytes() for i in range(len(expected))}) > 1


def test_it_says_whose_it_is_and_what_may_not_be_done(name: str, root: Path) -> None:
    said, kind = opened(name, root).how_to_obtain, KINDS[name]
    for heading, text in (
        ("Owner", kind.owner),
        ("Ask", kind.homepage),
        ("Terms", kind.terms),
        ("You may not", kind.forbidden),
    ):
        assert len(text) > 5
        assert f"{heading}: {text}." in said
    assert re.search(r"@\w|https?://", kind.homepage)


def test_nothing_is_fetched(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    for function in ("getaddrinfo", "create_connection", "socket"):
        monkeypatch.setattr(socket, function, lambda *words, **_: tried.append(words))
    corpus = opened(name, root)
    corpus.clip(corpus.samples[0])
    shutil.rmtree(root.parent / "nothing", ignore_errors=True)
    with pytest.raises(CorpusError, match="does not exist"):
        opened(name, root.parent / "nothing")
    assert tried == []
