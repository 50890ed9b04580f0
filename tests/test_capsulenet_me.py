"""CapsuleNet against capsules written out one by one, and its trunk against torchvision's ResNet-18."""

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.models.capsulenet_me import ClassCapsules, margin_loss, squash


def long_squash(s: Tensor) -> Tensor:
    """Sabour et al., eq. 1, letter by letter."""
    norm: Tensor = s.norm(dim=-1, keepdim=True)
    return norm**2 / (1 + norm**2) * s / norm


def lengths(u: Tensor, weight: Tensor, routings: int) -> Tensor:
    """Lengths of class capsules by routing, one clip and one class at a time: (B, I, 8), (C, I, 16, 8) -> (B, C)."""
    out = []
    for clip in u:
        votes = torch.stack([torch.stack([w @ v for w, v in zip(ws, clip, strict=True)]) for ws in weight])  # C, I, 16
        b = torch.zeros(votes.shape[:2], dtype=u.dtype)
        for i in range(routings):
            c = b.softmax(dim=0)
            used = votes if i == routings - 1 else votes.detach()
            v = long_squash((c[..., None] * used).sum(dim=1))
            if i < routings - 1:
                b = b + (v[:, None] * used).sum(dim=-1)
        out.append(v.norm(dim=-1))
    return torch.stack(out)


@pytest.mark.parametrize("routings", [1, 2, 3, 5])
def test_logits_are_log_odds_of_the_published_lengths(routings: int) -> None:
    torch.manual_seed(0)
    layer = ClassCapsules(12 * 8, 3, routings).double()
    nn.init.normal_(layer.weight, std=0.5)
    u = squash(torch.randn(2, 12, 8).double())
    weight = layer.weight.detach().reshape(3, 16, 12, 8).transpose(1, 2).clone().requires_grad_()
    expected, found = lengths(u, weight, routings), layer(u.flatten(1)).sigmoid()
    torch.testing.assert_close(found, expected)
    (found * torch.arange(1, 4)).sum().backward()
    (expected * torch.arange(1, 4)).sum().backward()
    assert weight.grad is not None
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad.reshape(3, 16, 12, 8).transpose(1, 2), weight.grad)


def test_without_routing_the_class_capsules_are_a_linear_layer() -> None:
    torch.manual_seed(0)
    layer = ClassCapsules(96, 4, routings=1)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 96)
    capsules = (layer.weight.unflatten(0, (4, 16)) @ x.T).permute(2, 0, 1) / 4 + layer.bias.unflatten(0, (4, 16))
    torch.testing.assert_close(layer(x), capsules.square().sum(dim=-1).log())


def test_routing_follows_agreement() -> None:
    """Votes that agree for one class alone gain routes from round to round."""
    layer = ClassCapsules(10 * 8, 2, routings=1)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(32, 80, generator=torch.Generator().manual_seed(0)))
        layer.weight[:16] = layer.weight[:16, :8].repeat(1, 10)  # class 0: every capsule votes alike
    x = torch.ones(1, 80)
    margins = []
    for layer.routings in (1, 2, 3, 4):
        logits = layer(x)[0]
        margins.append((logits[0] - logits[1]).item())
    assert margins == sorted(margins)
    assert margins[0] < margins[-1]


def test_squash() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-9, 0.0]], requires_grad=True)
    out = squash(x)
    torch.testing.assert_close(out[0], torch.tensor([3.0, 4.0]) / 5 * 25 / 26)
    assert not out[1].any()
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_silent_capsules_give_finite_logits_and_gradients() -> None:
    layer = ClassCapsules(16, 3, routings=3)
    logits = layer(torch.zeros(2, 16))
    assert (logits < -27).all()
    logits.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()


def test_margin_loss() -> None:
    length = torch.tensor([[0.9, 0.3, 0.005], [0.995, 0.01, 0.2]])
    first = 0.09**2 + 0.5 * 0.29**2
    second = 0.98**2 + 0.5 * (0.985**2 + 0.19**2)
    assert margin_loss(length.logit(), torch.tensor([0, 1])).item() == pytest.approx((first + second) / 2)


def test_it_has_the_weights_of_the_authors_layers_and_48_biases() -> None:
    model = mer_zoo.create_model("capsulenet_me", device="meta")
    number = {name: p.numel() for name, p in model.named_parameters()}
    resnet = torchvision.models.resnet18()
    trunk = sum(p.numel() for name, p in resnet.named_parameters() if not name.startswith(("layer4", "fc")))
    assert sum(number.values()) - number["fc.bias"] == trunk + 2 * (256 * 256 * 81 + 256) + 3 * 1152 * 16 * 8
    assert sum(number.values()) - 48 == 13_842_496
    assert number["fc.bias"] == 48


@torch.no_grad()
def test_the_trunk_is_resnet_18_without_pooling_and_takes_its_weights_by_name() -> None:
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18().eval()
    model: Any = mer_zoo.create_model("capsulenet_me").eval()
    state = {name: value for name, value in resnet.state_dict().items() if not name.startswith("fc.")}
    model.load_state_dict(state, strict=False)
    x = torch.rand(1, 3, 224, 224)
    expected = resnet.layer3(resnet.layer2(resnet.layer1(resnet.relu(resnet.bn1(resnet.conv1(x))))))
    _, maps = model.forward_intermediates(x)
    torch.testing.assert_close(maps[3], expected, rtol=1e-4, atol=1e-4)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 112, 112),
        (64, 112, 112),
        (128, 56, 56),
        (256, 28, 28),
        (256, 20, 20),
        (256, 6, 6),
    ]


@torch.no_grad()
def test_primary_capsules_are_eight_neighbouring_channels_of_one_place() -> None:
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model("capsulenet_me", num_classes=0).double().eval()
    x = torch.rand(2, 256, 20, 20).double()
    capsules = model.capsules5.conv(x).permute(0, 2, 3, 1).reshape(2, -1, 8)
    torch.testing.assert_close(model.pool(model.capsules5(x)), long_squash(capsules).flatten(1))
    assert capsules.shape == (2, 1152, 8)


def test_weights_of_another_number_of_classes_are_named() -> None:
    state = mer_zoo.create_model("capsulenet_me", num_classes=5, size=129).state_dict()
    model: Any = mer_zoo.create_model("capsulenet_me", size=129)
    with pytest.raises(InputError, match="weights are for 5 classes, the model has 3"):
        model.load_state_dict(state)
    model.reset_classifier(5)
    model.load_state_dict(state)
    with pytest.raises(InputError, match="num_classes is -1"):
        model.reset_classifier(-1)


def test_sizes() -> None:
    model = mer_zoo.create_model("capsulenet_me", size=129).eval()
    assert mer_zoo.input_spec(model).shape == (3, 129, 129)
    assert model(torch.rand(1, 3, 129, 129)).shape == (1, 3)
    with pytest.raises(InputError, match="size is 128; expected 129 or more"):
        mer_zoo.create_model("capsulenet_me", size=128)
    with pytest.raises(InputError, match="routings is 0; expected a whole number, 1 or more"):
        mer_zoo.create_model("capsulenet_me", routings=0)
