"""What is done to frames before a network's spec, and by it: alignment, apex, magnification, interpolation."""

import csv
import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import mer_zoo
from mer_zoo.datasets import Corpus, _pictures
from mer_zoo.datasets._base import CORPORA
from mer_zoo.errors import CorpusError, FaceError, InputError, UnreadableError
from mer_zoo.preprocessing import many
from mer_zoo.preprocessing.apex import find_apex
from mer_zoo.preprocessing.cook import Preparation, cook, with_apex
from mer_zoo.preprocessing.faces import Aligner
from mer_zoo.preprocessing.forms import cook_flow, cook_frames
from mer_zoo.preprocessing.magnify import Band, magnify
from mer_zoo.preprocessing.temporal import interpolate
from mer_zoo.types import InputSpec

CLIP = InputSpec("clip", ("grey",), size=24, frames=7, high=255.0)
FLOW = InputSpec("flow", ("u", "v"), size=32, low=-4, high=4)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    for name in ("casme2", "smic", "samm"):
        CORPORA.get(name).write_specimen(folder / name)
    return folder


@pytest.fixture(scope="module")
def smic(copies: Path) -> Corpus:
    return mer_zoo.open_corpus("smic", copies / "smic")


@pytest.fixture(scope="module")
def casme2(copies: Path) -> Corpus:
    return mer_zoo.open_corpus("casme2", copies / "casme2")


def _small(clip: npt.NDArray[Any], size: int = 24) -> npt.NDArray[np.float32]:
    """Grey frames made small by areas, without our code."""
    import cv2

    grey = clip if clip.ndim == 3 else clip @ np.array([0.299, 0.587, 0.114])
    return np.stack(
        [cv2.resize(frame.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) for frame in grey]
    )


# Frames


@pytest.mark.parametrize("method", ["linear", "tim", "nearest"])
def test_frames_are_interpolated_as_the_spec_says(method: str, smic: Corpus) -> None:
    sample = smic.samples[0]
    found = cook(smic, sample, replace(CLIP, interpolation=method))
    expected = interpolate(_small(smic.clip(sample)), 7, method).clip(0, 255)
    np.testing.assert_allclose(found[0], expected, atol=1.0)  # grey of a JPEG is rounded


def test_frames_with_gaps_lie_at_their_true_times(tmp_path: Path) -> None:
    CORPORA.get("casme2").write_specimen(tmp_path)
    casme2 = mer_zoo.open_corpus("casme2", tmp_path)
    for lost in casme2.frames(casme2.samples[2])[2:4]:
        lost.unlink()
    casme2 = mer_zoo.open_corpus("casme2", tmp_path)
    sample = casme2.samples[2]
    assert "frames_with_gaps" in sample.flags
    times = casme2.frame_numbers(sample)
    assert len(times) < times[-1] - times[0] + 1
    small = _small(casme2.clip(sample))
    expected = [
        np.array([np.interp(t, times, pixel) for pixel in small.reshape(len(small), -1).T])
        for t in np.linspace(times[0], times[-1], 7)
    ]
    np.testing.assert_allclose(cook(casme2, sample, CLIP)[0].reshape(7, -1), expected, atol=1.0)


