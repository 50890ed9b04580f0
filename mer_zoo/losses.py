"""From targets to what ``fit`` minimises."""

from collections.abc import Callable
from functools import partial

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
    weight = class_weights(y, balanced)
    return partial(summed_loss, weight=weight), partial(weight_of, weight=weight)


def class_weights(y: Tensor, balanced: bool) -> Tensor:
    """What each class weighs, (C,), float64: of class indices up to the highest that is there.

    Balanced, of class indices it is N / (C * N_c), the mean weight of a clip being one, and 0 for a class without
    training clips. Of many classes at once it is what a clip that shows the class weighs against one that does not,
    so that both sides weigh the same where there are both.
    """
    if y.ndim == 1:
        return _rarity(y) if balanced else torch.ones(int(y.max()) + 1, dtype=torch.float64, device=y.device)
    there = y.sum(dim=0).double()
    both = (there > 0) & (there < len(y)) & balanced
    return torch.where(both, (len(y) - there) / there.clamp(min=1), 1.0)


def summed_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The sum of the losses of some clips, as one number.

    Cross-entropy of clips of one class each, targets (B,); binary cross-entropy of clips of any number of classes,
    targets (B, C).
    """
    if target.ndim == 1:
        return F.cross_entropy(logits, target, _fit_to(weight, logits), reduction="sum")
    if logits.shape != target.shape:
        raise InputError(f"The model gives {logits.shape[1]} logits a clip; expected {target.shape[1]}.")
    target, weight = target.to(logits.dtype), weight.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="sum")


def weight_of(target: Tensor, weight: Tensor) -> Tensor:
    """What the sum of a batch is divided by: the weight of its clips, or the number of its decisions."""
    return weight[target].sum() if target.ndim == 1 else torch.full((), target.numel(), device=target.device)


def _fit_to(weight: Tensor, logits: Tensor) -> Tensor:
    """Class weights in the number and type of the logits; a class without training clips weighs nothing."""
    missing = logits.shape[1] - len(weight)
    if missing < 0:
        raise InputError(f"The model gives {logits.shape[1]} logits; class index {len(weight) - 1} needs more.")
    return F.pad(weight, (0, missing)).to(logits.dtype)


def _rarity(y: Tensor) -> Tensor:
    """N / (C * N_c); 0 for a class without training clips."""
    counts = torch.bincount(y).double()
    return torch.where(counts > 0, len(y) / (counts.clamp(min=1) * (counts > 0).sum()), 0.0)
