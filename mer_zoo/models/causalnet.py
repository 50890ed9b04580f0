"""Our reading of CausalNet: rise and fall of a micro-expression, and what either says of the other.

Zhang, Tang and Chen, "Rethinking Key-frame-based Micro-expression Recognition: A Robust and Accurate Framework Against
Key-frame Errors", ICCV 2025, arXiv 2508.06640. The layers are those of the authors' code (tony19980810/CausalNet,
MIT, Models.py), in our own words: two trunks of HTNet, one for the flow of both phases and one for its directions;
cross-attention between the directions (the causal motion position learning module, CMPLM); attention within a phase,
of one phase on the other both ways, and between what comes of it (the causal attention block, CAB). With ``dim=256``
there are 276,590,089 weights, as in the authors' code. Published: 0.8976 UF1, 0.9020
UAR on MEGC 2019 (README); the code keeps the best epoch of each test subject and stops where all its clips are right.

It is a *reading*, since the images of direction were never described in full: the author says that they are computed
from u and v stretched as in the flow image (issue 4), and no code was published. *Ours*: the angle of the stretched
v over the stretched u, 0 to a right angle as 0..255, the same in every channel; 48 channels in place of 256; the four
parts of the face where our alignment puts them (the authors: HTNet's constants, ``crops="published"``).

As in the authors' code: tokens of the trunks attend to themselves alone (see ``htnet``); the trunk's one vector is
read as four parts of a quarter of its values, though nothing made it so; and what a part would give to the one
diagonally opposite is taken out after the softmax, so that its weights do not add up to one.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import StemAndBlocks, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.models.htnet import Crops, compose, levels, side_of_a_block
from mer_zoo.types import InputSpec

PARTS = 4  # of the face
HEADS = 8


def directions(flow: Tensor) -> Tensor:
    """Angle of v over u, both at least 0, as 0..255 in every channel: (B, C, H, W) -> the same.

    The last two channels are v and u; one channel alone has no direction and stays.
    """
    if flow.shape[1] == 1:
        return flow
    v, u = flow[:, -2:].clamp(min=0).split(1, dim=1)
    # Nowhere exactly 0 / 0, which has no gradient.
    return (torch.atan2(v + 1e-3, u + 1e-3) * (255 * 2 / torch.pi)).expand_as(flow)


class Attention(nn.Module):
    """Attention of tokens (B, N, D) to a context (B, M, D), eight heads: -> (B, N, D).

    Args:
        dim: D.
        drop_rate: Share of the result dropped in training.
        scale: What scores are multiplied by; by default the root of a head's values, inverted.
        penalty: If it is given, N and M are the four parts. A part's score for the one diagonally opposite, of number
            j, counted from 1, is -j * penalty, and what it would give is left out.
    """

    near: Tensor
    far_scores: Tensor

    def __init__(self, dim: int, drop_rate: float, scale: float | None = None, penalty: float | None = None) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.scale, self.masked = scale or (dim // HEADS) ** -0.5, penalty is not None
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        near = 1 - torch.eye(PARTS).flip(0)
        far_scores = (near - 1) * torch.arange(1, PARTS + 1) * (penalty or 0.0)
        self.register_buffer("near", near.to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("far_scores", far_scores.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q = _heads(self.q(x))
        k, v = (_heads(part) for part in self.kv(context).chunk(2, dim=-1))
        scores = q @ k.transpose(-2, -1) * self.scale
        if self.masked:
            x = (scores * self.near + self.far_scores).softmax(dim=-1) * self.near @ v
        else:
            x = scores.softmax(dim=-1) @ v
        return cast(Tensor, self.drop(self.proj(x.transpose(-3, -2).flatten(-2))))


def _heads(x: Tensor) -> Tensor:
    """(..., N, D) -> (..., heads, N, D / heads)."""
    return x.reshape(*x.shape[:-1], HEADS, x.shape[-1] // HEADS).transpose(-3, -2)


class Agreement(nn.Module):
    """What rise and fall, each as the effect of the other, have in common: two of (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, drop_rate: float) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))
        self.drop = nn.Dropout(drop_rate)

    def forward(self, forth: Tensor, back: Tensor) -> Tensor:
        both = forth + back
        x = F.scaled_dot_product_attention(_heads(self.q(forth)), _heads(self.k(back)), _heads(self.v(both)))
        return cast(Tensor, self.drop(self.proj(x.transpose(-3, -2).flatten(-2) + both)))


