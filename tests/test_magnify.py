"""Eulerian magnification against known answers: how much a swing of known frequency grows, and what must not change."""

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from mer_zoo.errors import InputError
from mer_zoo.preprocessing.magnify import FILTERS, Band, magnify

Array = npt.NDArray[Any]
SIZE, ALL_ALIKE = 24, 0


def blob(size: int = SIZE) -> Array:
    """Smooth, 0 to 1."""
    y, x = np.mgrid[:size, :size] / size
    return np.asarray(np.exp(-((x - 0.45) ** 2 + (y - 0.55) ** 2) / 0.08))


def flicker(hertz: float, fps: float, frames: int, pattern: Array | None = None) -> Array:
    """Grey of 120, and on it the pattern, 3 levels up and down."""
    swing = 3 * np.sin(2 * np.pi * hertz * np.arange(frames) / fps)
    return np.asarray(120 + swing[:, None, None] * (blob() if pattern is None else pattern))


def growth(before: Array, after: Array, hertz: float, fps: float) -> complex:
    """How much larger the swing is in the middle third of the clip, and by which angle ahead."""
    third = len(before) // 3
    turn = np.exp(-2j * np.pi * hertz * np.arange(third, 2 * third) / fps)

    def swing(clip: Array) -> complex:
        signal = clip[third : 2 * third].astype(float)[:, SIZE // 2, SIZE // 2]
        parts = np.linalg.lstsq(np.stack([turn.real, turn.imag, np.ones(third)]).T, signal, rcond=None)[0]
        return complex(parts[0], parts[1])

    return swing(after) / swing(before)


@pytest.mark.parametrize("hertz", [3, 5, 8])
@pytest.mark.parametrize("amplification", [1.5, 5, 20])
def test_ideal_amplifies_what_lies_in_the_band(hertz: float, amplification: float) -> None:
    clip = flicker(hertz, 100, 300)
    found = magnify(clip, 100, amplification, Band(2, 10, "ideal"), ALL_ALIKE)
    assert growth(clip, found, hertz, 100) == pytest.approx(amplification, rel=0.03)


@pytest.mark.parametrize("hertz", [0.7, 15, 40])
def test_ideal_leaves_what_lies_outside(hertz: float) -> None:
    clip = flicker(hertz, 100, 600)
    found = magnify(clip, 100, 10, Band(2, 10, "ideal"), ALL_ALIKE)
    assert growth(clip, found, hertz, 100) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("hertz", [0.5, 2, 4.5, 10, 30])
def test_butterworth_amplifies_by_its_known_response_without_delay(hertz: float) -> None:
    fps, low, high = 100, 2.0, 10.0
    warped = np.tan(np.pi * np.array([hertz, low, high]) / fps)  # the bilinear transform's frequencies
    detuning = (warped[0] ** 2 - warped[1] * warped[2]) / (warped[0] * (warped[2] - warped[1]))
    gain = 1 / (1 + detuning**2)  # |H|^2, since it runs forward and backward; a half at both edges
    clip = flicker(hertz, fps, 900)
    found = growth(clip, magnify(clip, fps, 10, Band(low, high), ALL_ALIKE), hertz, fps)
    assert found == pytest.approx(1 + 9 * gain, rel=0.02)


@pytest.mark.parametrize("hertz", [0.5, 4.5, 30])
def test_iir_amplifies_and_delays_by_its_known_response(hertz: float) -> None:
    fps, low, high = 100, 2.0, 10.0

    def low_pass(cutoff: float) -> complex:
        r = 1 - np.exp(-2 * np.pi * cutoff / fps)
        return complex(r / (1 - (1 - r) * np.exp(-2j * np.pi * hertz / fps)))

    clip = flicker(hertz, fps, 900)
    found = growth(clip, magnify(clip, fps, 10, Band(low, high, "iir"), ALL_ALIKE), hertz, fps)
    assert found == pytest.approx(1 + 9 * (low_pass(high) - low_pass(low)), rel=0.01)


def test_motion_becomes_so_many_times_larger() -> None:
    x, times = np.arange(64), np.arange(300) / 100
    shifts = 0.03 * np.sin(2 * np.pi * 5 * times)

    def wave(shift: Array) -> Array:
        row = 128 + 60 * np.cos(2 * np.pi * (x - shift[:, None]) / 32)
        return np.repeat(row[:, None], 16, axis=1)

    found = magnify(wave(shifts), 100, 6, Band(2, 10, "ideal"), ALL_ALIKE)[100:200]
    assert np.abs(found - wave(6 * shifts)[100:200]).max() < 0.05 * np.abs(wave(6 * shifts) - wave(0 * shifts)).max()


def bump(fps: float) -> Array:
    """A second in which the pattern comes and goes within 0.3 seconds."""
    times = np.arange(fps) / fps
    return 120 + 4 * np.exp(-((times - 0.45) ** 2) / (2 * 0.06**2))[:, None, None] * blob()


@pytest.mark.parametrize("name", FILTERS)
def test_the_same_band_does_the_same_at_any_frame_rate(name: str) -> None:
    band = Band(0.5, 10, name)
    slow, fast = magnify(bump(200), 200, 8, band, ALL_ALIKE), magnify(bump(400), 400, 8, band, ALL_ALIKE)
    wrong = magnify(bump(400), 60, 8, band, ALL_ALIKE)
    tolerance = 0.05 * np.abs(slow - bump(200)).max()
    assert np.abs(fast[::2] - slow).max() < tolerance
    assert np.abs(wrong[::2] - slow).max() > 4 * tolerance


@pytest.mark.parametrize("name", ["butterworth", "iir"])
def test_the_onset_stays_and_the_apex_grows(name: str) -> None:
    clip = bump(200)
    found = magnify(clip, 200, 8, Band(filter=name), ALL_ALIKE)
    assert np.abs(found[0] - clip[0]).max() < 0.5
    assert (found - 120).max() > 4 * (clip - 120).max()


@pytest.mark.parametrize("shape", [(40, 13, 17), (40, 9, 8, 3), (40, 1, 1)])
@pytest.mark.parametrize("name", FILTERS)
def test_amplification_of_one_changes_nothing(shape: tuple[int, ...], name: str) -> None:
    clip = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = magnify(clip, 100, 1, Band(filter=name))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, clip)


