"""Plain ports of STSTNet and of the published 3-D SE-DenseNets, to time ours against; in the manner of `ports_flow`.

STSTNet has its streams one after the other, as its authors publish it. The DenseNets have a stem as Keras computes it,
with copies padded before convolution and pool and ReLU on the large maps, and channels first throughout.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from ports_flow import fresh
from torch import Tensor, nn


class STSTNet(nn.Module):
    """Three streams and a linear layer over their maps."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        layers = [(model.conv1, model.bn1), (model.conv2, model.bn2), (model.conv3, model.bn3)]
        self.streams = nn.ModuleList(
            nn.Sequential(
                fresh(conv),
                nn.ReLU(),
                fresh(norm),
                nn.MaxPool2d(kernel_size=3, stride=3, padding=1),
                nn.Dropout(model.drop_rate),
            )
            for conv, norm in layers
        )
        self.fc = fresh(model.fc)

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.cat([stream(x) for stream in self.streams], dim=1)
        logits: Tensor = self.fc(F.avg_pool2d(maps, kernel_size=2).flatten(1))
        return logits


class Stem(nn.Module):
    """Normalise, rectify, pad with a copy, pool."""

    def __init__(self, stem: Any) -> None:
        super().__init__()
        self.conv, self.norm = stem.conv, stem.norm

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(F.pad(x, (0, 1) * 3))).relu()
        return F.max_pool3d(F.pad(x, (0, 1) * 3), kernel_size=3, stride=2)


def densenet(model: nn.Module) -> nn.Module:
    """A copy, channels first, with that stem."""
    plain = fresh(model)
    plain.add_module("stem", Stem(plain.get_submodule("stem")))
    return plain


PORTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "ststnet": STSTNet,
    "dat_densenet3d_se": densenet,
    "dat_densenet3d_scse": densenet,
    **{f"dat_densenet3d_{depth}": densenet for depth in (121, 161, 169, 201, 264)},
}
