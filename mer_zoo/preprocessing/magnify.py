"""Eulerian video magnification: small changes in a clip made larger, without tracking what moves.

Method: Wu et al., "Eulerian video magnification for revealing subtle changes in the world", SIGGRAPH 2012. Ours: the
wavelength that a level of the pyramid stands for, filters written as matrices over time, and that the lowest level,
which holds slow changes of brightness, is amplified like the others.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError

FILTERS = ("butterworth", "ideal", "iir")
LEAST_SIDE = 8  # pixels; a smaller picture is not halved again

Matrix = npt.NDArray[np.float64]
Picture = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Band:
    """Which changes are amplified, by how fast they are.

    The defaults are what papers on micro-expressions write. The code of many says 30 frames a second for films of 100
    or 200, so that their band was in truth 3 to 7 times higher.

    Attributes:
        low: Hz, above 0.
        high: Hz, above ``low`` and below half the frame rate.
        filter: ``butterworth``: first order, forward and backward, so that nothing is delayed and the gain at the
            edges is a half; at both ends the clip goes on for T - 1 frames, turned about its end frame (as
            ``scipy.signal.sosfiltfilt`` does, odd), so that the onset changes least. ``ideal``: all that lies in the
            band and nothing else, by a discrete cosine transform as in the paper's figure 9, which mirrors the clip at
            its ends. ``iir``: the difference of two first-order low-passes, as the paper's for real time: it sees no
            later frame, lags behind, and passes some (high - low) / (high + low) at the most; r of such code is
            1 - exp(-2 pi f / fps), thus 0.4 and 0.05 at 30 frames a second are 2.4 and 0.24 Hz.

    Raises:
        InputError: If the frequencies are not 0 < low < high, or the filter is unknown.
    """

    low: float = 0.5
    high: float = 10.0
    filter: str = "butterworth"

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < np.inf:
            raise InputError(f"The band is {self.low:g} to {self.high:g} Hz; expected 0 < low < high.")
        if self.filter not in FILTERS:
            raise InputError(f"No filter is named {self.filter!r}; expected one of {list(FILTERS)}.")


def magnify(
    clip: npt.NDArray[np.generic], fps: float, amplification: float, band: Band | None = None, wavelength: float = 48.0
) -> npt.NDArray[np.float32]:
    """A clip whose changes in a band of frequencies are so many times larger: (T, H, W[, 3]) -> the same, float32.

    clip + (amplification - 1) * what changes in the band; the paper's alpha is amplification - 1, its (1 + alpha) in
    eq. 6 is ``amplification``, and 1 returns the clip's own values. Colours are treated one by one. Results leave
    0..255 where much is amplified and are not limited: do so before you make them whole numbers.

    Args:
        clip: uint8 or floating point, 0..255, grey or colour.
        fps: The true frames a second.
        amplification: 1 or more; papers on micro-expressions take 2 to 20, of alpha.
        band: Which changes; ``Band()`` if left out, 0.5 to 10 Hz. What changes more slowly than once in two lengths of
            the clip can hardly be told from what stands still.
        wavelength: The paper's lambda_c in pixels. Finer structure is amplified less, in proportion to its wavelength,
            so that (1 + alpha) delta < lambda / 8 (eq. 14) holds for all if it holds here; a level of the pyramid
            counts as its shortest wavelength, 4 pixels for the finest, then 8, 16 and so on. 48 is what papers
            write, and CASME II's cut-out faces are 230 x 280: take less on smaller ones. 0 amplifies all alike.

    Raises:
        InputError: If the clip is of another type or shape or not finite, or too short for the band, if the band does
            not lie below half of ``fps``, or if a number is out of range.
    """
    band = band or Band()
    _check_clip(clip)
    _check_numbers(fps, amplification, wavelength)
    _check_band(band, fps, len(clip))
    still = clip.astype(np.float32)
    passing = _filter(band, fps, len(clip)).astype(np.float32)
    change = (passing @ still.reshape(len(clip), -1)).reshape(still.shape)
    return still + np.stack([_amplify(frame, amplification - 1, wavelength) for frame in change])


def _amplify(change: Picture, alpha: float, cutoff: float, shortest: float = 4.0) -> Picture:
    """A picture times alpha, less for its fine parts: a Laplacian pyramid, level by level, (H, W[, 3])."""
    import cv2

    share = shortest / max(shortest, cutoff)
    reduced = max((1 + alpha) * share - 1, 0)  # eq. 14 with the delta for which alpha is just allowed at the cutoff
    if min(change.shape[:2]) < LEAST_SIDE:
        return np.asarray(reduced * change, np.float32)
    size = (change.shape[1], change.shape[0])
    small = cv2.pyrDown(change)
    fine = change - cv2.pyrUp(small, dstsize=size)
    coarse = _amplify(np.asarray(small, np.float32), alpha, cutoff, 2 * shortest)
    return np.asarray(reduced * fine + cv2.pyrUp(coarse, dstsize=size), np.float32)


def _filter(band: Band, fps: float, frames: int) -> Matrix:
    """The band-pass as a matrix (T, T): the filter is linear, so it is what it makes of one frame at a time."""
    impulses = np.eye(frames)
    if band.filter == "ideal":
        return _ideal(impulses, band, fps)
    if band.filter == "butterworth":
        return _butterworth(impulses, band, fps)
    return _low_pass(impulses, band.high, fps) - _low_pass(impulses, band.low, fps)


def _ideal(signals: Matrix, band: Band, fps: float) -> Matrix:
    from scipy.fft import dct, idct

    frequencies = np.arange(len(signals)) * fps / (2 * len(signals))
    outside = (frequencies < band.low) | (frequencies > band.high)
    spectrum = dct(signals, axis=0)
    spectrum[outside] = 0
    return np.asarray(idct(spectrum, axis=0))


def _butterworth(signals: Matrix, band: Band, fps: float) -> Matrix:
    from scipy.signal import butter, sosfiltfilt

    sections = butter(1, (band.low, band.high), "bandpass", output="sos", fs=fps)
    return np.asarray(sosfiltfilt(sections, signals, axis=0, padtype="odd", padlen=len(signals) - 1))


def _low_pass(signals: Matrix, frequency: float, fps: float) -> Matrix:
    """First order, starting from the first frame as if it had stood there for ever."""
    follow = 1 - np.exp(-2 * np.pi * frequency / fps)
    slow = [signals[0]]
    for signal in signals[1:]:
        slow.append(slow[-1] + follow * (signal - slow[-1]))
    return np.stack(slow)


def _check_clip(clip: npt.NDArray[np.generic]) -> None:
    kind = clip.dtype == np.uint8 or clip.dtype.kind == "f"
    if not kind or clip.ndim not in (3, 4) or clip.shape[3:] not in ((), (3,)) or 0 in clip.shape:
        raise InputError(
            f"The clip is {clip.dtype} {clip.shape}; expected uint8 or floats (T, H, W) or (T, H, W, 3), 0..255."
        )
    if not np.isfinite(clip).all():
        raise InputError("The clip holds NaN or infinity; leave such frames out or mend them.")


def _check_numbers(fps: float, amplification: float, wavelength: float) -> None:
    if not 0 < fps < np.inf:
        raise InputError(f"fps is {fps}; expected the true frames a second, a positive number.")
    if not 1 <= amplification < np.inf:
        raise InputError(f"amplification is {amplification}; expected 1, which changes nothing, or more.")
    if not 0 <= wavelength < np.inf:
        raise InputError(f"wavelength is {wavelength}; expected pixels, 0 or more.")


def _check_band(band: Band, fps: float, frames: int) -> None:
    if band.high >= fps / 2:
        raise InputError(
            f"The band is {band.low:g} to {band.high:g} Hz; {fps:g} frames a second show what is below {fps / 2:g} Hz, "
            "half of that. Lower the band, and see that fps is the camera's true rate."
        )
    least = int(np.ceil(fps / (band.high - band.low)))
    if frames < least:
        raise InputError(
            f"The clip has {frames} frames; at {fps:g} frames a second the band {band.low:g} to {band.high:g} Hz needs "
            f"{least} or more. Take a longer clip or a wider band."
        )
