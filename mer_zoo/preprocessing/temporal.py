"""Clips of any length -> clips of one length."""

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError


def resample(clip: npt.NDArray[np.generic], frames: int) -> npt.NDArray[np.float32]:
    """Frames evenly spaced in time, first and last kept: (T, ...) -> (frames, ...), the same range.

    A time between two frames is interpolated linearly. As many frames as there are stay as they are; one frame is the
    first.

    Raises:
        InputError: If the clip is empty or fewer than one frame is wanted.
    """
    if clip.ndim == 0 or len(clip) == 0 or frames < 1:
        raise InputError(f"A clip of shape {clip.shape} cannot become {frames} frames; expected one or more of each.")
    times = np.linspace(0, len(clip) - 1, frames)
    before = times.astype(int)
    after = np.minimum(before + 1, len(clip) - 1)
    share = (times - before).astype(np.float32).reshape(-1, *[1] * (clip.ndim - 1))
    return np.asarray(clip[before].astype(np.float32) * (1 - share) + clip[after].astype(np.float32) * share)
