"""OFF-ApexNet: horizontal and vertical optical flow in two streams that meet in fully connected layers.

Gan, Liong, Yau, Huang and Tan, "OFF-ApexNet on micro-expression recognition system", Signal Processing: Image
Communication 74, 2019, doi 10.1016/j.image.2019.02.005 (arXiv 1805.08699, there by Liong et al.). Published: 0.7196
UF1, 0.7096 UAR on MEGC 2019 (as listed in HTNet's table 2; how the epoch was chosen is not said).

The authors publish no code. Layers, dropout and the count of 2,664,475 weights are facts of the re-implementation of
two streams in github.com/ECNU-Cross-Innovation-Lab/PRICAI2021-Off-TANet (models/off_apexnet.py, GPL-3, not copied).
It has no activation after its convolutions; the ReLU there is of the one in MEB (github.com/tvaranka/meb, Apache-2.0),
which has one stream, kernels of 3 and one hidden layer. Ours: the streams run as one grouped convolution, the same
function; with other than two channels there is one stream a channel; the range of the flow, each component stretched
to 0..1, is the form in which STSTNet's authors, in part the same, publish theirs.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import StemAndBlocks, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.models._dropout import Dropout
from mer_zoo.types import InputSpec

MAPS = (6, 16)  # of each stream, after its two convolutions
HIDDEN = 1024


class Streams(nn.Module):
    """Convolution - ReLU - max-pool in streams apart: (B, S * before, H, W) -> (B, S * after, H / 2, W / 2)."""

    def __init__(self, streams: int, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(streams * before, streams * after, kernel_size=5, padding=2, groups=streams)

    def forward(self, x: Tensor) -> Tensor:
        # The maximum of rectified values is the rectified maximum, of a quarter as many.
        return F.max_pool2d(self.conv(x), kernel_size=2).relu()


class OffApexNet(StemAndBlocks):
    """Flow images (B, C, size, size), values 0..1 -> logits (B, num_classes); one stream a channel.

    Args:
        num_classes: Length of the logits; 0 gives the vector of 1,024.
        in_chans: Number of flow channels, and so of streams.
        size: Height and width; the first fully connected layer is made for it.
        drop_rate: Share of values dropped after each hidden fully connected layer.
        global_pool: ``flat``: the maps as one vector, through the hidden layers; empty: as they are.
    """

    first_convs: ClassVar = ()  # a stream sees its own channel; weights do not carry over to another number
    behind_maps: ClassVar = ("hidden",)
    layers_pattern: ClassVar = r"^blocks\.(\d+)"

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 2,
        size: int = 28,
        drop_rate: float = 0.5,
        global_pool: str = "flat",
    ) -> None:
        super().__init__()
        if size < 4:
            raise InputError(f"size is {size}; expected 4 or more, since two poolings halve it.")
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, HIDDEN
        self.size, self.drop_rate = size, drop_rate
        self.stem = Streams(in_chans, 1, MAPS[0])
        self.blocks = nn.ModuleList([Streams(in_chans, *MAPS)])
        self.feature_info = [
            {"num_chs": in_chans * MAPS[0], "reduction": 2, "module": "stem"},
            {"num_chs": in_chans * MAPS[1], "reduction": 4, "module": "blocks.0"},
        ]
        self.hidden = nn.Sequential(
            nn.Linear(in_chans * MAPS[1] * (size // 4) ** 2, HIDDEN),
            nn.ReLU(),
            Dropout(drop_rate),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            Dropout(drop_rate),
        )
        self.fc = classifier(self.num_features, num_classes)
        self.to(memory_format=torch.channels_last)  # maps follow the layout of the weights, which pays on a CPU

    def pool(self, x: Tensor) -> Tensor:
        return self._run(self.hidden, x.flatten(1)) if self.global_pool else x


@register(InputSpec("flow", ("u", "v"), size=28, scaling="channel_min_max", flow_method="tvl1"))
def off_apexnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """OFF-ApexNet of Gan et al., SPIC 2019: two streams, u and v; 2,664,475 weights."""
    return build("off_apexnet", OffApexNet, pretrained, **kwargs)
