"""Our dropout is torch's: as many values dropped, the others larger by as much, and as few bytes kept."""

import pytest
import torch
from torch import nn

from mer_zoo.models._dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_are_dropped_or_raised(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.full((200_000,), 2.0, dtype=dtype, requires_grad=True)
    out = Dropout(share)(x)
    assert out.dtype == dtype
    dropped = out == 0
    assert float(dropped.double().mean()) == pytest.approx(share, abs=5e-3)
    torch.testing.assert_close(out[~dropped], (x / (1 - share))[~dropped])
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad == 0, dropped)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_ends_and_evaluation_are_torchs(share: float) -> None:
    x = torch.randn(64)
    assert torch.equal(Dropout(share).eval()(x), x)
    if share in (0.0, 1.0):
        assert torch.equal(Dropout(share)(x), nn.Dropout(share)(x))
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(1.5)


def test_each_value_has_a_draw_of_its_own() -> None:
    torch.manual_seed(0)
    layer, x = Dropout(0.5), torch.ones(4000)
    first, second = layer(x) > 0, layer(x) > 0
    assert abs(float((first == second).double().mean()) - 0.5) < 0.05
    many = torch.vmap(layer, randomness="different")(x.expand(3, -1)) > 0
    assert abs(float((many[0] == many[1]).double().mean()) - 0.5) < 0.05


def test_one_byte_a_value_is_kept() -> None:
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    x = torch.ones(1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        Dropout(0.5)(x)
    assert sum(kept) == 1000
