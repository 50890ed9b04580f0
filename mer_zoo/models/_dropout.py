"""Dropout whose draws do not take longer than the layers around it, for networks that drop half of their values."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """As ``torch.nn.Dropout``, on a CPU with uniform draws: half the time at one half, as long at a tenth."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu" or not 0 < self.p < 1:
            return super().forward(x)
        kept = torch.rand_like(x, dtype=torch.float32) >= self.p
        return (x * kept).mul_(1 / (1 - self.p))  # of this, one byte a value is kept for the way back
