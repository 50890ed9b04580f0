"""Dual-Inception: horizontal and vertical optical flow, each through two small Inception blocks.

Zhou, Mao and Xue, "Dual-Inception Network for Cross-Database Micro-Expression Recognition", FG 2019; layers,
initialisation and recipe as in the authors' Keras code, github.com/xly135846/MEGC2019 (MIT), dual_inception.py.
Published: 0.7322 UF1, 0.7278 UAR on MEGC 2019 (the paper's abstract); their code takes the epoch of least loss on the
other persons of the test person's data set, of which none is trained on, and repeats all of it 100 times: which run
is reported is not said.

6,449,867 weights, as counted for one channel a stream (github.com/ECNU-Cross-Innovation-Lab/PRICAI2021-Off-TANet,
models/dual_inception.py). The authors' streams take a picture of one flow component in three channels, so that theirs
have 96 more; where the three are equal, the function is the same. Ours: what shares its input runs as one convolution,
and the streams as groups of it, the same function; with other than two channels there is one stream a channel; dropout,
off by default; flow goes to the apex, theirs to the middle frame; how they make pictures of flow is not in their code,
here each component is stretched to 0..1.
"""

import math
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import StemAndBlocks, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.types import InputSpec

WIDTHS = (6, 16)  # filters of every convolution in the two blocks; a block gives four times as many maps
HIDDEN = 1024


class Inception(nn.Module):
    """Four branches side by side, in streams that do not mix: (B, S * C, H, W) -> (B, S * 4 * width, H / 2, W / 2).

    Branches: a pixel; a pixel, then 3 x 3; a pixel, then 5 x 5; the maximum of 3 x 3, then a pixel. ReLU after each
    convolution. The maps are halved by max-pooling.
    """

    def __init__(self, streams: int, channels: int, width: int) -> None:
        super().__init__()
        self.streams, self.width = streams, width
        maps = streams * width
        self.pixels = nn.Conv2d(streams * channels, 3 * maps, kernel_size=1, groups=streams)  # of three branches
        self.conv3 = nn.Conv2d(maps, maps, kernel_size=3, padding=1, groups=streams)
        self.conv5 = nn.Conv2d(maps, maps, kernel_size=5, padding=2, groups=streams)
        self.pooled = nn.Conv2d(streams * channels, maps, kernel_size=1, groups=streams)
        for conv in (self.pixels, self.conv3, self.conv5, self.pooled):
            _glorot(conv, width)

    def forward(self, x: Tensor) -> Tensor:
        alone, before3, before5 = (
            part.flatten(1, 2) for part in self._by_stream(self.pixels(x).relu()).chunk(3, dim=2)
        )
        branches = alone, self.conv3(before3), self.conv5(before5), self.pooled(F.max_pool2d(x, 3, stride=1, padding=1))
        x = torch.cat([self._by_stream(branch) for branch in branches], dim=2).flatten(1, 2)
        # The maximum of rectified values is the rectified maximum, of a quarter as many.
        return F.max_pool2d(x, kernel_size=2).relu()

    def _by_stream(self, x: Tensor) -> Tensor:
        apart: Tensor = x.unflatten(1, (self.streams, -1))
        return apart


def _glorot(conv: nn.Conv2d, filters: int) -> None:
    """Keras's default for each of the convolutions that run as this one: Glorot's uniform weights, biases of zero."""
    area = math.prod(conv.kernel_size)
    bound = math.sqrt(6 / (conv.weight[0].numel() + filters * area))
    nn.init.uniform_(conv.weight, -bound, bound)
    nn.init.zeros_(cast(Tensor, conv.bias))


class DualInception(StemAndBlocks):
    """Flow images (B, C, size, size), values 0..1 -> logits (B, num_classes); one stream a channel.

    Args:
        num_classes: Length of the logits; 0 gives the vector of 1,024.
        in_chans: Number of flow channels, and so of streams.
        size: Height and width; the hidden fully connected layer is made for it.
        drop_rate: Share of values dropped after the hidden layer; none in the paper's code.
        global_pool: ``flat``: the maps as one vector, through the hidden layer; empty: as they are.
    """

    first_convs: ClassVar = ()  # a stream sees its own channel; weights do not carry over to another number
    behind_maps: ClassVar = ("hidden",)
    layers_pattern: ClassVar = r"^blocks\.(\d+)"

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 2,
        size: int = 28,
        drop_rate: float = 0.0,
        global_pool: str = "flat",
    ) -> None:
        super().__init__()
        if size < 4:
            raise InputError(f"size is {size}; expected 4 or more, since two poolings halve it.")
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, HIDDEN
        self.size, self.drop_rate = size, drop_rate
        maps = [4 * width for width in WIDTHS]
        self.stem = Inception(in_chans, 1, WIDTHS[0])
        self.blocks = nn.ModuleList([Inception(in_chans, maps[0], WIDTHS[1])])
        self.feature_info = [
            {"num_chs": in_chans * maps[0], "reduction": 2, "module": "stem"},
            {"num_chs": in_chans * maps[1], "reduction": 4, "module": "blocks.0"},
        ]
        wide = nn.Linear(in_chans * maps[1] * (size // 4) ** 2, HIDDEN)
        self.hidden = nn.Sequential(wide, nn.ReLU(), nn.Dropout(drop_rate))
        self.fc = classifier(self.num_features, num_classes)
        for layer in (wide, self.fc):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.to(memory_format=torch.channels_last)  # maps follow the layout of the weights, which pays on a CPU

    def pool(self, x: Tensor) -> Tensor:
        return self._run(self.hidden, x.flatten(1)) if self.global_pool else x


@register(InputSpec("flow", ("u", "v"), size=28, scaling="channel_min_max", flow_method="tvl1"))
def dual_inception(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Dual-Inception of Zhou et al., FG 2019: an Inception stream each for u and v; 6,449,867 weights."""
    return build("dual_inception", DualInception, pretrained, **kwargs)
