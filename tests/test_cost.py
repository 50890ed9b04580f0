"""What a step costs is counted rightly, and does not creep up: counts that no machine's speed changes."""

from collections.abc import Callable
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


class Grouped(Small):
    """Two groups, and a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 3, padding=1, stride=2, groups=2), nn.Linear(4 * 16, 3)
        self.first = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.first(x))


def test_groups_are_counted_once() -> None:
    """Torch's own count has the weights' gradient once a group."""
    first, conv, linear = 2 * 2 * 64 * 2, 2 * 4 * 16 * 1 * 9, 2 * 64 * 3
    cost = step_cost(Grouped)
    assert cost.forward == pytest.approx((first + conv + linear) / 1e9)
    assert cost.step == pytest.approx((2 * first + 3 * conv + 3 * linear) / 1e9)


@pytest.mark.parametrize("name", ["off_apexnet", "dual_inception", "mvit_v2_s", "dat_densenet3d_121"])
def test_the_way_back_costs_at_most_twice_the_way_there(name: str) -> None:
    cost = step_cost(partial(mer_zoo.create_model, name))
    assert 2 * cost.forward < cost.step <= 3 * cost.forward * (1 + 1e-9)


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
    """Counts what makes the host wait for the device: values asked of tensors, and sizes that depend on values."""

    WAITING = ("_local_scalar_dense", "item", "nonzero", "masked_select", "equal", "_unique2", "repeat_interleave")
    METHODS = ("tolist", "cpu", "numpy")  # which no operator shows on a CPU

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []
        self.patch = pytest.MonkeyPatch()

    def __enter__(self) -> "Waits":
        for name in self.METHODS:
            self.patch.setattr(Tensor, name, self._noting(name, getattr(Tensor, name)))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.patch.undo()

    def _noting(self, name: str, method: Any) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self.names.append(name)
            return method(*args, **kwargs)

        return noted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        by_mask = name.startswith("index") and any(
            isinstance(each, Tensor) and each.dtype == torch.bool
            for part in args[1:2]
            if isinstance(part, list | tuple)
            for each in part
        )
        self.names += [name] if name in self.WAITING or by_mask else []
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


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: float(x.sum()),
        lambda x: bool(x.any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.masked_fill_(x > 2, 0).index_put_((x > 0,), torch.tensor(1.0)),
        lambda x: x.unique(),
        lambda x: x.repeat_interleave(torch.tensor([1, 2, 1])),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.numpy(),
    ],
)
def test_a_wait_is_counted(wait: Callable[[Tensor], object]) -> None:
    with Waits() as counted:
        torch.ones(3).mul(2).index_select(0, torch.arange(2))
        assert not counted.names
        wait(torch.ones(3))
    assert counted.names


@pytest.mark.parametrize("together", [False, True])
def test_no_step_waits_for_the_device(together: bool) -> None:
    """As many waits with four steps an epoch as with one, and as with more epochs: losses are read at the end."""
    assert waits(2, 4, together) == waits(2, 1, together)
    assert waits(4, 1, together) - waits(2, 1, together) in (0, 2)  # alone, a number an epoch, read at the end
