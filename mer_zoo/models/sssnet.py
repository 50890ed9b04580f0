"""SSSNet: one shallow stream over one optical-flow image.

Varanka, Peng and Zhao, "Micro-expression recognition with noisy labels", IS&T Electronic Imaging, HVEI 2021, doi
10.2352/ISSN.2470-1173.2021.11.HVEI-157; the layers as in the authors' library MEB (tvaranka/meb, Apache-2.0),
``meb/models/me_networks.py``, whose weights were counted. Published: 0.739 UF1 on MEGC 2019 (the notebook of figure 2
of MEB, last epoch; it gives the cross entropy softmaxed logits).

Ours: MEB's flow is by Classic+NL of Sun et al., CVPR 2010, in pixels of the face as it was cut out; here it is by
TV-L1, in pixels of the small image, and clipped at 5 of them. Maps are rectified after the maximum, which is the same.
Pass ``size`` for other images than of 64 pixels. There is no option to softmax.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import StemAndBlocks, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.models._dropout import Dropout
from mer_zoo.types import InputSpec


class Layer(nn.Module):
    """Convolution without padding - ReLU - max-pool - batch norm - whole maps dropped: (B, C, H, W) -> (B, D, H', W').

    Args:
        in_chans: C.
        out: D.
        kernel: Height and width of the convolution.
        pool: Height, width and stride of the pooling.
        drop_rate: Share of maps dropped in training.
    """

    def __init__(self, in_chans: int, out: int, kernel: int, pool: int, drop_rate: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out, kernel)
        self.norm = nn.BatchNorm2d(out)
        self.drop = nn.Dropout2d(drop_rate)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        # The rectified maximum is the maximum of rectified values, which are several times as many.
        y: Tensor = self.drop(self.norm(F.max_pool2d(self.conv(x), self.pool).relu()))
        return y


class SSSNet(StemAndBlocks):
    """Flow images (B, 3, 64, 64), pixels from -5 to 5 -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the hidden vector before them.
        in_chans: Number of flow channels.
        size: Height and width of the input, which the hidden layer is made for.
        widths: Maps of the first and the second layer, and length of the hidden vector.
        drop_rate: Share of maps dropped after each layer, and of the hidden vector's values.
        global_pool: ``flat``: the maps through the hidden layer; empty: as they are.
    """

    first_convs: ClassVar = ("stem.conv",)
    behind_maps: ClassVar = ("hidden",)
    layers_pattern: ClassVar = r"^blocks\.(\d+)"

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 3,
        size: int = 64,
        widths: Sequence[int] = (32, 64, 256),
        drop_rate: float = 0.5,
        global_pool: str = "flat",
    ) -> None:
        super().__init__()
        if len(widths) != 3:
            raise InputError(f"widths are {widths}; expected three: of both convolutions, and of the hidden layer.")
        first, second, hidden = widths
        side = (size - 4) // 3
        last = (side - 2) // 2
        if last < 1:
            raise InputError(f"size is {size}; expected 16 pixels or more, so that something is left of the maps.")
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, hidden
        self.size, self.drop_rate = size, drop_rate
        self.stem = Layer(in_chans, first, kernel=5, pool=3, drop_rate=drop_rate)
        self.blocks = nn.ModuleList([Layer(first, second, kernel=3, pool=2, drop_rate=drop_rate)])
        self.feature_info = [
            {"num_chs": first, "reduction": size / side, "module": "stem"},
            {"num_chs": second, "reduction": size / last, "module": "blocks.0"},
        ]
        self.hidden: nn.Module = nn.Linear(second * last * last, hidden)
        self.drop = Dropout(drop_rate)
        self.fc = classifier(hidden, num_classes)
        self.to(memory_format=torch.channels_last)  # maps follow the layout of the weights; twice as fast

    def pool(self, x: Tensor) -> Tensor:
        """(B, 64, 9, 9) -> (B, 256), rectified."""
        return self._run(self._hide, x) if self.global_pool else x

    def _hide(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.drop(self.hidden(x.flatten(1)).relu()))


@register(InputSpec("flow", ("u", "v", "strain"), size=64, low=-5.0, high=5.0, flow_method="tvl1"))
def sssnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SSSNet of Varanka et al., HVEI 2021: 1,349,251 weights; flow in pixels, not stretched."""
    return build("sssnet", SSSNet, pretrained, **kwargs)
