"""EMR: a ResNet-18 on optical flow, whose last maps are pooled over the upper and the lower face apart.

Liu, Du, Zheng and Gedeon, "A Neural Micro-Expression Recognizer", FG 2019, doi 10.1109/FG.2019.8756583: flow from
onset to apex, part-based average pooling, and help from macro-expressions by adversarial training and by expression
magnification and reduction (EMR). Layers as in github.com/xiaobaishu0097/MEGC2019 (no licence, read for facts, not
copied): the account under which Du publishes, and its parts are those of the paper's abstract; it does not name the
paper. Published: 0.7885 UF1, 0.7824 UAR on MEGC 2019 (as listed in HTNet's table 2); that code takes for each test
person the epoch that is best on that person.

Trunk: He et al., CVPR 2016, as torchvision names and fills it, so that weights for ImageNet load by name; the code
begins with such, to go by their 1,000 classes. 11,242,563 weights, counted from its layers; no count found. Ours: of
its training, the two classifiers of one part each and the discriminator of macro and micro are left out, and so is the
magnification of micro-expressions; flow comes as u, v and strain, each stretched to -1..1, where the code paints
direction and length in colours, with the face's own saturation; the row where the face is parted scales with the size.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import ZooModel, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.models._layers2d import ChannelsFirst, resnet_layers
from mer_zoo.types import InputSpec

WIDTHS = (64, 128, 256, 512)
PART = 64  # features of each part of the face


def part(drop_rate: float) -> nn.Sequential:
    """What is kept of a part of the face: (B, 512) -> (B, 64)."""
    return nn.Sequential(nn.Linear(WIDTHS[-1], PART), nn.Tanh(), nn.Dropout(drop_rate))


class EMR(ZooModel):
    """Flow images (B, C, size, size), values -1..1 -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the vector of 128.
        in_chans: Number of flow channels.
        size: Height and width; the weights fit any.
        drop_rate: Share of each part's features dropped.
        global_pool: ``parts``: means over the upper and the lower face, each through its layer; empty: the maps.
    """

    first_convs: ClassVar = ("conv1",)
    behind_maps: ClassVar = ("top", "bottom")
    stem_pattern: ClassVar = r"^(?:conv|bn)1"
    blocks_pattern: ClassVar = r"^layer(\d+)"
    layers_pattern: ClassVar = r"^layer(\d+)\.(\d+)"
    pools: ClassVar = ("parts",)

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 3,
        size: int = 224,
        drop_rate: float = 0.1,
        global_pool: str = "parts",
    ) -> None:
        super().__init__()
        if size < 33:
            raise InputError(f"size is {size}; expected 33 or more, so that the last maps have two rows to part.")
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, 2 * PART
        self.size, self.drop_rate = size, drop_rate
        self.conv1 = nn.Conv2d(in_chans, WIDTHS[0], kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.feature_info = [{"num_chs": WIDTHS[0], "reduction": 4, "module": "stem"}]
        layers = resnet_layers(WIDTHS)
        layers[-1] = ChannelsFirst(*layers[-1])
        for i, layer in enumerate(layers):
            self.add_module(f"layer{i + 1}", layer)
            self.feature_info.append({"num_chs": WIDTHS[i], "reduction": 4 * 2**i, "module": f"layer{i + 1}"})
        self.top, self.bottom = part(drop_rate), part(drop_rate)
        self.fc = classifier(self.num_features, num_classes)
        self.apply(_initialise)
        self.to(memory_format=torch.channels_last)  # maps follow the layout of the weights, which pays on a CPU
        layers[-1].to(memory_format=torch.contiguous_format)  # but not where maps are small and weights many

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        return [self.stem, *(layer for name, layer in self.named_children() if name.startswith("layer"))]

    def stem(self, x: Tensor) -> Tensor:
        """A quarter of the size: (B, C, H, W) -> (B, 64, H / 4, W / 4)."""
        # The maximum of rectified values is the rectified maximum, of a quarter as many.
        return F.max_pool2d(self.bn1(self.conv1(x)), kernel_size=3, stride=2, padding=1).relu_()

    def keep_stages(self, number: int) -> None:
        for i in range(number, len(WIDTHS) + 1):
            delattr(self, f"layer{i}")

    def pool(self, x: Tensor) -> Tensor:
        if not self.global_pool:
            return x
        row = max(1, 3 * x.shape[2] // 7)  # three of the seven rows of a 224-pixel face are its upper part
        upper, lower = x[:, :, :row].mean(dim=(2, 3)), x[:, :, row:].mean(dim=(2, 3))
        return torch.cat([self.top(upper), self.bottom(lower)], dim=1)


def _initialise(module: nn.Module) -> None:
    """He et al.'s normal weights in convolutions, Glorot's in linear layers."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        nn.init.zeros_(module.bias)


SPEC = InputSpec(
    "flow", ("u", "v", "strain"), size=224, low=-1.0, high=1.0, scaling="channel_min_max", flow_method="farneback"
)


@register(SPEC)
def emr(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """EMR of Liu et al., FG 2019: ResNet-18, upper and lower face pooled apart; 11,242,563 weights."""
    return build("emr", EMR, pretrained, **kwargs)
