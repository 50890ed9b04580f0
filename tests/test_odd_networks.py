"""Networks of a user's own that many folds at once could get wrong: they are right, or go one after the other."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mer_zoo
from mer_zoo.datasets import Corpus
from mer_zoo.errors import RunError
from mer_zoo.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=9, lr=1e-4, optimizer="sgd")


@pytest.fixture
def roots(persons: Corpus) -> dict[str, Corpus]:
    return {"synthetic_flow": persons}


def run(roots: Any, build: Any, **options: Any) -> Any:
    return mer_zoo.evaluate(build, "synthetic-3", roots, **{"recipe": RECIPE, **options})


class Branching(nn.Module):
    """Looks at its values before it computes, which vmap cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 28 * 28, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(x.flatten(1) / 255)
        return logits if float(x.sum()) > 0 else -logits


def test_a_network_that_cannot_be_vmapped_falls_back(roots: Any, caplog: pytest.LogCaptureFixture) -> None:
    table = run(roots, Branching, backend="folds")
    assert "folds go one after the other: RuntimeError" in caplog.text
    assert table.equals(run(roots, Branching, backend="loop"))


class Linear(nn.Module):
    """What the networks below have in common; without a spec, as evaluate allows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.middle(x.flatten(1)[:, :8] / 255))
        return logits

    def middle(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.a(x)
        return hidden


class Tied(Linear):
    """Two layers with the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Linear(8, 8)
        self.b.weight = self.a.weight

    def middle(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.b(self.a(x).relu())
        return hidden


class Frozen(Linear):
    """One layer learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.a.requires_grad_(False)


class Reassigning(Linear):
    """Puts another tensor in the place of a buffer."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def middle(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(dim=0).detach()
        return x - self.mean


class Holding(Linear):
    """Holds a tensor of its own that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.mask = torch.rand(8)

    def middle(self, x: Tensor) -> Tensor:
        return x * self.mask


class Foreign(Linear):
    """Cannot be made on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8) * float(torch.tensor([0.1, 0.2]).sum()))

    def middle(self, x: Tensor) -> Tensor:
        return x * self.scale


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (Linear, ""),
        (Tied, ""),
        (Frozen, ""),
        (Foreign, ""),
        (Reassigning, "the buffer 'mean' is put in another's place"),
        (Holding, "the network answers otherwise together than alone"),
    ],
)
def test_odd_networks_are_the_same_by_folds_or_fall_back(
    build: type[nn.Module], said: str, roots: Any, caplog: pytest.LogCaptureFixture
) -> None:
    loop, folds = (run(roots, build, backend=name) for name in ("loop", "folds"))
    assert said in caplog.text
    assert bool(said) == ("one after the other" in caplog.text)
    for name in ("p_negative", "p_positive"):
        assert folds[name].tolist() == pytest.approx(loop[name].tolist(), abs=1e-4)


class Deep(nn.Module):
    """A kernel that is deeper than its maps, whose gradients in bfloat16 are wrong on a CPU."""

    input_spec = mer_zoo.input_spec("ststnet")

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv3d(3, 2, 3, padding=1), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.conv(x.unsqueeze(2) / 255).mean(dim=(2, 3, 4)))
        return logits


def test_wrong_gradients_are_refused_together_too(roots: Any) -> None:
    recipe = Recipe(epochs=1, precision="bf16")
    with pytest.raises(RunError, match="gradients are wrong there"):
        run(roots, Deep, recipe=recipe, backend="folds", device="cpu")
