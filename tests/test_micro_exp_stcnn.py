"""MicroExpSTCNN against the authors' layers, written out in their order of axes."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mer_zoo
from mer_zoo.errors import InputError


def as_published(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """Their network on a clip in their layout (B, 1, H, W, T), without dropout; ReLU before the pooling, as there."""
    kernel = weights["stem.conv.weight"].permute(0, 1, 3, 4, 2)
    maps = F.max_pool3d(F.conv3d(x, kernel, weights["stem.conv.bias"]).relu(), kernel_size=3)
    times = maps.shape[-1]
    order = weights["blocks.0.linear.weight"].unflatten(1, (32, times, *maps.shape[2:4])).permute(0, 1, 3, 4, 2)
    hidden = F.linear(maps.flatten(1), order.flatten(1), weights["blocks.0.linear.bias"]).relu()
    return F.linear(hidden, weights["fc.weight"], weights["fc.bias"])


@pytest.mark.parametrize(("frames", "expected"), [(18, 1_643_267), (96, 44_241_667)])
def test_it_has_as_many_weights_as_the_authors_layers(frames: int, expected: int) -> None:
    model = mer_zoo.create_model("micro_exp_stcnn", num_frames=frames, device="meta")
    assert sum(p.numel() for p in model.parameters()) == expected
    assert mer_zoo.input_spec(model).shape == (1, frames, 64, 64)


@pytest.mark.parametrize(("frames", "size"), [(18, 64), (24, 16)])
@torch.no_grad()
def test_it_equals_the_published_network(frames: int, size: int) -> None:
    torch.manual_seed(0)
    model = mer_zoo.create_model("micro_exp_stcnn", num_frames=frames, size=size).double().eval()
    x = torch.rand(2, 1, frames, size, size).double() * 2 - 1
    torch.testing.assert_close(model(x), as_published(x.permute(0, 1, 3, 4, 2), model.state_dict()))


@torch.no_grad()
def test_the_maps_of_every_stage() -> None:
    model: Any = mer_zoo.create_model("micro_exp_stcnn").eval()
    _, maps = model.forward_intermediates(torch.zeros(1, 1, 18, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(32, 1, 20, 20), (128, 1, 1, 1)]
    assert [info["reduction"] for info in model.feature_info] == [3.2, 64]


def test_weights_begin_as_in_keras() -> None:
    torch.manual_seed(0)
    weights = mer_zoo.create_model("micro_exp_stcnn").state_dict()
    bound = (6 / ((1 + 32) * 135)) ** 0.5
    assert 0.9 * bound < weights["stem.conv.weight"].abs().max() <= bound
    for layer in ("blocks.0.linear", "fc"):
        assert weights[f"{layer}.weight"].std().item() == pytest.approx(0.05, rel=0.1)
    assert not any(value.any() for name, value in weights.items() if name.endswith("bias"))


def test_the_least_clip() -> None:
    model = mer_zoo.create_model("micro_exp_stcnn", num_frames=17, size=5)
    assert model(torch.zeros(1, 1, 17, 5, 5)).shape == (1, 3)
    options: list[dict[str, Any]] = [{"num_frames": 16}, {"size": 4}]
    for option in options:
        with pytest.raises(InputError, match="need 17 frames of 5 pixels or more"):
            mer_zoo.create_model("micro_exp_stcnn", **option)
