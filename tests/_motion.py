"""Pictures that move in a known way."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


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
