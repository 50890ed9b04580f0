"""RCN: a shallow recurrent convolutional network over one small optical-flow image, in six forms.

Xia, Peng, Khor, Feng and Zhao, "Revealing the Invisible with Model and Data Shrinking for Composite-database
Micro-expression Recognition", IEEE TIP 2020, arXiv 2006.09674. Three modules without weights of their own: wide
expansion (W: filters of several dilations), shortcut connection (S: each recurrence sees the sum of all before) and
attention unit (A: where the classifier's weights meet the maps); P, C and F have all three. Published: 0.743 UF1,
0.719 UAR of RCN-A on MEGC 2019 (as listed in HTNet's table 2; the authors' code reports the last epoch).

Layers, their order and the first weights are facts from the authors' code, xiazhaoqiang/ParameterFreeRCNs-
MicroExpressionRec (no licence; no line of it is here). That code does not show how flow became its 8-bit pictures;
we take u, v and strain by TV-L1, stretched to 0..1.

Ours: layers that the authors' code builds and never runs are left out. So S has 15,331 weights, of 24,643 counted
there; P and C have 13,795, of 33,539. F runs its third stream; there the second one runs twice and the third never.
Strided streams have one batch norm in common; A and S rectify after pooling, which is the same. An attention map that
is the same everywhere is 0, not 0 / 0. Without a classifier, and with a new one until it is trained, attention looks
by the weights of the last one, which lie with the network as ``class_weights``; if there was none, it is 1 everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import StemAndBlocks, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.models._dropout import Dropout
from mer_zoo.types import InputSpec

Stem = Literal["narrow", "wide", "pair"]
Attention = Literal["none", "vector", "input", "block"]


class DilatedConv(nn.Conv2d):
    """Filters of 3 x 3 taps, each group with its own dilation: (B, C, H, W) -> (B, out, H / stride, W / stride)."""

    def __init__(self, in_chans: int, groups: Mapping[int, int], stride: int) -> None:
        """``groups``: number of filters by dilation."""
        super().__init__(in_chans, sum(groups.values()), kernel_size=3, stride=stride)
        self.dilations, self.sizes = tuple(groups), list(groups.values())

    def forward(self, x: Tensor) -> Tensor:
        biases = cast(Tensor, self.bias).split(self.sizes)
        parts = zip(self.weight.split(self.sizes), biases, self.dilations, strict=True)
        return torch.cat([F.conv2d(x, w, b, self.stride, padding=d, dilation=d) for w, b, d in parts], dim=1)


class NarrowStem(nn.Module):
    """A 5 x 5 convolution without padding, halved: (B, C, H, W) -> (B, width, (H - 4) / 2, (W - 4) / 2)."""

    def __init__(self, in_chans: int, width: int, drop_rate: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, width, kernel_size=5)
        self.norm = nn.BatchNorm2d(width)
        self.drop = Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        # The maximum of rectified values is the rectified maximum, of a quarter as many.
        y: Tensor = self.drop(F.max_pool2d(self.norm(self.conv(x)), 2).relu())
        return y


class WideStem(nn.Module):
    """Three streams of dilation 1, 2 and 3 side by side, with strides: (B, C, H, W) -> (B, width, H / 3, W / 3)."""

    def __init__(self, in_chans: int, width: int, drop_rate: float) -> None:
        super().__init__()
        half, quarter = width // 2, width // 4
        self.conv = DilatedConv(in_chans, {1: half, 2: quarter, 3: width - half - quarter}, stride=3)
        self.norm = nn.BatchNorm2d(width)
        self.drop = Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.drop(self.norm(self.conv(x).relu()))
        return y


class PairStem(nn.Module):
    """Two streams of dilation 1 and 3, each pooled, then side by side: (B, C, H, W) -> (B, width, H / 3, W / 3)."""

    def __init__(self, in_chans: int, width: int, drop_rate: float) -> None:
        super().__init__()
        groups = {1: width // 2, 3: width - width // 2}
        self.convs = nn.ModuleList(nn.Conv2d(in_chans, n, 3, padding=d, dilation=d) for d, n in groups.items())
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in groups.values())
        self.drop = Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        streams = [norm(conv(x).relu()) for conv, norm in zip(self.convs, self.norms, strict=True)]
        y: Tensor = self.drop(torch.cat([F.max_pool2d(maps, 3, stride=3, padding=1) for maps in streams], dim=1))
        return y


STEMS = {"narrow": NarrowStem, "wide": WideStem, "pair": PairStem}


class RecurrentBlock(nn.Module):
    """One 3 x 3 convolution several times over, then halved: (B, D, H, W) -> (B, D, H / 2, W / 2).

    Args:
        width: D.
        shortcuts: Each of three times it sees the sum of all before; else, two times, the input and the last.
        drop_rate: Share of values dropped in training.
    """

    def __init__(self, width: int, shortcuts: bool, drop_rate: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel_size=1)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(width)
        self.drop = Dropout(drop_rate)
        self.shortcuts = shortcuts

    def forward(self, x: Tensor, attention: Tensor | None = None) -> Tensor:
        y = self.norm1(self.conv1(x)).relu()
        total = x + (y if attention is None else y * attention)
        if self.shortcuts:
            for _ in range(2):
                total = total + self._again(total)
        else:
            total = x + self._again(total)
        out: Tensor = self.drop(F.max_pool2d(self._again(total), 2))
        return out

    def _again(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm2(self.conv2(x))
        return y.relu()


def class_attention(maps: Tensor, weights: Tensor) -> Tensor:
    """Where the classes look: maps (B, D, h, w), weights (classes, D, h, w) -> (B, 1, h, w), values in [0, 1].

    Each class's sum over D of map times weight, stretched to 0..1 within each clip; then the mean over classes.
    """
    seen = torch.einsum("bdhw,cdhw->bchw", maps, weights)
    low, high = seen.amin((2, 3), keepdim=True), seen.amax((2, 3), keepdim=True)
    span = high - low
    return ((seen - low) / span.masked_fill(span == 0, 1)).mean(dim=1, keepdim=True)


class RCN(StemAndBlocks):
    """Flow images (B, 3, 60, 60), values 0..1 -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the vector of width * grid * grid.
        in_chans: Number of flow channels.
        width: Number of maps, the same throughout.
        grid: Maps are averaged to grid x grid places.
        size: Height and width of the input; weights are the same for all.
        stem: ``narrow``: one 5 x 5 convolution; ``wide``: three streams of dilation 1, 2, 3; ``pair``: two of 1 and 3.
        shortcuts: Whether each recurrence sees the sum of all before.
        attention: What is weighted by where the classes look: the ``vector`` (they look at the stem's maps), the
            stem's maps (``input``: they look at the input), what the ``block`` starts from (at the stem's maps), or
            ``none``.
        drop_rate: Share of values dropped after the stem and after the block.
        global_pool: ``flat``: the maps as one vector; empty: as they are.
    """

    layers_pattern: ClassVar = r"^blocks\.(\d+)"

    class_weights: Tensor

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 3,
        width: int = 32,
        grid: int = 5,
        size: int = 60,
        stem: Stem = "narrow",
        shortcuts: bool = False,
        attention: Attention = "none",
        drop_rate: float = 0.5,
        global_pool: str = "flat",
    ) -> None:
        super().__init__()
        side = _side(stem, size)
        _check_sizes(width, grid, side)
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, width * grid * grid
        self.size, self.grid, self.attention, self.drop_rate = size, grid, attention, drop_rate
        self.stem = STEMS[stem](in_chans, width, drop_rate)
        self.blocks = nn.ModuleList([RecurrentBlock(width, shortcuts, drop_rate)])
        self.feature_info = [
            {"num_chs": width, "reduction": size / side, "module": "stem"},
            {"num_chs": width, "reduction": size / grid, "module": "blocks.0"},
        ]
        self.fc = classifier(self.num_features, num_classes)
        self._by_kept = False  # attention looks by kept weights until a new classifier is trained
        self.apply(_initialise)
        self.to(memory_format=torch.channels_last)  # maps follow the layout of the weights; up to twice as fast
        if attention != "none":
            self.register_buffer("class_weights", torch.zeros(num_classes, self.num_features))

    @property
    def first_convs(self) -> tuple[str, ...]:  # type: ignore[override]  # each stem's own
        """Convolutions that see the input."""
        return tuple(f"stem.{name}" for name, m in self.stem.named_modules() if isinstance(m, nn.Conv2d))

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        return [self.enter, self.recur][: 1 + len(self.blocks)]

    def enter(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H', W'), a third or nearly half the size."""
        maps: Tensor = self.stem(x)
        if self.attention == "input":
            maps = maps * F.interpolate(self._look(x.mean(1, keepdim=True), mean=True), maps.shape[2:])
        return maps

    def recur(self, x: Tensor) -> Tensor:
        """(B, width, H', W') -> (B, width, grid, grid)."""
        look = self._look(x) if self.attention in ("vector", "block") else None
        inside = F.interpolate(look, x.shape[2:]) if look is not None and self.attention == "block" else None
        maps = F.adaptive_avg_pool2d(self.blocks[0](x, inside), self.grid)
        return maps * look if look is not None and self.attention == "vector" else maps

    def pool(self, x: Tensor) -> Tensor:
        """Nothing is pooled away: (B, width, grid, grid) -> (B, width * grid * grid)."""
        return x.flatten(1) if self.global_pool else x

    def _look(self, maps: Tensor, mean: bool = False) -> Tensor:
        """Attention (B, 1, grid, grid) to maps, by the classes' weights or by their mean over maps."""
        weights = self._weights()
        if not len(weights):
            return maps.new_ones(len(maps), 1, self.grid, self.grid)
        weights = weights.unflatten(1, (-1, self.grid, self.grid))
        return class_attention(
            F.adaptive_avg_pool2d(maps, self.grid), weights.mean(1, keepdim=True) if mean else weights
        )

    def _weights(self) -> Tensor:
        """What attention looks by, (classes, width * grid * grid): the classifier's weights or the kept ones."""
        if isinstance(self.fc, nn.Identity):
            return self.class_weights
        if self._by_kept and self.training and torch.is_grad_enabled():
            self._by_kept = False  # from now on the new classifier learns where to look
        return self.class_weights if self._by_kept else cast(Tensor, self.fc.weight)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self._keep_class_weights()
        super().reset_classifier(num_classes, global_pool)
        self._by_kept = self.attention != "none" and len(self.class_weights) > 0
        _initialise(self.fc)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As of any module; ``class_weights`` may be of any number of classes."""
        kept, last = state_dict.get("class_weights"), state_dict.get("fc.weight")
        if kept is not None and self.attention != "none":
            self.class_weights = self.class_weights.new_empty(kept.shape)
            same = last is not None and (kept.is_meta or torch.equal(kept, last))
            self._by_kept = len(kept) > 0 and not same
        return super().load_state_dict(state_dict, strict, assign)

    def _keep_class_weights(self) -> None:
        if self.attention != "none" and not self._by_kept and not isinstance(self.fc, nn.Identity):
            self.class_weights = cast(Tensor, self.fc.weight).detach().clone()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self._keep_class_weights()
        super()._save_to_state_dict(destination, prefix, keep_vars)


def _side(stem: str, size: int) -> int:
    """Height and width of the stem's maps."""
    return (size - 4) // 2 if stem == "narrow" else -(-size // 3)


