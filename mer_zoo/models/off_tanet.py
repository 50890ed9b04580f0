"""Off-TANet: a light residual network on optical flow whose last block attends to channels, places and pairs of rows.

Zhang, Liu and Zhou, "Off-TANet: A Lightweight Neural Micro-expression Recognizer with Optical Flow Features and
Integrated Attention Mechanism", PRICAI 2021, pages 266-279. Published: 0.7242 UF1, 0.7315 UAR over three classes of
CASME, CASME II and CAS(ME)2 together, as means over persons of each person's own scores; the code takes for all persons
the epoch that is best on the test persons.

Layers and the 59,403 weights as in the authors' code, github.com/ECNU-Cross-Innovation-Lab/PRICAI2021-Off-TANet
(GPL-3, read for facts, not copied); of its variants the one of the paper, ``ta``. Their four heads of seven channels
treat every channel by itself, so that here one of 28 does the same; likewise queries, keys and values come from one
convolution. Ours: that form, the same function; strain by its definition, where their Sobel filters give eight times
the slopes and their formula has u_y in the place of v_y; flow estimated before the frames are made smaller, theirs
after, and cut at 8 pixels.
"""

import math
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import StemAndBlocks, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.models._dropout import Dropout
from mer_zoo.types import InputSpec

WIDTHS = (8, 18, 28)  # maps of the stem and of the first two blocks
LAST, HIDDEN = 8, 64


class Stem(nn.Module):
    """Half the size: (B, C, H, W) -> (B, 8, H / 2, W / 2), normalised after the ReLU."""

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, WIDTHS[0], kernel_size=7, stride=2, padding=3)
        self.norm = nn.BatchNorm2d(WIDTHS[0])

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(self.conv(x).relu()))


class Block(nn.Module):
    """Two convolutions past a shortcut, then half the size: (B, C, H, W) -> (B, out, H / 2, W / 2).

    ``middle`` stands between the convolutions and maps (B, inner, H, W) to the same shape.
    """

    def __init__(self, channels: int, inner: int, out: int, middle: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, kernel_size=3, padding=1)
        self.norm1 = nn.BatchNorm2d(inner)
        self.middle = nn.Identity() if middle is None else middle
        self.conv2 = nn.Conv2d(inner, out, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Conv2d(channels, out, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        new = self.middle(self.norm1(self.conv1(x)).relu())
        return F.max_pool2d(self.shortcut(x) + self.norm2(self.conv2(new)).relu(), kernel_size=2)


class ChannelAttention(nn.Module):
    """Channels weighed by their mean and their maximum, through one hidden unit: (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, 1, bias=False)
        self.excite = nn.Linear(1, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found = torch.stack([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))])
        weight: Tensor = self.excite(self.squeeze(found).relu()).sum(dim=0).sigmoid()
        return x * weight[:, :, None, None]


class SpatialAttention(nn.Module):
    """Places weighed by mean and maximum over the channels: (B, C, H, W) -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        weight: Tensor = self.conv(found).sigmoid()
        return x * weight


class RowAttention(nn.Module):
    """Values weighed by how rows of queries and keys agree, every channel by itself: (B, C, S, S) -> the same.

    An element of the S x S table of row against row weighs the value at the same place; a table sums to one. Positions
    are constants that are added to the keys.
    """

    position: Tensor

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(channels, 3 * channels, kernel_size=1)
        code = [(math.cos if i % 2 else math.sin)(10000.0 ** -(i // 2 / side)) for i in range(side)]
        self.register_buffer("position", torch.tensor([[a + b for b in code] for a in code]))

    def forward(self, x: Tensor) -> Tensor:
        queries_keys_values: Tensor = self.qkv(x)
        query, key, value = queries_keys_values.chunk(3, dim=1)
        agreement = query @ (key + self.position).mT
        return agreement.flatten(2).softmax(dim=2).view_as(value) * value


class OffTANet(StemAndBlocks):
    """Flow images (B, C, size, size), u, v in pixels and strain -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the vector of 64.
        in_chans: Number of flow channels.
        size: Height and width; positions and the first fully connected layer are made for it.
        drop_rate: Share of values dropped after each hidden fully connected layer.
        global_pool: ``flat``: the maps as one vector, through the hidden layers; empty: as they are.
    """

    first_convs: ClassVar = ("stem.conv",)
    behind_maps: ClassVar = ("hidden",)
    layers_pattern: ClassVar = r"^blocks\.(\d+)"

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 3,
        size: int = 112,
        drop_rate: float = 0.5,
        global_pool: str = "flat",
    ) -> None:
        super().__init__()
        side = (size + 1) // 2 // 4  # where the last block attends
        if side < 2:
            raise InputError(f"size is {size}; expected 15 or more, since it is halved four times.")
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, HIDDEN
        self.size, self.drop_rate = size, drop_rate
        first, second, third = WIDTHS
        attention = nn.Sequential(ChannelAttention(third), SpatialAttention(), RowAttention(third, side))
        self.stem = Stem(in_chans)
        self.blocks = nn.ModuleList(
            [Block(first, second, second), Block(second, third, third), Block(third, third, LAST, attention)]
        )
        self.feature_info = [{"num_chs": first, "reduction": 2, "module": "stem"}]
        for i, maps in enumerate((second, third, LAST)):
            self.feature_info.append({"num_chs": maps, "reduction": 4 * 2**i, "module": f"blocks.{i}"})
        self.hidden = nn.Sequential(
            nn.Linear(LAST * (side // 2) ** 2, HIDDEN),
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


@register(InputSpec("flow", ("u", "v", "strain"), size=112, low=-8.0, high=8.0, flow_method="tvl1"))
def off_tanet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Off-TANet of Zhang et al., PRICAI 2021: channel, spatial and row attention; 59,403 weights; flow in pixels."""
    return build("off_tanet", OffTANet, pretrained, **kwargs)
