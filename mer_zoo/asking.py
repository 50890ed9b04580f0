"""What it takes to ask one network about one clip: which network, what it eats, and what its answer means."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models import create_model
from mer_zoo.types import InputSpec, spec_of

UNIT = re.compile(r"AU\d+")

_changing = Lock()
_asked: dict[nn.Module, tuple[int, bool]] = {}  # of each part: by how many, and the mode that it had before


@contextmanager
def asked(model: nn.Module | str) -> Iterator[nn.Module]:
    """The network, in evaluation mode as long as this lasts; afterwards each part is in its own mode again.

    Threads may ask one network at once, or one of its parts: whoever asks a part last sets its mode back.

    Args:
        model: A model, or the name of one with weights, such as ``ststnet.synth_3``.

    Raises:
        InputError: If it is neither.
        WeightsError: If a name has no weights.
    """
    if not isinstance(model, str | nn.Module):
        raise InputError(f"model is a {type(model).__name__}; expected a module, or a name such as 'ststnet.synth_3'.")
    network = create_model(model, pretrained=True) if isinstance(model, str) else model
    parts = list(network.modules())
    _take(parts)
    try:
        network.eval()
        yield network
    finally:
        _give_back(parts)


def _take(parts: Sequence[nn.Module]) -> None:
    with _changing:
        for part in parts:
            askers, mode = _asked.get(part, (0, part.training))
            _asked[part] = askers + 1, mode


def _give_back(parts: Sequence[nn.Module]) -> None:
    with _changing:
        for part in parts:
            askers, mode = _asked.pop(part)
            if askers > 1:
                _asked[part] = askers - 1, mode
            else:
                part.training = mode


def eaten_by(network: nn.Module) -> InputSpec:
    """What a network says that it eats.

    Raises:
        InputError: If it does not say so.
    """
    spec = spec_of(network)
    if spec is None or spec.unnamed:
        raise InputError(
            f"{type(network).__name__} does not say what it eats; set model.input_spec = mer_zoo.InputSpec(…)."
        )
    return spec


def logits_of(network: nn.Module, values: Tensor) -> Tensor:
    """Inputs (B, ...) on the CPU -> logits (B, N) on the CPU, float32, wherever and whatever the weights are."""
    weight = next(network.parameters(), values)
    return cast(Tensor, network(values.to(weight.device, weight.dtype)).float().cpu())


def classes_of(network: nn.Module, number: int) -> tuple[str, ...]:
    """Names of the classes, as the network says them, or else by number."""
    return tuple(getattr(network, "classes", ())) or tuple(f"class {i}" for i in range(number))


def probabilities(logits: Tensor, classes: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """Logits (..., N) -> probabilities (..., N): one class of several, or each action unit for itself."""
    units = all(UNIT.fullmatch(name) for name in classes)
    return np.asarray((logits.sigmoid() if units else logits.softmax(-1)).detach().numpy(), np.float32)
