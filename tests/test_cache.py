"""Inputs that are cooked once: whatever happens in between, the same array, and nothing is made twice."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mer_zoo
from mer_zoo.datasets import Corpus
from mer_zoo.datasets._base import CORPORA
from mer_zoo.errors import CacheError, CorpusError, InputError, UnreadableError
from mer_zoo.preprocessing import many
from mer_zoo.preprocessing.cache import ClipCache
from mer_zoo.preprocessing.cook import Preparation, cook
from mer_zoo.preprocessing.many import Kitchen, fill
from mer_zoo.preprocessing.shelf import Shelf, shelves_in
from mer_zoo.types import InputSpec, Sample

CLIP = InputSpec("clip", ("grey",), size=24, frames=6)
FLOW = InputSpec("flow", ("u", "v", "strain"), size=24, low=-2, high=2)


@pytest.fixture(scope="module")
def casme2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("casme2")
    CORPORA.get("casme2").write_specimen(folder)
    return folder


@pytest.fixture(scope="module")
def smic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smic")
    CORPORA.get("smic").write_specimen(folder)
    return folder


def prepared(root: Path, folder: Path, spec: InputSpec = CLIP, **options: Any) -> ClipCache:
    return mer_zoo.prepare("casme2-3", {"casme2": root}, spec, folder, **options)


def selected(root: Path) -> tuple[Corpus, list[Sample]]:
    corpus = mer_zoo.open_corpus("casme2", root)
    return corpus, mer_zoo.get_protocol("casme2-3").select(corpus.samples)


@pytest.fixture
def cooked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the clips that are cooked in this process, as they are."""
    keys: list[str] = []

    def noting(corpus: Corpus, sample: Sample, *rest: Any) -> Any:
        keys.append(sample.key)
        return cook(corpus, sample, *rest)

    monkeypatch.setattr(many, "cook", noting)
    return keys


