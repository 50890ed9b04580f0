"""Clips of any length -> clips of one length.

Each method puts the frames that are there on a line, frame k at position k, asks at which positions the wanted times
lie, and reads the clip off there: linearly, on a smooth curve, or at the nearest frame.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError

Clip = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


def resample(clip: Clip, frames: int, times: npt.ArrayLike | None = None) -> npt.NDArray[np.float32]:
    """Frames evenly spaced in time, first and last kept: (T, ...) -> (frames, ...), the same range.

    A time between two frames is interpolated linearly. As many frames as there are stay as they are if they were
    evenly spaced; one frame is the first.

    Args:
        clip: One frame or more, of any shape and kind of number, all finite.
        frames: How many are wanted, one or more.
        times: (T,), strictly increasing, seconds or frame numbers: when the frames that are there were taken, if some
            are missing between them. Left out, they are evenly spaced.

    Raises:
        InputError: If the clip is empty or not of finite numbers, fewer than one frame is wanted, or the times are not
            one for each frame, finite and increasing.
    """
    positions = _positions(clip, frames, times)
    before = positions.astype(int)
    after = np.minimum(before + 1, len(clip) - 1)
    share = (positions - before).astype(np.float32).reshape(-1, *[1] * (clip.ndim - 1))
    return np.asarray(clip[before].astype(np.float32) * (1 - share) + clip[after].astype(np.float32) * share)


def tim(clip: Clip, frames: int, times: npt.ArrayLike | None = None) -> npt.NDArray[np.float32]:
    """Temporal interpolation by graph embedding: (T, ...) -> (frames, ...), arguments and errors of ``resample``.

    The frames are vertices of a path graph. The eigenvectors of its Laplacian are samples of T - 1 sinusoids, so they
    are a curve that can be read off anywhere, and frame(t) = mean + U M curve(t), with U the basis of the centred
    frames and M a least-squares fit. As the eigenvectors span whatever has the mean zero, M fits exactly: the curve
    runs through every frame, and U M curve(t) is a weighted sum of the frames, which is how it is computed here,
    without a decomposition of the frames. The weights are those of trigonometric interpolation, DCT-II.

    Frames with gaps: ours. The curve passes each frame at its true time and runs evenly between two neighbours, since
    the graph knows no distances; across a gap it is about as good as linear interpolation.

    The curve overshoots where frames jump: some weights are negative, so results can leave the range of the clip, by a
    seventh of a step or a fifth of a single odd frame. They are not limited; do so before you make them whole numbers.

    Source:
        Zhou, Zhao and Pietikainen, CVPR 2011, section 3; Pfister, Li, Zhao and Pietikainen, ICCV 2011, section 3.2.
    """
    positions = _positions(clip, frames, times)
    there = np.arange(len(clip))
    weights = (_sinusoids(positions, len(clip)) @ _sinusoids(there, len(clip)).T).astype(np.float32)
    pixels = clip.reshape(len(clip), -1).astype(np.float32)
    return np.asarray((weights @ pixels).reshape(frames, *clip.shape[1:]), np.float32)


def sample(clip: Clip, frames: int, times: npt.ArrayLike | None = None) -> Clip:
    """Of the frames there are the nearest to evenly spaced times: (T, ...) -> (frames, ...), the same type.

    Nothing is interpolated; of two frames that are as near it is the earlier. Arguments and errors are those of
    ``resample``.
    """
    return np.asarray(clip[_nearest(_positions(clip, frames, times))])


_METHODS: dict[str, Callable[[Clip, int, npt.ArrayLike | None], Clip]] = {
    "linear": resample,
    "tim": tim,
    "nearest": sample,
}
METHODS = tuple(_METHODS)


def interpolate(clip: Clip, frames: int, method: str = "linear", times: npt.ArrayLike | None = None) -> Clip:
    """Frames evenly spaced in time: (T, ...) -> (frames, ...), arguments and errors of ``resample``.

    Args:
        clip: See ``resample``.
        frames: See ``resample``.
        method: ``linear`` by ``resample``, ``tim`` by ``tim``, both float32, or ``nearest`` by ``sample``.
        times: See ``resample``.

    Raises:
        InputError: As ``resample`` does, or if the method is unknown.
    """
    _check_method(method)
    return _METHODS[method](clip, frames, times)


def used(there: int, frames: int, method: str = "linear", times: npt.ArrayLike | None = None) -> list[int]:
    """Which of the frames that are there ``interpolate`` looks at, in order; with their times the rest can be left out.

    Raises:
        InputError: As ``interpolate`` does.
    """
    _check_method(method)
    if method == "tim":
        return [*range(there)]
    at = _places(there, frames, times)
    wanted = [_nearest(at)] if method == "nearest" else [np.floor(at).astype(int), np.ceil(at).astype(int)]
    return [int(k) for k in np.unique(wanted)]


def _positions(clip: Clip, frames: int, times: npt.ArrayLike | None) -> Floats:
    """Where the wanted times lie among the frames: (frames,), 0 the first frame, T - 1 the last."""
    _check_clip(clip, frames)
    return _places(len(clip), frames, times)


def _places(there: int, frames: int, times: npt.ArrayLike | None) -> Floats:
    if times is None:
        return np.linspace(0, there - 1, frames)
    taken = np.asarray(times, np.float64)
    _check_times(taken, there)
    positions = np.interp(np.linspace(taken[0], taken[-1], frames), taken, np.arange(there))
    whole = np.rint(positions)
    return np.where(np.abs(positions - whole) < 1e-6, whole, positions)  # 0.3 is not 3 * 0.1 in floating point


def _nearest(positions: Floats) -> npt.NDArray[np.intp]:
    return np.ceil(positions - 0.5).astype(int)


def _check_method(method: str) -> None:
    if method not in _METHODS:
        raise InputError(f"No temporal interpolation is named {method!r}; expected one of {list(METHODS)}.")


def _sinusoids(positions: npt.NDArray[np.floating] | npt.NDArray[np.integer], vertices: int) -> Floats:
    """The constant and the eigenvectors of a path graph at these positions: (N,) -> (N, vertices), orthonormal."""
    order = np.arange(vertices)
    waves = np.cos(np.pi / vertices * np.outer(positions + 0.5, order)) * np.sqrt(2 / vertices)
    waves[:, 0] = np.sqrt(1 / vertices)
    return np.asarray(waves, np.float64)


def _check_clip(clip: Clip, frames: int) -> None:
    if clip.ndim == 0 or len(clip) == 0 or frames < 1:
        raise InputError(f"A clip of shape {clip.shape} cannot become {frames} frames; expected one or more of each.")
    if clip.dtype.kind not in "biuf":
        raise InputError(f"The clip is of type {clip.dtype}; expected whole numbers or floating point.")
    if not np.isfinite(clip).all():
        raise InputError("The clip holds NaN or infinity; leave such frames out and give the times of the others.")


def _check_times(times: Floats, frames: int) -> None:
    if times.shape != (frames,):
        raise InputError(f"The times have shape {times.shape} for {frames} frames; expected ({frames},).")
    if not np.isfinite(times).all():
        raise InputError("The times hold NaN or infinity; expected seconds or frame numbers.")
    wrong = np.flatnonzero(np.diff(times) <= 0)
    if len(wrong):
        k = wrong[0]
        raise InputError(
            f"The times of frames {k} and {k + 1} are {times[k]:g} and {times[k + 1]:g}; expected them to increase. "
            "Put the frames in order and leave doubles out."
        )
