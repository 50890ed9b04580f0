"""Mean and standard deviation of the training part, as a layer that ``fit`` fills and ``evaluate`` watches."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from mer_zoo.errors import InputError


class Standardise(nn.Module):
    """Subtracts each channel's mean and divides by its standard deviation: (B, C, …) -> the same.

    Put it before a network: ``nn.Sequential(Standardise(3), network)``. ``training.fit`` computes both from the clips
    that it is given, before the first epoch, and leaves them alone if they are there already. They are buffers, so they
    are saved with the weights.

    Attributes:
        learnt_from: Keys of the clips that mean and deviation were computed from; empty if that is not known.

    Raises:
        InputError: If it is used before it has learnt, or for another number of channels.
    """

    mean: Tensor
    std: Tensor
    clips: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.register_buffer("clips", torch.zeros((), dtype=torch.int64))
        self.learnt_from: frozenset[str] = frozenset()

    def learn(self, x: Tensor, keys: Iterable[str] = ()) -> None:
        """Take mean and standard deviation from clips (N, C, …); a constant channel is divided by one."""
        self._check(x)
        channels = x.transpose(0, 1).flatten(1).double()
        std, mean = torch.std_mean(channels, dim=1, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, 1.0))
        self.clips.fill_(len(x))
        self.learnt_from = frozenset(keys)

    def forward(self, x: Tensor) -> Tensor:
        """Standardised clips."""
        self._check(x)
        shape = (1, -1, *[1] * (x.ndim - 2))
        return (x - self.mean.view(shape)) / self.std.view(shape)

    def _check(self, x: Tensor) -> None:
        if x.shape[1] != len(self.mean):
            raise InputError(f"The input has {x.shape[1]} channels; Standardise was made for {len(self.mean)}.")


def standardisers(model: nn.Module) -> Iterator[Standardise]:
    """The layers of this kind in a model."""
    return (layer for layer in model.modules() if isinstance(layer, Standardise))
