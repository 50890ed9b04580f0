"""MicroExpSTCNN: one 3-D convolution over the whole face, and two fully connected layers.

Reddy, Karri, Dubey and Mukherjee, "Spontaneous Facial Micro-Expression Recognition using 3D Spatiotemporal
Convolutional Neural Networks", IJCNN 2019, arXiv 1904.01390. Layers, sizes and initial weights are those of the
authors' Keras code (bogireddytejareddy/micro-expression-recognition, MIT, SMIC/MicroExpSTCNN.py), which spans a clip
as (H, W, T); here it is (T, H, W), so their kernel of 3 x 3 x 15 is 15 x 3 x 3. Weights: counted from those layers,
1,643,267 at 18 frames, 44,241,667 at the 96 frames that they take of CAS(ME)^2.

Ours: ReLU after the pooling, of a 27th as many values, which is the same function; the hidden layer gives maps of
1 x 1 x 1, so that its values can be had as features; frames spaced evenly from onset to offset, where the code takes
the first 18 files in the order in which the system lists them; grey levels from -1 to 1, where it subtracts the mean
of all clips and divides by the maximum, test clips included.

Published: 0.878 accuracy on CAS(ME)^2, 0.6875 on SMIC; a fifth of the clips was drawn for the test, persons shared, and
the epoch is the best on these very clips.
"""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import StemAndBlocks, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.models._dropout import Dropout
from mer_zoo.types import InputSpec

WIDTH = 32  # maps of the convolution
KERNEL = (15, 3, 3)
POOL = 3  # in time and space


def pooled(frames: int, size: int) -> tuple[int, int]:
    """Frames and side of the maps after the convolution and the pooling.

    Raises:
        InputError: If nothing is left of them.
    """
    times, side = ((length - kernel + 1) // POOL for length, kernel in ((frames, KERNEL[0]), (size, KERNEL[1])))
    if times < 1 or side < 1:
        least = KERNEL[0] + POOL - 1, KERNEL[1] + POOL - 1
        raise InputError(
            f"num_frames is {frames} and size {size}; a kernel of {KERNEL[0]} frames and a pooling of {POOL} need "
            f"{least[0]} frames of {least[1]} pixels or more."
        )
    return times, side


class SpaceTime(nn.Module):
    """Convolution - max-pool - ReLU - dropout: (B, C, T, H, W) -> (B, 32, (T - 14) / 3, (H - 2) / 3, (W - 2) / 3)."""

    rows: tuple[float, float] = (0.0, 1.0)  # of the face that its maps show: upper and lower edge, as fractions

    def __init__(self, in_chans: int, drop_rate: float) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_chans, WIDTH, KERNEL)
        self.drop = Dropout(drop_rate)
        nn.init.xavier_uniform_(self.conv.weight)  # Keras's default
        nn.init.zeros_(self.conv.get_parameter("bias"))

    def forward(self, x: Tensor) -> Tensor:
        # The maximum of rectified values is the rectified maximum, of a 27th as many.
        out: Tensor = self.drop(F.max_pool3d(self.conv(x), POOL).relu())
        return out


class Hidden(nn.Module):
    """Linear - ReLU - dropout over all values of a clip: (B, D, T, H, W) -> (B, units, 1, 1, 1)."""

    def __init__(self, inputs: int, units: int, drop_rate: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units)
        self.drop = Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.linear(x.flatten(1)).relu())
        return out[:, :, None, None, None]


class MicroExpSTCNN(StemAndBlocks):
    """Clips (B, C, T, H, W), values from -1 to 1 -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the vector of 128.
        in_chans: Number of channels.
        num_frames: T; 17 or more.
        size: Height and width; the hidden layer is fitted to them.
        drop_rate: Share of values dropped after the pooling and after the hidden layer.
        global_pool: ``flat``: the hidden layer's values as a vector; empty: as maps of 1 x 1 x 1.
    """

    first_convs: ClassVar = ("stem.conv",)
    layers_pattern: ClassVar = StemAndBlocks.blocks_pattern

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 1,
        num_frames: int = 18,
        size: int = 64,
        drop_rate: float = 0.5,
        global_pool: str = "flat",
    ) -> None:
        super().__init__()
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, 128
        self.num_frames, self.size, self.drop_rate = num_frames, size, drop_rate
        times, side = pooled(num_frames, size)
        self.stem = SpaceTime(in_chans, drop_rate)
        self.blocks = nn.ModuleList([Hidden(WIDTH * times * side**2, self.num_features, drop_rate)])
        self.feature_info = [
            {"num_chs": WIDTH, "reduction": size / side, "module": "stem"},
            {"num_chs": self.num_features, "reduction": size, "module": "blocks.0"},
        ]
        self.fc = classifier(self.num_features, num_classes)
        self.apply(_initialise)

    def pool(self, x: Tensor) -> Tensor:
        return x.flatten(1) if self.global_pool else x


def _initialise(module: nn.Module) -> None:
    """Normal weights of Keras's ``normal`` and no bias in linear layers, as the published code."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.05)
        nn.init.zeros_(module.bias)


@register(InputSpec("clip", ("grey",), size=64, frames=18, low=-1.0))
def micro_exp_stcnn(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """MicroExpSTCNN of Reddy et al., IJCNN 2019: one 3-D convolution over 18 frames; 1,643,267 weights."""
    return build("micro_exp_stcnn", MicroExpSTCNN, pretrained, **kwargs)
