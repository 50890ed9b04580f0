"""Temporal interpolation against known signals, and against graph embedding done step by step as in the papers."""

import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mer_zoo.errors import InputError
from mer_zoo.preprocessing.temporal import METHODS, interpolate, resample, sample, tim

Array = npt.NDArray[Any]
GAPS = (46, 47, 48, 52, 53, 56, 57)  # frame numbers; 49 to 51, 54 and 55 are not there


def noise(frames: int, *shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(frames).integers(0, 256, (frames, *shape), np.uint8)


def dense_tim(clip: Array, frames: int) -> Array:
    """Zhou et al., section 3: eigenvectors of the path graph, least squares in the basis of an SVD, read off between.

    An eigenvector is a sinusoid times a number, which is fitted here.
    """
    n = len(clip)
    neighbours = np.eye(n, k=1) + np.eye(n, k=-1)
    _, vectors = np.linalg.eigh(np.diag(neighbours.sum(axis=0)) - neighbours)
    embedding = vectors[:, 1:].T
    images = clip.reshape(n, -1).T.astype(float)
    mean = images.mean(axis=1, keepdims=True)
    basis, sizes, _ = np.linalg.svd(images - mean, full_matrices=False)
    basis = basis[:, sizes > 1e-9 * sizes[0]]
    fit = np.linalg.lstsq(embedding.T, (basis.T @ (images - mean)).T, rcond=None)[0].T

    def sinusoid(k: int, t: Array) -> Array:
        return np.asarray(np.sin(np.pi * k * t + np.pi * (n - k) / (2 * n)))

    vertices, wanted = np.arange(1, n + 1) / n, np.linspace(1 / n, 1, frames)
    scales = [embedding[k - 1] @ sinusoid(k, vertices) / (sinusoid(k, vertices) ** 2).sum() for k in range(1, n)]
    curve = np.stack([scale * sinusoid(k, wanted) for k, scale in enumerate(scales, 1)])
    return np.asarray((mean + basis @ fit @ curve).T.reshape(frames, *clip.shape[1:]))


@pytest.mark.parametrize("shape", [(2, 5, 4), (3, 5, 4), (8, 6, 5, 3), (20, 9)])
@pytest.mark.parametrize("frames", [2, 7, 20, 33])
def test_tim_equals_a_dense_graph_embedding(shape: tuple[int, ...], frames: int) -> None:
    clip = noise(*shape)
    found = tim(clip, frames)
    assert found.shape == (frames, *shape[1:])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, dense_tim(clip, frames), atol=1e-3)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 60])
@pytest.mark.parametrize("finer", [1, 2, 5])
def test_tim_returns_the_frames_at_their_times(length: int, finer: int) -> None:
    clip = noise(length, 16, 12)
    found = tim(clip, (length - 1) * finer + 1)
    np.testing.assert_allclose(found[::finer], clip, atol=1e-3)


def test_tim_returns_frames_that_repeat() -> None:
    clip = noise(4, 6, 6)[[0, 1, 1, 1, 2, 3, 0]]
    np.testing.assert_allclose(tim(clip, 25)[::4], clip, atol=1e-3)


def test_one_frame_is_repeated() -> None:
    clip = noise(1, 4, 4)
    for method in METHODS:
        np.testing.assert_array_equal(interpolate(clip, 3, method), np.repeat(clip, 3, axis=0))
        np.testing.assert_array_equal(interpolate(clip, 3, method, times=[8]), np.repeat(clip, 3, axis=0))


def test_tim_continues_a_slow_swing_where_linear_cuts_its_corners() -> None:
    length, frames, waves = 12, 100, 3

    def swing(position: Array) -> Array:
        return np.asarray(100 * np.cos(np.pi * waves * (2 * position + 1) / (2 * length)))

    clip, expected = swing(np.arange(length)), swing(np.linspace(0, length - 1, frames))
    np.testing.assert_allclose(tim(clip, frames), expected, atol=1e-3)
    assert np.abs(resample(clip, frames) - expected).max() > 5


def test_tim_is_the_same_backwards() -> None:
    clip = noise(9, 5, 5)
    np.testing.assert_allclose(tim(clip[::-1], 14), tim(clip, 14)[::-1], atol=1e-3)


