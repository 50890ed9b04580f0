"""Optical strain, and flow as an image."""

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError

Field = npt.NDArray[np.float32]


def strain(flow: npt.NDArray[np.floating]) -> Field:
    """Magnitude of the optical strain: (H, W, 2) flow u, v in pixels -> (H, W), without unit, 0 or more.

    sqrt(u_x^2 + v_y^2 + (u_y + v_x)^2 / 2), that is the Frobenius norm of the tensor with the shear
    (u_y + v_x) / 2 twice; derivatives by central differences, one-sided at the border.

    Source:
        Liong et al., ACCV workshops 2014, eq. 4-6; Shreve et al., FG 2011.
    """
    (u_y, u_x), (v_y, v_x) = np.gradient(flow[..., 0]), np.gradient(flow[..., 1])
    return np.asarray(np.sqrt(u_x**2 + v_y**2 + 0.5 * (u_y + v_x) ** 2), np.float32)


def stretch(channel: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Minimum to 0 and maximum to 255: any shape -> the same, uint8. A constant channel becomes 0."""
    low, high = float(channel.min()), float(channel.max())
    if high == low:
        return np.zeros(channel.shape, np.uint8)
    return np.asarray(np.rint((channel - low) * (255.0 / (high - low))), np.uint8)


def flow_image(flow: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Flow as published for MEGC 2019: (H, W, 2) u, v in pixels -> (H, W, 3) u, v, strain, each stretched to 0..255.

    The stretching is per channel and image, so how far the face moved is lost, and zero motion has no fixed value.

    Raises:
        InputError: If the shape is not (H, W, 2) or a value is not finite.
    """
    if flow.ndim != 3 or flow.shape[2] != 2 or not np.isfinite(flow).all():
        raise InputError(f"Flow has shape {flow.shape}; expected (H, W, 2), u and v in pixels, all finite.")
    return np.stack([stretch(flow[..., 0]), stretch(flow[..., 1]), stretch(strain(flow))], axis=-1)
