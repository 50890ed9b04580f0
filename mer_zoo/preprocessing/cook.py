"""What a corpus holds -> what a network eats, by its InputSpec."""

import numpy as np
import numpy.typing as npt

from mer_zoo.datasets._base import Corpus
from mer_zoo.errors import InputError
from mer_zoo.types import FLOW_CHANNELS, InputSpec, Sample


def cook(corpus: Corpus, sample: Sample, spec: InputSpec) -> npt.NDArray[np.float32]:
    """One sample as the network wants it: an array of ``spec.shape``.

    Raises:
        InputError: If the corpus cannot give what the spec asks for.
    """
    if spec.kind != "flow":
        raise InputError(f"This network eats a {spec.kind} of {spec.frames} frames; {corpus.name} holds flow images.")
    if spec.unnamed:
        raise InputError(
            f"This network was made for {len(spec.channels)} unnamed channels; set model.input_spec with channel names "
            f"among {', '.join(FLOW_CHANNELS)}."
        )
    return cook_flow_image(corpus.flow_image(sample), spec)


def cook_flow_image(image: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.float32]:
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
