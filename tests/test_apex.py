"""Apex frames of made-up clips whose apex is known, and of rendered faces."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skimage.feature import local_binary_pattern

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.preprocessing.apex import METHODS, difference_peak, find_apex, lbp_peak, middle

Array = npt.NDArray[Any]
FRAMES, SIZE = 30, 64


def texture(x: Array, y: Array) -> Array:
    """A smooth random picture, known at every point of the plane, 30 levels about 110."""
    rng = np.random.default_rng(0)
    turns, lengths = rng.uniform(0, 2 * np.pi, (40, 2)), rng.uniform(0.8, 4, 40)
    waves = [np.cos((np.cos(a) * x + np.sin(a) * y) / n + b) for (a, b), n in zip(turns, lengths, strict=True)]
    return np.asarray(110 + 30 * np.sum(waves, axis=0) / np.sqrt(20))


def swell(apex: int, width: float) -> Array:
    """0 at both ends of the clip, 1 at the apex."""
    return np.exp(-((np.arange(FRAMES) - apex) ** 2) / (2 * width**2))


def moving(apex: int, light: Array | float = 0, noise: float = 1) -> npt.NDArray[np.uint8]:
    """A patch of skin pulled aside by up to 2 pixels; sensor's noise, and light that is added to whole frames."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    pull = 2 * np.exp(-((x - 24) ** 2 + (y - 40) ** 2) / (2 * 9**2))
    clip = np.stack([texture(x - strength * pull, y) for strength in swell(apex, 4)])
    clip += np.broadcast_to(light, FRAMES)[:, None, None]
    clip += noise * np.random.default_rng(apex).standard_normal(clip.shape)
    return np.asarray(np.rint(clip).clip(0, 255), np.uint8)


@pytest.mark.parametrize("apex", [9, 12, 15, 20])
@pytest.mark.parametrize(("method", "most"), [("difference", 1), ("lbp", 3)])
def test_the_apex_is_found_in_noise(method: str, most: int, apex: int) -> None:
    assert abs(find_apex(moving(apex), method) - apex) <= most


@pytest.mark.parametrize("apex", [9, 15, 20])
def test_steadily_rising_light_misleads_neither(apex: int) -> None:
    clip = moving(apex, light=np.linspace(0, 25, FRAMES))
    assert abs(difference_peak(clip) - apex) <= 2
    assert abs(lbp_peak(clip) - apex) <= 3


def test_light_that_comes_and_goes_misleads_differences_but_not_patterns() -> None:
    clip = moving(9, light=25 * swell(21, 4))
    assert abs(lbp_peak(clip) - 9) <= 2
    assert abs(difference_peak(clip) - 21) <= 2


def test_the_middle_frame_is_that_of_the_corpora() -> None:
    assert [middle(np.zeros((frames, 8, 8), np.uint8)) for frames in (2, 3, 4, 19, 20)] == [1, 1, 2, 9, 10]


@pytest.mark.parametrize("frames", [2, 3, 9, 10])
@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_moves_it_is_the_middle(method: str, frames: int) -> None:
    still = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 20, 23, 3), np.uint8), frames, axis=0)
    for clip in (still, np.full_like(still, 255)):
        assert find_apex(clip, method) == frames // 2


@pytest.mark.parametrize("method", METHODS)
def test_of_two_frames_it_is_the_second(method: str) -> None:
    assert find_apex(np.random.default_rng(0).integers(0, 256, (2, 20, 20), np.uint8), method) == 1


@pytest.mark.parametrize("method", METHODS)
def test_it_is_a_frame_of_the_clip_and_not_the_first(method: str) -> None:
    rng = np.random.default_rng(1)
    for frames in (2, 3, 4, 5, 8):
        for clip in rng.integers(0, 256, (10, frames, 16, 16), np.uint8):
            assert 1 <= find_apex(clip, method) < frames


@pytest.mark.parametrize("method", METHODS)
def test_grey_as_colour_gives_the_same(method: str) -> None:
    clip = moving(12)
    assert find_apex(np.stack([clip] * 3, axis=-1), method) == find_apex(clip, method)


def smoothed(values: list[float]) -> list[float]:
    around = [values[0], *values, values[-1]]
    return [sum(around[i : i + 3]) / 3 for i in range(len(values))]


def naive_difference_peak(clip: Array) -> int:
    frames = [frame.astype(float) for frame in clip]
    values = [float(np.mean(np.abs(f - frames[0])) + np.mean(np.abs(f - frames[-1]))) for f in frames]
    return max(range(1, len(clip)), key=lambda i: smoothed(values)[i])


def naive_lbp_peak(clip: Array) -> int:
    """One block and frame after another, and halves by recursion. Sides must be multiples of five."""
    height, width = clip.shape[1] // 5, clip.shape[2] // 5
    values = [0.0] * len(clip)
    for row in range(5):
        for column in range(5):
            box = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
            codes = [local_binary_pattern(frame, 8, 3, method="nri_uniform")[box] for frame in clip]
            counts = [np.array([np.sum(code == pattern) for pattern in range(59)]) for code in codes]
            for i, count in enumerate(counts):
                values[i] += 1 - float(count @ counts[0]) / np.sqrt(float(count @ count) * float(counts[0] @ counts[0]))
    curve = smoothed(values)[1:]

    def conquer(positions: list[int]) -> int:
        if len(positions) == 1:
            return positions[0]
        half = (len(positions) + 1) // 2
        first, second = positions[:half], positions[half:]
        return conquer(first if sum(curve[i] for i in first) >= sum(curve[i] for i in second) else second)

    return 1 + conquer(list(range(len(curve))))


@pytest.mark.parametrize("seed", range(5))
def test_both_peaks_equal_slow_re_implementations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = rng.integers(0, 256, (int(rng.integers(3, 16)), 25, 30), np.uint8)
    assert difference_peak(clip) == naive_difference_peak(clip)
    assert lbp_peak(clip) == naive_lbp_peak(clip)


def test_apexes_of_rendered_faces_are_near() -> None:
    corpus = mer_zoo.open_corpus("synthetic", subjects=2, clips_per_subject=6)
    true = [corpus.apex_index(sample) for sample in corpus.samples]
    clips = [corpus.clip(sample) for sample in corpus.samples]
    for method, most in (("middle", 2.5), ("difference", 4), ("lbp", 4)):
        errors = [abs(find_apex(clip, method) - apex) for clip, apex in zip(clips, true, strict=True)]
        assert np.mean(errors) < most


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (np.zeros((1, 20, 20), np.uint8), "has 1 frames; an apex needs two or more"),
        (np.zeros((0, 20, 20), np.uint8), "has 0 frames"),
        (np.zeros((5, 20, 20)), r"float64 \(5, 20, 20\); expected uint8"),
        (np.zeros((5, 20), np.uint8), r"uint8 \(5, 20\); expected"),
        (np.zeros((5, 20, 20, 4), np.uint8), r"\(5, 20, 20, 4\); expected"),
        (np.zeros((5, 0, 20), np.uint8), r"\(5, 0, 20\); expected"),
    ],
)
def test_what_is_no_clip_is_refused(method: str, clip: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_apex(clip, method)


def test_small_frames_and_unknown_ways_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(15, 40\) pixels; expected 16"):
        lbp_peak(np.zeros((4, 15, 40), np.uint8))
    with pytest.raises(InputError, match=r"'flow'; expected one of \['middle', 'difference', 'lbp'\]"):
        find_apex(np.zeros((4, 20, 20), np.uint8), "flow")
