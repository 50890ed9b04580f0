"""What a corpus holds -> what a network eats, by its InputSpec.

Published flow images are only put in order and range. Raw frames can become every kind: flow at the clip's own size
and then made smaller, clips, and differences. That flow is estimated before it is made smaller, and what size the
clip has then, are ours: papers seldom say. Frames that are not square are squeezed where the owners cut the face out,
as papers do; of whole pictures the middle square is taken, which is no alignment.
"""

import numpy as np
import numpy.typing as npt

from mer_zoo.datasets._base import Corpus
from mer_zoo.errors import InputError
from mer_zoo.preprocessing.flow import grey, optical_flow, strain
from mer_zoo.preprocessing.temporal import resample
from mer_zoo.types import FLOW_CHANNELS, FRAME_CHANNELS, InputSpec, Sample

VERSION = 1  # raise when raw frames are cooked otherwise, so that caches are made anew

Array = npt.NDArray[np.float32]
Frames = npt.NDArray[np.uint8]


def cook(corpus: Corpus, sample: Sample, spec: InputSpec) -> Array:
    """One sample as the network wants it: an array of ``spec.shape``.

    Raises:
        InputError: If the corpus cannot give what the spec asks for, or the clip is not what can be cooked.
    """
    raw = corpus.native_spec is None
    if not raw and spec.kind != "flow":
        raise InputError(f"This network eats a {spec.kind} of {spec.frames} frames; {corpus.name} holds flow images.")
    if spec.unnamed:
        known = FLOW_CHANNELS if spec.kind == "flow" else FRAME_CHANNELS
        raise InputError(
            f"This network was made for {len(spec.channels)} unnamed channels; set model.input_spec with channel names "
            f"among {', '.join(known)}."
        )
    if not raw:
        return cook_flow_image(corpus.flow_image(sample), spec)
    clip = corpus.clip(sample)
    try:
        _check_clip(clip, least=1 if spec.kind == "clip" else 2)
        clip = _square(clip, corpus.cropped)
        if spec.kind == "flow":
            return cook_flow(clip[0], clip[_apex(corpus, sample, len(clip))], spec)
        return cook_frames(clip, spec)
    except InputError as error:
        raise InputError(f"{sample.key}: {error}") from None


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


def cook_flow(onset: Frames, apex: Frames, spec: InputSpec) -> Array:
    """Two square frames (S, S) or (S, S, 3), 0..255 -> (C, size, size): u, v, strain as the spec wants them.

    Flow and strain are taken at the frames' own size and then averaged over areas. u and v are in pixels of the new
    size; strain has no unit and so does not change with size.

    Raises:
        InputError: If there is no flow between these frames, as ``optical_flow`` says.
    """
    flow = optical_flow(onset, apex, str(spec.flow_method))
    pixels = spec.size / len(flow)
    fields = {"u": flow[..., 0] * pixels, "v": flow[..., 1] * pixels, "strain": strain(flow)}
    values = np.stack([_resize(fields[name], spec.size) for name in spec.channels])
    return _stretch(values, spec) if spec.scaling == "channel_min_max" else _limit(values, spec)


def cook_frames(clip: Frames, spec: InputSpec) -> Array:
    """Square frames (T, S, S) or (T, S, S, 3), 0..255 -> (C, frames, size, size), a clip or differences."""
    even = resample(clip, spec.frames)
    small = np.stack([_resize(frame, spec.size) for frame in even])
    values = np.stack([_channel(small, name) for name in spec.channels])
    if spec.kind == "difference":
        values = values - values[:, :1]
    if spec.scaling == "channel_min_max":
        return _stretch(values, spec)
    if spec.kind == "difference":
        return _limit(values * (spec.gain / 255.0), spec)
    return np.asarray(spec.low + values * ((spec.high - spec.low) / 255.0), np.float32)


def _check_clip(clip: npt.NDArray[np.generic], least: int) -> None:
    """Refuse what is not ``least`` or more frames of uint8, (T, H, W) or (T, H, W, 3).

    Raises:
        InputError: If the type, the shape or the number of frames is another.
    """
    if clip.dtype != np.uint8 or clip.ndim not in (3, 4) or clip.shape[3:] not in ((), (3,)) or 0 in clip.shape[1:]:
        raise InputError(f"the clip is {clip.dtype} {clip.shape}; expected uint8 (T, H, W) or (T, H, W, 3), 0..255.")
    if len(clip) < least:
        raise InputError(f"the clip has {len(clip)} frames; expected {least} or more. Leave it out.")


def _resize(image: Array, size: int) -> Array:
    """A square picture or field (S, S) or (S, S, 3) -> (size, size, ...), the same range.

    Smaller by the mean over each new pixel's area, larger by linear interpolation, and the same size untouched.
    """
    import cv2

    if len(image) == size:
        return image
    way = cv2.INTER_AREA if size < len(image) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=way), np.float32)


def _apex(corpus: Corpus, sample: Sample, frames: int) -> int:
    """Position of the apex; InputError if frames are missing that have numbers, so that it cannot be told."""
    numbers = corpus.frame_numbers(sample)
    if len(numbers) != frames:
        raise InputError(
            f"the clip has {frames} frames for {len(numbers)} numbers, {sample.onset}..{sample.offset}, so that the "
            "apex cannot be told. Find the missing frames or leave this clip out."
        )
    return corpus.apex_index(sample)


def _square(clip: Frames, cropped: bool) -> Frames:
    """Square frames: a face that was cut out is squeezed to the shorter side, of a picture the middle is taken."""
    import cv2

    height, width = clip.shape[1:3]
    side = min(height, width)
    if height == width or not side:
        return clip
    if cropped:
        return np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in clip])
    top, left = (height - side) // 2, (width - side) // 2
    return clip[:, top : top + side, left : left + side]


def _channel(frames: Array, name: str) -> Array:
    """One channel of grey (T, H, W) or colour (T, H, W, 3) frames: (T, H, W)."""
    if frames.ndim == 3:
        return frames
    return grey(frames) if name == "grey" else frames[..., ("red", "green", "blue").index(name)]


def _stretch(values: Array, spec: InputSpec) -> Array:
    """Each channel of (C, ...) to exactly ``low..high``; a constant one becomes ``low``."""
    axes = tuple(range(1, values.ndim))
    least, most = values.min(axes, keepdims=True), values.max(axes, keepdims=True)
    share = (values - least) / np.where(most > least, most - least, 1)
    return np.asarray(spec.low * (1 - share) + spec.high * share, np.float32)


def _limit(values: Array, spec: InputSpec) -> Array:
    return np.ascontiguousarray(values.clip(spec.low, spec.high), np.float32)
