"""Frames as arrays -> what a network eats, by the kind of its InputSpec.

Flow is estimated at the frames' own size and then made smaller; frames are made smaller and then interpolated in time.
Papers seldom say which of these they do first: ours.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError
from mer_zoo.preprocessing.flow import grey, optical_flow, strain
from mer_zoo.preprocessing.temporal import interpolate, used
from mer_zoo.specs import FLOW_CHANNELS, FORMS, InputSpec

Array = npt.NDArray[np.float32]
Frames = npt.NDArray[np.uint8]
Times = Sequence[float] | None


def needed(spec: InputSpec, frames: int, apex: int | None, times: Times = None) -> list[int]:
    """Which frames of a clip its input is made of, as positions in order.

    Args:
        spec: What the network eats.
        frames: How many the clip has.
        apex: Position of its apex; None where the spec does not need it.
        times: When each was taken, if some are missing between them.
    """
    if spec.needs_apex:
        assert apex is not None  # noqa: S101
        return {"image": [apex], "phases": [0, apex, frames - 1]}.get(spec.kind, [0, apex])
    if spec.kind == "dynamic":
        return [*range(frames)]
    return used(frames, _steps(spec), spec.interpolation, times)


def cook_clip(frames: npt.NDArray[np.generic], spec: InputSpec, apex: int | None = None, times: Times = None) -> Array:
    """A whole clip, onset to offset, (T, H, W) or (T, H, W, 3), 0..255 -> an array of ``spec.shape``.

    Args:
        frames: uint8, or float32 where motion was magnified.
        spec: What the network eats.
        apex: Position of the apex, for specs that need it.
        times: (T,), increasing: when frames were taken, if some are missing between them.

    Raises:
        InputError: If there are too few frames, they are not such an array, or there is no flow between them.
    """
    check_clip(frames, least_frames(spec), (np.uint8, np.float32))
    if spec.needs_apex and not (apex is not None and 0 <= apex < len(frames)):
        raise InputError(f"apex is {apex!r}; a {spec.kind} needs a position among {len(frames)} frames, from 0.")
    chosen = needed(spec, len(frames), apex, times)
    return cook_needed(frames[chosen], spec, times_of(chosen, times))


def times_of(chosen: Sequence[int], times: Times) -> Sequence[float]:
    """When the frames at these positions were taken."""
    return chosen if times is None else [times[i] for i in chosen]


def cook_needed(frames: npt.NDArray[np.generic], spec: InputSpec, times: Times = None) -> Array:
    """As ``cook_clip`` from those frames alone that ``needed`` names, with their times.

    Raises:
        InputError: As ``cook_clip`` does.
    """
    ways: dict[str, Callable[[], Array]] = {
        "flow": lambda: cook_flows(frames, spec, times) if spec.frames > 1 else cook_flow(frames[0], frames[1], spec),
        "phases": lambda: np.stack([cook_flow(frames[i], frames[i + 1], spec) for i in (0, 1)], axis=1),
        "dynamic": lambda: cook_dynamic(frames, spec),
        "image": lambda: cook_stills(frames, spec)[:, 0],
        "pair": lambda: cook_stills(frames, spec),
    }
    values = ways.get(spec.kind, lambda: cook_frames(frames, spec, times))()
    return np.ascontiguousarray(values, np.float32)


def least_frames(spec: InputSpec) -> int:
    """How many frames a clip must have."""
    return 1 if spec.kind in ("clip", "image") else 2


def cook_flow_image(image: npt.NDArray[np.uint8], spec: InputSpec) -> Array:
    """A published flow image (H, W, 3), u, v, strain in 0..255 -> (C, H, W) in the spec's order and range.

    Raises:
        InputError: If the size differs, or if the spec wants flow in pixels, which stretching has lost.
    """
    if image.shape[:2] != (spec.size, spec.size):
        raise InputError(f"The flow image is {image.shape[:2]}; this network eats {spec.size} x {spec.size} pixels.")
    if spec.scaling != "channel_min_max":
        raise InputError("The flow image is stretched per channel; this network eats flow that is not.")
    chosen = image[..., [FLOW_CHANNELS.index(name) for name in spec.channels]]
    values = chosen.transpose(2, 0, 1).astype(np.float32)
    return np.asarray(spec.low + values * ((spec.high - spec.low) / 255.0), np.float32)


def cook_flow(first: npt.NDArray[np.generic], second: npt.NDArray[np.generic], spec: InputSpec) -> Array:
    """Two frames (H, W) or (H, W, 3), 0..255 -> (C, size, size): u, v, strain as the spec wants them.

    Frames that are not square are squeezed. Flow and strain are taken at the frames' own size and then averaged over
    areas. u and v are in pixels of the new size; strain has no unit and so does not change with size.

    Raises:
        InputError: If there is no flow between these frames, as ``optical_flow`` says.
    """
    onset, apex = square(_whole(np.stack([first, second])))
    flow = optical_flow(onset, apex, str(spec.flow_method))
    pixels = spec.size / len(flow)
    fields = {"u": flow[..., 0] * pixels, "v": flow[..., 1] * pixels, "strain": strain(flow)}
    values = np.stack([_resize(fields[name], spec.size) for name in spec.channels])
    return _stretch(values, spec) if spec.scaling == "channel_min_max" else _limit(values, spec)


def cook_flows(frames: npt.NDArray[np.generic], spec: InputSpec, times: Times = None) -> Array:
    """A clip (T, H, W) or (T, H, W, 3) -> (C, frames, size, size): flow from its first frame to each later one.

    The later frames are evenly spaced in time, the last among them; between two that are there the clip is
    interpolated as ``spec.interpolation`` says.

    Raises:
        InputError: If there are fewer than two frames, or no flow between them, as ``optical_flow`` says.
    """
    check_clip(frames, 2, (np.uint8, np.float32))
    even = square(_whole(interpolate(frames, _steps(spec), spec.interpolation, times)))
    return np.stack([cook_flow(even[0], later, spec) for later in even[1:]], axis=1)


def cook_frames(clip: npt.NDArray[np.generic], spec: InputSpec, times: Times = None) -> Array:
    """Frames (T, H, W) or (T, H, W, 3), 0..255 -> (C, frames, size, size), a clip or differences.

    Frames that are not square are squeezed. They are made smaller first and interpolated in time afterwards, which is
    the same and costs less. ``times`` (T,) says when frames were taken, if some are missing between them.

    Raises:
        InputError: If there are too few frames or they are not such an array.
    """
    check_clip(clip, least_frames(spec), (np.uint8, np.float32))
    even = interpolate(_planes(clip, spec), spec.frames, spec.interpolation, times)
    values = np.ascontiguousarray(even.swapaxes(0, 1), np.float32)
    return _signed(values - values[:, :1], spec) if spec.kind == "difference" else _grey_levels(values, spec)


def cook_stills(frames: npt.NDArray[np.generic], spec: InputSpec) -> Array:
    """Frames (T, H, W) or (T, H, W, 3), 0..255 -> (C, T, size, size), each of them as it is.

    Raises:
        InputError: If they are not such an array.
    """
    check_clip(frames, 1, (np.uint8, np.float32))
    return _grey_levels(_planes(frames, spec).swapaxes(0, 1), spec)


def cook_dynamic(clip: npt.NDArray[np.generic], spec: InputSpec) -> Array:
    """Frames (T, H, W) or (T, H, W, 3), 0..255 -> (C, size, size): a dynamic image by approximate rank pooling.

    The sum of frames t = 1..T times a_t = 2 (T - t + 1) - (T + 1) (H_T - H_(t-1)), H the harmonic numbers: what comes
    late minus what was early. Ours: divided by the sum of the positive a_t, so that values lie in -255..255 for any T.

    Raises:
        InputError: If there are fewer than two frames or they are not such an array.

    Source:
        Bilen, Fernando, Gavves, Vedaldi and Gould, CVPR 2016, eq. 3.
    """
    check_clip(clip, 2, (np.uint8, np.float32))
    planes = _planes(clip, spec)
    return _signed(np.tensordot(ranks(len(clip)), planes, axes=1).astype(np.float32), spec)


def ranks(frames: int) -> npt.NDArray[np.float64]:
    """The weights of frames in a dynamic image: (T,), the positive ones of sum 1, the negative ones of sum -1."""
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, frames + 1))])
    t = np.arange(1, frames + 1)
    weights = 2 * (frames - t + 1) - (frames + 1) * (harmonic[-1] - harmonic[:-1])
    return np.asarray(weights / weights.clip(0).sum())


def check_clip(clip: npt.NDArray[np.generic], least: int, kinds: Sequence[type[np.generic]] = (np.uint8,)) -> None:
    """Refuse what is not ``least`` or more frames of 0..255, (T, H, W) or (T, H, W, 3).

    Raises:
        InputError: If the type, the shape or the number of frames is another.
    """
    if clip.dtype not in kinds or clip.ndim not in (3, 4) or clip.shape[3:] not in ((), (3,)) or 0 in clip.shape[1:]:
        raise InputError(f"the clip is {clip.dtype} {clip.shape}; expected uint8 (T, H, W) or (T, H, W, 3), 0..255.")
    if len(clip) < least:
        raise InputError(f"the clip has {len(clip)} frames; expected {least} or more. Leave it out.")


def square(clip: Frames) -> Frames:
    """Square frames: those that are not are squeezed to their shorter side."""
    import cv2

    height, width = clip.shape[1:3]
    side = min(height, width)
    if height == width or not side:
        return clip
    return np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in clip])


def _steps(spec: InputSpec) -> int:
    """Evenly spaced frames that an input is made of: of flow one more, the onset, where it starts."""
    return spec.frames + FORMS[spec.kind].flow


def _whole(frames: npt.NDArray[np.generic]) -> Frames:
    """Grey levels as pictures have them, for flow."""
    return np.asarray(frames if frames.dtype == np.uint8 else np.rint(frames.clip(0, 255)), np.uint8)


def _planes(frames: npt.NDArray[np.generic], spec: InputSpec) -> Array:
    """The spec's channels at its size: (T, H, W) or (T, H, W, 3) -> (T, C, size, size), 0..255."""
    small = np.stack([_resize(frame, spec.size) for frame in frames])
    return np.stack([_channel(small, name) for name in spec.channels], axis=1)


