"""Optical flow, and from raw frames to what each network eats, against known motion and slow re-implementations."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import mer_zoo
from mer_zoo.datasets import Corpus
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.preprocessing.cook import cook
from mer_zoo.preprocessing.flow import flow_image, grey, optical_flow, strain
from mer_zoo.preprocessing.temporal import resample
from mer_zoo.types import InputSpec, Sample

Array = npt.NDArray[Any]
METHODS = ("dis", "farneback", "tvl1")


def texture(x: Array, y: Array, seed: int = 0) -> Array:
    """A smooth random picture, known at every point of the plane: a sum of 150 waves."""
    rng = np.random.default_rng(seed)
    turns = rng.uniform(0, 2 * np.pi, (150, 2))
    lengths = rng.uniform(5, 30, 150) / (2 * np.pi)
    waves = (np.cos((np.cos(a) * x + np.sin(a) * y) / n + b) for (a, b), n in zip(turns, lengths, strict=True))
    return np.asarray(128 + 6 * sum(waves))


def picture(values: Array) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(values).clip(0, 255), np.uint8)


def bumps(size: int, peak: float) -> Array:
    """A smooth warp: bells at brows, nose and mouth, each to another side, (size, size, 2)."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    flow: Array = np.zeros((size, size, 2))
    places = ((0.3, 0.25, 0, -1), (0.7, 0.25, 0, 1), (0.5, 0.5, 0.7, 0.7), (0.35, 0.75, -1, 0), (0.65, 0.75, 1, 0))
    for centre_x, centre_y, u, v in places:
        flow += np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * 0.09**2))[..., None] * [u, v]
    return np.asarray(flow * (peak / errors(flow).max()))