def test_tim_overshoots_by_a_seventh_of_a_step_and_linear_does_not() -> None:
    step = np.repeat([0.0, 210.0], 20)
    assert tim(step, 500).max() == pytest.approx(240, abs=2)
    assert tim(step, 500).min() == pytest.approx(-30, abs=2)
    assert resample(step, 500).max() == pytest.approx(210, abs=1e-3)


def test_tim_of_a_large_clip_takes_little_memory() -> None:
    clip = noise(60, 280, 230)
    tracemalloc.start()
    tim(clip, 20)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2 * 4 * clip.size


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("times", [[0.1 * k for k in range(7)], [46 + 5 * k for k in range(7)], None])
def test_as_many_frames_as_there_are_stay_as_they_are(method: str, times: list[float] | None) -> None:
    clip = noise(7, 4, 4).astype(np.float32)
    found: npt.NDArray[Any] = interpolate(clip, 7, method, times)
    np.testing.assert_allclose(found, clip, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unit", [1, 0.005])
def test_frames_with_gaps_come_back_at_their_true_times(method: str, unit: float) -> None:
    clip = noise(len(GAPS), 4, 4)
    found: npt.NDArray[Any] = interpolate(clip, 12, method, unit * np.array(GAPS))
    np.testing.assert_allclose(found[np.array(GAPS) - 46], clip, atol=1e-3)


def test_linear_interpolation_follows_the_true_times() -> None:
    signal = 3.0 * np.array(GAPS) + 7
    np.testing.assert_allclose(resample(signal, 45, GAPS), np.linspace(signal[0], signal[-1], 45), atol=1e-3)
    assert np.abs(resample(signal, 45) - np.linspace(signal[0], signal[-1], 45)).max() > 3


def test_tim_follows_a_slow_motion_through_gaps() -> None:
    def rise(time: Array) -> Array:
        return np.asarray(100 * np.sin((time - 46) / 11 * np.pi / 2))

    assert np.abs(tim(rise(np.array(GAPS)), 12, GAPS) - rise(np.arange(46, 58))).max() < 5
    assert np.abs(tim(rise(np.array(GAPS)), 12) - rise(np.arange(46, 58))).max() > 8


def test_the_nearest_frames_are_taken_and_of_two_the_earlier() -> None:
    clip = np.arange(5, dtype=np.uint16)
    assert sample(clip, 9).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4]
    assert sample(clip, 3).tolist() == [0, 2, 4]
    assert sample(clip, 2, times=[0, 1, 2, 3, 10]).tolist() == [0, 4]
    assert sample(clip, 6, times=[0, 1, 2, 3, 10]).tolist() == [0, 2, 3, 3, 4, 4]
    assert sample(clip, 9).dtype == np.uint16


def test_interpolation_goes_by_name() -> None:
    clip = noise(6, 4, 4)
    for method, function in zip(METHODS, (resample, tim, sample), strict=True):
        np.testing.assert_array_equal(interpolate(clip, 4, method, GAPS[:6]), function(clip, 4, GAPS[:6]))
    with pytest.raises(InputError, match=r"'cubic'; expected one of \['linear', 'tim', 'nearest'\]"):
        interpolate(clip, 4, "cubic")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("clip", "frames", "times", "message"),
    [
        (np.zeros((0, 4, 4)), 3, None, "expected one or more of each"),
        (np.zeros((4, 4, 4)), 0, None, "expected one or more of each"),
        (np.zeros(()), 3, None, "expected one or more of each"),
        (np.array([0, np.nan]), 3, None, "NaN or infinity"),
        (np.array([0, np.inf]), 3, None, "NaN or infinity"),
        (np.array(["a", "b"]), 3, None, "whole numbers or floating point"),
        (np.zeros((4, 2)), 3, [0, 1, 2], r"shape \(3,\) for 4 frames"),
        (np.zeros((4, 2)), 3, [[0, 1], [2, 3]], r"shape \(2, 2\) for 4 frames"),
        (np.zeros(4), 3, [0, 1, 1, 2], "frames 1 and 2 are 1 and 1; expected them to increase"),
        (np.zeros(4), 3, [0, 3, 2, 4], "frames 1 and 2 are 3 and 2; expected them to increase"),
        (np.zeros(4), 3, [0, 1, 2, np.nan], "seconds or frame numbers"),
        (np.zeros(4), 3, [0, 1, 2, np.inf], "seconds or frame numbers"),
    ],
)
def test_bad_clips_and_times_are_refused(method: str, clip: Array, frames: int, times: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        interpolate(clip, frames, method, times)