def _resize(image: npt.NDArray[np.generic], size: int) -> Array:
    """A picture or field (H, W) or (H, W, 3) -> (size, size, ...), the same range.

    Smaller by the mean over each new pixel's area, larger by linear interpolation, and the same size untouched.
    """
    import cv2

    values = np.asarray(image, np.float32)
    if values.shape[:2] == (size, size):
        return values
    way = cv2.INTER_AREA if size < max(values.shape[:2]) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, (size, size), interpolation=way), np.float32)


def _channel(frames: Array, name: str) -> Array:
    """One channel of grey (T, H, W) or colour (T, H, W, 3) frames: (T, H, W)."""
    if frames.ndim == 3:
        return frames
    return grey(frames) if name == "grey" else frames[..., ("red", "green", "blue").index(name)]


def _grey_levels(values: Array, spec: InputSpec) -> Array:
    """0..255, (C, ...), as the spec scales them."""
    if spec.scaling == "channel_min_max":
        return _stretch(values, spec)
    return np.asarray(spec.low + values.clip(0, 255) * ((spec.high - spec.low) / 255.0), np.float32)


def _signed(values: Array, spec: InputSpec) -> Array:
    """-255..255, (C, ...), as the spec scales them."""
    return _stretch(values, spec) if spec.scaling == "channel_min_max" else _limit(values * (spec.gain / 255.0), spec)


def _stretch(values: Array, spec: InputSpec) -> Array:
    """Each channel of (C, ...) to exactly ``low..high``; a constant one becomes ``low``."""
    axes = tuple(range(1, values.ndim))
    least, most = values.min(axes, keepdims=True), values.max(axes, keepdims=True)
    share = (values - least) / np.where(most > least, most - least, 1)
    return np.asarray(spec.low * (1 - share) + spec.high * share, np.float32)


def _limit(values: Array, spec: InputSpec) -> Array:
    return np.ascontiguousarray(values.clip(spec.low, spec.high), np.float32)
