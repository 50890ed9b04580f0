"""STSTNet: three shallow streams over one optical-flow image.

Liong, Gan, See, Khor and Huang, "Shallow Triple Stream Three-dimensional CNN (STSTNet) for Micro-expression
Recognition", FG 2019, doi 10.1109/FG.2019.8756567, arXiv 1902.03634, figure 2 and table I; 1,683 weights. Layer order
and dropout as in the authors' PyTorch port, github.com/christy1206/STSTNet (no licence: read for facts, not copied).
Published: 0.7353 UF1, 0.7605 UAR on MEGC 2019; of the weights in that repository 0.7209 and 0.7250, by its log. That
code scores the last of 800 epochs.

Ours: the three convolutions, which share their input, run as one, and maps lie channels-last; the function and the
names in the state dict stay the same, so the authors' files load.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.models._base import ZooModel, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.models._dropout import Dropout
from mer_zoo.types import InputSpec

SIZES = [3, 5, 8]  # filters of the three streams


class STSTNet(ZooModel):
    """Flow images (B, 3, 28, 28), values 0..255 -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the vector of 400.
        in_chans: Number of flow channels.
        drop_rate: Share of maps' values dropped after the max pooling.
        global_pool: ``flat``: the maps as one vector; empty: as they are.
    """

    first_convs: ClassVar = ("conv1", "conv2", "conv3")
    stem_pattern: ClassVar = r"^(?:conv|bn)\d"

    def __init__(
        self, num_classes: int = 3, in_chans: int = 3, drop_rate: float = 0.5, global_pool: str = "flat"
    ) -> None:
        super().__init__()
        self.set_pool(global_pool, num_classes)
        self.drop_rate = drop_rate
        self.num_classes, self.in_chans, self.num_features = num_classes, in_chans, 400
        self.feature_info = [
            {"num_chs": 16, "reduction": 3, "module": "streams"},
            {"num_chs": 16, "reduction": 6, "module": "average"},
        ]
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(in_chans, n, kernel_size=3, padding=2) for n in SIZES)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(n) for n in SIZES)
        self.drop = Dropout(drop_rate)
        self.fc = classifier(self.num_features, num_classes)

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        return self.streams, self.average

    def streams(self, x: Tensor) -> Tensor:
        """Convolution - ReLU - batch norm - max-pool - dropout of all three: (B, C, 28, 28) -> (B, 16, 10, 10)."""
        convs, norms = (self.conv1, self.conv2, self.conv3), (self.bn1, self.bn2, self.bn3)
        if self._alike(convs, nn.Conv2d) and self._alike(norms, nn.BatchNorm2d):
            x = self._norm(self._conv(x).relu())
        else:
            x = torch.cat([norm(conv(x).relu()) for conv, norm in zip(convs, norms, strict=True)], dim=1)
        dropped: Tensor = self.drop(F.max_pool2d(x, kernel_size=3, stride=3, padding=1))
        return dropped

    def _alike(self, layers: Sequence[nn.Module], kind: type[nn.Module]) -> bool:
        """Whether the three can run as one: as built, none frozen alone, none watched by a hook."""
        return all(
            type(layer) is kind
            and layer.training == self.training
            and not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)
            for layer in layers
        )

    def _conv(self, x: Tensor) -> Tensor:
        convs = (self.conv1, self.conv2, self.conv3)
        rows = torch.cat([conv.weight.flatten(1) for conv in convs])  # so that gradients come back in rows, not strided
        weight = rows.unflatten(1, (self.in_chans, 3, 3)).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        bias = torch.cat([conv.bias for conv in convs if conv.bias is not None])
        return F.conv2d(x, weight, bias, padding=2)

    def average(self, x: Tensor) -> Tensor:
        """(B, 16, 10, 10) -> (B, 16, 5, 5)."""
        return F.avg_pool2d(x, kernel_size=2)

    def pool(self, x: Tensor) -> Tensor:
        """Nothing is pooled away: (B, 16, 5, 5) -> (B, 400)."""
        return x.flatten(1) if self.global_pool else x

    def _norm(self, x: Tensor) -> Tensor:
        """The three batch norms as one; running statistics go back to each."""
        norms = (self.bn1, self.bn2, self.bn3)
        weight, bias = torch.cat([n.weight for n in norms]), torch.cat([n.bias for n in norms])
        mean = torch.cat([n.get_buffer("running_mean") for n in norms])
        var = torch.cat([n.get_buffer("running_var") for n in norms])
        x = F.batch_norm(x, mean, var, weight, bias, self.training, momentum=0.1, eps=1e-5)
        if self.training:
            for norm, norm_mean, norm_var in zip(norms, torch.split(mean, SIZES), torch.split(var, SIZES), strict=True):
                norm.get_buffer("running_mean").copy_(norm_mean)
                norm.get_buffer("running_var").copy_(norm_var)
                norm.get_buffer("num_batches_tracked").add_(1)
        return x


@register(InputSpec("flow", ("strain", "v", "u"), size=28, high=255.0, scaling="channel_min_max", flow_method="tvl1"))
def ststnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """STSTNet of Liong et al., FG 2019: 1,683 weights; channels strain, v, u in 0..255, min-max per image."""
    return build("ststnet", STSTNet, pretrained, **kwargs)
