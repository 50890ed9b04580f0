"""How to train, as a frozen set of plain values."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from mer_zoo.errors import InputError
from mer_zoo.options import is_whole

Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["constant", "cosine"]
Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Passes over the training clips, 1 or more.
        batch_size: Clips a step, over all processes; a last batch of one clip joins the one before.
        lr: Learning rate at the start.
        optimizer: ``adam``, ``adamw``, or ``sgd`` with Nesterov momentum 0.9.
        weight_decay: Of the optimizer.
        schedule: ``constant``, or ``cosine`` to zero over the epochs.
        balanced: Weight classes inversely to their training clips.
        flip: Mirror half of the clips; flow to the right becomes flow to the left.
        shift: Move each clip by up to so many pixels, edges repeated.
        precision: ``no`` is float32; ``bf16``, on a CPU not for 3-D kernels larger than their maps; ``fp16``, on a GPU
            only.
        seed: Of the order of clips, augmentation, dropout, and in ``evaluate`` of the initial weights.

    Raises:
        InputError: If a value makes no sense; all that do not are named.
    """

    epochs: int = 50
    batch_size: int = 32
    lr: float = 1e-3
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    balanced: bool = False
    flip: bool = False
    shift: int = 0
    precision: Precision = "no"
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [
            f"{name} is {getattr(self, name)!r}; expected {expected}"
            for name, sound, expected in (
                ("epochs", is_whole(self.epochs, 1), "a whole number, 1 or more"),
                ("batch_size", is_whole(self.batch_size, 1), "a whole number, 1 or more"),
                ("lr", _number(self.lr) and self.lr > 0, "a positive number"),
                ("optimizer", self.optimizer in get_args(Optimizer), f"one of {get_args(Optimizer)}"),
                ("weight_decay", _number(self.weight_decay) and self.weight_decay >= 0, "0 or more"),
                ("balanced", isinstance(self.balanced, bool), "True or False"),
                ("flip", isinstance(self.flip, bool), "True or False"),
                ("schedule", self.schedule in get_args(Schedule), f"one of {get_args(Schedule)}"),
                ("shift", is_whole(self.shift, 0), "a whole number of pixels, 0 or more"),
                ("precision", self.precision in get_args(Precision), f"one of {get_args(Precision)}"),
                ("seed", is_whole(self.seed, 0) and self.seed < 2**32, "a whole number, 0 to 2**32 - 1"),
            )
            if not sound
        ]
        if wrong:
            raise InputError(f"Recipe: {'; '.join(wrong)}.")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
