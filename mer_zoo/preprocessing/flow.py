"""Optical flow between two pictures, optical strain, and flow as an image.

The estimators are OpenCV's, scikit-image's and torchvision's, whose results differ a little between their releases;
``estimator`` says which is at work. Their settings are ours where a function below names them.
"""

import hashlib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError
from mer_zoo.specs import FLOW_METHODS

if TYPE_CHECKING:
    from torch import nn

Field = npt.NDArray[np.float32]

LEAST_SIDE = 12  # pixels; below, OpenCV's dis refuses and its farneback loses most of the motion
NO_FLOW_YET: Any = None  # OpenCV takes None, its type stubs do not
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue: ITU-R BT.601
RAFT_WEIGHTS = "Raft_Large_Weights.C_T_SKHT_V2"
RAFT_SIDE, RAFT_STEP = 128, 8  # pixels; it takes pictures from that side on, in steps
_RAFT_AT_WORK = Lock()  # the network keeps the pair that it is at within itself


def optical_flow(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], method: str = "dis") -> Field:
    """How every pixel moved: two pictures, (H, W) grey or (H, W, 3) RGB -> (H, W, 2) pixels.

    The last axis is u, to the right, and v, downwards: what is at x in ``first`` is at x + flow in ``second``.

    Args:
        first: The picture to start from, 0..255; 12 pixels a side or more.
        second: Another of the same shape.
        method: ``dis``: dense inverse search, Kroeger et al., ECCV 2016, by OpenCV, its medium preset refined down to
            the full resolution; of the first three it errs least on motion of 1 or 2 pixels, in 8 ms at 128 x 128.
            ``farneback``: polynomial expansion, Farneback, SCIA 2003, by OpenCV; smoother, 3 ms, and not quite zero at
            the border where nothing moves. ``tvl1``: total variation and L1, Zach et al., DAGM 2007, by OpenCV where
            its contributed modules are installed, else by scikit-image, 90 ms or more; what many papers on
            micro-expressions take, though with other settings. ``raft``: recurrent all-pairs field transforms, Teed
            and Deng, ECCV 2020, by torchvision, whose file of weights must be there: it is never fetched.

    Raises:
        InputError: If the method is unknown, the weights of ``raft`` are not there or not its own, or the pictures are
            not two of uint8 of one shape, large enough.
    """
    estimators = {"dis": _dis, "farneback": _farneback, "tvl1": _tvl1, "raft": _raft}
    _check_method(method)
    _check_pictures(first, second)
    return estimators[method](_grey_picture(first), _grey_picture(second))


def estimator(method: str) -> str:
    """Which program of which version estimates this flow here, such as ``cv2 5.0.0 DualTVL1``, for keys of caches.

    Raises:
        InputError: If the method is unknown or the weights of ``raft`` are not there.
    """
    import cv2

    _check_method(method)
    opencv = f"cv2 {cv2.getVersionString()}"
    if method == "raft":
        weights = hashlib.sha256(_raft_file().read_bytes()).hexdigest()[:16]
        return f"torchvision {version('torchvision')} on torch {version('torch')} raft_large, weights {weights}"
    if method == "tvl1" and _contributed() is None:
        return f"scikit-image {version('scikit-image')} TV-L1 and {opencv} median"
    ways = {"dis": "DIS medium, finest scale 0", "farneback": "Farneback, window 15", "tvl1": "DualTVL1"}
    return f"{opencv} {ways[method]}"


def grey(colour: npt.NDArray[np.generic]) -> Field:
    """Brightness of red, green, blue: (..., 3) -> (...), the same range, not rounded.

    Source:
        ITU-R BT.601: 0.299, 0.587, 0.114.
    """
    return np.asarray(colour.astype(np.float32) @ LUMA, np.float32)


def _check_method(method: str) -> None:
    if method not in FLOW_METHODS:
        raise InputError(f"No optical flow is named {method!r}; expected one of {list(FLOW_METHODS)}.")


def _check_pictures(first: npt.NDArray[np.generic], second: npt.NDArray[np.generic]) -> None:
    for image in (first, second):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
            raise InputError(f"A picture is {image.dtype} {image.shape}; expected uint8 (H, W) or (H, W, 3), 0..255.")
    if first.shape != second.shape:
        raise InputError(f"The pictures have shapes {first.shape} and {second.shape}; crop both to the same shape.")
    if min(first.shape[:2]) < LEAST_SIDE:
        raise InputError(
            f"The pictures have shape {first.shape}; flow needs {LEAST_SIDE} pixels a side or more: enlarge them."
        )