@pytest.fixture
def _many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few clips are worth it, too."""
    monkeypatch.setattr(many, "TRIED", 1)
    monkeypatch.setattr(many, "WORTH", 0)


# What is kept


@pytest.mark.usefixtures("_many_processes")
@pytest.mark.parametrize(
    ("spec", "jobs"), [(CLIP, 1), (FLOW, 1), (replace(CLIP, kind="difference", low=-1.0), 1), (CLIP, 2)]
)
def test_what_is_kept_is_what_is_cooked(spec: InputSpec, jobs: int, casme2: Path, tmp_path: Path) -> None:
    corpus, samples = selected(casme2)
    cache = prepared(casme2, tmp_path, spec, jobs=jobs)
    assert len(cache) == len(samples) > 5
    for sample in samples[:: len(samples) // 5]:
        np.testing.assert_array_equal(cache[sample.key], cook(corpus, sample, spec))
    (array,) = tmp_path.glob("*.npy")
    assert np.load(array, allow_pickle=False).shape == (len(samples), *spec.shape)
    assert sorted(file.suffix for file in tmp_path.iterdir() if file.suffix != ".lock") == [".json", ".npy"]


def test_a_dataset_takes_what_was_prepared(casme2: Path, tmp_path: Path, cooked: list[str]) -> None:
    cache = prepared(casme2, tmp_path)
    assert len(cooked) == len(cache)
    for place in (cache, tmp_path):
        data = mer_zoo.create_dataset("casme2-3", {"casme2": casme2}, CLIP, cache=place)
        np.testing.assert_array_equal(data.inputs, np.stack([cache[sample.key] for sample in data.samples]))
    assert len(cooked) == len(cache)
    with pytest.raises(InputError, match=r"The cache is of inputs for .* Prepare it anew"):
        mer_zoo.create_dataset("casme2-3", {"casme2": casme2}, FLOW, cache=cache)


def test_protocols_share_what_they_share(casme2: Path, tmp_path: Path, cooked: list[str]) -> None:
    three, five = (
        mer_zoo.prepare(protocol, {"casme2": casme2}, CLIP, tmp_path) for protocol in ("casme2-3", "casme2-5")
    )
    assert set(three) != set(five)
    assert sorted(cooked) == sorted({*three, *five})
    assert len(list(tmp_path.glob("*.npy"))) == 1


def test_the_table_says_where_each_input_is_from(casme2: Path, tmp_path: Path) -> None:
    table = prepared(casme2, tmp_path).table
    corpus, samples = selected(casme2)
    assert list(table["key"]) == [sample.key for sample in samples]
    assert list(table["person"]) == [sample.person for sample in samples]
    files = corpus.frames(samples[0])
    assert table["source"][0] == f"{files[0].parent.name}/{files[0].name}, {len(files)} pictures"
    (file,) = tmp_path.glob("*.json")
    facts = json.loads(file.read_text())
    assert facts["input_spec"] == CLIP.to_dict()
    assert {text.split()[0] for text in facts["cooked_by"]} == {
        "cook",
        "cv2",
        "scikit-image",
        "pillow",
        "scipy",
        "libjpeg-turbo",
    }


@pytest.mark.parametrize("method", ["middle", "difference", "lbp"])
def test_an_apex_that_was_found_is_noted(method: str, smic: Path, tmp_path: Path) -> None:
    """SMIC has none; CASME II has, and keeps it."""
    how: dict[str, Any] = {"preparation": Preparation(apex=method)}
    cache = mer_zoo.prepare("smic-3", {"smic": smic}, FLOW, tmp_path, **how)
    data = mer_zoo.create_dataset("smic-3", {"smic": smic}, FLOW, cache=cache)
    corpus = mer_zoo.open_corpus("smic", smic)
    originals = {sample.key: sample for sample in corpus.samples}
    for sample, row in zip(data.samples, cache.table.itertuples(), strict=True):
        assert originals[sample.key].apex is None
        assert f"apex_by_{method}" in sample.flags
        assert (sample.apex, method) == (row.apex, row.apex_by)
        assert sample.apex in corpus.frame_numbers(sample)[1:]
    assert set(cache.table["apex_by"]) == {method}


def test_a_coded_apex_is_kept(casme2: Path, tmp_path: Path) -> None:
    data = mer_zoo.create_dataset("casme2-3", {"casme2": casme2}, FLOW, cache=tmp_path)
    corpus, samples = selected(casme2)
    coded = [corpus.coded_apex(sample) is not None for sample in samples]
    assert coded.count(True) > 5
    assert [sample in samples for sample in data.samples] == coded


# What is not made twice


def test_a_picture_that_changed_is_cooked_again(tmp_path: Path, cooked: list[str]) -> None:
    CORPORA.get("casme2").write_specimen(tmp_path / "copy")
    cache = prepared(tmp_path / "copy", tmp_path / "cache")
    corpus, samples = selected(tmp_path / "copy")
    cooked.clear()
    first = corpus.frames(samples[3])[0]
    os.utime(first, ns=(1, 1))
    assert len(prepared(tmp_path / "copy", tmp_path / "cache")) == len(cache)
    assert cooked == [samples[3].key]


@pytest.mark.parametrize("change", [{"interpolation": "tim"}, {"size": 20}, {"high": 2.0}])
def test_another_spec_is_another_array(change: dict[str, Any], casme2: Path, tmp_path: Path, cooked: list[str]) -> None:
    number = len(prepared(casme2, tmp_path))
    prepared(casme2, tmp_path, replace(CLIP, **change))
    assert len(cooked) == 2 * number
    assert len(list(tmp_path.glob("*.npy"))) == 2


SPOILT: dict[str, Callable[[Path], object]] = {
    "cut": lambda array: array.write_bytes(array.read_bytes()[:-9]),
    "gone": lambda array: array.unlink(),
    "other": lambda array: np.save(array, np.zeros((3, 2))),
    "text": lambda array: array.write_text("[]"),
    "table": lambda array: array.with_suffix(".json").write_text("{}"),
    "no table": lambda array: array.with_suffix(".json").unlink(),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_what_is_spoilt_is_cooked_again(spoil: Callable[[Path], object], casme2: Path, tmp_path: Path) -> None:
    whole = prepared(casme2, tmp_path)
    expected = dict(whole)
    spoil(next(tmp_path.glob("*.npy")))
    again = prepared(casme2, tmp_path)
    assert all((again[key] == values).all() for key, values in expected.items())


def test_one_row_that_was_written_over_is_cooked_again(casme2: Path, tmp_path: Path, cooked: list[str]) -> None:
    whole = prepared(casme2, tmp_path)
    key = [*whole][2]
    expected, array = whole[key].copy(), next(tmp_path.glob("*.npy"))
    inputs = np.load(array, mmap_mode="r+")
    inputs[2] = 7
    inputs.flush()
    cooked.clear()
    again = prepared(casme2, tmp_path)
    assert cooked == [key]
    np.testing.assert_array_equal(again[key], expected)


def test_two_copies_that_differ_are_not_mixed_up(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        CORPORA.get("casme2").write_specimen(root)
    corpus, samples = selected(roots[1])
    for file in corpus.frames(samples[0]):
        _darken(file)
    first, second, again = (prepared(root, tmp_path / "cache") for root in (*roots, roots[0]))
    key = samples[0].key
    np.testing.assert_array_equal(again[key], first[key])
    assert (second[key] < first[key]).any()
    assert again.table.equals(first.table)


def _darken(file: Path) -> None:
    from PIL import Image

    with Image.open(file) as picture:
        picture.point(lambda value: value // 2).save(file)


# What is stopped goes on

PROGRAM = """
import sys
import mer_zoo
from mer_zoo.preprocessing import many
from mer_zoo.types import InputSpec

