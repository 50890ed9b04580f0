"""Which triangle each pixel shows: a z-buffer in numpy, run once a person."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Visible:
    """What each pixel of a picture shows of a mesh.

    Attributes:
        pixels: (P,) flat indices, y * size + x, of the pixels that show something.
        corners: (P, 3) vertices of the triangle that is nearest.
        weights: (P, 3) barycentric weights of the pixel's centre; they sum to one.
        size: Height and width of the picture.
    """

    pixels: npt.NDArray[np.int64]
    corners: npt.NDArray[np.int64]
    weights: Floats
    size: int

    def sample(self, values: Floats) -> Floats:
        """Values of vertices (N, C) -> of pixels (size, size, C), zero where nothing shows."""
        picture = np.zeros((self.size * self.size, values.shape[1]), np.float32)
        picture[self.pixels] = sum(self.weights[:, i, None] * values[self.corners[:, i]] for i in range(3))
        return picture.reshape(self.size, self.size, -1)

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Where something shows, (size, size)."""
        mask = np.zeros(self.size * self.size, bool)
        mask[self.pixels] = True
        return mask.reshape(self.size, self.size)


def rasterise(points: Floats, depth: Floats, triangles: npt.NDArray[np.int64], size: int) -> Visible:
    """The nearest triangle at every pixel's centre, among those that face the camera.

    Args:
        points: (N, 2) x to the right and y downwards in pixels; the first pixel's centre lies at 0.5, 0.5.
        depth: (N,) greater is nearer.
        triangles: (M, 3) vertices, anticlockwise as seen from outside.
        size: Height and width of the picture.
    """
    corners = points[triangles]
    (ax, ay), (bx, by), (cx, cy) = corners.transpose(1, 2, 0)
    inside = (corners.max(axis=1) > 0).all(axis=1) & (corners.min(axis=1) < size).all(axis=1)
    facing = np.flatnonzero(inside & ((bx - ax) * (cy - ay) - (cx - ax) * (by - ay) < 0))
    triangles, corners = triangles[facing], corners[facing]
    low = np.maximum(np.ceil(corners.min(axis=1) - 0.5), 0).astype(np.int64)
    high = np.minimum(np.floor(corners.max(axis=1) - 0.5), size - 1).astype(np.int64)
    extent = (high - low).max(axis=1) + 1
    found = []
    for least, side in ((0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 9), (9, 16), (16, 32), (32, 64), (64, 4096)):
        chosen = np.flatnonzero((extent > least) & (extent <= side))  # like extents together: no box is much too large
        if len(chosen):
            box = min(side, int(extent[chosen].max()))
            found.append((*_cover(corners[chosen], low[chosen], box, size), chosen))
    pixel, weights, triangle = _joined(found)
    near = (weights * depth[triangles[triangle]]).sum(axis=1)
    order = np.lexsort((near, pixel))
    best = order[np.append(np.flatnonzero(np.diff(pixel[order])), len(order) - 1)]
    return Visible(pixel[best], triangles[triangle[best]], weights[best], size)


def _joined(
    found: list[tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]],
) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.int64]]:
    """Pixels, weights and triangles of all groups."""
    pixels, weights, _, _ = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return pixels, weights, np.concatenate([chosen[which] for _, _, which, chosen in found])


def _cover(
    corners: Floats, low: npt.NDArray[np.int64], side: int, size: int
) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.int64]]:
    """Pixels inside each triangle, among side x side from its lowest one: pixel, weights, number of the triangle."""
    y, x = np.mgrid[:side, :side].reshape(2, -1)
    px = low[:, :1] + x
    py = low[:, 1:] + y
    (ax, ay), (bx, by), (cx, cy) = corners.transpose(1, 2, 0)[..., None]
    px_, py_ = px + np.float32(0.5), py + np.float32(0.5)
    whole = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    at_a = ((bx - px_) * (cy - py_) - (cx - px_) * (by - py_)) / whole
    at_b = ((cx - px_) * (ay - py_) - (ax - px_) * (cy - py_)) / whole
    at_c = 1 - at_a - at_b
    which, place = np.nonzero((at_a >= 0) & (at_b >= 0) & (at_c >= 0) & (px < size) & (py < size))
    weights = np.stack([at[which, place] for at in (at_a, at_b, at_c)], axis=1).astype(np.float32)
    return py[which, place] * size + px[which, place], weights, which