def _grey_picture(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(image if image.ndim == 2 else np.rint(grey(image)).astype(np.uint8))


def _dis(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> Field:
    import cv2

    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setFinestScale(0)  # the preset stops at half the resolution and misses small motion
    return np.asarray(estimator.calc(first, second, NO_FLOW_YET), np.float32)


def _farneback(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> Field:
    """Window of 15; else OpenCV's example: 3 halved levels, 3 rounds, expansion over 5 pixels, sigma 1.1."""
    import cv2

    levels, window, rounds = 3, 15, 3
    flow = cv2.calcOpticalFlowFarneback(first, second, NO_FLOW_YET, 0.5, levels, window, rounds, 5, 1.1, 0)
    return np.asarray(flow, np.float32)


def _tvl1(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> Field:
    contributed = _contributed()
    if contributed is None:
        return _tvl1_of_scikit_image(first, second)
    return np.asarray(contributed.DualTVL1OpticalFlow_create().calc(first, second, NO_FLOW_YET), np.float32)


def _contributed() -> Any:
    """OpenCV's contributed module of optical flow; None in the builds without."""
    import cv2

    module = getattr(cv2, "optflow", None)
    return module if hasattr(module, "DualTVL1OpticalFlow_create") else None


def _tvl1_of_scikit_image(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> Field:
    """scikit-image's defaults, written out, and three median filters of 5 x 5 pixels at the end.

    They take away the speckle that so few iterations leave, which strain would be full of, and keep edges (Wedel et
    al., "An Improved Algorithm for TV-L1 Optical Flow", 2009, section 3.2, who filter at every level).
    """
    import cv2
    from skimage.registration import optical_flow_tvl1

    rows, columns = optical_flow_tvl1(
        first, second, attachment=15, tightness=0.3, num_warp=5, num_iter=10, tol=1e-4, prefilter=True
    )
    parts = []
    for part in (columns, rows):
        filtered = np.ascontiguousarray(part, np.float32)
        for _ in range(3):
            filtered = np.asarray(cv2.medianBlur(filtered, 5), np.float32)
        parts.append(filtered)
    return np.stack(parts, axis=-1)


def _raft(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> Field:
    """The large network, 12 updates; brightness in all three channels, repeated beyond the border.

    Large, since it brings flow from an eighth of the resolution to the full one by learnt weights, which the small one
    does by linear interpolation. With the number of threads only the last digits change.
    """
    import torch
    import torch.nn.functional as F

    file = _raft_file()
    model = _raft_model(file, file.stat().st_mtime_ns)
    height, width = first.shape
    down, right = (max(RAFT_SIDE, -(-side // RAFT_STEP) * RAFT_STEP) - side for side in first.shape)
    top, left = down // 2, right // 2
    images = torch.from_numpy(np.stack([first, second]))[:, None] / 127.5 - 1
    padded = F.pad(images, (left, right - left, top, down - top), mode="replicate").expand(-1, 3, -1, -1)
    with _RAFT_AT_WORK, torch.no_grad():
        flow = model(padded[:1], padded[1:])[-1][0]
    return np.ascontiguousarray(flow[:, top : top + height, left : left + width].permute(1, 2, 0).numpy())


def _raft_file() -> Path:
    """Where torchvision keeps the weights once they are fetched.

    Raises:
        InputError: If they are not there.
    """
    import torch
    from torchvision.models import get_weight

    file = Path(torch.hub.get_dir(), "checkpoints", Path(get_weight(RAFT_WEIGHTS).url).name)
    if not file.is_file():
        raise InputError(
            f"raft needs {file.name}, 20 MB, which is not in {file.parent}. Fetch it by `from torchvision.models "
            f"import get_weight; get_weight('{RAFT_WEIGHTS}').get_state_dict(progress=True)`, or take another flow."
        )
    return file


@lru_cache(maxsize=1)
def _raft_model(file: Path, _: int) -> "nn.Module":
    """The network with the weights of a file; the second argument tells a file that was replaced meanwhile.

    Raises:
        InputError: If the file holds something else.
    """
    import torch
    from torchvision.models.optical_flow import raft_large

    with torch.device("meta"):  # so that no random numbers are drawn for weights that are replaced
        model: nn.Module = raft_large()
    try:
        model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True), assign=True)
    except Exception as error:  # what a broken file raises depends on where it is broken
        said = type(error).__name__
        raise InputError(f"{file} holds no weights of raft_large ({said}); delete it and fetch it anew.") from error
    model.eval()
    return model


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
