"""MicroExpFuseNet: a 3-D convolution over the eyes, another over nose and mouth, fused early or late.

Reddy, Karri, Dubey and Mukherjee, "Spontaneous Facial Micro-Expression Recognition using 3D Spatiotemporal
Convolutional Neural Networks", IJCNN 2019, arXiv 1904.01390. Layers and sizes are those of the authors' Keras code
(bogireddytejareddy/micro-expression-recognition, MIT, Intermediate_MicroFuseNet.py and Late_MicroFuseNet.py); no
activation stands between its linear layers, and none does here. Weights: counted from those layers at 18 frames.

The code looks for dlib's 68 landmarks on every frame and cuts out two boxes: the eyes, from the height of point 19 (a
brow) to that of point 1 (the jaw below the ear), and nose and mouth, from point 2 to point 6 (beside the chin), both as
wide as the jaw; each becomes 32 x 32 by area. Ours: the boxes lie at fixed places of the aligned clip, where dlib's
mean face has these points (see ``EYES`` and ``MOUTH``), so that a landmark's jitter is no motion; the jaw is wider than
the clip, so they are as wide as the clip, and the chin lies below it. Also ours: one clip of 128 pixels for both; ReLU
after the pooling, which is the same function; linear layers give maps of 1 x 1 x 1, so that their values can be had as
features; frames and grey levels as in ``micro_exp_stcnn``.

Published accuracy, intermediate and late: 0.8325 and 0.7931 on CAS(ME)^2, 0.5477 and 0.6482 on SMIC. The code chooses
the epoch by the accuracy on all clips, those learnt from included, and the four scores are the fractions 169 and 161
of 203, 109 and 129 of 199 that this would give; for SMIC it enters the 43 clips of surprise twice, and 43 of these 86
as negative. They say nothing of clips that were not seen.
"""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from mer_zoo.models._base import StemAndBlocks, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.models._dropout import Dropout
from mer_zoo.models.micro_exp_stcnn import WIDTH, SpaceTime, pooled
from mer_zoo.types import InputSpec

REGION = 32  # pixels of each region's height and width

EYES = (0.09, 0.43)
"""Upper and lower edge of the eyes' region, as fractions of the aligned clip's height."""

MOUTH = (0.58, 1.0)
"""Upper and lower edge of the region of nose and mouth."""

Fusion = Literal["intermediate", "late"]


def area_weights(size: int, upper: float, lower: float) -> Tensor:
    """Means over areas as a matrix (REGION, size): each row weighs the pixels by how much of them it covers."""
    edges = np.linspace(upper * size, lower * size, REGION + 1)
    pixels = np.arange(size)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return torch.tensor(covered.clip(min=0) / (edges[1] - edges[0]), dtype=torch.get_default_dtype())


class Streams(nn.Module):
    """Both regions' maps behind each other: (B, C, T, H, W) -> (B, 64, (T - 14) / 3, 10, 10)."""

    columns: Tensor
    eyes_rows: Tensor
    mouth_rows: Tensor

    def __init__(self, in_chans: int, size: int, drop_rate: float) -> None:
        super().__init__()
        self.register_buffer("columns", area_weights(size, 0.0, 1.0).T.contiguous(), persistent=False)
        self.register_buffer("eyes_rows", area_weights(size, *EYES), persistent=False)
        self.register_buffer("mouth_rows", area_weights(size, *MOUTH), persistent=False)
        self.eyes, self.mouth = SpaceTime(in_chans, drop_rate), SpaceTime(in_chans, drop_rate)
        self.eyes.rows, self.mouth.rows = EYES, MOUTH

    def regions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Eyes, and nose and mouth, of a clip: (B, C, T, H, W) -> two of (B, C, T, 32, 32)."""
        narrow = x @ self.columns
        return self.eyes_rows @ narrow, self.mouth_rows @ narrow

    def forward(self, x: Tensor) -> Tensor:
        eyes, mouth = self.regions(x)
        return torch.cat([self.eyes(eyes), self.mouth(mouth)], dim=1)


class Side(nn.Module):
    """Linear layers and dropout, each on its share of a clip's values: (B, D, T, H, W) -> (B, units, 1, 1, 1)."""

    def __init__(self, layers: int, inputs: int, units: int, drop_rate: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs // layers, units // layers) for _ in range(layers))
        self.drop = Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        shares = x.flatten(1).chunk(len(self.layers), dim=1)
        out = torch.cat([layer(share) for layer, share in zip(self.layers, shares, strict=True)], dim=1)
        dropped: Tensor = self.drop(out)
        return dropped[:, :, None, None, None]


class MicroExpFuseNet(StemAndBlocks):
    """Aligned clips (B, C, T, H, W), values from -1 to 1 -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the vector before them.
        in_chans: Number of channels.
        num_frames: T; 17 or more.
        size: Height and width of the clip out of which the regions are cut.
        fusion: ``intermediate``: the maps of both regions go through the linear layers together; ``late``: each
            region has its own.
        drop_rate: Share of values dropped after the pooling and after each linear layer.
        global_pool: ``flat``: the last hidden layer's values as a vector; empty: as maps of 1 x 1 x 1.
    """

    first_convs: ClassVar = ("stem.eyes.conv", "stem.mouth.conv")
    layers_pattern: ClassVar = StemAndBlocks.blocks_pattern

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 1,
        num_frames: int = 18,
        size: int = 128,
        fusion: Fusion = "intermediate",
        drop_rate: float = 0.5,
        global_pool: str = "flat",
    ) -> None:
        super().__init__()
        self.set_pool(global_pool, num_classes)
        sides = 1 if fusion == "intermediate" else 2
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, 128 * sides
        self.num_frames, self.size, self.drop_rate = num_frames, size, drop_rate
        times, side = pooled(num_frames, REGION)
        self.stem = Streams(in_chans, size, drop_rate)
        self.feature_info = [{"num_chs": 2 * WIDTH, "reduction": size / side, "module": "stem"}]
        self.blocks = nn.ModuleList()
        inputs = 2 * WIDTH * times * side**2
        for i, units in enumerate((1024 * sides, 128 * sides)):
            self.blocks.append(Side(sides, inputs, units, drop_rate))
            self.feature_info.append({"num_chs": units, "reduction": size, "module": f"blocks.{i}"})
            inputs = units
        self.fc = classifier(self.num_features, num_classes)
        self.apply(_initialise)

    def pool(self, x: Tensor) -> Tensor:
        return x.flatten(1) if self.global_pool else x


def _initialise(module: nn.Module) -> None:
    """Glorot's uniform weights and no bias, Keras's defaults, in linear layers."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


CLIP = InputSpec("clip", ("grey",), size=128, frames=18, low=-1.0)


@register(CLIP)
def micro_exp_fusenet_intermediate(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Intermediate MicroExpFuseNet of Reddy et al., IJCNN 2019: eyes and mouth fused early; 6,694,915 weights."""
    return build("micro_exp_fusenet_intermediate", MicroExpFuseNet, pretrained, {"fusion": "intermediate"}, **kwargs)


@register(CLIP)
def micro_exp_fusenet_late(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Late MicroExpFuseNet of Reddy et al., IJCNN 2019: eyes and mouth fused last; 6,827,523 weights."""
    return build("micro_exp_fusenet_late", MicroExpFuseNet, pretrained, {"fusion": "late"}, **kwargs)
