"""create_dataset: what takes part, what is refused, what is left out."""

import logging
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import mer_zoo
from mer_zoo.datasets import Corpus, open_corpus
from mer_zoo.datasets._base import CORPORA
from mer_zoo.errors import CorpusError, InputError, UnreadableError

FLOW = mer_zoo.input_spec("ststnet")


@pytest.fixture
def copies(tmp_path: Path) -> dict[str, Path]:
    """Specimens of two corpora of MEGC 2019 and of one that is not of it."""
    roots = {name: tmp_path / name for name in ("smic", "casme2", "mmew")}
    for name, root in roots.items():
        CORPORA.get(name).write_specimen(root)
    return roots


def _break(corpus: Corpus, keys: list[str]) -> None:
    for sample in corpus.samples:
        if sample.key in keys:
            corpus.frames(sample)[0].write_bytes(b"no picture")


def test_a_corpus_that_takes_no_part_is_named(copies: dict[str, Path]) -> None:
    with pytest.raises(
        CorpusError, match=r"No clip found in mmew that takes part in megc2019, which is of smic, casme2"
    ):
        mer_zoo.create_dataset("megc2019", copies, FLOW)


def test_labels_of_rendered_faces_are_advised_only_where_faces_are(copies: dict[str, Path]) -> None:
    (copies["casme2"] / "CASME2-ObjectiveClasses.xlsx").unlink()
    with pytest.raises(CorpusError, match=r"a sheet of their own in CASME II; is it there\?$"):
        mer_zoo.create_dataset("casme2-objective", {"casme2": copies["casme2"]}, FLOW)
    faces = open_corpus("synthetic", subjects=2, clips_per_subject=2, size=32, frames=8, classes="au")
    with pytest.raises(CorpusError, match=r'Rendered faces get other labels by .*"objective" or "au"'):
        mer_zoo.create_dataset("smic-3", {"synthetic": faces}, FLOW)


def test_what_is_missing_of_the_protocol_is_said(copies: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    roots = {"smic": copies["smic"], "casme2": copies["casme2"]}
    data = mer_zoo.create_dataset("megc2019", roots, FLOW)
    assert "samm is missing: 133 clips of 28 persons." in caplog.text
    caplog.clear()
    part = mer_zoo.create_dataset("megc2019", roots, FLOW, persons=["smic/s1"])
    assert set(part.persons) == {"smic/s1"}
    assert len(part) == data.persons.count("smic/s1")
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING and "is missing" in r.getMessage()]


@pytest.mark.parametrize(
    ("persons", "words"), [("smic/s1", "is the text"), (["smic/s99"], r"no clip of \['smic/s99'\]")]
)
def test_persons_that_are_not_there(persons: list[str], words: str, copies: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=words):
        mer_zoo.create_dataset("smic-3", {"smic": copies["smic"]}, FLOW, persons=persons)


def test_all_unreadable_clips_are_named_in_one_error(copies: dict[str, Path]) -> None:
    corpus = open_corpus("smic", copies["smic"])
    broken = [s.key for s in corpus.samples[1:4:2]]
    _break(corpus, broken)
    with pytest.raises(UnreadableError, match=f"2 of {len(corpus.samples)} clips cannot be read") as refusal:
        mer_zoo.create_dataset("smic-3", {"smic": corpus}, FLOW)
    assert refusal.value.keys == set(broken)
    assert all(key in str(refusal.value) for key in broken)


def test_a_corpus_that_skips_does_without_unreadable_clips(
    copies: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    corpus = open_corpus("smic", copies["smic"], missing="skip")
    broken = corpus.samples[2].key
    _break(corpus, [broken])
    data = mer_zoo.create_dataset("smic-3", {"smic": corpus}, FLOW)
    assert [s.key for s in data.samples] == [s.key for s in corpus.samples if s.key != broken]
    assert f"left out. 1 of {len(corpus.samples)} clips cannot be read. {broken}" in caplog.text


def test_targets_of_units_are_rows_of_a_batch(copies: dict[str, Path]) -> None:
    data = mer_zoo.create_dataset("cd6me", {"casme2": copies["casme2"]}, FLOW)
    x, y, positions = next(iter(DataLoader(data, batch_size=4)))
    assert x.shape == (4, *FLOW.shape)
    torch.testing.assert_close(y, torch.tensor(data.targets[:4], dtype=torch.float32))
    assert positions.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("camera", ["VIS", "NIR"])
def test_protocols_of_smic_are_of_its_fast_camera(camera: str, copies: dict[str, Path]) -> None:
    slow = open_corpus("smic", copies["smic"], camera=camera)
    with pytest.raises(CorpusError, match="No clip found in smic that takes part in smic-3"):
        mer_zoo.create_dataset("smic-3", {"smic": slow}, FLOW)


def test_protocols_of_casme3_are_of_its_part_a(tmp_path: Path) -> None:
    CORPORA.get("casme3").write_specimen(tmp_path / "c")
    protocol = mer_zoo.get_protocol("casme3-4")
    assert protocol.select(open_corpus("casme3", tmp_path / "c").samples)
    assert not protocol.select(open_corpus("casme3", tmp_path / "c", part="C").samples)
