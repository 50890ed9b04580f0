"""What training does to a batch on its device: mirrored and shifted clips."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mer_zoo.recipe import Recipe
from mer_zoo.types import InputSpec


@dataclass
class Augmentation:
    """Flips and shifts batches (B, C, …, H, W) on their device as a recipe says; each clip draws for itself.

    Attributes:
        recipe: What is done.
        spec: What the inputs are; None where that is not known.
        generator: Where draws come from, on the device of the batches; None: torch's own.
    """

    recipe: Recipe
    spec: InputSpec | None
    generator: torch.Generator | None = None

    def __call__(self, batch: Tensor) -> Tensor:
        """The batch, changed."""
        return self.apply(batch, self.draw(len(batch), batch.device))

    def draw(self, clips: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Which clips are mirrored, (B,) of true and false, and by how many pixels they are shifted, (2, B, 1)."""
        flips = torch.zeros(clips, dtype=torch.bool, device=device)
        if self.recipe.flip:
            flips = torch.rand(clips, device=device, generator=self.generator) < 0.5
        most = self.recipe.shift
        if not most:
            return flips, torch.zeros(2, clips, 1, dtype=torch.int64, device=device)
        return flips, torch.randint(-most, most + 1, (2, clips, 1), device=device, generator=self.generator)

    def apply(self, batch: Tensor, draws: tuple[Tensor, Tensor]) -> Tensor:
        """The batch, changed as was drawn."""
        flips, shifts = draws
        if self.recipe.flip:
            chosen = flips.view(-1, *[1] * (batch.ndim - 1))
            batch = torch.where(chosen, mirror(batch, self.spec), batch)
        return _shift(batch, shifts) if self.recipe.shift else batch


def mirror(batch: Tensor, spec: InputSpec | None) -> Tensor:
    """Left becomes right: (B, C, …, H, W) -> the same. Horizontal flow u changes its sign.

    In a channel that was stretched to low..high the negative of a value is low + high minus it.
    """
    batch = batch.flip(-1)
    if spec is None or "u" not in spec.channels:
        return batch
    u = spec.channels.index("u")
    sum_of_ends = spec.low + spec.high if spec.scaling == "channel_min_max" else 0.0
    batch[:, u] = sum_of_ends - batch[:, u]
    return batch


def _shift(batch: Tensor, by: Tensor) -> Tensor:
    height, width = batch.shape[-2:]
    rows = (torch.arange(height, device=batch.device) + by[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=batch.device) + by[1]).clamp(0, width - 1)
    ones = [1] * (batch.ndim - 3)
    batch = batch.take_along_dim(rows.view(len(batch), *ones, height, 1), dim=-2)
    return batch.take_along_dim(columns.view(len(batch), *ones, 1, width), dim=-1)
