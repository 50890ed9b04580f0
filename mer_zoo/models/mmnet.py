"""MMNet: where the face moved, by attention that is handed on, and where on the face that is, by a small transformer.

Li, Sui, Zhu and Zhao, "MMNet: Muscle Motion-guided Network for Micro-expression Recognition", IJCAI 2022, arXiv
2201.05297: continuous attention (CA) blocks on the difference of apex and onset, and a position calibration (PC) module
on the onset, added to their last maps. Layers, sizes and initial weights are those of the authors' code
(muse1998/MMNet, no licence: read for facts, not copied), of CASME2_5.py, CA_block.py and PC_module.py; CASME2_3.py,
for three classes, has ``depth=3, mlp_ratio=2, drop_path_rate=0.3`` instead, and a first convolution in two groups of
three channels, which PyTorch refuses. Weights: counted from those layers, less what the code makes and never uses (a
convolution, a time embedding, a class token, three linear layers).

Ours: ImageNet's mean and deviation are taken out inside the network, so that the input is 0..1; maps lie
channels-last; ``drop_rate`` before the last layer, 0 by default, since the code makes a dropout and never calls it. The
defaults are the layers of its file for 5 classes, with whatever number of classes; its file for 3 has ``depth=3,
mlp_ratio=2, drop_path_rate=0.3`` (9,241,719 weights). As in the code of 2022, the onset shrinks without
smoothing: each of 14 x 14 values is a mean of 2 x 2 pixels.

Published for 3 classes of SAMM, as listed in the README of Nikki-Gu/MEMix: 0.9022 accuracy, 0.8391 F1; the code takes
for each test subject the best accuracy of any epoch, and the best F1 of any, maybe another.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.models._base import StemAndBlocks, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.types import InputSpec

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, red, green and blue
WIDTHS = (128, 128, 256, 512)  # maps of the CA blocks
REDUCTION = 16  # pixels of the input to one of the last maps
HEADS = 4


def per_channel(values: tuple[float, ...], channels: int) -> Tensor:
    """Three values for three channels, else their mean for each: -> (channels, 1, 1)."""
    fitted = values if channels == len(values) else (sum(values) / len(values),) * channels
    return torch.tensor(fitted)[:, None, None]


def conv_norm(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm: (B, channels, H, W) -> (B, width, H / stride, W / stride)."""
    conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width))


class ContinuousAttention(nn.Module):
    """A residual block weighed by place: (B, C, H, W) -> (B, width, H', W') and the weights (B, 1, H', W').

    The weights of the block before, with maps twice as large, multiply this block's own.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_norm(channels, width, kernel=3, stride=stride)
        self.conv2 = conv_norm(width, width, kernel=1)
        same = stride == 1 and channels == width
        self.shortcut = nn.Sequential() if same else conv_norm(channels, width, kernel=1, stride=stride)
        self.attention = conv_norm(2, 1, kernel=1)

    def forward(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        out = (self.conv2(self.conv1(x).relu()) + self.shortcut(x)).relu()
        summary = torch.cat([out.mean(dim=1, keepdim=True), out.max(dim=1, keepdim=True).values], dim=1)
        attention = self.attention(summary).sigmoid()
        if before is not None:
            attention = attention * F.max_pool2d(before, kernel_size=3, stride=2, padding=1)
        return out * attention, attention


class TransformerLayer(nn.Module):
    """Self-attention and two linear layers, both past a shortcut: (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, mlp_ratio: float, drop_path_rate: float) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.drop_path_rate = drop_path_rate

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._drop_path(self._attend(self.norm1(x)))
        return x + self._drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return cast(Tensor, self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))

    def _drop_path(self, x: Tensor) -> Tensor:
        """Leave out all that is new of a clip, at random, and make up for it in the others."""
        if not self.training or not self.drop_path_rate:
            return x
        keep = 1 - self.drop_path_rate
        return x * (x.new_empty(len(x), 1, 1).bernoulli_(keep) / keep)


