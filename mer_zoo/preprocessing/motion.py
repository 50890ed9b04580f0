"""Whether anything moves in a clip, or only the camera's noise and the film's compression do."""

import numpy as np
import numpy.typing as npt

from mer_zoo.preprocessing.flow import grey

SIDE = 64  # pixels a side that frames are made to
PARTS = 5  # of a clip, each one picture: the median of its frames
FINE, WIDE = 1.0, 2.5  # pixels: blur of a picture, and reach of the neighbourhood that moves together
REST = 1.0  # squared grey levels that are never taken for motion
PERCENTILE = 98  # of all places: motion of a fiftieth of the face is enough

LEAST = 1.5
"""From here on ``motion`` is called motion.

Chosen between two kinds of rendered clips. The smallest value of 360 expressions, of all presets and both families, is
1.77. Of 210 portraits, one frame repeated with noise of 0 to 4 grey levels and light that flickers by 0 or 2 %, as it
is or encoded as H.264 (crf 35), VP8, MPEG-4 or Motion JPEG, 200 stay below 1.5; the others are H.264 and MPEG-4, most
of them flickering. To call an expression still would be worse than to look at a portrait.
"""

Floats = npt.NDArray[np.float32]


def motion(clip: npt.NDArray[np.uint8]) -> float:
    """How many times more of a clip's change is motion than is not: (T, H, W[, 3]) uint8, T >= 2 -> 0 or more.

    Change is the first part of the clip against each later one. A shift that a neighbourhood shares explains of it what
    follows the picture's gradient (Lucas and Kanade, IJCAI 1981, least squares), and noise, flicker or a coarser
    quantisation do so hardly. Of all places the 98th percentile counts, of all parts the greatest.
    """
    first, *later = _pictures(clip)
    return max(float(np.percentile(_explained(first, picture), PERCENTILE)) for picture in later)


def moves(clip: npt.NDArray[np.uint8]) -> bool:
    """Whether there is more motion than noise and compression make: (T, H, W[, 3]) uint8, T >= 2."""
    return motion(clip) >= LEAST


def _pictures(clip: npt.NDArray[np.uint8]) -> list[Floats]:
    """Each part as one smooth picture (SIDE, SIDE) of the first frame's contrast; one odd frame does not touch it."""
    import cv2

    frames = np.stack([cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in clip])
    light = grey(frames) if frames.ndim == 4 else frames.astype(np.float32)
    spread = light.std(axis=(1, 2), keepdims=True)
    even = (light - light.mean(axis=(1, 2), keepdims=True)) * (spread[0] / np.maximum(spread, 1e-6))
    parts = np.array_split(even, min(PARTS, len(even)))
    return [_blur(np.median(part, axis=0).astype(np.float32), FINE) for part in parts]


def _explained(first: Floats, second: Floats) -> Floats:
    """At each place squared change that a common shift explains, over what it leaves: two (S, S) -> (S, S)."""
    change = second - first
    y, x = np.asarray(np.gradient((first + second) / 2), np.float32)
    xx, xy, yy = _blur(x * x, WIDE), _blur(x * y, WIDE), _blur(y * y, WIDE)
    xd, yd, dd = _blur(x * change, WIDE), _blur(y * change, WIDE), _blur(change * change, WIDE)
    xx, yy = xx + 0.05, yy + 0.05  # where nothing is drawn, nothing is seen to move
    explained = (yy * xd**2 - 2 * xy * xd * yd + xx * yd**2) / (xx * yy - xy**2)
    return np.asarray(explained / (np.maximum(dd - explained, 0) + REST), np.float32)


def _blur(values: Floats, sigma: float) -> Floats:
    import cv2

    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)
