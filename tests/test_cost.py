"""What a step costs is counted rightly, and does not creep up: counts that no machine's speed changes."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import mer_zoo
from mer_zoo.cost import Cost, step_cost
from mer_zoo.errors import InputError
from mer_zoo.recipe import Recipe
from mer_zoo.together import Clips, fit_together
from mer_zoo.training import fit
from mer_zoo.types import InputSpec

SPEC = InputSpec("flow", ("u", "v"), size=8, flow_method="dis")


class Small(nn.Module):
    """A convolution, a ReLU and a linear layer, of which everything can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.input_spec = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4 * 64, 3), SPEC

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.conv(x).relu().flatten(1))
        return logits


def test_counts_are_those_made_by_hand() -> None:
    cost = step_cost(Small, batch_size=5)
    conv, linear = 2 * 4 * 64 * 2 * 9, 2 * 256 * 3
    assert cost.parameters == 4 * 2 * 9 + 4 + 256 * 3 + 3
    assert cost.forward == pytest.approx((conv + linear) / 1e9)
    assert cost.step == pytest.approx((2 * conv + 3 * linear) / 1e9)  # the input of the convolution needs no gradient
    assert cost.kept == 4 * (2 * 64 + 4 * 64)  # the input, and what was rectified
    assert cost.training_bytes(10) == 16 * cost.parameters + 10 * cost.kept


def test_nothing_is_computed() -> None:
    """A network that would need a terabyte."""

    class Large(Small):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(2, 2**20, 3, padding=1), nn.Linear(2**26, 3)

    assert step_cost(Large).kept > 2**28


def test_what_cannot_be_counted_is_said() -> None:
    with pytest.raises(InputError, match="batch_size is 0"):
        step_cost(Small, batch_size=0)
    with pytest.raises(InputError, match=r"set model\.input_spec"):
        step_cost(partial(nn.Linear, 2, 2))


# Raise a limit only with a reason in the commit: operators of a step, bytes kept of a clip.
LIMITS = {"ststnet": (40, 160_000), "dat_densenet3d_se": (225, 4_500_000), "dat_densenet3d": (320, 9_200_000)}


@pytest.mark.parametrize("name", LIMITS)
def test_a_step_takes_no_more_than_it_did(name: str) -> None:
    cost: Cost = step_cost(partial(mer_zoo.create_model, name))
    operators, kept = LIMITS[name]
    assert cost.operators <= operators
    assert cost.kept <= kept


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for the device: numbers asked of tensors, and sizes that depend on values."""

    WAITING = ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select", "aten::equal")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        self.names += [name] if name in self.WAITING else []
        return func(*args, **(kwargs or {}))


def clips(name: str, number: int) -> tuple[Tensor, Tensor]:
    spec = mer_zoo.input_spec(name)
    return spec.low + torch.rand(number, *spec.shape) * (spec.high - spec.low), torch.arange(number) % 3


def waits(epochs: int, steps: int, together: bool) -> int:
    """How often a run of so many epochs of so many steps waits."""
    x, y = clips("ststnet", 8 * steps)
    recipe = Recipe(epochs=epochs, batch_size=8, flip=True, shift=2, balanced=True)
    with Waits() as counted:
        if together:
            models = [mer_zoo.create_model("ststnet") for _ in range(2)]
            fit_together(
                models, Clips(x, y, [torch.arange(8 * steps)] * 2, mer_zoo.input_spec("ststnet")), [recipe] * 2
            )
        else:
            fit(mer_zoo.create_model("ststnet"), (x, y), recipe, device="cpu")
    return len(counted.names)


def test_a_wait_is_counted() -> None:
    with Waits() as counted:
        float(torch.ones(3).sum())
        torch.ones(3).nonzero()
    assert len(counted.names) == 2


@pytest.mark.parametrize("together", [False, True])
def test_no_step_waits_for_the_device(together: bool) -> None:
    """As many waits with four steps an epoch as with one; more epochs cost one each at most, when losses are read."""
    assert waits(2, 4, together) == waits(2, 1, together)
    assert waits(4, 1, together) - waits(2, 1, together) <= 2
