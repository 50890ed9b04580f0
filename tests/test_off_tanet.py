"""Off-TANet against its description, written out head by head."""

import math
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.models.off_tanet import ChannelAttention, RowAttention, SpatialAttention


def rows_written_out(layer: Any, x: Tensor, heads: int = 4) -> Tensor:
    """Heads of seven channels; scores of row i and row j are two sums, over keys and over positions."""
    channels, side = x.shape[1], x.shape[2]
    code = torch.empty(side, dtype=x.dtype)
    for i in range(side):
        angle = 1 / 10000 ** (i // 2 / side)
        code[i] = math.sin(angle) if i % 2 == 0 else math.cos(angle)
    position = code[None, :] + code[:, None]
    query, key, value = (
        F.conv2d(x, layer.qkv.weight[start : start + channels], layer.qkv.bias[start : start + channels])
        for start in (0, channels, 2 * channels)
    )
    outputs = []
    for q, k, v in zip(query.chunk(heads, 1), key.chunk(heads, 1), value.chunk(heads, 1), strict=True):
        score = torch.einsum("bciw,bcjw->bcij", q, k) + torch.einsum("bciw,jw->bcij", q, position)
        share = score.exp() / score.exp().sum(dim=(2, 3), keepdim=True)
        outputs.append(share * v)
    return torch.cat(outputs, dim=1)


def block_written_out(block: Any, x: Tensor) -> Tensor:
    new = F.relu(block.norm1(block.conv1(x)))
    if isinstance(block.middle, nn.Sequential):
        channel, spatial, rows = cast(Any, block.middle)
        squeeze, excite = channel.squeeze.weight, channel.excite.weight
        mean, most = (F.relu(v @ squeeze.T) @ excite.T for v in (new.mean((2, 3)), new.flatten(2).max(2).values))
        new = new * torch.sigmoid(mean + most)[..., None, None]
        both = torch.stack([new.mean(1), new.max(1).values], dim=1)
        new = new * torch.sigmoid(F.conv2d(both, spatial.conv.weight, padding=1))
        new = rows_written_out(rows, new)
    new = F.relu(block.norm2(block.conv2(new)))
    return F.max_pool2d(new + F.conv2d(x, block.shortcut.weight, block.shortcut.bias), 2)


def written_out(model: Any, x: Tensor) -> Tensor:
    x = model.stem.norm(F.relu(model.stem.conv(x)))
    for block in model.blocks:
        x = block_written_out(block, x)
    x = x.flatten(1)
    for layer in (model.hidden[0], model.hidden[3]):
        x = F.relu(layer(x))
    logits: Tensor = model.fc(x)
    return logits


def test_it_has_the_published_number_of_weights() -> None:
    model = mer_zoo.create_model("off_tanet")
    assert sum(p.numel() for p in model.parameters()) == 59_403


def test_the_shape_of_every_stage() -> None:
    model: Any = mer_zoo.create_model("off_tanet").eval()
    last, maps = model.forward_intermediates(torch.zeros(1, 3, 112, 112))
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 56, 56), (18, 28, 28), (28, 14, 14), (8, 7, 7)]
    assert last.flatten(1).shape == (1, 392)
    assert model.forward_head(last, pre_logits=True).shape == (1, 64)


@pytest.mark.parametrize("training", [True, False])
def test_it_equals_heads_written_out(training: bool) -> None:
    torch.manual_seed(0)
    model = mer_zoo.create_model("off_tanet", drop_rate=0.0).double().train(training)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 2.0)
    x = torch.rand(3, 3, 112, 112, dtype=torch.float64) * 16 - 8
    found, expected = model(x), written_out(model, x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weights = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), weights),
        torch.autograd.grad(expected.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


@torch.no_grad()
def test_attention_keeps_shape_and_a_table_sums_to_one() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 28, 14, 14)
    for layer in (ChannelAttention(28), SpatialAttention()):
        share = layer(x) / x
        assert share.shape == x.shape
        assert (share > 0).all()
        assert (share < 1).all()
    rows: Any = RowAttention(28, 14)
    rows.qkv.weight[56:], rows.qkv.bias[56:] = 0.0, 1.0  # all values are one
    torch.testing.assert_close(rows(x).sum(dim=(2, 3)), torch.ones(2, 28))


@pytest.mark.parametrize("size", [15, 64, 100])
def test_another_size(size: int) -> None:
    model = mer_zoo.create_model("off_tanet", size=size).eval()
    assert mer_zoo.input_spec(model).shape == (3, size, size)
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 3)
    with pytest.raises(InputError, match="size is 14; expected 15 or more"):
        mer_zoo.create_model("off_tanet", size=14)


def test_a_batch_of_one_trains() -> None:
    mer_zoo.create_model("off_tanet").train()(torch.rand(1, 3, 112, 112)).sum().backward()
