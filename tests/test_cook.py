"""From raw frames to what each network eats, against slow re-implementations."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from _motion import Array, bumps, picture, texture

import mer_zoo
from mer_zoo.datasets import Corpus
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.preprocessing.cook import cook
from mer_zoo.preprocessing.flow import flow_image, grey, optical_flow, strain
from mer_zoo.preprocessing.temporal import resample
from mer_zoo.types import InputSpec, Sample

METHODS = ("dis", "farneback", "tvl1")


# Time


def naive_resample(clip: Array, frames: int) -> Array:
    """One frame after another: each frame weighs by how near in time it is."""
    times = [i * (len(clip) - 1) / max(frames - 1, 1) for i in range(frames)]
    return np.stack([sum(max(0.0, 1 - abs(t - k)) * clip[k].astype(float) for k in range(len(clip))) for t in times])


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 4, 4), (7, 4, 4, 3), (50, 3, 3), (9,)])
@pytest.mark.parametrize("frames", [1, 2, 3, 20])
def test_time_is_interpolated(shape: tuple[int, ...], frames: int) -> None:
    clip = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = resample(clip, frames)
    np.testing.assert_allclose(found, naive_resample(clip, frames), atol=1e-3)
    np.testing.assert_array_equal(found[0], clip[0])
    if frames > 1:
        np.testing.assert_array_equal(found[-1], clip[-1])
    np.testing.assert_array_equal(resample(clip, len(clip)), clip)


def test_nothing_cannot_be_resampled() -> None:
    for shape, frames in (((0, 4, 4), 3), ((4, 4, 4), 0), ((), 3)):
        with pytest.raises(InputError, match="expected one or more of each"):
            resample(np.zeros(shape), frames)


# Cooking


class Films(Corpus):
    """Frames in memory: a texture that moves by up to two pixels and back, and what a test puts in its place."""

    name, title, homepage, terms = "films", "Films", "here", "none"
    needs_root = False

    def __init__(self, frames: Array | None = None, **changes: Any) -> None:
        super().__init__(None)
        self.frames_given, self.changes = frames, changes

    def read(self) -> Iterator[Sample]:
        sample = Sample(corpus="films", subject="s1", clip="c1", emotion="joy", onset=11, apex=17, offset=22)
        yield replace(sample, **self.changes)

    def clip(self, sample: Sample) -> npt.NDArray[np.uint8]:
        return film() if self.frames_given is None else self.frames_given

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        raise NotImplementedError


@functools.cache
def film() -> npt.NDArray[np.uint8]:
    """A texture warped by bumps whose strength grows to frame 6 and fades: (12, 96, 96). Not to be written to."""
    y, x = np.mgrid[:96, :96].astype(float)
    warp = bumps(96, 1)
    strengths = 2 - np.abs(np.arange(12) - 6) / 3
    return np.stack([picture(texture(x - s * warp[..., 0], y - s * warp[..., 1])) for s in strengths])


def cooked(spec: InputSpec, frames: Array | None = None, **changes: Any) -> npt.NDArray[np.float32]:
    corpus = Films(frames, **changes)
    found = cook(corpus, corpus.samples[0], spec)
    assert (found.shape, found.dtype.name) == (spec.shape, "float32")
    assert found.flags.c_contiguous
    spec.check(found[None])
    return found


def colour(frames: Array) -> npt.NDArray[np.uint8]:
    return np.stack([frames, 255 - frames, frames // 2], axis=-1).astype(np.uint8)


def area(image: Array, size: int) -> Array:
    """Mean over the area of each new pixel, by weights of overlap: (S, S) -> (size, size)."""
    step = len(image) / size
    new, old = np.arange(size)[:, None], np.arange(len(image))[None]
    overlap = np.minimum((new + 1) * step, old + 1) - np.maximum(new * step, old)
    weights = overlap.clip(0) / step
    return np.asarray(weights @ image @ weights.T)


@pytest.mark.parametrize("name", mer_zoo.list_models())
def test_frames_become_what_every_network_eats(name: str) -> None:
    spec = mer_zoo.input_spec(name)
    for frames in (film(), colour(film())):
        assert cooked(spec, frames).std() > 0


def test_flow_is_that_of_onset_and_apex_at_the_clips_own_size() -> None:
    clip = film()
    flow = optical_flow(clip[0], clip[6], "farneback")
    spec = InputSpec("flow", ("v", "strain", "u"), size=40, low=-3, high=3, flow_method="farneback")
    expected = [area(flow[..., 1], 40) * 40 / 96, area(strain(flow), 40), area(flow[..., 0], 40) * 40 / 96]
    np.testing.assert_allclose(cooked(spec, clip), expected, atol=1e-4)
    np.testing.assert_allclose(cooked(replace(spec, low=-0.1, high=0.1)), np.clip(expected, -0.1, 0.1), atol=1e-4)
    np.testing.assert_allclose(cooked(replace(spec, size=96)), np.stack([flow[..., 1], strain(flow), flow[..., 0]]))
    assert cooked(replace(spec, size=120)).std() > 0


def test_the_named_method_is_taken() -> None:
    clip = film()
    for method in METHODS:
        spec = InputSpec("flow", ("u",), size=96, low=-9, high=9, flow_method=method)
        np.testing.assert_array_equal(cooked(spec, clip)[0], optical_flow(clip[0], clip[6], method)[..., 0])


def test_min_max_flow_at_the_same_size_is_the_published_flow_image() -> None:
    """Only rounded: what the corpus of flow images holds is what is cooked here, before its 8 bits."""
    clip = film()
    spec = InputSpec("flow", ("u", "v", "strain"), size=96, high=255, scaling="channel_min_max")
    expected = flow_image(optical_flow(clip[0], clip[6])).transpose(2, 0, 1)
    found = cooked(spec, clip)
    np.testing.assert_allclose(found, expected, atol=0.501)
    assert found.min(axis=(1, 2)).tolist() == [0, 0, 0]
    assert found.max(axis=(1, 2)).tolist() == [255, 255, 255]


def test_a_linear_field_keeps_its_slope_and_its_strain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretched by a tenth: at a third of the size u is a third in pixels, and the strain is still 0.1."""
    x = np.mgrid[:96, :96][1]
    field = np.stack([0.1 * x, 0 * x], axis=-1).astype(np.float32)
    monkeypatch.setattr("mer_zoo.preprocessing.forms.optical_flow", lambda *_: field)
    u, _, deformation = cooked(InputSpec("flow", ("u", "v", "strain"), size=32, low=-99, high=99))
    np.testing.assert_allclose(np.diff(u, axis=1), 0.1, atol=1e-5)
    np.testing.assert_allclose(deformation, 0.1, atol=1e-5)


