"""SSSNet against its description, written out naively."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mer_zoo
from mer_zoo.errors import InputError


class Naive(nn.Sequential):
    """The layers in the order in which they are published, dropout left out."""

    def __init__(self) -> None:
        first = [nn.Conv2d(3, 32, 5), nn.ReLU(), nn.MaxPool2d(3), nn.BatchNorm2d(32)]
        second = [nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(64)]
        super().__init__(*first, *second, nn.Flatten(), nn.Linear(9 * 9 * 64, 256), nn.ReLU(), nn.Linear(256, 3))


def _pair() -> tuple[Any, Naive, Tensor]:
    torch.manual_seed(0)
    naive = Naive().double()
    for module in naive.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)  # of both signs
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2.0)
    ours: Any = mer_zoo.create_model("sssnet", drop_rate=0.0).double()
    state = dict(zip(ours.state_dict(), naive.state_dict().values(), strict=True))
    ours.load_state_dict(state)
    return ours, naive, torch.rand(8, 3, 64, 64).double() * 10 - 5


def test_it_has_1349251_weights() -> None:
    assert sum(p.numel() for p in mer_zoo.create_model("sssnet").parameters()) == 1_349_251


def test_it_equals_the_naive_one() -> None:
    """Logits in evaluation; in training every gradient and the running statistics."""
    ours, naive, x = _pair()
    torch.testing.assert_close(ours.eval()(x), naive.eval()(x), rtol=1e-10, atol=1e-10)
    for model in (ours.train(), naive.train()):
        F.cross_entropy(model(x), torch.arange(8) % 3).backward()
    for p, q in zip(ours.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-8, atol=1e-10)
    for value, expected in zip(ours.buffers(), naive.buffers(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)


def test_shapes_of_the_stages() -> None:
    model: Any = mer_zoo.create_model("sssnet").eval()
    last, maps = model.forward_intermediates(torch.rand(2, 3, 64, 64))
    assert [tuple(feature.shape) for feature in maps] == [(2, 32, 20, 20), (2, 64, 9, 9)]
    assert model.forward_head(last, pre_logits=True).shape == (2, 256)


def test_whole_maps_are_dropped() -> None:
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model("sssnet").train()
    _, maps = model.forward_intermediates(torch.rand(2, 3, 64, 64))
    for feature in maps:
        gone = (feature == 0).flatten(2)
        assert torch.equal(gone.all(dim=2), gone.any(dim=2))
        assert 0.3 < gone.float().mean() < 0.7


def test_other_sizes() -> None:
    model: Any = mer_zoo.create_model("sssnet", size=112, num_classes=5)
    assert mer_zoo.input_spec(model).shape == (3, 112, 112)
    assert model(torch.rand(1, 3, 112, 112)).shape == (1, 5)
    with pytest.raises(InputError, match="size is 15; expected 16 pixels or more"):
        mer_zoo.create_model("sssnet", size=15)
    assert mer_zoo.create_model("sssnet", size=16)(torch.rand(2, 3, 16, 16)).shape == (2, 3)


def test_a_backbone_has_no_hidden_layer() -> None:
    backbone: Any = mer_zoo.create_model("sssnet", features_only=True, out_indices=(0, 1))
    assert not [name for name, _ in backbone.named_parameters() if "hidden" in name]
