"""EMR against timm's ResNet-18 and its two parts, written out."""

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F

import mer_zoo
from mer_zoo.errors import InputError


def test_it_has_the_weights_of_the_authors_layers() -> None:
    """ResNet-18 without its last layer, 512 -> 64 twice, 128 -> 3; less what only their training uses."""
    model = mer_zoo.create_model("emr")
    assert sum(p.numel() for p in model.parameters()) == 11_176_512 + 2 * (512 * 64 + 64) + 128 * 3 + 3 == 11_242_563


def test_the_shape_of_every_stage() -> None:
    model: Any = mer_zoo.create_model("emr").eval()
    last, maps = model.forward_intermediates(torch.zeros(1, 3, 224, 224))
    expected = [(64, 56, 56), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
    assert [tuple(m.shape[1:]) for m in maps] == expected
    assert model.forward_head(last, pre_logits=True).shape == (1, 128)
    by_channel = [m.is_contiguous(memory_format=torch.channels_last) for m in maps]
    assert by_channel == [True, True, True, True, False]  # where maps are small and weights many, channels lie first


@torch.no_grad()
def test_its_trunk_is_resnet18_and_takes_its_weights_by_name() -> None:
    torch.manual_seed(0)
    resnet: Any = timm.create_model("resnet18", num_classes=3, zero_init_last=False).eval()
    model: Any = mer_zoo.create_model("emr").eval()
    state = {key: value for key, value in resnet.state_dict().items() if not key.startswith("fc.")}
    assert state.keys() <= model.state_dict().keys()
    model.load_state_dict(state, strict=False)
    x = torch.rand(1, 3, 224, 224) * 2 - 1
    torch.testing.assert_close(model.forward_features(x), resnet.forward_features(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_upper_three_of_seven_rows_are_one_part() -> None:
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model("emr").eval()
    maps = torch.rand(2, 512, 7, 7)
    parts = []
    for layer, rows in ((model.top[0], (0, 1, 2)), (model.bottom[0], (3, 4, 5, 6))):
        mean = torch.stack([maps[:, :, row].mean(dim=-1) for row in rows]).mean(dim=0)
        parts.append(torch.tanh(mean @ layer.weight.T + layer.bias))
    expected = F.linear(torch.cat(parts, dim=1), model.fc.weight, model.fc.bias)
    torch.testing.assert_close(model.forward_head(maps), expected)


@pytest.mark.parametrize("size", [33, 112])
def test_another_size(size: int) -> None:
    model = mer_zoo.create_model("emr", size=size).eval()
    assert mer_zoo.input_spec(model).shape == (3, size, size)
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 3)
    with pytest.raises(InputError, match="size is 32; expected 33 or more"):
        mer_zoo.create_model("emr", size=32)


def test_a_batch_of_one_trains() -> None:
    mer_zoo.create_model("emr").train()(torch.rand(1, 3, 224, 224)).sum().backward()