def _check_sizes(width: int, grid: int, side: int) -> None:
    if width < 4:
        raise InputError(f"width is {width}; expected 4 maps or more, which three streams can share.")
    if grid > side // 2:
        raise InputError(f"grid is {grid}; expected 1 to {side // 2}, the side of the maps. Take a larger size.")


def _initialise(module: nn.Module) -> None:
    """He et al.'s normal weights by fan-out, a narrow normal in the classifier; as the authors' code."""
    if isinstance(module, DilatedConv):
        for group in module.weight.data.split(module.sizes):  # each stream for itself
            nn.init.kaiming_normal_(group, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


FLOW = InputSpec("flow", ("u", "v", "strain"), size=60, scaling="channel_min_max", flow_method="tvl1")


@register(FLOW)
def rcn_a(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RCN-A of Xia et al., TIP 2020, recurrence with an attention unit: 15,331 weights."""
    return build("rcn_a", RCN, pretrained, {"attention": "vector"}, **kwargs)


@register(FLOW)
def rcn_s(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RCN-S of Xia et al., TIP 2020, recurrence with shortcut connections: 15,331 weights."""
    return build("rcn_s", RCN, pretrained, {"shortcuts": True}, **kwargs)


@register(FLOW)
def rcn_w(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RCN-W of Xia et al., TIP 2020, recurrence after a wide expansion: 13,795 weights."""
    return build("rcn_w", RCN, pretrained, {"stem": "wide"}, **kwargs)


@register(FLOW)
def rcn_p(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RCN-P of Xia et al., TIP 2020, expansion, shortcuts and attention to the vector: 13,795 weights."""
    return build("rcn_p", RCN, pretrained, {"stem": "pair", "shortcuts": True, "attention": "vector"}, **kwargs)


@register(FLOW)
def rcn_c(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RCN-C of Xia et al., TIP 2020, expansion, attention by the input and shortcuts in a row: 13,795 weights."""
    return build("rcn_c", RCN, pretrained, {"stem": "wide", "shortcuts": True, "attention": "input"}, **kwargs)


@register(FLOW)
def rcn_f(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """RCN-F of Xia et al., TIP 2020, expansion, and attention within the block of shortcuts: 13,795 weights."""
    return build("rcn_f", RCN, pretrained, {"stem": "wide", "shortcuts": True, "attention": "block"}, **kwargs)
