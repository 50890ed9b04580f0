"""Dual-Inception against its branches and streams, written out one after the other."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mer_zoo
from mer_zoo.errors import InputError

WIDTHS = {"stem": 6, "blocks.0": 16}


def block(state: dict[str, Tensor], name: str, stream: int, x: Tensor) -> Tensor:
    """One Inception block of one stream, as the authors' code lists its branches."""
    width = WIDTHS[name]

    def conv(layer: str, maps: Tensor, part: int = 0, parts: int = 1) -> Tensor:
        start = (stream * parts + part) * width
        weight = state[f"{name}.{layer}.weight"][start : start + width]
        bias = state[f"{name}.{layer}.bias"][start : start + width]
        return F.relu(F.conv2d(maps, weight, bias, padding="same"))

    first = conv("pixels", x, 0, 3)
    second = conv("conv3", conv("pixels", x, 1, 3))
    third = conv("conv5", conv("pixels", x, 2, 3))
    fourth = conv("pooled", F.max_pool2d(x, 3, stride=1, padding=1))
    return F.max_pool2d(torch.cat([first, second, third, fourth], dim=1), 2)


def written_out(model: Any, x: Tensor) -> Tensor:
    state, vectors = model.state_dict(), []
    for stream in range(x.shape[1]):
        maps = x[:, stream : stream + 1]
        for name in WIDTHS:
            maps = block(state, name, stream, maps)
        vectors.append(maps.flatten(1))
    vector = F.relu(F.linear(torch.cat(vectors, dim=1), state["hidden.0.weight"], state["hidden.0.bias"]))
    return F.linear(vector, state["fc.weight"], state["fc.bias"])


def test_it_has_the_published_number_of_weights() -> None:
    """Of the re-implementation beside Off-TANet; the authors' pictures of three channels add 96."""
    model = mer_zoo.create_model("dual_inception")
    assert sum(p.numel() for p in model.parameters()) == 6_449_867
    first_pixels = 2 * 4 * 6  # filters over the input, in both streams
    assert first_pixels * (3 - 1) == 96


def test_the_shape_of_every_stage() -> None:
    model: Any = mer_zoo.create_model("dual_inception").eval()
    last, maps = model.forward_intermediates(torch.zeros(1, 2, 28, 28))
    assert [tuple(m.shape[1:]) for m in maps] == [(2 * 24, 14, 14), (2 * 64, 7, 7)]
    assert last.flatten(1).shape[1] == 6272
    assert model.forward_head(last, pre_logits=True).shape == (1, 1024)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_it_equals_branches_written_out(channels: int) -> None:
    torch.manual_seed(0)
    model = mer_zoo.create_model("dual_inception", in_chans=channels).double().train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # biases, too
    x = torch.rand(3, channels, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(model(x), written_out(model, x), rtol=1e-12, atol=1e-12)


def test_three_equal_channels_in_a_stream_are_one() -> None:
    """The authors' streams read a grey picture as three equal channels; summed weights give the same response."""
    torch.manual_seed(0)
    weight, x = torch.rand(6, 3, 1, 1), torch.rand(2, 1, 28, 28)
    thrice, once = F.conv2d(x.repeat(1, 3, 1, 1), weight), F.conv2d(x, weight.sum(dim=1, keepdim=True))
    torch.testing.assert_close(thrice, once)


def test_weights_begin_as_in_keras() -> None:
    """Glorot's uniform bound of each convolution by itself, whatever runs together; biases of zero."""
    torch.manual_seed(0)
    model = mer_zoo.create_model("dual_inception")
    # layer: inputs of one filter, filters x area of one convolution
    fans = {
        "stem.pixels": (1, 6),
        "stem.conv3": (6 * 9, 6 * 9),
        "blocks.0.pixels": (24, 16),
        "blocks.0.conv5": (16 * 25, 16 * 25),
        "blocks.0.pooled": (24, 16),
        "hidden.0": (6272, 1024),
    }
    for name, (fan_in, fan_out) in fans.items():
        layer: Any = model.get_submodule(name)
        bound = math.sqrt(6 / (fan_in + fan_out))
        assert 0.8 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()


@pytest.mark.parametrize("size", [4, 30, 64])
def test_another_size(size: int) -> None:
    model = mer_zoo.create_model("dual_inception", size=size).eval()
    assert mer_zoo.input_spec(model).shape == (2, size, size)
    assert model(torch.zeros(2, 2, size, size)).shape == (2, 3)
    with pytest.raises(InputError, match="size is 3; expected 4 or more"):
        mer_zoo.create_model("dual_inception", size=3)


def test_a_batch_of_one_trains() -> None:
    mer_zoo.create_model("dual_inception").train()(torch.rand(1, 2, 28, 28)).sum().backward()