def feed_forward(dim: int, drop_rate: float) -> nn.Sequential:
    """Two layers over each token: (B, N, D) -> the same."""
    hidden, drop = nn.Linear(dim, 4 * dim), nn.Dropout(drop_rate)
    return nn.Sequential(hidden, nn.GELU(), drop, nn.Linear(4 * dim, dim), nn.Dropout(drop_rate))


class Cross(nn.Module):
    """Either phase's parts look at the other's, by the same weights: two of (B, 4, D) -> the same two."""

    def __init__(self, dim: int, penalty: float, drop_rate: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attn = Attention(dim, drop_rate, dim**-0.5, penalty)
        self.mlp = feed_forward(dim, drop_rate)

    def forward(self, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
        fall_norm = self.norm(fall)
        rise = rise + self.attn(self.norm(rise), fall)
        fall = fall + self.attn(fall_norm, rise)
        return rise + self.mlp(rise), fall + self.mlp(fall)


class Causal(nn.Module):
    """The causal attention block: parts of rise and fall, two of (B, 4, D) -> three of (B, 4, D).

    What both directions agree on; the rise; the fall seen as a beginning.
    """

    def __init__(self, dim: int, penalty: float, drop_rate: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.within = Attention(dim, drop_rate, penalty=penalty)
        self.between = Attention(dim, drop_rate)
        self.mlp = feed_forward(dim, drop_rate)
        self.agree = Agreement(dim, drop_rate)

    def forward(self, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rise, fall = self.norm(rise), self.norm(fall)
        rise, fall = rise + self.within(rise, rise), fall + self.within(fall, fall)
        forth, back = self._effect(rise, fall), self._effect(fall, rise)
        rise, fall, forth, back = (x + self.mlp(x) for x in (rise, fall, forth, back))
        return self.agree(forth, back), rise, fall

    def _effect(self, cause: Tensor, effect: Tensor) -> Tensor:
        """Each part of the effect looks at the same part of the cause and at itself."""
        both = torch.stack([cause, effect], dim=2)
        seen: Tensor = self.between(effect[:, :, None], both)
        return effect + seen[:, :, 0]


class Trunks(nn.Module):
    """A level of HTNet for flow and one for directions: (B, D, 4, H, W) -> (B, D', 4, H', W')."""

    def __init__(self, flow: nn.Module, direction: nn.Module) -> None:
        super().__init__()
        self.flow, self.direction = flow, direction

    def forward(self, x: Tensor) -> Tensor:
        both = []
        for level, part in ((self.flow, x[:, :, :2]), (self.direction, x[:, :, 2:])):
            out = level(part.transpose(1, 2).flatten(0, 1))
            both.append(out.reshape(-1, 2, *out.shape[1:]))
        return torch.cat(both, dim=1).transpose(1, 2)


class Relations(nn.Module):
    """Directions of both phases meet, are added to flow, and causes and effects are told: -> (B, D, 3, 2, 2).

    The input is (B, 4 * D, 4, 1, 1): flow of rise and fall, then their directions, each a vector read as four parts.
    """

    def __init__(self, dim: int, depth: int, penalty: float, drop_rate: float) -> None:
        super().__init__()
        self.cross = nn.ModuleList(Cross(dim, penalty, drop_rate) for _ in range(depth))
        self.causal = Causal(dim, penalty, drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.reshape(-1, x.shape[1] // PARTS, PARTS, 4).permute(3, 0, 2, 1)  # (4, B, part, D)
        rise, fall, rise_direction, fall_direction = parts.unbind(0)
        for layer in self.cross:
            rise_direction, fall_direction = layer(rise_direction, fall_direction)
        found = torch.stack(self.causal(rise + rise_direction, fall + fall_direction), dim=1)
        return found.permute(0, 3, 1, 2).reshape(-1, x.shape[1] // PARTS, 3, 2, 2)


class Join(nn.Module):
    """All parts to one vector, by one layer: (B, D, 3, 2, 2) -> (B, 8 * D, 1, 1, 1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(3 * PARTS * dim, 8 * dim)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc1(x.permute(0, 2, 3, 4, 1).flatten(1)))[:, :, None, None, None]


class CausalNet(StemAndBlocks):
    """Flow of two phases (B, C, 2, 28, 28), values 0..255, the last channels v and u -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the vector of 8 * ``dim``.
        in_chans: Number of flow channels; where it is 1 the second trunk sees the flow again, not its direction.
        size: Height and width of the input.
        crops: Where the four parts of the face lie; see ``htnet``.
        dim: Channels of the trunks' first level, and of what follows the trunks; a multiple of 8. Published: 256.
        heads: Attention heads of the trunks' first level.
        depths: Blocks of each level of a trunk; the last is also the number of layers in which directions meet.
        penalty: Of the diagonal; gamma in the paper.
        drop_rate: Share of values dropped in training, in each layer's result and in the trunks' attention.
        global_pool: ``flat``: the vector; empty: as maps of one place.
    """

    first_convs: ClassVar = ("stem", "stem_direction")
    small: ClassVar = {"dim": 16, "depths": (1, 1, 2)}
    layers_pattern: ClassVar = StemAndBlocks.blocks_pattern

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 3,
        size: int = 28,
        crops: Crops = "aligned",
        dim: int = 48,
        heads: int = 3,
        depths: Sequence[int] = (3, 3, 9),
        penalty: float = 0.5,
        drop_rate: float = 0.0,
        global_pool: str = "flat",
    ) -> None:
        super().__init__()
        if len(depths) != 3 or dim % HEADS:
            raise InputError(f"depths are {depths} and dim is {dim}; expected three depths, and a multiple of {HEADS}.")
        patch = size // 4
        side_of_a_block(size, max(patch, 1), len(depths))
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.size, self.crops = num_classes, in_chans, size, crops
        self.drop_rate, self.num_features = drop_rate, 8 * dim
        self.stem, self.stem_direction = (nn.Conv2d(in_chans, dim, patch, stride=patch) for _ in range(2))
        trunks = zip(*(levels(dim, heads, depths, 1, drop_rate) for _ in range(2)), strict=True)
        self.blocks = nn.ModuleList(Trunks(flow, direction) for flow, direction in trunks)
        self.blocks.append(Relations(dim, depths[-1], penalty, drop_rate))
        self.blocks.append(Join(dim))
        self.fc = classifier(self.num_features, num_classes)
        widths = {"stem": (1, 4), "blocks.0": (1, 4), "blocks.1": (2, 2), "blocks.2": (4, 1)}
        # Four parts were made of one place, so that these are no finer places.
        widths |= {"blocks.3": (1, 1), "blocks.4": (8, 1)}
        self.feature_info = [
            {"num_chs": width * dim, "reduction": size // places, "module": name}
            for name, (width, places) in widths.items()
        ]

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        return [self.embed, *self.blocks]

    def embed(self, x: Tensor) -> Tensor:
        """Flow of both phases, then directions of both, as tokens: (B, C, 2, H, W) -> (B, dim, 4, 4, 4)."""
        flow = compose(x.transpose(1, 2).flatten(0, 1), self.crops)
        both = (self.stem(flow), self.stem_direction(directions(flow)))
        return torch.cat([tokens.reshape(-1, 2, *tokens.shape[1:]) for tokens in both], dim=1).transpose(1, 2)

    def pool(self, x: Tensor) -> Tensor:
        """Nothing is pooled away: (B, 8 * dim, 1, 1, 1) -> (B, 8 * dim)."""
        return x.flatten(1) if self.global_pool else x


@register(
    InputSpec(
        "phases", ("strain", "v", "u"), size=28, frames=2, high=255.0, scaling="channel_min_max", flow_method="tvl1"
    )
)
def causalnet_reading(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Our reading of CausalNet, ICCV 2025: 9,789,225 weights; its layers, 48 channels for 256; directions a guess."""
    return build("causalnet_reading", CausalNet, pretrained, **kwargs)
