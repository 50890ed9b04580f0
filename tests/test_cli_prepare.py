"""``mer-zoo prepare`` and ``cache``, on specimens."""

from pathlib import Path

import pytest

import mer_zoo
from mer_zoo.cli import main
from mer_zoo.datasets._base import CORPORA
from mer_zoo.preprocessing.shelf import shelves_in


@pytest.fixture(scope="module")
def smic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smic")
    CORPORA.get("smic").write_specimen(folder)
    return folder


def _prepare(smic: Path, out: Path, *words: str) -> int:
    return main(["prepare", "smic-3", "--root", f"smic={smic}", "--out", str(out), *words])


def test_what_is_prepared_is_found_again(smic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _prepare(smic, tmp_path, "--model", "dat_densenet3d") == 0
    said = capsys.readouterr().out
    assert said.startswith("12 of 12 clips of smic-3 for dat_densenet3d:\n")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npy")}
    assert str(next(iter(before))) in said
    spec = mer_zoo.input_spec("dat_densenet3d")
    assert len(mer_zoo.create_dataset("smic-3", {"smic": smic}, spec, cache=tmp_path)) == 12
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.npy")} == before


def test_guessed_apexes_and_clips_left_out_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    CORPORA.get("smic").write_specimen(tmp_path / "copy")
    corpus = mer_zoo.open_corpus("smic", tmp_path / "copy")
    corpus.frames(corpus.samples[0])[0].write_bytes(b"")
    words = ("--apex", "difference", "--on-error", "skip")
    assert _prepare(tmp_path / "copy", tmp_path / "cache", *words) == 0
    said = capsys.readouterr().out
    assert "11 of 12 clips of smic-3 for ststnet" in said
    assert "Apexes that no sheet gives: 11 by difference." in said
    assert f"Left out, {corpus.samples[0].key}: " in said
    assert _prepare(tmp_path / "copy", tmp_path / "cache", "--apex", "difference") == 1
    assert "1 of 12 clips cannot be read" in capsys.readouterr().err


def test_what_is_kept_is_listed_and_deleted(smic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model in ("ststnet", "dat_densenet3d"):
        assert _prepare(smic, tmp_path, "--model", model) == 0
    capsys.readouterr()
    where = ("--folder", str(tmp_path))
    assert main(["cache", "ls", *where]) == 0
    said = capsys.readouterr().out
    assert "12 clips" in said
    assert "flow 3 x 28 x 28 by tvl1, strain, v, u, 0 to 255" in said
    assert "difference 1 x 20 x 64 x 64, grey, -1 to 1" in said
    assert main(["cache", "rm", *where]) == 1
    assert "or --all" in capsys.readouterr().err
    assert main(["cache", "rm", "samm", *where]) == 1
    assert "begins with 'samm'" in capsys.readouterr().err
    assert len(shelves_in(tmp_path)) == 2
    assert main(["cache", "rm", shelves_in(tmp_path)[0].file.stem, *where]) == 0
    assert len(shelves_in(tmp_path)) == 1
    assert main(["cache", "rm", "--all", *where]) == 0
    assert not list(tmp_path.iterdir())
