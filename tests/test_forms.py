"""Every kind of input from frames, against what it is made of by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from _motion import Array, picture, texture
from test_cook import Films, colour, cooked, film

import mer_zoo
from mer_zoo.datasets import Corpus, _pictures
from mer_zoo.datasets._base import CORPORA
from mer_zoo.errors import InputError
from mer_zoo.preprocessing.cook import Preparation, cook
from mer_zoo.preprocessing.faces import Aligner
from mer_zoo.preprocessing.flow import flow_image, optical_flow
from mer_zoo.preprocessing.forms import cook_clip, cook_flow, cook_frames, needed, ranks
from mer_zoo.preprocessing.temporal import METHODS, interpolate, used
from mer_zoo.types import InputSpec

FLOW = InputSpec("flow", ("u", "v", "strain"), size=32, low=-9, high=9)
APEX = 6  # of ``film``, which has twelve frames


# What each kind is made of


@pytest.mark.parametrize("method", METHODS)
def test_flow_goes_from_the_onset_to_every_later_frame(method: Any) -> None:
    spec = replace(FLOW, frames=4, interpolation=method)
    even = np.rint(np.clip(interpolate(film(), 5, method), 0, 255)).astype(np.uint8)
    expected = np.stack([cook_flow(even[0], frame, FLOW) for frame in even[1:]], axis=1)
    np.testing.assert_array_equal(cooked(spec), expected)
    assert spec.shape == (3, 4, 32, 32)


def test_as_many_flows_as_later_frames_are_those_between_the_frames_that_are_there() -> None:
    found = cooked(replace(FLOW, frames=11, scaling="channel_min_max"))
    for k in range(11):
        image = cook_flow(film()[0], film()[k + 1], replace(FLOW, scaling="channel_min_max"))
        np.testing.assert_array_equal(found[:, k], image)


def test_two_phases_are_flow_to_the_apex_and_on_from_it() -> None:
    found = cooked(replace(FLOW, kind="phases", frames=2))
    np.testing.assert_array_equal(found[:, 0], cook_flow(film()[0], film()[APEX], FLOW))
    np.testing.assert_array_equal(found[:, 1], cook_flow(film()[APEX], film()[-1], FLOW))
    assert np.corrcoef(found[0].reshape(2, -1))[0, 1] < -0.9  # the film goes there and back


@pytest.mark.parametrize("magnification", [1.0, 3.0])
def test_an_image_is_the_apex_and_a_pair_has_the_onset_before_it(magnification: float) -> None:
    spec = InputSpec("pair", ("grey",), size=96, frames=2, high=255, magnification=magnification, band=(2, 30))
    pair = cooked(spec, fps=100.0)[0]
    np.testing.assert_array_equal(cooked(replace(spec, kind="image", frames=1), fps=100.0)[0], pair[1])
    if magnification == 1:
        np.testing.assert_array_equal(pair, film()[[0, APEX]])
    else:
        assert np.abs(pair[1] - film()[APEX]).max() > 1


def test_images_have_colours() -> None:
    clip = colour(film())
    spec = InputSpec("image", ("blue", "red"), size=96, high=255)
    np.testing.assert_array_equal(cooked(spec, clip), clip[APEX][..., [2, 0]].transpose(2, 0, 1))
    stretched = cooked(replace(spec, scaling="channel_min_max", high=1.0), clip)
    assert (stretched.min(axis=(1, 2)), stretched.max(axis=(1, 2))) == (pytest.approx(0), pytest.approx(1))


@pytest.mark.parametrize("frames", [2, 3, 12, 50])
def test_a_dynamic_image_ranks_the_means_of_beginnings(frames: int) -> None:
    """Bilen et al., eq. 2: each mean of the first t frames weighs 2 t - T - 1; here one after the other."""
    signal = np.random.default_rng(0).normal(size=frames)
    slow = sum((2 * t - frames - 1) * signal[:t].mean() for t in range(1, frames + 1))
    weights = ranks(frames)
    positive = sum(max(0.0, w) for w in _plain_ranks(frames))
    assert weights @ signal == pytest.approx(slow / positive)
    assert (weights.sum(), weights.clip(0).sum()) == (pytest.approx(0, abs=1e-12), pytest.approx(1))


def _plain_ranks(frames: int) -> list[float]:
    """What each frame weighs in the sum of means of beginnings."""
    return [sum((2 * s - frames - 1) / s for s in range(t, frames + 1)) for t in range(1, frames + 1)]


def test_a_dynamic_image_is_zero_of_stills_and_bright_where_light_comes() -> None:
    spec = InputSpec("dynamic", ("grey",), size=32, low=-1, gain=2)
    assert not cooked(spec, np.repeat(film()[:1], 12, axis=0)).round(5).any()
    rising = np.zeros((12, 32, 32), np.uint8)
    rising[6:, :16] = 100
    found = cook_clip(rising, spec)[0]
    assert found[:16].min() > 0.3
    assert not found[16:].any()
    with pytest.raises(InputError, match="has 1 frames; expected 2 or more"):
        cook_clip(rising[:1], spec)


# What is read


@pytest.mark.parametrize("there", [1, 2, 7, 20, 60])
@pytest.mark.parametrize("frames", [1, 2, 20])
@pytest.mark.parametrize("method", METHODS)
def test_frames_that_are_not_used_can_be_left_out(there: int, frames: int, method: str) -> None:
    rng = np.random.default_rng(there)
    clip = rng.integers(0, 256, (there, 5, 4)).astype(np.uint8)
    for times in (None, np.sort(rng.choice(200, there, replace=False))):
        chosen = used(there, frames, method, times)
        rest = chosen if times is None else times[chosen]
        few: Any = interpolate(clip[chosen], frames, method, rest)
        np.testing.assert_allclose(few, np.asarray(interpolate(clip, frames, method, times), float), atol=1e-3)
        assert len(chosen) <= (there if method == "tim" else 2 * frames)


@pytest.fixture(scope="module")
def casme2(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("casme2")
    CORPORA.get("casme2").write_specimen(folder)
    return mer_zoo.open_corpus("casme2", folder)


KINDS: dict[str, InputSpec] = {
    "flow": FLOW,
    "flows": replace(FLOW, frames=3),
    "phases": replace(FLOW, kind="phases", frames=2),
    "clip": InputSpec("clip", ("grey",), size=32, frames=3, high=255),
    "difference": InputSpec("difference", ("grey",), size=32, frames=3, low=-1),
    "tim": InputSpec("clip", ("grey",), size=32, frames=3, high=255, interpolation="tim"),
    "image": InputSpec("image", ("grey",), size=32, high=255),
    "pair": InputSpec("pair", ("red",), size=32, frames=2, high=255),
    "dynamic": InputSpec("dynamic", ("grey",), size=32, low=-1),
}


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS)
def test_only_frames_that_are_used_are_read(spec: InputSpec, casme2: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = max(
        (s for s in casme2.samples if casme2.coded_apex(s) and "frames_with_gaps" not in s.flags),
        key=lambda s: len(casme2.frames(s)),
    )
    clip, apex = casme2.take(sample, grey=spec.channels != ("red",)), casme2.apex_index(sample)
    read: list[str] = []
    real = _pictures.read_picture

    def noting(file: Path, grey: bool) -> Any:
        read.append(file.name)
        return real(file, grey)

    monkeypatch.setattr(_pictures, "read_picture", noting)
    found = cook(casme2, sample, spec)
    files = casme2.frames(sample)
    assert read == [files[i].name for i in needed(spec, len(files), apex)]
    np.testing.assert_allclose(found, cook_clip(clip, spec, apex), atol=1e-3)


def test_the_face_of_an_apex_is_sought_on_the_onset(monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole(Films):
        cropped = False

    sought: list[Array] = []

    def align(_: Aligner, clip: Array, name: str) -> Array:
        assert name == "films/s1/c1"
        sought.append(clip[0])
        return clip

    monkeypatch.setattr(Aligner, "align", align)
    corpus = Whole()
    spec = InputSpec("image", ("grey",), size=96, high=255)
    found = cook(corpus, corpus.samples[0], spec, Preparation(Aligner("mtcnn")))
    np.testing.assert_array_equal(found[0], film()[APEX])
    np.testing.assert_array_equal(sought, [film()[0]])


# As STSTNet's authors publish it


def test_rendered_clips_become_what_ststnet_eats() -> None:
    """Order strain, v, u, each from 0 to 255, u to the right: as the true motion, and as their PNG are read."""
    corpus: Any = mer_zoo.open_corpus("synthetic", subjects=3, clips_per_subject=2, size=128, noise=(0.0, 0.0))
    spec = mer_zoo.input_spec("ststnet")
    agreeing: dict[str, list[float]] = {"u": [], "v": []}
    for sample in corpus.samples:
        found = cook(corpus, sample, spec)
        assert (found.shape, found.min(axis=(1, 2)).tolist(), found.max(axis=(1, 2)).tolist()) == (
            (3, 28, 28),
            [0, 0, 0],
            [255, 255, 255],
        )
        clip, apex = corpus.clip(sample), corpus.apex_index(sample)
        true = corpus.flow(sample)[apex]
        for name, axis, channel in (("u", 0, 2), ("v", 1, 1)):
            small = cv2.resize(np.ascontiguousarray(true[..., axis]), (28, 28), interpolation=cv2.INTER_AREA)
            agreeing[name].append(float(np.corrcoef(small.ravel(), found[channel].ravel())[0, 1]))
        image = flow_image(optical_flow(clip[0], clip[apex], "tvl1"))  # red, green, blue of the PNG: u, v, strain
        as_opencv_reads = cv2.resize(image[..., ::-1], (28, 28), interpolation=cv2.INTER_AREA)
        for channel in range(3):
            pair = found[channel].ravel(), as_opencv_reads[..., channel].ravel()
            assert np.corrcoef(*pair)[0, 1] > 0.99
    assert np.median(agreeing["u"]) > 0.7
    assert np.median(agreeing["v"]) > 0.7


def test_a_bump_to_the_right_is_bright_in_u() -> None:
    y, x = np.mgrid[:128, :128].astype(np.float32)
    bump = np.exp(-((x - 64) ** 2 + (y - 64) ** 2) / 200)
    still, moved = picture(texture(x, y)), picture(texture(x - 1.5 * bump, y))
    strain, v, u = cook_flow(still, moved, mer_zoo.input_spec("ststnet"))
    assert np.unravel_index(u.argmax(), u.shape) == (pytest.approx(13.5, abs=2), pytest.approx(13.5, abs=2))
    assert u.max() == 255
    assert np.median(u) < 60
    back = cook_flow(moved, still, mer_zoo.input_spec("ststnet"))[2]
    assert np.median(back) > 195
    assert strain[14, 14] < strain.max()
    assert v.shape == (28, 28)


def test_a_clip_for_frames_is_the_same_from_cook_clip_and_cook_frames() -> None:
    spec = KINDS["clip"]
    np.testing.assert_allclose(cook_clip(film(), spec), cook_frames(film(), spec), atol=1e-3)


@pytest.mark.parametrize("kind", ["phases", "pair", "image", "flow"])
def test_an_apex_that_is_the_last_frame_is_read_once_more(kind: str, casme2: Corpus) -> None:
    """Of two phases the second is then still."""
    sample = next(s for s in casme2.samples if casme2.coded_apex(s) == len(casme2.frames(s)) - 1)
    clip = casme2.take(sample, grey=KINDS[kind].channels != ("red",))
    found = cook(casme2, sample, KINDS[kind])
    np.testing.assert_allclose(found, cook_clip(clip, KINDS[kind], len(clip) - 1), atol=1e-3)
    if kind == "phases":
        assert not found[:, 1].any()


@pytest.mark.parametrize("apex", [None, -1, 12, 99])
def test_a_position_that_is_none_is_said(apex: int | None) -> None:
    with pytest.raises(InputError, match=rf"apex is {apex}; a flow needs a position among 12 frames, from 0"):
        cook_clip(film(), FLOW, apex)


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS)
def test_every_kind_can_be_evaluated(spec: InputSpec, casme2: Corpus, tmp_path: Path) -> None:
    def build() -> torch.nn.Module:
        model: Any = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(spec.shape)), 3))
        model.input_spec = spec
        return model  # type: ignore[no-any-return]

    table = mer_zoo.evaluate(
        build, "casme2-3", {"casme2": casme2}, recipe=mer_zoo.Recipe(epochs=1, lr=1e-5), cache=tmp_path
    )
    assert len(table) == len(mer_zoo.get_protocol("casme2-3").select(casme2.samples))
