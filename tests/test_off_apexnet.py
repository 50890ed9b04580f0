"""OFF-ApexNet against its two streams, written out one after the other."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mer_zoo
from mer_zoo.errors import InputError


def written_out(model: Any, x: Tensor) -> Tensor:
    """Each stream for itself: convolution, ReLU, pooling, twice; then three fully connected layers."""
    state, vectors = model.state_dict(), []
    for stream in range(x.shape[1]):
        maps = x[:, stream : stream + 1]
        for name, filters in (("stem", 6), ("blocks.0", 16)):
            own = slice(stream * filters, (stream + 1) * filters)
            weight, bias = state[f"{name}.conv.weight"][own], state[f"{name}.conv.bias"][own]
            maps = F.max_pool2d(F.relu(F.conv2d(maps, weight, bias, padding=2)), 2)
        vectors.append(maps.flatten(1))
    vector = torch.cat(vectors, dim=1)
    for name in ("hidden.0", "hidden.3"):
        vector = F.relu(F.linear(vector, state[f"{name}.weight"], state[f"{name}.bias"]))
    return F.linear(vector, state["fc.weight"], state["fc.bias"])


def test_it_has_the_published_number_of_weights() -> None:
    """Of the two-stream re-implementation beside Off-TANet; 312 + 4,832 in the streams, the rest fully connected."""
    model = mer_zoo.create_model("off_apexnet")
    counts = [sum(p.numel() for p in part.parameters()) for part in model.children()]
    assert counts == [312, 4832, 1_606_656 + 1_049_600, 3075]
    assert sum(counts) == 2_664_475


def test_the_shape_of_every_stage() -> None:
    model: Any = mer_zoo.create_model("off_apexnet").eval()
    last, maps = model.forward_intermediates(torch.zeros(1, 2, 28, 28))
    assert [tuple(m.shape[1:]) for m in maps] == [(12, 14, 14), (32, 7, 7)]
    assert model.forward_head(last, pre_logits=True).shape == (1, 1024)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_it_equals_streams_written_out(channels: int) -> None:
    torch.manual_seed(0)
    model = mer_zoo.create_model("off_apexnet", in_chans=channels, drop_rate=0.0).double().train()
    x = torch.rand(3, channels, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(model(x), written_out(model, x), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_streams_do_not_mix_before_the_first_fully_connected_layer() -> None:
    model: Any = mer_zoo.create_model("off_apexnet").eval()
    x = torch.rand(1, 2, 28, 28)
    changed = torch.stack([x[:, 0], torch.rand(1, 28, 28)], dim=1)
    before, after = model.forward_features(x), model.forward_features(changed)
    torch.testing.assert_close(before[:, :16], after[:, :16])
    assert not torch.equal(before[:, 16:], after[:, 16:])


@pytest.mark.parametrize("size", [4, 30, 64])
def test_another_size(size: int) -> None:
    model = mer_zoo.create_model("off_apexnet", size=size).eval()
    assert mer_zoo.input_spec(model).shape == (2, size, size)
    assert model(torch.zeros(2, 2, size, size)).shape == (2, 3)
    with pytest.raises(InputError, match="size is 3; expected 4 or more"):
        mer_zoo.create_model("off_apexnet", size=3)


def test_a_backbone_has_no_hidden_layers() -> None:
    backbone: Any = mer_zoo.create_model("off_apexnet", features_only=True)
    assert sum(p.numel() for p in backbone.parameters()) == 312 + 4832


def test_a_batch_of_one_trains() -> None:
    mer_zoo.create_model("off_apexnet").train()(torch.rand(1, 2, 28, 28)).sum().backward()