cook, stop = many.cook, int(sys.argv[3])

def noting(corpus, sample, *rest):
    print(sample.key, flush=True)
    if not stop:
        return cook(corpus, sample, *rest)
    noting.left = getattr(noting, "left", stop) - 1
    if noting.left < 0:
        sys.stdin.read()
    return cook(corpus, sample, *rest)

many.cook = noting
spec = InputSpec("clip", ("grey",), size=24, frames=6)
mer_zoo.prepare("casme2-3", {"casme2": sys.argv[1]}, spec, sys.argv[2])
"""


def _program(root: Path, folder: Path, stop: int = 0) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, str(root), str(folder), str(stop)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_run_goes_on(casme2: Path, tmp_path: Path) -> None:
    """Also where the last row is half written; of what was whole nothing is cooked again, and no array is there yet."""
    done: list[str] = []
    for stop, torn in ((2, 0), (2, 100)):
        run = _program(casme2, tmp_path, stop)
        assert run.stdout is not None
        keys = [run.stdout.readline().strip() for _ in range(stop + 1)]
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert not list(tmp_path.glob("*.npy"))
        assert [shelf.rows() for shelf in shelves_in(tmp_path)] == [[]]  # it is listed, and can be deleted
        assert not set(done) & set(keys)
        part = next(tmp_path.glob("*.part"))
        part.write_bytes(part.read_bytes()[: -torn or None])
        done += keys[: -2 if torn else -1]
    rest = _program(casme2, tmp_path).communicate()[0].split()
    assert not set(done) & set(rest)
    cache = prepared(casme2, tmp_path)
    assert sorted({*done, *rest}) == sorted(cache)
    corpus, samples = selected(casme2)
    for sample in samples:
        np.testing.assert_array_equal(cache[sample.key], cook(corpus, sample, CLIP))


@pytest.mark.slow
def test_two_processes_build_the_same_cache(casme2: Path, tmp_path: Path) -> None:
    runs = [_program(casme2, tmp_path) for _ in range(2)]
    said = [run.communicate()[0].split() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    cache = prepared(casme2, tmp_path)
    assert sorted([*said[0], *said[1]]) == sorted(cache)


def test_who_reads_while_rows_are_added_finds_what_belongs_together(casme2: Path, tmp_path: Path) -> None:
    corpus, samples = selected(casme2)
    kitchen = Kitchen(tmp_path)
    shelf, _ = fill(corpus, samples[:2], CLIP, kitchen)
    expected = {sample.key: cook(corpus, sample, CLIP) for sample in samples}
    stop = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        while not stop.is_set():
            array, places = shelf.array(), shelf.places()  # an older array, perhaps, than the table
            wrong.extend(
                row.key for row, at in places.values() if at < len(array) and (array[at] != expected[row.key]).any()
            )

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(3, len(samples) + 1):
        fill(corpus, samples[:number], CLIP, kitchen)
    stop.set()
    reader.join()
    assert not wrong
    assert len(shelf.array()) == len(samples)


LIMITED = """
import resource, signal, sys
import mer_zoo
from mer_zoo.errors import CacheError
from mer_zoo.types import InputSpec

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
spec = InputSpec("clip", ("grey",), size=24, frames=6)
try:
    mer_zoo.prepare("casme2-3", {"casme2": sys.argv[1]}, spec, sys.argv[2])