def test_flow_reads_two_pictures(casme2: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = next(s for s in casme2.samples if casme2.coded_apex(s) is not None)
    read: list[str] = []
    real = _pictures.read_picture

    def noting(file: Path, grey: bool) -> Any:
        read.append(file.name)
        return real(file, grey)

    monkeypatch.setattr(_pictures, "read_picture", noting)
    cook(casme2, sample, FLOW)
    files = casme2.frames(sample)
    assert read == [files[0].name, files[casme2.apex_index(sample)].name]


# Magnification


@pytest.fixture(scope="module")
def moving() -> Corpus:
    return mer_zoo.open_corpus("synthetic", subjects=2, clips_per_subject=3, size=48)


def test_a_clip_is_magnified_at_its_true_rate(moving: Corpus) -> None:
    sample = moving.samples[0]
    assert sample.fps is not None
    band = (sample.fps / 40, sample.fps / 4)
    clip = moving.clip(sample)
    large = magnify(clip, sample.fps, 5, Band(*band)).clip(0, 255)
    found = cook(moving, sample, replace(CLIP, magnification=5, band=band))
    np.testing.assert_allclose(found, cook_frames(large, CLIP), atol=1e-4)
    assert np.abs(found - cook(moving, sample, CLIP)).max() > 1
    pair = np.rint(large[[0, moving.apex_index(sample)]]).astype(np.uint8)
    flow = cook(moving, sample, replace(FLOW, magnification=5, band=band))
    np.testing.assert_allclose(flow, cook_flow(pair[0], pair[1], FLOW), atol=1e-5)


def test_without_a_rate_nothing_is_magnified(casme2: Corpus) -> None:
    sample = replace(casme2.samples[0], fps=None)
    with pytest.raises(InputError, match=rf"^{sample.key}: magnifying needs the frame rate"):
        cook(casme2, sample, replace(CLIP, magnification=2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"interpolation": "cubic"}, r"interpolation 'cubic'; expected \('linear', 'tim', 'nearest'\)"),
        ({"magnification": 0.5}, "magnification 0.5; expected 1 or more"),
        ({"magnification": float("nan")}, "magnification nan; expected a finite number"),
        ({"band": (3, 1)}, "band .3, 1.; expected two frequencies"),
        ({"band": (1,)}, "band .1,.; expected two frequencies"),
    ],
)
def test_specs_that_contradict_themselves(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(CLIP, **changes)


def test_a_spec_survives_being_saved() -> None:
    spec = replace(CLIP, interpolation="tim", magnification=3.0, band=(1, 4))
    assert InputSpec.from_dict(spec.to_dict()) == spec
    old = {key: value for key, value in CLIP.to_dict().items() if key not in ("interpolation", "magnification", "band")}
    assert InputSpec.from_dict(old) == CLIP


# Apex


@pytest.mark.parametrize("method", ["middle", "difference", "lbp"])
def test_an_apex_that_is_missing_is_found(method: str, smic: Corpus) -> None:
    sample = smic.samples[1]
    assert smic.coded_apex(sample) is None
    found = with_apex(smic, sample, Preparation(apex=method))
    numbers, clip = smic.frame_numbers(sample), smic.take(sample, grey=True)
    assert found.apex == numbers[find_apex(clip, method)]
    assert found.flags == (*sample.flags, f"apex_by_{method}")
    assert with_apex(smic, found, Preparation(apex="middle")) == found


# Alignment


def _eyes(folder: Path, corpus: Corpus, eyes: tuple[float, float, float, float]) -> Preparation:
    with (folder / "eyes.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["name", "left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y"])
        rows.writerows([sample.key, *eyes] for sample in corpus.samples[1:])
    return Preparation(Aligner("precomputed", size=32, model=str(folder / "eyes.csv")))


def test_whole_pictures_are_aligned_by_the_first_frame(copies: Path, tmp_path: Path) -> None:
    samm = mer_zoo.open_corpus("samm", copies / "samm", form="raw")
    assert not samm.cropped
    preparation = _eyes(tmp_path, samm, (30, 30, 60, 30))
    aligner = preparation.aligner
    assert aligner is not None
    sample = samm.samples[1]
    clip = samm.clip(sample)
    apex = samm.apex_index(sample)
    faces = aligner.align(clip[[0, apex]], sample.key)
    np.testing.assert_allclose(cook(samm, sample, FLOW, preparation), cook_flow(faces[0], faces[1], FLOW), atol=1e-5)
    assert (cook(samm, sample, FLOW, preparation) != cook(samm, sample, FLOW)).any()
    with pytest.raises(FaceError, match=rf"{samm.samples[0].key}, frame 0: .*has no row named"):
        cook(samm, samm.samples[0], FLOW, preparation)


def test_clips_without_a_face_are_named_when_the_rest_is_done(copies: Path, tmp_path: Path) -> None:
    samm = mer_zoo.open_corpus("samm", copies / "samm", form="raw")
    samples = mer_zoo.get_protocol("samm-3").select(samm.samples)
    preparation = _eyes(tmp_path, samm, (30, 30, 60, 30))
    lacking = {samm.samples[0].key} & {sample.key for sample in samples}
    how: dict[str, Any] = {"preparation": preparation}
    if lacking:
        with pytest.raises(UnreadableError, match="1 of"):
            mer_zoo.prepare("samm-3", {"samm": samm}, FLOW, tmp_path / "cache", **how)
    cache = mer_zoo.prepare("samm-3", {"samm": samm}, FLOW, tmp_path / "cache", on_error="skip", **how)
    assert set(cache.left_out) == lacking
    for sample in samples[1:3]:
        np.testing.assert_array_equal(cache[sample.key], cook(samm, sample, FLOW, preparation))


def test_evaluate_and_datasets_take_a_preparation(copies: Path, tmp_path: Path) -> None:
    samm = mer_zoo.open_corpus("samm", copies / "samm", form="raw")
    _eyes(tmp_path, samm, (30, 30, 60, 30))
    rows = (tmp_path / "eyes.csv").read_text().splitlines()
    rows.insert(1, f"{samm.samples[0].key},30,30,60,30")
    (tmp_path / "eyes.csv").write_text("\n".join(rows))
    preparation = Preparation(Aligner("precomputed", size=32, model=str(tmp_path / "eyes.csv")))
    data = mer_zoo.create_dataset("samm-3", {"samm": samm}, FLOW, cache=False, preparation=preparation)
    for sample, values in zip(data.samples[:3], data.inputs, strict=False):
        np.testing.assert_array_equal(values, cook(samm, sample, FLOW, preparation))
    how: dict[str, Any] = {"recipe": mer_zoo.Recipe(epochs=1), "cache": tmp_path / "cache"}
    told, plain = (
        mer_zoo.evaluate("ststnet", "samm-3", {"samm": samm}, preparation=given, **how).attrs["run"]
        for given in (preparation, None)
    )
    assert told["preparation"] == preparation.says
    assert plain["preparation"] == "frames as they are; apex middle"
    assert told["data"] != plain["data"]


def test_a_cache_keeps_its_own_preparation(smic: Corpus, tmp_path: Path) -> None:
    cache = mer_zoo.prepare("smic-3", {"smic": smic}, FLOW, tmp_path, preparation=Preparation(apex="lbp"))
    data = mer_zoo.create_dataset("smic-3", {"smic": smic}, FLOW, cache=cache)
    assert "apex_by_lbp" in data.samples[0].flags
    with pytest.raises(InputError, match=r"The cache was prepared by .*lbp.*, not .*middle.*; leave one of them out"):
        mer_zoo.create_dataset("smic-3", {"smic": smic}, FLOW, cache=cache, preparation=Preparation())
    wrong: Any = "lbp"
    with pytest.raises(InputError, match=r"preparation is 'lbp'; expected mer_zoo.Preparation"):
        mer_zoo.create_dataset("smic-3", {"smic": smic}, FLOW, preparation=wrong)


@pytest.mark.parametrize(("backend", "program"), [("mtcnn", "onnxruntime"), ("dlib", "dlib")])
def test_a_missing_program_is_said_once_before_the_first_clip(
    backend: str, program: str, copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == program else real(name))
    how: dict[str, Any] = {"preparation": Preparation(Aligner(backend))}
    with pytest.raises(InputError, match=rf"^The backend {backend} needs {program}, which is not installed: pip"):
        mer_zoo.prepare("samm-3", {"samm": copies / "samm"}, FLOW, tmp_path, **how)


def test_clips_without_pictures_are_rows_with_the_reason(tmp_path: Path) -> None:
    CORPORA.get("casme2").write_specimen(tmp_path / "copy")
    whole = mer_zoo.open_corpus("casme2", tmp_path / "copy")
    gone = mer_zoo.get_protocol("casme2-3").select(whole.samples)[3]
    shutil.rmtree(whole.frames(gone)[0].parent)
    with pytest.raises(CorpusError, match=gone.clip):
        mer_zoo.prepare("casme2-3", {"casme2": tmp_path / "copy"}, FLOW, tmp_path / "cache")
    cache = mer_zoo.prepare("casme2-3", {"casme2": tmp_path / "copy"}, FLOW, tmp_path / "cache", on_error="skip")
    assert set(cache.left_out) == {gone.key}
    assert "fewer than two pictures are there" in cache.table.set_index("key").loc[gone.key, "why"]
    assert gone.key not in cache
    assert len(cache) == len([*cache]) == len(cache.table) - 1


def test_pictures_that_vanish_meanwhile_are_rows_with_the_reason(tmp_path: Path) -> None:
    CORPORA.get("casme2").write_specimen(tmp_path / "copy")
    corpus = mer_zoo.open_corpus("casme2", tmp_path / "copy")
    gone = mer_zoo.get_protocol("casme2-3").select(corpus.samples)[3]
    corpus.frames(gone)[0].unlink()  # after the corpus was opened, and before the clip is cooked
    cache = mer_zoo.prepare("casme2-3", {"casme2": corpus}, FLOW, tmp_path / "cache", on_error="skip")
    assert set(cache.left_out) == {gone.key}
    assert len(cache) == len(cache.table) - 1


def test_what_is_refused_names_its_clip(flow_release: Path, tmp_path: Path) -> None:
    CORPORA.get("smic").write_specimen(tmp_path / "copy")
    corpus = mer_zoo.open_corpus("smic", tmp_path / "copy")
    alone = mer_zoo.get_protocol("smic-3").select(corpus.samples)[0]
    short = replace(alone, onset=alone.onset, offset=alone.onset)
    _, why = many.Cook(corpus, FLOW, Preparation())(short)
    assert str(why).startswith(f"{alone.key}: the clip has 1 frames")
    images = mer_zoo.open_corpus("megc2019_flow", flow_release)
    _, why = many.Cook(images, replace(mer_zoo.input_spec("ststnet"), size=56), Preparation())(images.samples[0])
    assert str(why).startswith(f"{images.samples[0].key}: The flow image is (28, 28)")


def test_published_flow_is_not_prepared_and_that_is_said(flow_release: Path, caplog: pytest.LogCaptureFixture) -> None:
    roots = {"megc2019_flow": flow_release}
    spec = mer_zoo.input_spec("ststnet")
    mer_zoo.create_dataset("megc2019", roots, spec, preparation=Preparation(apex="lbp"))
    assert "megc2019_flow holds finished flow; no face is aligned and no apex found in it" in caplog.text


def test_caches_are_told_apart_by_identity(smic: Corpus, tmp_path: Path) -> None:
    one, other = (mer_zoo.prepare("smic-3", {"smic": smic}, FLOW, tmp_path) for _ in range(2))
    assert one == one
    assert one != other
    assert len({one, other}) == 2
