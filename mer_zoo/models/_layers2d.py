"""Parts of 2-D networks: layers of a ResNet-18 (He et al., CVPR 2016), by torchvision's names, and a layout of maps."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions past a shortcut: (B, C, H, W) -> (B, width, H / stride, W / stride)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = nn.Sequential()
        if stride != 1 or channels != width:
            self.downsample.append(nn.Conv2d(channels, width, kernel_size=1, stride=stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        new = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu_()))
        return cast(Tensor, (new + self.downsample(x)).relu_())


class ChannelsFirst(nn.Sequential):
    """A sequence that begins with maps channels first, as its weights should lie: (B, C, H, W) -> (B, D, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        for module in self:
            x = module(x)
        return x


def resnet_layers(widths: Sequence[int]) -> list[nn.Sequential]:
    """Layers of two blocks each, from (B, widths[0], H, W) on; the first keeps the size, each other one halves it."""
    layers = []
    for i, (channels, width) in enumerate(pairwise((widths[0], *widths))):
        layers.append(nn.Sequential(BasicBlock(channels, width, 2 if i else 1), BasicBlock(width, width, 1)))
    return layers