@pytest.mark.parametrize("name", FILTERS)
def test_what_stands_still_stays(name: str) -> None:
    clip = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 20, 22, 3), np.uint8), 30, axis=0)
    np.testing.assert_allclose(magnify(clip, 60, 50, Band(filter=name)), clip, atol=0.01)


def stepwise(clip: Array, alpha: float, cutoff: float, band: Band, fps: float) -> Array:
    """In the paper's order: pyramids, band-pass in each level, eq. 14 for each level, sum, for the ideal filter."""
    from scipy.fft import dct, idct

    pyramids: list[list[Array]] = []
    for frame in clip:
        levels = [frame.astype(np.float64)]
        while min(levels[-1].shape) >= 8:
            levels.append(cv2.pyrDown(levels[-1]))
        fine = [a - cv2.pyrUp(b, dstsize=a.shape[::-1]) for a, b in pairwise(levels)]
        pyramids.append([*fine, levels[-1]])
    delta = cutoff / 8 / (1 + alpha)
    amplified = []
    for level, bands in enumerate(zip(*pyramids, strict=True)):
        spectrum = dct(np.stack(bands), axis=0)
        hertz = np.arange(len(clip)) * fps / 2 / len(clip)
        spectrum[(hertz < band.low) | (hertz > band.high)] = 0
        allowed = 4 * 2**level / 8 / delta - 1
        amplified.append(min(alpha, max(0, allowed)) * idct(spectrum, axis=0))
    total = amplified[-1]
    for level in reversed(amplified[:-1]):
        total = np.stack([a + cv2.pyrUp(b, dstsize=a.shape[::-1]) for a, b in zip(level, total, strict=True)])
    return np.asarray(clip + total)


@pytest.mark.parametrize("wavelength", [12, 16, 48])
def test_it_equals_the_paper_step_by_step(wavelength: float) -> None:
    clip = np.random.default_rng(1).uniform(0, 255, (30, 37, 52))
    band = Band(3, 12, "ideal")
    found = magnify(clip, 50, 6, band, wavelength)
    np.testing.assert_allclose(found, stepwise(clip, 5, wavelength, band, 50), atol=0.02)