def pair(flow: Array, seed: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Two noisy pictures, the first at x equal to the second at x + flow: no interpolation, the texture is known."""
    rng = np.random.default_rng([seed, 1])
    y, x = np.mgrid[: len(flow), : len(flow)].astype(float)
    first, second = texture(x + flow[..., 0], y + flow[..., 1], seed), texture(x, y, seed)
    return picture(first + rng.normal(size=x.shape)), picture(second + rng.normal(size=x.shape))


def errors(found: Array, true: Array | float = 0.0) -> Array:
    """End-point error of every pixel."""
    u, v = np.moveaxis(found - true, -1, 0)
    return np.asarray(np.hypot(u, v))


# Optical flow

# Mean end-point error in pixels allowed where the motion is above 0.3 of its peak of 1 pixel; zero flow has 0.6.
LIMITS = {("dis", 64): 0.13, ("dis", 128): 0.08, ("farneback", 64): 0.24, ("farneback", 128): 0.12}
LIMITS |= {("tvl1", 64): 0.20, ("tvl1", 128): 0.10}


@pytest.mark.parametrize(("method", "size"), LIMITS)
def test_a_smooth_warp_is_found(method: str, size: int) -> None:
    true = bumps(size, peak=1)
    moving = errors(true) > 0.3
    for seed in range(2):
        found = optical_flow(*pair(true, seed), method)
        assert (found.shape, found.dtype.name) == ((size, size, 2), "float32")
        assert errors(found, true)[moving].mean() < LIMITS[method, size] < 0.5 * errors(true)[moving].mean()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shift", [(1.0, 0.0), (0.0, 1.0), (-1.5, 0.5)])
@pytest.mark.parametrize("size", [28, 64, 128])
def test_a_shift_is_found_with_its_sign(method: str, shift: tuple[float, float], size: int) -> None:
    """u is positive to the right and v downwards: the second picture shows everything moved by the shift."""
    true = np.broadcast_to(np.array(shift), (size, size, 2))
    found = optical_flow(*pair(true), method)
    assert errors(found, true)[4:-4, 4:-4].mean() < 0.1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_bump_that_moves_right_has_positive_u_and_down_positive_v(method: str, axis: int) -> None:
    y, x = np.mgrid[:64, :64].astype(float)
    bells = [np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 128) for cx, cy in ((30, 30), (31 - axis, 30 + axis))]
    first, second = (picture(40 + 180 * bell) for bell in bells)
    mean = optical_flow(first, second, method)[20:42, 20:42].mean(axis=(0, 1))
    assert mean[axis] > 0.3 > 0.1 > abs(mean[1 - axis])


@pytest.mark.parametrize("method", METHODS)
def test_the_smallest_pictures_and_oblong_ones_have_flow_too(method: str) -> None:
    found = optical_flow(*pair(np.full((12, 12, 2), 0.5)), method)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), 0.5, atol=0.15)
    first, second = pair(np.full((64, 64, 2), 0.5))
    assert optical_flow(first[:20], second[:20], method).shape == (20, 64, 2)


@pytest.mark.parametrize("method", METHODS)
def test_what_stands_still_has_no_flow(method: str) -> None:
    flat = np.full((32, 32), 9, np.uint8)
    assert not optical_flow(flat, flat + 5, method).any()
    first = film()[0]
    still = errors(optical_flow(first, first, method))
    assert still[8:-8, 8:-8].max() < 0.01
    assert method == "farneback" or not still.any()  # it sees a little motion at the border


@pytest.mark.parametrize("method", METHODS)
def test_colour_counts_as_its_brightness_and_strides_do_not_matter(method: str) -> None:
    first, second = pair(bumps(64, 1))
    expected = optical_flow(first, second, method)
    np.testing.assert_array_equal(optical_flow(np.stack([first] * 3, 2), np.stack([second] * 3, 2), method), expected)
    first, second = (np.asfortranarray(image) for image in (first, second))
    np.testing.assert_array_equal(optical_flow(first, second, method), expected)


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_the_number_of_threads_changes_nothing(method: str) -> None:
    import cv2

    images, before = pair(bumps(128, 1)), cv2.getNumThreads()
    expected = optical_flow(*images, method)
    for threads in (1, 5, before):
        cv2.setNumThreads(threads)
        np.testing.assert_array_equal(optical_flow(*images, method), expected)


def test_grey_is_bt601() -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [7, 7, 7]], np.uint8)
    np.testing.assert_allclose(grey(colours), [76.245, 149.685, 29.07, 255, 7], rtol=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "method", "words"),
    [
        ((20, 20), (20, 20), "raft", "raft needs torchvision's weights and is not offered yet; take one of .*'dis'"),
        ((20, 20), (20, 20), "lk", "No optical flow is named 'lk'; expected one of .*'tvl1'"),
        ((20, 20), (20, 22), "dis", r"shapes \(20, 20\) and \(20, 22\); crop both"),
        ((20, 20), (20, 20, 3), "dis", r"shapes \(20, 20\) and \(20, 20, 3\)"),
        ((20, 20, 4), (20, 20, 4), "dis", r"uint8 \(20, 20, 4\); expected uint8 \(H, W\) or \(H, W, 3\)"),
        ((20,), (20,), "dis", r"uint8 \(20,\); expected"),
        ((11, 40), (11, 40), "tvl1", r"\(11, 40\); flow needs 12 pixels a side or more"),
        ((40, 11, 3), (40, 11, 3), "farneback", "needs 12 pixels"),
        ((0, 0), (0, 0), "dis", "needs 12 pixels"),
    ],
)
def test_flow_refuses(first: tuple[int, ...], second: tuple[int, ...], method: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        optical_flow(np.zeros(first, np.uint8), np.zeros(second, np.uint8), method)


def test_flow_refuses_other_types() -> None:
    image = np.zeros((20, 20), np.uint8)
    with pytest.raises(InputError, match=r"float32 \(20, 20\); expected uint8"):
        optical_flow(image, image.astype(np.float32))


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
    monkeypatch.setattr("mer_zoo.preprocessing.cook.optical_flow", lambda *_: field)
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
        (replace(FLOW, flow_method="raft"), None, "raft .* not offered yet"),
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
