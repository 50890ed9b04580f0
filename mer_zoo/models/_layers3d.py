"""Parts of 3-D networks: attention, pooling as Keras pads it, temporal transition."""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Attention = Literal["none", "se", "scse", "cbam"]


class SqueezeExcite(nn.Module):
    """Weights channels by what is strongest in them: (B, C, T, H, W) -> the same.

    Hu et al., CVPR 2018, eq. 2-4, but squeezed by the maximum and without biases, as the published 3-D SE-DenseNet.
    Ours: the first layer starts non-negative and small. Maxima are mostly positive, and without a bias a rectified
    unit that starts below zero for one clip is below zero for all and never learns; large sums would close the
    sigmoid for good.
    """

    def __init__(self, channels: int, ratio: int = 8) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.expand = nn.Linear(hidden, channels, bias=False)
        with torch.no_grad():
            self.reduce.weight.abs_().div_(channels**0.5)

    def weights(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, 1, 1, 1), each in 0..1."""
        squeezed = self.expand(self.reduce(x.amax(dim=(2, 3, 4))).relu()).sigmoid()
        return cast(Tensor, squeezed[:, :, None, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weights(x)


class ChannelSpatialExcite(nn.Module):
    """Weights channels and places at once and adds both: (B, C, T, H, W) -> the same.

    scSE of Roy et al., MICCAI 2018, section 2.3, in 3-D; the channel branch as in ``SqueezeExcite``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = SqueezeExcite(channels)
        self.spatial = nn.Conv3d(channels, 1, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        spatial: Tensor = self.spatial(x).sigmoid()
        return x * (self.channel.weights(x) + spatial)


class CBAM(nn.Module):
    """Weights channels, then places: (B, C, T, H, W) -> the same.

    Woo et al., ECCV 2018, eq. 2-3, in 3-D. Ours: the kernel over places is no deeper in time than the frames can
    fill, so that every tap learns.
    """

    def __init__(self, channels: int, frames: int, ratio: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        depth = min(7, 2 * frames - 1)
        self.spatial = nn.Conv3d(2, 1, (depth, 7, 7), padding=(depth // 2, 3, 3), bias=False)
        self.norm = nn.BatchNorm3d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        channel = self.mlp(x.mean(dim=(2, 3, 4))) + self.mlp(x.amax(dim=(2, 3, 4)))
        x = x * channel.sigmoid()[:, :, None, None, None]
        places = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        spatial: Tensor = self.norm(self.spatial(places)).sigmoid()
        return x * spatial


def attention_block(kind: Attention, channels: int, frames: int) -> nn.Module:
    """The attention of that name for maps of ``channels`` and ``frames``."""
    blocks: dict[str, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "se": lambda: SqueezeExcite(channels),
        "scse": lambda: ChannelSpatialExcite(channels),
        "cbam": lambda: CBAM(channels, frames),
    }
    return blocks[kind]()


class TemporalTransition(nn.Module):
    """Looks at short, middle and long spans side by side: (B, C, T, H, W) -> (B, branches * maps, T, H, W).

    The temporal transition layer of Diba et al., arXiv 1711.08200, section 3.1: BN - ReLU - convolution in each
    branch, a kernel of depth 1 being 1 x 1 x 1, others depth x 3 x 3. Ours: no kernel is deeper than there are
    frames, so that every tap learns; an even depth looks one frame further ahead than back.
    """

    def __init__(self, channels: int, frames: int, depths: Sequence[int], maps: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        for depth in (min(depth, frames) for depth in depths):
            sides = 1 if depth == 1 else 3
            conv = nn.Conv3d(
                channels, maps, (depth, sides, sides), padding=(depth // 2, sides // 2, sides // 2), bias=False
            )
            self.branches.append(nn.Sequential(nn.BatchNorm3d(channels), nn.ReLU(), conv))

    def forward(self, x: Tensor) -> Tensor:
        # An even kernel, padded alike on both sides, gives one frame too many: the first looks furthest back.
        return torch.cat([branch(x)[:, :, -x.shape[2] :] for branch in self.branches], dim=1)


def same_padding(x: Tensor) -> list[int]:
    """Padding for a kernel of 3 and a stride of 2 as TensorFlow's SAME: for ``F.pad``, last axis first.

    An odd length is padded by one on both sides, an even one only behind.
    """
    return [side for n in reversed(x.shape[2:]) for side in (n % 2, 1)]


def same_max_pool(x: Tensor, keep_time: bool) -> Tensor:
    """Maximum over 3 x 3 x 3, stride 2, padded as SAME; with ``keep_time`` over 1 x 3 x 3 and only in space.

    (B, C, T, H, W) -> (B, C, ceil(T / 2) or T, ceil(H / 2), ceil(W / 2)). ``ceil_mode`` stands for the padding behind
    and spares the copy that ``F.pad`` makes.
    """
    time, height, width = (n % 2 for n in x.shape[2:])
    if keep_time:
        return F.max_pool3d(x, (1, 3, 3), (1, 2, 2), padding=(0, height, width), ceil_mode=True)
    return F.max_pool3d(x, 3, 2, padding=(time, height, width), ceil_mode=True)


def halve(x: Tensor, keep_time: bool) -> Tensor:
    """Maximum over 2 x 2 x 2, stride 2, never below one frame or pixel.

    An odd last frame is dropped as VALID does, or kept with ``keep_time``.
    """
    kernel = [min(2, n) for n in x.shape[2:]]
    return F.max_pool3d(x, kernel, kernel, ceil_mode=keep_time)