def test_fine_structure_is_amplified_less() -> None:
    stripes = np.tile([1.0, -1.0], (SIZE, SIZE // 2))  # 2 pixels long, thus in the finest level only, which counts as 4
    coarse, fine = flicker(5, 100, 150, np.ones((SIZE, SIZE))), flicker(5, 100, 150, stripes)
    for wavelength, expected in ((0, 10), (4, 10), (8, 5), (20, 2), (48, 1)):
        for clip, factor in ((fine, expected), (coarse, 10 if wavelength <= 16 else None)):
            found = growth(clip, magnify(clip, 100, 10, Band(2, 10, "ideal"), wavelength), 5, 100)
            assert factor is None or found == pytest.approx(factor, rel=0.03)


def test_colours_are_treated_one_by_one() -> None:
    clip = np.random.default_rng(2).integers(0, 256, (30, 21, 26, 3), np.uint8)
    found = magnify(clip, 60, 7, wavelength=12)
    for channel in range(3):
        np.testing.assert_allclose(found[..., channel], magnify(clip[..., channel], 60, 7, wavelength=12), atol=0.01)


def test_bytes_and_floats_give_the_same_and_nothing_is_limited() -> None:
    clip = np.random.default_rng(3).integers(0, 256, (30, 16, 16), np.uint8)
    found = magnify(clip, 60, 7, wavelength=ALL_ALIKE)
    np.testing.assert_array_equal(found, magnify(clip.astype(np.float64), 60, 7, wavelength=ALL_ALIKE))
    assert found.min() < 0
    assert found.max() > 255


@pytest.mark.parametrize(
    ("low", "high", "name", "message"),
    [
        (0, 10, "ideal", "0 to 10 Hz; expected 0 < low < high"),
        (-1, 10, "ideal", "expected 0 < low < high"),
        (5, 5, "iir", "expected 0 < low < high"),
        (5, 2, "iir", "expected 0 < low < high"),
        (np.nan, 2, "iir", "expected 0 < low < high"),
        (2, np.inf, "iir", "expected 0 < low < high"),
        (1, 2, "fir", r"'fir'; expected one of \['butterworth', 'ideal', 'iir'\]"),
    ],
)
def test_bad_bands_are_refused(low: float, high: float, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Band(low, high, name)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fps": 20}, "0.5 to 10 Hz; 20 frames a second show what is below 10 Hz"),
        ({"fps": 0}, "fps is 0; expected"),
        ({"fps": np.nan}, "fps is nan; expected"),
        ({"fps": np.inf}, "fps is inf; expected"),
        ({"amplification": 0.5}, "amplification is 0.5; expected 1"),
        ({"amplification": np.nan}, "amplification is nan; expected 1"),
        ({"wavelength": -1}, "wavelength is -1; expected pixels"),
        ({"fps": 200}, "has 20 frames; at 200 frames a second the band 0.5 to 10 Hz needs 22 or more"),
        ({"band": Band(4, 5)}, "has 20 frames; at 50 frames a second the band 4 to 5 Hz needs 50 or more"),
        ({"clip": np.full((20, 9, 9), np.nan)}, "NaN or infinity"),
        ({"clip": np.zeros((20, 9, 9), np.uint16)}, "uint16"),
        ({"clip": np.zeros((20, 9, 9, 4))}, r"\(20, 9, 9, 4\); expected"),
        ({"clip": np.zeros((20, 9))}, r"\(20, 9\); expected"),
        ({"clip": np.zeros((0, 9, 9))}, r"\(0, 9, 9\); expected"),
    ],
)
def test_bad_input_is_refused(changed: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"clip": np.zeros((20, 9, 9)), "fps": 50, "amplification": 5}
    with pytest.raises(InputError, match=message):
        magnify(**(usual | changed))


@pytest.mark.parametrize("name", FILTERS)
def test_the_shortest_clip_that_is_not_refused_is_amplified(name: str) -> None:
    found = magnify(np.random.default_rng(4).uniform(0, 255, (22, 9, 9)), 200, 10, Band(filter=name), ALL_ALIKE)
    assert np.isfinite(found).all()
