"""The frame of strongest motion, for clips whose sheet does not name it: a guess, to be called one.

On 180 of this library's rendered clips of 20 frames, in which heads and lids move too and the apex is never far from
the middle, the middle frame errs by 1.7 frames, the greatest difference by 2.3 and local binary patterns by 2.4.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError
from mer_zoo.preprocessing.flow import grey

GRID = 5  # blocks a side
RADIUS, NEIGHBOURS = 3, 8  # of a local binary pattern, the radius in pixels
PATTERNS = NEIGHBOURS * (NEIGHBOURS - 1) + 3  # the uniform ones, and one for all others: 59
LEAST_SIDE = 16  # pixels; below, blocks are less than 3 a side and a histogram counts too little

Frames = npt.NDArray[np.uint8]
Curve = npt.NDArray[np.float64]


def middle(clip: Frames) -> int:
    """The middle of a clip: (T, H, W[, 3]) uint8 -> T // 2. What most papers take, and surely not the first frame.

    Raises:
        InputError: If the clip is not two frames or more, uint8, grey or colour.
    """
    _check_clip(clip)
    return len(clip) // 2


def difference_peak(clip: Frames) -> int:
    """The frame least like both ends of the clip: (T, H, W[, 3]) uint8, onset to offset -> a position, 1 to T - 1.

    Greatest mean over pixels of ``|frame - onset| + |frame - offset|``, averaged over three neighbouring frames. Light
    or a head that drifts steadily adds as much to one part as it takes from the other; light that comes and goes
    misleads. A clip that ends at its apex has no such frame: give all of it. Where nothing changes it is the middle.

    Raises:
        InputError: As ``middle`` does.

    Source:
        Both differences: Quang, Chun and Tokuyama, FG 2019. Ours: the whole picture for their ten cells around
        landmarks, the average over frames, and no division by the change since the frame before.
    """
    _check_clip(clip)
    frames = _grey_clip(clip)
    differences = [np.abs(frame - frames[0]).mean() + np.abs(frame - frames[-1]).mean() for frame in frames]
    return _strongest(np.array(differences), lambda curve: int(curve.argmax()))


def lbp_peak(clip: Frames) -> int:
    """Where texture differs most from the onset's, D&C-RoIs: (T, H, W[, 3]) uint8 -> a position, 1 to T - 1.

    Of each region a histogram of uniform local binary patterns; a frame differs by 1 - correlation with the onset's
    histogram, sum(a b) / sqrt(sum(a^2) sum(b^2)), added over the regions. Then divide and conquer: of two halves of the
    clip that with the greater sum of differences is kept, until one frame is left; an apex next to a cut can be missed
    by some frames. Patterns do not change with light that is added or multiplied everywhere alike. Where nothing
    changes it is the middle.

    Ours: there are no landmarks here, so that the regions are a fixed grid of 5 x 5 blocks, not the brows, eyes and
    mouth: give an aligned face. Patterns of 8 neighbours at 3 pixels; differences averaged over three neighbouring
    frames, and all of them summed, not local peaks only, of which noise makes many.

    Raises:
        InputError: As ``middle`` does, or if a side is shorter than 16 pixels.

    Source:
        Liong, See, Wong, Le Ngo, Oh and Phan, ACPR 2015, pages 665-669.
    """
    _check_clip(clip)
    if min(clip.shape[1:3]) < LEAST_SIDE:
        raise InputError(f"The frames are {clip.shape[1:3]} pixels; expected {LEAST_SIDE} a side or more.")
    patterns = _patterns(clip)
    blocks = [block for rows in np.array_split(patterns, GRID, axis=1) for block in np.array_split(rows, GRID, axis=2)]
    return _strongest(np.sum([_unlike_onset(block) for block in blocks], axis=0), _divide_and_conquer)


_METHODS = {"middle": middle, "difference": difference_peak, "lbp": lbp_peak}
METHODS = tuple(_METHODS)


def find_apex(clip: Frames, method: str = "middle") -> int:
    """A guess at the apex: (T, H, W[, 3]) uint8, onset to offset -> its position, 1 to T - 1.

    Args:
        clip: Two frames or more.
        method: ``middle``, ``difference`` by ``difference_peak``, or ``lbp`` by ``lbp_peak``.

    Raises:
        InputError: If the method is unknown, or as the method's function does.
    """
    if method not in _METHODS:
        raise InputError(f"No way to find the apex is named {method!r}; expected one of {list(METHODS)}.")
    return _METHODS[method](clip)


def _check_clip(clip: npt.NDArray[np.generic]) -> None:
    if clip.dtype != np.uint8 or clip.ndim not in (3, 4) or clip.shape[3:] not in ((), (3,)) or 0 in clip.shape[1:]:
        raise InputError(f"The clip is {clip.dtype} {clip.shape}; expected uint8 (T, H, W) or (T, H, W, 3), 0..255.")
    if len(clip) < 2:
        raise InputError(f"The clip has {len(clip)} frames; an apex needs two or more, since nothing moves in one.")


def _grey_clip(clip: Frames) -> npt.NDArray[np.float32]:
    return grey(clip) if clip.ndim == 4 else clip.astype(np.float32)


def _strongest(differences: Curve, pick: Callable[[Curve], int]) -> int:
    """The frame that is picked from the smoothed differences of all but the first, or the middle if there are none."""
    if not differences.any():
        return len(differences) // 2
    padded = np.pad(differences, 1, mode="edge")
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return 1 + pick(smooth[1:])


def _patterns(clip: Frames) -> npt.NDArray[np.intp]:
    """The local binary pattern at each pixel, a number below ``PATTERNS``: (T, H, W)."""
    from skimage.feature import local_binary_pattern

    frames = np.rint(_grey_clip(clip)).astype(np.uint8)
    return np.stack([local_binary_pattern(frame, NEIGHBOURS, RADIUS, "nri_uniform") for frame in frames]).astype(int)


def _unlike_onset(patterns: npt.NDArray[np.intp]) -> Curve:
    """1 - correlation of each frame's histogram with the first one's: (T, h, w) -> (T,), 0 to 1."""
    counts = np.stack([np.bincount(frame.ravel(), minlength=PATTERNS) for frame in patterns]).astype(float)
    squares = (counts**2).sum(axis=1)
    return np.asarray(1 - counts @ counts[0] / np.sqrt(squares * squares[0]))


def _divide_and_conquer(curve: Curve) -> int:
    start, end = 0, len(curve)
    while end - start > 1:
        half = (start + end + 1) // 2
        if curve[start:half].sum() >= curve[half:end].sum():
            end = half
        else:
            start = half
    return start
