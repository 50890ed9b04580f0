"""What a network of another library was fed: grey levels in 0..1, less a mean, over a deviation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mer_zoo.types import InputSpec


class Normalise(nn.Module):
    """Values as a spec says to those that a network's own weights know: (B, C, …) -> the same.

    ``low..high`` goes to 0..1; then the mean is subtracted and divided by the deviation, channel by channel where
    there are as many as the network's own; else all channels have the mean of either, as nothing says which is which.

    Args:
        mean: Of the network's own channels, on the scale of 0..1.
        std: Their deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))  # saved, since a release of that library may change its mind
        self.register_buffer("std", torch.tensor(std))

    def forward(self, x: Tensor, spec: InputSpec) -> Tensor:
        own = x.shape[1] == len(self.mean)
        mean, std = (self.mean, self.std) if own else (self.mean.mean(), self.std.mean())
        scale = 1 / (std * (spec.high - spec.low))
        shift = -mean / std - spec.low * scale
        shape = (-1, *[1] * (x.ndim - 2)) if own else ()
        return torch.addcmul(shift.view(shape), x, scale.view(shape))
