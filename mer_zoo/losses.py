"""From targets to what ``fit`` minimises."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mer_zoo.errors import InputError

Loss = Callable[[Tensor, Tensor], Tensor]  # logits and targets of some clips -> the sum of their losses
Weight = Callable[[Tensor], Tensor]  # targets of a batch -> what that sum is divided by


def loss_for(y: Tensor, balanced: bool) -> tuple[Loss, Weight]:
    """The loss for class indices (N,), or for (N, C) of 0 and 1, and the weight of a batch.

    Args:
        y: Targets of all training clips.
        balanced: Weight classes inversely to their training clips.
    """
    return _many(y, balanced) if y.ndim == 2 else _one(y, balanced)


def _one(y: Tensor, balanced: bool) -> tuple[Loss, Weight]:
    """Cross-entropy of clips of one class each, and the weight of a batch."""
    weight = _class_weights(y) if balanced else torch.ones(int(y.max()) + 1, device=y.device)
    return (
        lambda logits, target: F.cross_entropy(logits, target, _fit_to(weight, logits), reduction="sum"),
        lambda target: weight[target].sum(),
    )


def _many(y: Tensor, balanced: bool) -> tuple[Loss, Weight]:
    """Binary cross-entropy of clips of any number of classes, and the weight of a batch.

    Balanced, the clips of a class weigh as much as those that are not of it, where there are both.
    """
    there = y.sum(dim=0)
    both = (there > 0) & (there < len(y))
    rarity = torch.where(both, (len(y) - there) / there.clamp(min=1), 1.0) if balanced else None

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        if logits.shape != target.shape:
            raise InputError(f"The model gives {logits.shape[1]} logits a clip; expected {target.shape[1]}.")
        weight = None if rarity is None else rarity.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), pos_weight=weight, reduction="sum")

    return loss, lambda target: torch.tensor(target.numel(), device=target.device)


def _fit_to(weight: Tensor, logits: Tensor) -> Tensor:
    """Class weights in the number and type of the logits; a class without training clips weighs nothing."""
    missing = logits.shape[1] - len(weight)
    if missing < 0:
        raise InputError(f"The model gives {logits.shape[1]} logits; class index {len(weight) - 1} needs more.")
    return F.pad(weight, (0, missing)).to(logits.dtype)


def _class_weights(y: Tensor) -> Tensor:
    """N / (C * N_c), the mean weight of a clip being one; 0 for a class without training clips."""
    counts = torch.bincount(y)
    return torch.where(counts > 0, len(y) / (counts.clamp(min=1) * (counts > 0).sum()), 0.0)
