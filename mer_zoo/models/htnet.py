"""HTNet: a hierarchical transformer over four parts of the face.

Wang, Zhang, Luo and Sankaranarayana, "HTNet for micro-expression recognition", Neurocomputing 602, 2024, arXiv
2307.14637. Layers, sizes, initial values and the places of the four parts are facts of the authors' code
(wangzhifengharrison/HTNet, Model.py and main_HTNet.py, no licence); the code here is our own. Its 139,582,982 weights
are counted from these sizes. Published: 0.8603 UF1, 0.8475 UAR on MEGC 2019 (table 2); the code keeps the best epoch
of each test subject.

As published, every block of every level holds a single token, 4 x 4 places in 4 x 4 blocks, 2 x 2 in 2 x 2, 1 in 1: a
token attends to itself alone, places meet only in the convolutions between levels, and the 22,195,200 weights of
queries and keys can learn nothing. They are kept, so that the count is the published one; see ``patch_size``.

*Ours*: the four parts are cut out inside the network at places that are the same for every clip, since aligned faces
have their eyes at fixed places (the authors crop around points that MTCNN finds on the face of 28 pixels, or around
constants, ``crops="published"``, where it finds none); features lie channels-last, so that layers over one place are
linear layers.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import StemAndBlocks, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.types import InputSpec

Crops = Literal["aligned", "published", "composed"]

PLACES: dict[str, tuple[tuple[float, float], ...]] = {
    # Eyes where our alignment puts them. Corners of the mouth 1.15 distances of the eyes below, 0.41 beside the middle,
    # as in the template of five points that face recognition aligns to.
    "aligned": ((0.26, 0.25), (0.837, 0.293), (0.26, 0.75), (0.837, 0.707)),
    # The constants of main_HTNet.py, whole pixels of 28. It takes a point's x for its row and its y for its column.
    "published": ((9 / 28, 11 / 28), (21 / 28, 10 / 28), (10 / 28, 21 / 28), (20 / 28, 21 / 28)),
}
"""Centres of left eye, left corner of the mouth, right eye, right corner: fractions of height and width."""


class Attention(nn.Module):
    """Self-attention among the places of each of ``grid`` x ``grid`` blocks: (B, H, W, D) -> the same.

    Heads of D // heads values, so that with D = 256 and 3 heads one value is left out, as published.
    """

    def __init__(self, dim: int, heads: int, grid: int, drop_rate: float) -> None:
        super().__init__()
        inner = dim // heads * heads
        self.heads, self.grid = heads, grid
        self.qkv = nn.Linear(dim, 3 * inner, bias=False)
        self.proj = nn.Linear(inner, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        grid, heads = self.grid, self.heads
        # (B, block, h, block, w, 3, heads, d) -> three of (B, block, block, heads, h * w, d)
        qkv = self.qkv(x).unflatten(2, (grid, width // grid)).unflatten(1, (grid, height // grid))
        qkv = qkv.unflatten(5, (3, heads, -1)).permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(5, 6).flatten(1, 3)
        q, k, v = qkv.unbind(0)
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=self.drop.p if self.training else 0.0)
        x = x.unflatten(2, (height // grid, width // grid)).unflatten(0, (batch, grid, grid))
        x = x.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, height, width, -1)
        return cast(Tensor, self.drop(self.proj(x)))


class Block(nn.Module):
    """Attention, then two layers over each place, both on normalised values and added: (B, H, W, D) -> the same."""

    def __init__(self, dim: int, heads: int, grid: int, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads, grid, drop_rate)
        self.norm2 = nn.LayerNorm(dim)
        hidden, drop = nn.Linear(dim, 4 * dim), nn.Dropout(drop_rate)
        self.mlp = nn.Sequential(hidden, nn.GELU(), drop, nn.Linear(4 * dim, dim), nn.Dropout(drop_rate))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return cast(Tensor, x + self.mlp(self.norm2(x)))


class Position(nn.Module):
    """Adds one learnt number a place, the same in every block and channel: (B, H, W, D) -> the same."""

    def __init__(self, side: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.weight = nn.Parameter(torch.randn(side, side, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight.repeat(self.grid, self.grid, 1)


class Aggregate(nn.Module):
    """Lets neighbouring blocks meet and halves height and width: (B, H, W, D) -> (B, H / 2, W / 2, out)."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, out, kernel_size=3, padding=1)
        self.norm = nn.LayerNorm(out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return F.max_pool2d(x.permute(0, 3, 1, 2), kernel_size=3, stride=2, padding=1).permute(0, 2, 3, 1)


class Level(nn.Sequential):
    """Layers over (B, H, W, D), for maps: (B, D, H, W) -> (B, D', H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        for layer in self:
            x = layer(x)
        return x.permute(0, 3, 1, 2)


def levels(dim: int, heads: int, depths: Sequence[int], side: int, drop_rate: float) -> list[Level]:
    """One level for each of ``depths``; each has half as many blocks a side as the one before, and twice the values."""
    made = []
    for i, depth in enumerate(depths):
        width, grid = dim * 2**i, 1 << (len(depths) - 1 - i)
        between = [Aggregate(width // 2, width)] if i else []
        made.append(
            Level(*between, Position(side, grid), *(Block(width, heads * 2**i, grid, drop_rate) for _ in range(depth)))
        )
    return made


def compose(x: Tensor, crops: Crops) -> Tensor:
    """Left eye and left corner of the mouth above, those of the right below: (B, C, H, W) -> the same.

    "Left" is left in the picture; the arrangement is the published one.
    """
    if crops == "composed":
        return x
    size = x.shape[-1]
    half, parts = size // 2, []
    for place in PLACES[crops]:
        # Whole pixels, and no part reaches beyond the picture.
        top, left = (min(max(round(at * size - half / 2), 0), size - half) for at in place)
        parts.append(x[:, :, top : top + half, left : left + half])
    return torch.cat([torch.cat(parts[:2], dim=3), torch.cat(parts[2:], dim=3)], dim=2)


def side_of_a_block(size: int, patch_size: int, levels: int) -> int:
    """How many tokens a block is high and wide.

    Raises:
        InputError: If the picture cannot be divided so.
    """
    grid = 1 << max(levels - 1, 0)
    if levels < 1 or size % 2 or size % (patch_size * grid):
        raise InputError(
            f"size is {size}, with patch_size {patch_size} and {levels} levels; expected an even multiple of "
            f"patch_size * 2 ** (levels - 1), such as {2 * patch_size * grid}."
        )
    return size // patch_size // grid


class HTNet(StemAndBlocks):
    """Flow images (B, C, 28, 28), values 0..255 -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the vector of 1024.
        in_chans: Number of flow channels.
        size: Height and width of the input.
        crops: Where the four parts lie: ``aligned``, in faces as this library aligns them; ``published``, at the
            authors' constants, for their flow images; ``composed``, in an input that is put together already.
        patch_size: Side of a token in pixels. With 7 a block is one token; smaller ones give attention something to
            choose from: 1 gives 49 tokens a block.
        dim: Channels of the first level; each further one has twice as many.
        heads: Attention heads of the first level; each further one has twice as many.
        depths: Blocks of attention in each level.
        drop_rate: Share of values dropped in training, of attention and of each layer's result.
        global_pool: ``avg``: a mean over places; empty: none.
    """

    first_convs: ClassVar = ("stem",)
    pools: ClassVar = ("avg",)
    small: ClassVar = {"dim": 12, "depths": (1, 1, 2)}

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 3,
        size: int = 28,
        crops: Crops = "aligned",
        patch_size: int = 7,
        dim: int = 256,
        heads: int = 3,
        depths: Sequence[int] = (2, 2, 10),
        drop_rate: float = 0.0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        side = side_of_a_block(size, patch_size, len(depths))
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.size, self.crops = num_classes, in_chans, size, crops
        self.drop_rate = drop_rate
        self.stem = nn.Conv2d(in_chans, dim, patch_size, stride=patch_size)
        self.feature_info: list[dict[str, Any]] = [{"num_chs": dim, "reduction": patch_size, "module": "stem"}]
        self.blocks = nn.ModuleList(levels(dim, heads, depths, side, drop_rate))
        for i in range(len(depths)):
            self.feature_info.append({"num_chs": dim * 2**i, "reduction": patch_size * 2**i, "module": f"blocks.{i}"})
        width = dim * 2 ** (len(depths) - 1)
        self.num_features = width
        self.norm = nn.LayerNorm(width)
        self.fc = classifier(width, num_classes)

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        return [self.embed, *self.blocks]

    def embed(self, x: Tensor) -> Tensor:
        """The four parts, side by side, to tokens: (B, C, H, W) -> (B, dim, H / patch_size, W / patch_size)."""
        return cast(Tensor, self.stem(compose(x, self.crops)))

    def norm_features(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    def pool(self, x: Tensor) -> Tensor:
        """A mean over places: (B, D, H, W) -> (B, D)."""
        return x.mean(dim=(2, 3)) if self.global_pool else x


@register(InputSpec("flow", ("strain", "v", "u"), size=28, high=255.0, scaling="channel_min_max", flow_method="tvl1"))
def htnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """HTNet of Wang et al., Neurocomputing 2024: 139,582,982 weights; channels strain, v, u, min-max per image."""
    return build("htnet", HTNet, pretrained, **kwargs)