except CacheError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("room", [2.5, -0.5])
def test_a_full_disk_leaves_no_half_cache(room: float, casme2: Path, tmp_path: Path, cooked: list[str]) -> None:
    """Room for so many inputs in one file; for all but half of one, the array itself does not fit."""
    size, number = 4 * int(np.prod(CLIP.shape)), len(selected(casme2)[1])
    fits = int((room if room > 0 else number + room) * size)
    command = [sys.executable, "-c", LIMITED, str(casme2), str(tmp_path), str(fits)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    done = int(fits // size)
    assert f"{tmp_path} cannot be written (File too large); {done} clips are done and kept." in said
    assert not list(tmp_path.glob("*.npy"))
    assert not list(tmp_path.glob("*.tmp"))
    assert len(prepared(casme2, tmp_path)) == number
    assert len(cooked) == number - done


# What cannot be cooked


@pytest.fixture
def spoilt(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy whose pictures are broken in several ways, and a word of what is said of each clip."""
    root = tmp_path / "copy"
    CORPORA.get("casme2").write_specimen(root)
    corpus, samples = selected(root)
    said = {}
    for number, (word, spoil) in enumerate(_WAYS.items()):
        spoil(corpus.frames(samples[2 * number])[1])
        said[samples[2 * number].key] = word
    return root, said


def _bigger(file: Path) -> None:
    from PIL import Image

    with Image.open(file) as picture:
        picture.resize((picture.width + 8, picture.height)).save(file)


_WAYS: dict[str, Callable[[Path], object]] = {
    "no readable picture": lambda file: file.write_bytes(b""),
    "readable": lambda file: file.write_bytes(file.read_bytes()[:-30]),
    "expected": _bigger,
}


@pytest.mark.usefixtures("_many_processes")
@pytest.mark.parametrize("jobs", [1, 2])
def test_every_clip_that_cannot_be_cooked_is_named_and_the_rest_is_kept(
    jobs: int, spoilt: tuple[Path, dict[str, str]], tmp_path: Path, cooked: list[str]
) -> None:
    root, said = spoilt
    with pytest.raises(UnreadableError, match=f"3 of {len(selected(root)[1])} clips cannot be read") as refusal:
        prepared(root, tmp_path / "cache", jobs=jobs)
    assert refusal.value.keys == set(said)
    for key, word in said.items():
        assert key in str(refusal.value)
        assert word in str(refusal.value)
    cooked.clear()
    with pytest.raises(UnreadableError):
        prepared(root, tmp_path / "cache")
    assert set(cooked) == set(said)  # tried again: the owner may have fetched them anew


def test_skipped_clips_are_rows_with_the_reason(spoilt: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    root, said = spoilt
    cache = prepared(root, tmp_path / "cache", on_error="skip")
    assert set(cache.left_out) == set(said)
    table = cache.table.set_index("key")
    assert all(word in table.loc[key, "why"] for key, word in said.items())
    assert len(cache) == len(table) - len(said)
    data = mer_zoo.create_dataset("casme2-3", {"casme2": root}, CLIP, cache=cache)
    assert {sample.key for sample in data.samples} == set(cache) == {*table.index} - {*said}
    with pytest.raises(KeyError):
        cache[next(iter(said))]
    again = prepared(root, tmp_path / "cache", on_error="skip")
    assert again.table.equals(cache.table)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"jobs": 0}, "jobs is 0; expected a whole number, 1 or more"),
        ({"on_error": "ignore"}, "on_error is 'ignore'; expected one of raise, skip"),
        ({"spec": mer_zoo.input_spec("ststnet").with_channels(5)}, "5 unnamed channels"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], words: str, casme2: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        prepared(casme2, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_a_file_is_said(casme2: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CacheError, match="file cannot be written"):
        prepared(casme2, tmp_path / "file")


def test_an_unknown_way_to_an_apex_is_refused() -> None:
    with pytest.raises(InputError, match="apex is 'best'; expected one of middle, difference, lbp"):
        Preparation(apex="best")


def test_published_flow_is_not_taken_as_magnified(flow_release: Path, tmp_path: Path) -> None:
    spec = replace(mer_zoo.input_spec("ststnet"), magnification=8.0)
    with pytest.raises(InputError, match="eats magnified motion; megc2019_flow holds flow of motion as it was"):
        mer_zoo.prepare("megc2019", {"megc2019_flow": flow_release}, spec, tmp_path)


# The user's own cache directory


def test_frames_are_kept_for_the_user_and_flow_is_not(
    casme2: Path, flow_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cooked: list[str]
) -> None:
    monkeypatch.setenv("MER_ZOO_CACHE", str(tmp_path / "mine"))
    for _ in range(2):
        mer_zoo.create_dataset("casme2-3", {"casme2": casme2}, CLIP)
    assert len(cooked) == len(set(cooked)) > 5
    assert [shelf.facts["corpus"] for shelf in shelves_in(tmp_path / "mine")] == ["casme2"]
    mer_zoo.create_dataset("megc2019", {"megc2019_flow": flow_release}, mer_zoo.input_spec("ststnet"))
    mer_zoo.create_dataset("casme2-3", {"casme2": casme2}, replace(CLIP, size=20), cache=False)
    assert len(shelves_in(tmp_path / "mine")) == 1


def test_shelves_are_listed_and_removed(casme2: Path, tmp_path: Path) -> None:
    prepared(casme2, tmp_path)
    prepared(casme2, tmp_path, FLOW)
    (tmp_path / "casme2-0123456789abcdef.json").write_text('{"notes": "mine"}')
    (tmp_path / f"{next(tmp_path.glob('*.npy')).stem}.123.tmp").write_bytes(b"of a run that was killed")
    shelves = shelves_in(tmp_path)
    assert {shelf.facts["input_spec"]["kind"] for shelf in shelves} == {"clip", "flow"}
    for shelf in shelves:
        shelf.remove()
    assert [file.name for file in tmp_path.iterdir()] == ["casme2-0123456789abcdef.json"]


def test_a_corpus_that_cannot_tell_its_clips_apart_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MER_ZOO_CACHE", str(tmp_path))

    class Mine(type(mer_zoo.open_corpus("synthetic", subjects=2, clips_per_subject=3, size=32))):  # type: ignore[misc]
        fingerprint = Corpus.fingerprint

    mer_zoo.create_dataset("synthetic-3", {"synthetic": Mine(subjects=2, clips_per_subject=3, size=32)}, CLIP)
    assert not list(tmp_path.iterdir())
    assert issubclass(CorpusError, Exception)


def test_a_shelf_without_files_is_empty(casme2: Path, tmp_path: Path) -> None:
    corpus, _ = selected(casme2)
    shelf = Shelf.of(tmp_path, corpus, CLIP, Preparation())
    assert (shelf.rows(), shelf.fitted_on, shelf.resumed()) == ([], frozenset(), [])


def test_no_aligner_is_no_aligner_however_it_is_said() -> None:
    assert Preparation(mer_zoo.Aligner("none")) == Preparation()
    assert Preparation(mer_zoo.Aligner("none")).says == Preparation().says
