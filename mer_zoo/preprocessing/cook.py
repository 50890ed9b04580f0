"""What a corpus holds -> what a network eats, by its InputSpec.

Published flow images are only put in order and range. Raw frames can become every kind, by
``mer_zoo.preprocessing.forms``, and only those are read that the input is made of. What a face is cut out by, and which
frame is the apex where none is coded, a ``Preparation`` says. Without one, frames that are not square are squeezed
where the owners cut the face out, as papers do; of whole pictures the middle square is taken, which is no alignment.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mer_zoo.datasets._base import Corpus
from mer_zoo.errors import InputError
from mer_zoo.preprocessing.apex import METHODS as APEX_METHODS
from mer_zoo.preprocessing.apex import find_apex
from mer_zoo.preprocessing.faces import Aligner
from mer_zoo.preprocessing.forms import (
    Array,
    Frames,
    check_clip,
    cook_clip,
    cook_flow_image,
    cook_needed,
    needed,
    square,
    times_of,
)
from mer_zoo.preprocessing.magnify import Band, magnify
from mer_zoo.preprocessing.temporal import resample
from mer_zoo.specs import FLOW_CHANNELS, FRAME_CHANNELS
from mer_zoo.types import InputSpec, Sample

VERSION = 3  # raise when raw frames are cooked otherwise, so that caches are made anew


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
    with named(sample):
        if corpus.native_spec is not None:
            return cook_flow_image(corpus.flow_image(sample), spec)
        return _cook_frames_of(corpus, sample, spec, preparation)


@contextlib.contextmanager
def named(sample: Sample) -> Iterator[None]:
    """What is refused in here is said with the clip's key."""
    try:
        yield
    except InputError as error:
        said = str(error)
        raise type(error)(said if said.startswith(sample.key) else f"{sample.key}: {said}") from None


def _cook_frames_of(corpus: Corpus, sample: Sample, spec: InputSpec, preparation: Preparation) -> Array:
    apex = None
    if spec.needs_apex:
        sample = with_apex(corpus, sample, preparation)
        apex = corpus.apex_index(sample)
    times = corpus.frame_numbers(sample) if _gapped(sample) else None
    if spec.magnification != 1 or not (corpus.by_frame or spec.needs_apex):
        clip = _cut_out(corpus, sample, corpus.take(sample, grey=_is_grey(spec)), preparation)
        return cook_clip(magnified(clip, spec, sample.fps, times), spec, apex, times)
    chosen = needed(spec, len(corpus.frame_numbers(sample)), apex, times)
    before = [0] if preparation.aligner and chosen[0] else []  # faces are looked for on the onset
    few = _cut_out(corpus, sample, corpus.take(sample, [*before, *chosen], grey=_is_grey(spec)), preparation)
    return cook_needed(few[len(before) :], spec, times_of(chosen, times))


def check_spec(corpus: Corpus, spec: InputSpec) -> None:
    """Refuse a spec that no clip of the corpus can be cooked for.

    Raises:
        InputError: If it asks for frames or magnified motion where there is only flow, or does not name its channels.
    """
    if corpus.native_spec is not None and (spec.kind != "flow" or spec.frames > 1):
        raise InputError(f"This network eats a {spec.kind} of {spec.frames} frames; {corpus.name} holds flow images.")
    if corpus.native_spec is not None and spec.magnification != 1:
        raise InputError(f"This network eats magnified motion; {corpus.name} holds flow of motion as it was.")
    if spec.unnamed:
        known = FLOW_CHANNELS if spec.is_flow else FRAME_CHANNELS
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
    times = range(len(clip)) if times is None else times
    even = resample(clip, int(times[-1] - times[0]) + 1, times)  # the filter wants frames that are evenly spaced
    large = magnify(even, fps, spec.magnification, Band(*spec.band, spec.filter), spec.wavelength)
    return np.asarray(large.clip(0, 255)[[int(time - times[0]) for time in times]], np.float32)


def _gapped(sample: Sample) -> bool:
    return "frames_with_gaps" in sample.flags and "frames_twice" not in sample.flags


def _is_grey(spec: InputSpec) -> bool:
    return spec.is_flow or spec.channels == ("grey",)


def _cut_out(corpus: Corpus, sample: Sample, clip: Frames, preparation: Preparation) -> Frames:
    """The face: by the aligner, or as the owners cut it out, or the middle square."""
    check_clip(clip, least=1)
    if preparation.aligner is not None:
        return preparation.aligner.align(clip, sample.key)
    if corpus.cropped:
        return clip
    height, width = clip.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return clip[:, top : top + side, left : left + side]
