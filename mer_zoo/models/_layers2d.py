"""Parts of 2-D networks: the layers of a ResNet-18 (He et al., CVPR 2016), named as torchvision names them."""

from collections.abc import Sequence
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
    """Modules whose maps lie channels first, however those lie that come in."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        for module in self:
            x = module(x)
        return x


def resnet_layers(widths: Sequence[int]) -> list[nn.Sequential]:
    """Layers of two blocks each; from the second on each halves its maps."""
    before = (widths[0], *widths)
    return [
        nn.Sequential(BasicBlock(before[i], width, stride=2 if i else 1), BasicBlock(width, width, stride=1))
        for i, width in enumerate(widths)
    ]
