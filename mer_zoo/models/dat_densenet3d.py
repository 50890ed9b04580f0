"""3-D DenseNets for raw clips: the published 3-D SE-DenseNet, and our reading of "3D-DAT-DenseNet".

The published code (LinKekni/Micro-Expression-Recognition, Keras, MIT) builds a 3-D SE-DenseNet: Cai, Li, Dong and
Fang, "Micro-expression recognition using 3D DenseNet fused Squeeze-and-Excitation Networks", Applied Soft Computing
2022, doi 10.1016/j.asoc.2022.108594. ``dat_densenet3d_se`` is that network. No paper was found for the name 3D-DAT-
DenseNet, and none of its parts is in the code; ``dat_densenet3d`` is *our reading* of the three letters: dual
attention (channel + spatial, scSE) and temporal transition (T3D's temporal transition layer).

Published under that name, in that code's README: accuracies of 0.9085 on SMIC, 0.9228 on CASME II and 0.8382 on SAMM;
the code with it divides clips at random, so that persons learnt from are tested on, and builds the older network.

Dense layers: Huang et al., CVPR 2017, eq. 2 and section 3 (bottleneck of four growths), in 3-D.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import StemAndBlocks, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.models._layers3d import (
    Attention,
    TemporalTransition,
    attention_block,
    halve,
    same_max_pool,
    same_padding,
)
from mer_zoo.types import InputSpec


def norm(channels: int) -> nn.BatchNorm3d:
    """Batch norm with the published code's epsilon; Keras's momentum of 0.99 is 0.01 here."""
    return nn.BatchNorm3d(channels, eps=1.1e-5, momentum=0.01)


class DenseLayer(nn.Module):
    """Adds ``growth`` maps to its input: (B, C, T, H, W) -> (B, C + growth, T, H, W)."""

    def __init__(self, channels: int, growth: int, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = norm(channels)
        self.conv1 = nn.Conv3d(channels, 4 * growth, kernel_size=1, bias=False)
        self.norm2 = norm(4 * growth)
        self.conv2 = nn.Conv3d(4 * growth, growth, kernel_size=3, padding=1, bias=False)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(self.norm1(x).relu())
        return torch.cat([x, self.drop(self.conv2(self.norm2(new).relu()))], dim=1)


class Stem(nn.Module):
    """A quarter of the size in space, half or a quarter in time: (B, C, T, H, W) -> (B, width, T', H / 4, W / 4)."""

    def __init__(self, in_chans: int, width: int, keep_time: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_chans, width, kernel_size=3, stride=2, bias=False)
        self.norm = norm(width)
        self.keep_time = keep_time

    def forward(self, x: Tensor) -> Tensor:
        # The maximum of rectified values is the rectified maximum, of a quarter as many.
        return same_max_pool(self.norm(self.conv(F.pad(x, same_padding(x)))), self.keep_time).relu()


class Transition(nn.Module):
    """Halves time and space: (B, C, T, H, W) -> (B, out, T / 2, H / 2, W / 2)."""

    def __init__(self, channels: int, out: int, keep_time: bool) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.conv = nn.Conv3d(channels, out, kernel_size=1, bias=False)
        self.keep_time = keep_time

    def forward(self, x: Tensor) -> Tensor:
        return halve(self.conv(self.norm(x).relu()), self.keep_time)


class DATDenseNet3d(StemAndBlocks):
    """Clips (B, C, T, H, W) -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the vector before them.
        in_chans: Number of channels.
        num_frames: T; kernels in time are fitted to it.
        growth: Maps that each dense layer adds.
        block_depths: Dense layers in each block.
        stem_width: Maps after the stem.
        compression: Share of its maps that a block hands on.
        attention: After each dense block and each transition: ``none``, ``se``, ``scse`` (dual: channel and
            spatial) or ``cbam``.
        temporal_transition: Before each transition: ``plain`` nothing, or ``ttl``, kernels of depth 1, 3, 6 after
            the first block and 1, 3, 4 after the others, side by side.
        keep_time: Halve time once before the blocks, not twice, and drop no odd frame in the transitions.
        global_pool: ``max`` or ``avg`` over all places, ``grid``: a mean in each of 4 x 4 places; empty: none.
        drop_rate: Share of a dense layer's new values dropped in training.
        channels_last: Keep maps channels-last, which pays in small networks on a CPU.
    """

    first_convs: ClassVar = ("stem.conv",)
    pools: ClassVar = ("max", "avg", "grid")

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 1,
        num_frames: int = 20,
        growth: int = 12,
        block_depths: Sequence[int] = (1, 1, 1),
        stem_width: int = 24,
        compression: float = 1.0,
        attention: Attention = "se",
        temporal_transition: Literal["plain", "ttl"] = "plain",
        keep_time: bool = False,
        global_pool: str = "max",
        drop_rate: float = 0.1,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        if compression > 1:
            raise InputError(f"compression is {compression}; expected 1, which keeps all maps, or less.")
        self.num_classes, self.in_chans, self.num_frames = num_classes, in_chans, num_frames
        self.drop_rate = drop_rate
        self.stem = Stem(in_chans, stem_width, keep_time)
        self.blocks = nn.ModuleList()
        self.feature_info = [{"num_chs": stem_width, "reduction": 4, "module": "stem"}]
        width = stem_width
        frames = -(-num_frames // 2) if keep_time else -(-num_frames // 4)
        for i, depth in enumerate(block_depths):
            block = nn.Sequential()
            if i > 0:
                if temporal_transition == "ttl":
                    depths = (1, 3, 6) if i == 1 else (1, 3, 4)
                    block.append(TemporalTransition(width, frames, depths, maps=16))
                out = int(width * compression)
                if out < 1:
                    raise InputError(f"compression is {compression}; of {width} maps of block {i} it leaves none.")
                block.append(Transition(3 * 16 if temporal_transition == "ttl" else width, out, keep_time))
                width, frames = out, max(1, -(-frames // 2) if keep_time else frames // 2)
                block.append(attention_block(attention, width, frames))
            for _ in range(depth):
                block.append(DenseLayer(width, growth, drop_rate))
                width += growth
            block.append(attention_block(attention, width, frames))
            self.blocks.append(block)
            self.feature_info.append({"num_chs": width, "reduction": 4 * 2**i, "module": f"blocks.{i}"})
        self.norm = norm(width)
        self._maps = width
        self.set_pool(global_pool, num_classes)
        self.fc = classifier(self.num_features, num_classes)
        self.apply(_initialise)
        if channels_last:  # maps follow the layout of the weights
            self.to(memory_format=torch.channels_last_3d)

    @property
    def small(self) -> Mapping[str, Any]:  # type: ignore[override]  # of the deep forms: as deep, and narrow
        return {"growth": 4, "stem_width": 16} if len(self.blocks) > 3 else {}

    def norm_features(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x)).relu()

    def pool(self, x: Tensor) -> Tensor:
        if self.global_pool == "":
            return x
        if self.global_pool == "grid":
            return F.adaptive_avg_pool2d(x.mean(dim=2), 4).flatten(1)  # adaptive pooling in 3-D has no form in ONNX
        return x.amax(dim=(2, 3, 4)) if self.global_pool == "max" else x.mean(dim=(2, 3, 4))

    def set_pool(self, global_pool: str, num_classes: int) -> None:
        super().set_pool(global_pool, num_classes)
        self.num_features = self._maps * (16 if global_pool == "grid" else 1)


def _initialise(module: nn.Module) -> None:
    """He et al.'s normal weights in convolutions, as the published code."""
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight)


def load_keras_weights(model: nn.Module, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Fill a ``dat_densenet3d_se`` from the weights of the published Keras network, changing layouts.

    Args:
        model: A network of this file, made with the same options as the Keras one.
        arrays: Keras arrays in the order in which the network was built, under keys ``w/<index>/<layer>/<weight>``:
            convolution kernels (H, W, T, in, out), dense kernels (in, out), and gamma, beta, moving mean and moving
            variance of each batch norm. Other keys are ignored.

    Raises:
        InputError: If their number, order or shapes do not fit.
    """
    keys = sorted((key for key in arrays if key.startswith("w/")), key=lambda key: int(key.split("/")[1]))
    slots = list(_slots(model))
    if len(keys) != len(slots):
        raise InputError(f"The file has {len(keys)} weights 'w/…'; this network takes {len(slots)}. Another variant?")
    values = []
    for key, (name, slot) in zip(keys, slots, strict=True):
        value = _from_keras(np.asarray(arrays[key]))
        if value.shape != slot.shape:
            raise InputError(f"{key} has shape {value.shape} in our layout; {name} expects {tuple(slot.shape)}.")
        values.append(torch.from_numpy(np.ascontiguousarray(value)))
    with torch.no_grad():
        for tensor, (_, slot) in zip(values, slots, strict=True):
            slot.copy_(tensor)


def _slots(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and running statistics in the order in which Keras lists them."""
    for name, module in model.named_modules():
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensor = getattr(module, part, None)
            if isinstance(tensor, Tensor):
                yield f"{name}.{part}", tensor


def _from_keras(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(H, W, T, in, out) -> (out, in, T, H, W) and (in, out) -> (out, in)."""
    return value.transpose(4, 3, 2, 0, 1) if value.ndim == 5 else value.T


# The published code subtracts the mean of all its clips and divides by the maximum, test clips included; grey levels
# from -1 to 1 are the nearest that looks at one clip only.
CLIP = InputSpec("clip", ("grey",), size=64, frames=20, low=-1.0)
DIFFERENCE = InputSpec("difference", ("grey",), size=64, frames=20, low=-1.0, high=1.0, gain=8.0)
IMAGENET = {"compression": 0.5, "drop_rate": 0.0, "channels_last": False}


@register(DIFFERENCE)
def dat_densenet3d(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Our reading of 3D-DAT-DenseNet: scSE, temporal transition, time and places kept; 160 thousand weights.

    Eats first-frame differences, eight times grey level / 255. No paper describes this network: the three letters of
    the name are read, not known. Unlike in the published one, no slice of time is dropped and no kernel tap is dead.
    """
    options = {"attention": "scse", "temporal_transition": "ttl", "keep_time": True, "global_pool": "grid"}
    return build("dat_densenet3d", DATDenseNet3d, pretrained, options, **kwargs)


@register(CLIP)
def dat_densenet3d_se(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The published 3-D SE-DenseNet exactly: 59,679 weights.

    The same function and layout; from scratch its attention starts from other draws (see ``SqueezeExcite``).
    Its third block sees one frame, so the outer taps of that block's kernel, 10,368 weights, can learn nothing.
    """
    return build("dat_densenet3d_se", DATDenseNet3d, pretrained, {}, **kwargs)


@register(CLIP)
def dat_densenet3d_scse(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The published network with scSE, which its code carries and never calls: 59,907 weights."""
    return build("dat_densenet3d_scse", DATDenseNet3d, pretrained, {"attention": "scse"}, **kwargs)


@register(CLIP)
def dat_densenet3d_121(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The published code's SE-DenseNet 121: 11.9 million weights. Published, it needs 29 frames; here 20 will do."""
    options = {"growth": 32, "stem_width": 64, "block_depths": (6, 12, 24, 16), **IMAGENET}
    return build("dat_densenet3d_121", DATDenseNet3d, pretrained, options, **kwargs)


@register(CLIP)
def dat_densenet3d_161(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The published code's SE-DenseNet 161: 42.2 million weights."""
    options = {"growth": 48, "stem_width": 96, "block_depths": (6, 12, 36, 24), **IMAGENET}
    return build("dat_densenet3d_161", DATDenseNet3d, pretrained, options, **kwargs)


@register(CLIP)
def dat_densenet3d_169(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The published code's SE-DenseNet 169: 19.8 million weights."""
    options = {"growth": 32, "stem_width": 64, "block_depths": (6, 12, 32, 32), **IMAGENET}
    return build("dat_densenet3d_169", DATDenseNet3d, pretrained, options, **kwargs)


@register(CLIP)
def dat_densenet3d_201(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The published code's SE-DenseNet 201: 27.3 million weights."""
    options = {"growth": 32, "stem_width": 64, "block_depths": (6, 12, 48, 32), **IMAGENET}
    return build("dat_densenet3d_201", DATDenseNet3d, pretrained, options, **kwargs)


@register(CLIP)
def dat_densenet3d_264(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The published code's SE-DenseNet 264: 43.8 million weights."""
    options = {"growth": 32, "stem_width": 64, "block_depths": (6, 12, 64, 48), **IMAGENET}
    return build("dat_densenet3d_264", DATDenseNet3d, pretrained, options, **kwargs)