class PositionCalibration(nn.Module):
    """A face to what stands where in it: (B, C, H, W) of any size -> (B, 512, side, side)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, in_chans: int, side: int, depth: int, mlp_ratio: float, drop_path_rate: float) -> None:
        super().__init__()
        self.side, dim = side, WIDTHS[-1]
        self.register_buffer("mean", per_channel(MEAN, in_chans), persistent=False)
        self.register_buffer("deviation", per_channel(DEVIATION, in_chans), persistent=False)
        self.embed = nn.Conv2d(in_chans, dim, kernel_size=1)
        self.places = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, side**2, dim), std=0.02))
        rates = [drop_path_rate * i / max(1, depth - 1) for i in range(depth)]
        self.layers = nn.Sequential(*(TransformerLayer(dim, mlp_ratio, rate) for rate in rates))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.apply(_initialise_linear)

    def forward(self, onset: Tensor) -> Tensor:
        small = F.interpolate(onset, size=(self.side, self.side), mode="bilinear", align_corners=False)
        x = self.embed((small - self.mean) / self.deviation).flatten(2).transpose(1, 2)
        places = self.norm(self.layers(x + self.places)).transpose(1, 2)
        return cast(Tensor, places.unflatten(2, (self.side, self.side)))


class Stem(nn.Module):
    """What changed from onset to apex, at half the size: (B, C, 2, H, W) -> (B, 128, H / 2, W / 2)."""

    deviation: Tensor

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.register_buffer("deviation", per_channel(DEVIATION, in_chans), persistent=False)
        self.conv1 = conv_norm(in_chans, 180, kernel=3, stride=2)
        self.conv2 = conv_norm(180, WIDTHS[0], kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        change = (x[:, :, 1] - x[:, :, 0]) / self.deviation
        out: Tensor = self.conv2(self.conv1(change).relu())
        return out.relu()


class MMNet(StemAndBlocks):
    """Onset and apex frames (B, C, 2, H, W), values 0..1 -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the vector before them.
        in_chans: Number of channels.
        size: Height and width; places and the last layer are fitted to them.
        depth: Layers of the transformer.
        mlp_ratio: Width of its hidden layers, as a multiple of its own.
        drop_path_rate: Chance that its last layer is left out in training; less for those before.
        drop_rate: Share of the vector dropped.
        global_pool: ``flat``: the maps as one vector; empty: as they are.
    """

    first_convs: ClassVar = ("stem.conv1.0", "blocks.4.embed")
    layers_pattern: ClassVar = StemAndBlocks.blocks_pattern
    small: ClassVar = {"size": 64}

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 3,
        size: int = 224,
        depth: int = 2,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        drop_rate: float = 0.0,
        global_pool: str = "flat",
    ) -> None:
        super().__init__()
        side = -(-size // REDUCTION)
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, WIDTHS[-1] * side**2
        self.size, self.drop_rate = size, drop_rate
        self.stem = Stem(in_chans)
        self.feature_info = [{"num_chs": WIDTHS[0], "reduction": 2, "module": "stem"}]
        self.blocks = nn.ModuleList()
        before = WIDTHS[0]
        for i, width in enumerate(WIDTHS):
            self.blocks.append(ContinuousAttention(before, width, stride=1 if i == 0 else 2))
            self.feature_info.append({"num_chs": width, "reduction": 2 * 2**i, "module": f"blocks.{i}"})
            before = width
        self.apply(_initialise_conv)
        self.blocks.append(PositionCalibration(in_chans, side, depth, mlp_ratio, drop_path_rate))
        self.feature_info.append({"num_chs": before, "reduction": REDUCTION, "module": f"blocks.{len(WIDTHS)}"})
        self.drop = nn.Dropout(drop_rate)
        self.fc = classifier(self.num_features, num_classes)
        self.to(memory_format=torch.channels_last)

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """As of any network; what they hand to each other beside maps, onset and attention, is kept for one pass."""
        kept: dict[int, Tensor] = {}

        def stem(x: Tensor) -> Tensor:
            kept[-1] = x[:, :, 0]
            return cast(Tensor, self.stem(x))

        def attend(i: int, x: Tensor) -> Tensor:
            x, kept[i] = self.blocks[i](x, kept[i - 1] if i else None)
            return x

        def calibrate(x: Tensor) -> Tensor:
            return x + cast(Tensor, self.blocks[-1](kept[-1]))

        stages: list[Callable[[Tensor], Tensor]] = [stem, *(partial(attend, i) for i in range(len(WIDTHS))), calibrate]
        return stages[: len(self.blocks) + 1]

    def pool(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.drop(x.flatten(1))) if self.global_pool else x


def _initialise_conv(module: nn.Module) -> None:
    """He et al.'s normal weights, by what goes out of a convolution."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _initialise_linear(module: nn.Module) -> None:
    """Small normal weights and no bias."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


@register(InputSpec("pair", ("red", "green", "blue"), size=224, frames=2))
def mmnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """MMNet of Li et al., IJCAI 2022: attention on apex minus onset, a transformer on the onset; 9,238,135 weights."""
    return build("mmnet", MMNet, pretrained, **kwargs)
