"""Recorded steps: the bookkeeping, by a recorder that needs no GPU; graphs themselves are tried where there is one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.graphs import Recorded
from mer_zoo.recipe import Recipe
from mer_zoo.training import fit

RECIPE = Recipe(epochs=6, batch_size=8, schedule="cosine")


def losses(device: str, graphs: bool) -> list[float]:
    """Of STSTNet on made-up images, in float64."""
    torch.manual_seed(0)
    model = mer_zoo.create_model("ststnet", drop_rate=0.0).double()
    x = 255 * torch.rand(21, 3, 28, 28, dtype=torch.float64)
    return fit(model, (x, torch.arange(21) % 3), RECIPE, device=device, graphs=graphs)  # type: ignore[arg-type]


def repeater(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Records nothing and takes the step again, its result in one place, as a graph leaves it."""
    result = torch.zeros((), dtype=torch.float64)

    def replay() -> None:
        result.copy_(step())

    return replay, result


def averages(wrap: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]) -> list[float]:
    """What a step that changes a weight in place gives over batches of two sizes."""
    weight = torch.zeros(3, dtype=torch.float64)

    def step(x: Tensor) -> Tensor:
        weight.add_(0.1 * (x.mean(dim=0) - weight))
        return weight.square().sum()

    taken, generator = wrap(step), torch.Generator().manual_seed(0)
    sizes = (8, 8, 5, 8, 8, 8, 5, 8, 8)
    return [float(taken(torch.rand(size, 3, generator=generator, dtype=torch.float64))) for size in sizes]


def test_a_replayed_step_is_the_step() -> None:
    assert averages(lambda step: Recorded(step, lambda: 0, repeater)) == averages(lambda step: step)


def test_a_step_is_recorded_anew_when_a_setting_changes() -> None:
    rates = iter([1.0] * 3 + [0.5] * 3)
    recorded: list[Callable[[], Tensor]] = []

    def record(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        recorded.append(step)
        return repeater(step)

    step = Recorded(lambda x: x.sum().double(), lambda: next(rates), record)
    for _ in range(8):
        step(torch.ones(2))
    assert len(recorded) == 2


def test_what_cannot_be_recorded_is_taken_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    assert averages(lambda step: Recorded(step, lambda: 0, refuse)) == averages(lambda step: step)
    assert caplog.text.count("no step is recorded as a CUDA graph: operation not permitted when stream") == 1


def test_graphs_on_a_cpu_are_refused() -> None:
    with pytest.raises(InputError, match="graphs=True records CUDA graphs"):
        losses("cpu", graphs=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_graphs_are_the_loop() -> None:
    assert losses("cuda", graphs=True) == pytest.approx(losses("cuda", graphs=False), abs=1e-9)
