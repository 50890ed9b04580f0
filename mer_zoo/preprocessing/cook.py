"""What a corpus holds -> what a network eats, by its InputSpec.

Published flow images are only put in order and range. Raw frames can become every kind: flow at the clip's own size
and then made smaller, clips, and differences. That flow is estimated before it is made smaller, and what size the
clip has then, are ours: papers seldom say. What a face is cut out by, and which frame is the apex where none is coded,
a ``Preparation`` says. Without one, frames that are not square are squeezed where the owners cut the face out, as
papers do; of whole pictures the middle square is taken, which is no alignment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mer_zoo.datasets._base import Corpus
from mer_zoo.errors import InputError
from mer_zoo.preprocessing.apex import METHODS as APEX_METHODS
from mer_zoo.preprocessing.apex import find_apex
from mer_zoo.preprocessing.faces import Aligner
from mer_zoo.preprocessing.flow import grey, optical_flow, strain
from mer_zoo.preprocessing.magnify import Band, magnify
from mer_zoo.preprocessing.temporal import interpolate, resample
from mer_zoo.types import FLOW_CHANNELS, FRAME_CHANNELS, InputSpec, Sample

VERSION = 2  # raise when raw frames are cooked otherwise, so that caches are made anew

Array = npt.NDArray[np.float32]
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Preparation:
    """What is done to raw frames before a network's own spec.

    Attributes:
        aligner: Cuts the face out of whole pictures; None takes frames as they are, and so does ``Aligner("none")``.
        apex: How to find the frame that flow goes to where the sheet names none: ``middle``, ``difference`` or
            ``lbp``; see ``mer_zoo.preprocessing.apex``.

    Raises:
        InputError: If there is no such way.
    """

    aligner: Aligner | None = None
    apex: str = "middle"

    def __post_init__(self) -> None:
        if self.apex not in APEX_METHODS:
            raise InputError(f"apex is {self.apex!r}; expected one of {', '.join(APEX_METHODS)}.")
        if self.aligner is not None and self.aligner.backend == "none":
            object.__setattr__(self, "aligner", None)

    @property
    def says(self) -> str:
        """All of it that decides on pixels, for keys of caches."""
        return f"{self.aligner.says if self.aligner else 'frames as they are'}; apex {self.apex}"


AS_THEY_ARE = Preparation()


def cook(corpus: Corpus, sample: Sample, spec: InputSpec, preparation: Preparation = AS_THEY_ARE) -> Array:
    """One sample as the network wants it: an array of ``spec.shape``.

    Raises:
        InputError: If the corpus cannot give what the spec asks for, or the clip is not what can be cooked.
        FaceError: If the aligner finds no face.
        CorpusError: If frames are missing or cannot be read.
    """
    check_spec(corpus, spec)
    if corpus.native_spec is not None:
        return cook_flow_image(corpus.flow_image(sample), spec)
    try:
        if spec.kind == "flow":
            sample = with_apex(corpus, sample, preparation)
            onset, apex = _onset_and_apex(corpus, sample, spec, preparation)
            return cook_flow(onset, apex, spec)
        clip = _faces(corpus, sample, spec, preparation)
        times = corpus.frame_numbers(sample) if _gapped(sample) else None
        return cook_frames(magnified(clip, spec, sample.fps, times), spec, times)
    except InputError as error:
        said = str(error)
        raise type(error)(said if said.startswith(sample.key) else f"{sample.key}: {said}") from None


def check_spec(corpus: Corpus, spec: InputSpec) -> None:
    """Refuse a spec that no clip of the corpus can be cooked for.

    Raises:
        InputError: If it asks for frames or magnified motion where there is only flow, or does not name its channels.
    """
    if corpus.native_spec is not None and spec.kind != "flow":
        raise InputError(f"This network eats a {spec.kind} of {spec.frames} frames; {corpus.name} holds flow images.")
    if corpus.native_spec is not None and spec.magnification != 1:
        raise InputError(f"This network eats magnified motion; {corpus.name} holds flow of motion as it was.")
    if spec.unnamed:
        known = FLOW_CHANNELS if spec.kind == "flow" else FRAME_CHANNELS
        raise InputError(
            f"This network was made for {len(spec.channels)} unnamed channels; set model.input_spec with channel names "
            f"among {', '.join(known)}."
        )


def with_apex(corpus: Corpus, sample: Sample, preparation: Preparation = AS_THEY_ARE) -> Sample:
    """The sample as it is, or where no apex can be used with one that was found, and the flag ``apex_by_<method>``.

    Raises:
        InputError: If the clip has fewer than two frames.
        CorpusError: If frames have no numbers, are missing or cannot be read.
    """
    if corpus.coded_apex(sample) is not None:
        return sample
    numbers, method = corpus.frame_numbers(sample), preparation.apex
    if len(numbers) < 2:
        raise InputError(f"the clip has {len(numbers)} frames; expected 2 or more. Leave it out.")
    if method == "middle":
        position = len(numbers) // 2
    else:
        position = find_apex(square(_cut_out(corpus, sample, corpus.take(sample, grey=True), preparation)), method)
    return replace(sample, apex=numbers[position], flags=(*sample.flags, f"apex_by_{method}"))


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


def cook_frames(clip: npt.NDArray[np.generic], spec: InputSpec, times: Sequence[float] | None = None) -> Array:
    """Frames (T, H, W) or (T, H, W, 3), 0..255 -> (C, frames, size, size), a clip or differences.

    Frames that are not square are squeezed. They are made smaller first and interpolated in time afterwards, which is
    the same and costs less. ``times`` (T,) says when frames were taken, if some are missing between them.

    Raises:
        InputError: If there are too few frames or they are not such an array.
    """
    _check_clip(clip, 1 if spec.kind == "clip" else 2, (np.uint8, np.float32))
    small = np.stack([_resize(frame, spec.size) for frame in clip])
    values = np.stack([_channel(small, name) for name in spec.channels], axis=1)
    even = interpolate(values, spec.frames, spec.interpolation, times)
    values = np.ascontiguousarray(even.swapaxes(0, 1), np.float32)
    if spec.kind == "difference":
        values = values - values[:, :1]
    if spec.scaling == "channel_min_max":
        return _stretch(values, spec)
    if spec.kind == "difference":
        return _limit(values * (spec.gain / 255.0), spec)
    return np.asarray(spec.low + values.clip(0, 255) * ((spec.high - spec.low) / 255.0), np.float32)


def magnified(
    clip: Frames, spec: InputSpec, fps: float | None, times: Sequence[float] | None = None
) -> npt.NDArray[np.generic]:
    """A clip (T, H, W[, 3]) whose motion is ``spec.magnification`` times larger, 0..255; as it is where that is 1.

    Raises:
        InputError: If the frame rate is not known or the clip too short for ``spec.band``.
    """
    if spec.magnification == 1:
        return clip
    if fps is None:
        raise InputError("magnifying needs the frame rate, which is not known; pass fps, or a spec that magnifies not.")
    if times is not None:  # the filter wants frames that are evenly spaced
        even = resample(clip, int(times[-1] - times[0]) + 1, times)
        there = [int(time - times[0]) for time in times]
        return np.asarray(magnify(even, fps, spec.magnification, Band(*spec.band)).clip(0, 255)[there], np.float32)
    return np.asarray(magnify(clip, fps, spec.magnification, Band(*spec.band)).clip(0, 255), np.float32)


def _gapped(sample: Sample) -> bool:
    return "frames_with_gaps" in sample.flags and "frames_twice" not in sample.flags


def _is_grey(spec: InputSpec) -> bool:
    return spec.kind == "flow" or spec.channels == ("grey",)


def _faces(corpus: Corpus, sample: Sample, spec: InputSpec, preparation: Preparation) -> Frames:
    """All frames of a clip, only the face where that can be."""
    return _cut_out(corpus, sample, corpus.take(sample, grey=_is_grey(spec)), preparation)


def _onset_and_apex(corpus: Corpus, sample: Sample, spec: InputSpec, preparation: Preparation) -> tuple[Frames, Frames]:
    """Two square frames; no other is read unless motion is to be magnified."""
    apex = corpus.apex_index(sample)
    if spec.magnification == 1:
        pair = _cut_out(corpus, sample, corpus.take(sample, (0, apex), grey=True), preparation)
    else:
        clip, times = _faces(corpus, sample, spec, preparation), None
        if _gapped(sample):
            times = corpus.frame_numbers(sample)
        large = magnified(clip, spec, sample.fps, times)
        pair = np.rint(large[[0, apex]]).astype(np.uint8)
    onset, apex_frame = square(pair)
    return onset, apex_frame


def _cut_out(corpus: Corpus, sample: Sample, clip: Frames, preparation: Preparation) -> Frames:
    """The face: by the aligner, or as the owners cut it out, or the middle square."""
    _check_clip(clip, least=1)
    if preparation.aligner is not None:
        return preparation.aligner.align(clip, sample.key)
    if corpus.cropped:
        return clip
    height, width = clip.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return clip[:, top : top + side, left : left + side]


def _check_clip(clip: npt.NDArray[np.generic], least: int, kinds: Sequence[type[np.generic]] = (np.uint8,)) -> None:
    """Refuse what is not ``least`` or more frames of 0..255, (T, H, W) or (T, H, W, 3).

    Raises:
        InputError: If the type, the shape or the number of frames is another.
    """
    if clip.dtype not in kinds or clip.ndim not in (3, 4) or clip.shape[3:] not in ((), (3,)) or 0 in clip.shape[1:]:
        raise InputError(f"the clip is {clip.dtype} {clip.shape}; expected uint8 (T, H, W) or (T, H, W, 3), 0..255.")
    if len(clip) < least:
        raise InputError(f"the clip has {len(clip)} frames; expected {least} or more. Leave it out.")


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


def square(clip: Frames) -> Frames:
    """Square frames: those that are not are squeezed to their shorter side."""
    import cv2

    height, width = clip.shape[1:3]
    side = min(height, width)
    if height == width or not side:
        return clip
    return np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in clip])


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
