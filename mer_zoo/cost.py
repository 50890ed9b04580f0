"""What a network costs, counted and not timed, so that no machine's speed changes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from mer_zoo.errors import InputError
from mer_zoo.models import input_spec
from mer_zoo.types import InputSpec

STATE = 16  # bytes a weight: itself, its gradient, and two averages of Adam, in float32


@dataclass(frozen=True)
class Cost:
    """What one clip costs.

    Attributes:
        parameters: Weights.
        forward: Billions of floating-point operations to the logits, a multiplication and an addition being two; those
            of matrix products and convolutions only.
        step: The same, with the way back.
        kept: Bytes that are kept for the way back, a clip.
        operators: Calls of PyTorch's operators on tensors in one step, whatever the batch; views are not counted.
    """

    parameters: int
    forward: float
    step: float
    kept: float
    operators: int

    def training_bytes(self, batch_size: int) -> int:
        """The least that a training step with Adam needs: weights with gradient and averages, and what is kept."""
        return round(STATE * self.parameters + batch_size * self.kept)


def step_cost(create: Callable[[], nn.Module], batch_size: int = 2, spec: InputSpec | None = None) -> Cost:
    """Count what a training step costs, without computing it.

    Args:
        create: Makes the network; it is called under torch's meta device, so that no memory is taken.
        batch_size: Clips that are counted with, then divided by, 1 or more.
        spec: What the network eats, where it does not say so itself.

    Raises:
        InputError: If the network does not say what it eats.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; expected 1 or more.")
    with torch.device("meta"):
        model = create().train()
        x = torch.zeros(batch_size, *(spec or input_spec(model)).shape)
    kept = _Kept(model)
    with _Operators() as operators:
        with FlopCounterMode(display=False) as there, kept:
            logits = model(x)
        with FlopCounterMode(display=False, custom_mapping=RIGHT) as back:
            logits.sum().backward()
    forward, backward = (counter.get_total_flops() / batch_size / 1e9 for counter in (there, back))
    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        forward=forward,
        step=forward + backward,
        kept=kept.bytes / batch_size,
        operators=operators.calls,
    )


def _of_convolution_backward(grad_out: Any, x: Any, weight: Any, *rest: Any, **_: Any) -> int:
    """Each gradient that is asked for costs what forward does; torch counts that of grouped weights once a group."""
    transposed, asked = rest[4], rest[7]
    once: int = conv_flop_count(x, weight, grad_out, transposed)
    return once * int(asked[0] + asked[1])


RIGHT = {torch.ops.aten.convolution_backward: _of_convolution_backward}


class _Kept(torch.autograd.graph.saved_tensors_hooks):
    """Adds up what is kept for the way back, each storage once, weights left out."""

    def __init__(self, model: nn.Module) -> None:
        self.storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address comes twice
        self.own = {id_of(p) for p in (*model.parameters(), *model.buffers())}
        super().__init__(self._note, lambda tensor: tensor)

    def _note(self, tensor: Tensor) -> Tensor:
        if id_of(tensor) not in self.own:
            self.storages[id_of(tensor)] = tensor.untyped_storage()
        return tensor

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


def id_of(tensor: Tensor) -> int:
    """Which storage a tensor lies in."""
    return int(tensor.untyped_storage()._cdata)


class _Operators(TorchDispatchMode):
    """Counts calls of operators that make or change tensors."""

    def __init__(self) -> None:
        self.calls = 0
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += not func.is_view
        return func(*args, **(kwargs or {}))