@pytest.mark.parametrize("size", [32, 36, 96])
def test_clips_are_resampled_made_smaller_and_scaled(size: int) -> None:
    clip = film()
    spec = InputSpec("clip", ("grey",), size=size, frames=5, low=-1, high=1)
    expected = np.stack([area(frame, size) for frame in naive_resample(clip, 5)]) / 127.5 - 1
    np.testing.assert_allclose(cooked(spec, clip)[0], expected, atol=1e-4)


def test_a_clip_that_fits_stays_as_it_is() -> None:
    spec = InputSpec("clip", ("grey",), size=96, frames=12, high=255)
    np.testing.assert_array_equal(cooked(spec)[0], film())
    assert cooked(replace(spec, size=120)).std() == pytest.approx(film().std(), rel=0.05)
    np.testing.assert_array_equal(cooked(replace(spec, frames=3), film()[:1])[0], film()[[0, 0, 0]])


def test_colours_come_in_the_order_of_the_spec() -> None:
    clip = colour(film())
    spec = InputSpec("clip", ("blue", "red", "green"), size=96, frames=12, high=255)
    np.testing.assert_array_equal(cooked(spec, clip), clip[..., [2, 0, 1]].transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(cooked(spec, film()), [film()] * 3)
    np.testing.assert_allclose(cooked(replace(spec, channels=("grey",)), clip)[0], grey(clip), rtol=1e-5)


def test_differences_are_to_the_first_frame() -> None:
    clip = film()
    spec = InputSpec("difference", ("grey",), size=48, frames=7, low=-1, high=1, gain=8)
    even = np.stack([area(frame, 48) for frame in naive_resample(clip, 7)])
    expected = np.clip([(frame - even[0]) / 255 * 8 for frame in even], -1, 1)
    assert (np.abs(expected) == 1).any()
    np.testing.assert_allclose(cooked(spec, clip)[0], expected, atol=1e-5)
    assert not cooked(spec, clip)[:, 0].any()


@pytest.mark.parametrize("kind", ["clip", "difference"])
def test_min_max_stretches_each_channel_over_the_whole_clip(kind: Any) -> None:
    clip = colour(film())
    clip[..., 1] = 77
    spec = InputSpec(kind, ("red", "green", "blue"), 96, frames=12, low=-0.3, high=0.7, scaling="channel_min_max")
    found = cooked(spec, clip)
    red = clip[..., 0].astype(float) - (clip[0, ..., 0] if kind == "difference" else 0)
    np.testing.assert_allclose(found[0], (red - red.min()) / np.ptp(red) - 0.3, atol=1e-6)
    assert found.min(axis=(1, 2, 3)).tolist() == [np.float32(-0.3)] * 3
    assert found.max(axis=(1, 2, 3)).tolist() == [np.float32(0.7), np.float32(-0.3), np.float32(0.7)]


FLOW = InputSpec("flow", ("u",), size=28, low=-9, high=9)
CLIP = InputSpec("clip", ("grey",), size=28, frames=4)
DIFFERENCE = InputSpec("difference", ("grey",), size=28, frames=4, low=-1)


@pytest.mark.parametrize(
    ("spec", "frames", "words"),
    [
        (CLIP, np.zeros((12, 96, 96), np.float32), r"the clip is float32 \(12, 96, 96\); expected uint8 \(T, H, W\)"),
        (CLIP, np.zeros((96, 96), np.uint8), r"the clip is uint8 \(96, 96\); expected"),
        (CLIP, np.zeros((12, 96, 96, 4), np.uint8), r"uint8 \(12, 96, 96, 4\); expected"),
        (CLIP, np.zeros((12, 96, 96, 3, 1), np.uint8), r"uint8 \(12, 96, 96, 3, 1\); expected"),
        (CLIP, np.zeros((12, 0, 0), np.uint8), r"uint8 \(12, 0, 0\); expected"),
        (CLIP, np.zeros((0, 96, 96), np.uint8), "has 0 frames; expected 1 or more"),
        (DIFFERENCE, np.zeros((1, 96, 96), np.uint8), "has 1 frames; expected 2 or more"),
        (FLOW, np.zeros((1, 96, 96), np.uint8), "has 1 frames for 12 numbers"),
        (FLOW, np.zeros((12, 8, 8), np.uint8), "flow needs 12 pixels a side or more"),
        (FLOW, np.zeros((10, 96, 96), np.uint8), "10 frames for 12 numbers, 11..22, so that the apex cannot be told"),
    ],
)
def test_clips_that_cannot_be_cooked_are_named(spec: InputSpec, frames: Array | None, words: str) -> None:
    with pytest.raises(InputError, match=f"^films/s1/c1: .*{words}"):
        cooked(spec, frames)


@pytest.mark.parametrize("apex", [None, 10, 11, 23])
def test_without_a_usable_apex_flow_goes_to_the_middle_frame(apex: int | None) -> None:
    clip = film()
    changes: dict[str, Any] = {"apex": apex}
    np.testing.assert_array_equal(cooked(FLOW, **changes), cooked(FLOW, clip[[0, 6, 6]], onset=1, apex=2, offset=3))


def test_flow_needs_frame_numbers_and_frames_do_not() -> None:
    changes: dict[str, Any] = {"onset": None, "offset": None}
    with pytest.raises(CorpusError, match=r"^films/s1/c1: films gives no onset and offset; flow goes from onset"):
        cooked(FLOW, **changes)
    cooked(CLIP, **changes)
    cooked(DIFFERENCE, **changes)


def test_a_face_that_was_cut_out_is_squeezed_and_of_a_picture_the_middle_is_taken() -> None:
    stripes = np.tile(np.repeat(np.array([0, 255, 100], np.uint8), 32), (12, 32, 1))  # (12, 32, 96): three squares
    whole = Films(stripes)
    np.testing.assert_allclose(cook(whole, whole.samples[0], CLIP)[0, 0].mean(), (255 + 100) / 3 / 255, atol=0.01)

    class Uncut(Films):
        cropped = False

    middle = Uncut(stripes)
    np.testing.assert_allclose(cook(middle, middle.samples[0], CLIP), 1, atol=1e-6)


def test_channels_without_names_cannot_be_cooked() -> None:
    with pytest.raises(InputError, match=r"2 unnamed channels; .* among u, v, strain"):
        cooked(replace(FLOW, channels=("channel0", "channel1")))
    with pytest.raises(InputError, match=r"2 unnamed channels; .* among grey, red, green, blue"):
        cooked(CLIP.with_channels(2))


def test_flow_images_are_no_frames(persons: Corpus) -> None:
    with pytest.raises(InputError, match="eats a clip of 4 frames; synthetic_flow holds flow images"):
        cook(persons, persons.samples[0], CLIP)
    with pytest.raises(InputError, match="eats flow that is not"):
        cook(persons, persons.samples[0], FLOW)
    spec = InputSpec("flow", ("strain", "u"), size=28, high=255, scaling="channel_min_max")
    found, image = cook(persons, persons.samples[0], spec), persons.flow_image(persons.samples[0])
    np.testing.assert_allclose(found, [image[..., 2], image[..., 0]], rtol=1e-6)
