"""A training step recorded once as a CUDA graph and replayed: one launch in place of hundreds."""

import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

Step = Callable[..., Tensor]  # tensors of one batch -> what the step gives
Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]  # -> replay, and where its result lies

logger = logging.getLogger("mer_zoo")

WARM = 3  # steps that are taken before one is recorded: optimizers and libraries make what they need


class Recorded:
    """Replays a step for batches of the size that came first; others, such as the last of an epoch, are taken as usual.

    Args:
        step: What to do with a batch; it changes weights in place.
        settings: What the step reads that is no tensor, such as a learning rate; it is recorded anew when that changes.
        record: Records a step without taking it.
    """

    def __init__(self, step: Step, settings: Callable[[], object], record: Record | None = None) -> None:
        self.step, self.settings, self.record = step, settings, record or record_on_gpu
        self.shapes: list[torch.Size] = []
        self.warm = 0
        self.recorded_for: object = None

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Take the step."""
        shapes = [tensor.shape for tensor in tensors]
        self.shapes = self.shapes or shapes
        if shapes != self.shapes or self.warm < WARM:
            self.warm += shapes == self.shapes
            return self.step(*tensors)
        now = (self.settings(),)
        if self.recorded_for != now and not self._recorded(now, tensors):
            return self.step(*tensors)
        for held, tensor in zip(self.held, tensors, strict=True):
            held.copy_(tensor)
        self.replay()
        return self.result.clone()

    def _recorded(self, now: object, tensors: Sequence[Tensor]) -> bool:
        """Record the step; where that fails, say why once, and never try again."""
        self.held = [tensor.clone() for tensor in tensors]
        try:
            self.replay, self.result = self.record(partial(self.step, *self.held))
        except RuntimeError as error:
            logger.warning("no step is recorded as a CUDA graph: %s", str(error).partition("\n")[0])
            self.warm = -(2**62)
            return False
        self.recorded_for = now
        return True


def record_on_gpu(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record what a step launches; nothing is computed yet."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()
    return graph.replay, result
