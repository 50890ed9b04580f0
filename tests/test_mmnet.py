"""MMNet against its description, written out naively, and what must hold of its parts."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.models.mmnet import ContinuousAttention, PositionCalibration, TransformerLayer

SMALL: dict[str, Any] = {"size": 64, "depth": 1, "mlp_ratio": 1}
MEAN, DEVIATION = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def normalised(images: Tensor) -> Tensor:
    """ImageNet's mean and deviation taken out of (B, 3, H, W), as the authors do before their network."""
    return (images - MEAN.to(images)[:, None, None]) / DEVIATION.to(images)[:, None, None]


def middle(images: Tensor) -> Tensor:
    """Means of pixels 7 and 8 of each 16, in both directions."""
    rows = (images[..., 7::16, :] + images[..., 8::16, :]) / 2
    return (rows[..., 7::16] + rows[..., 8::16]) / 2


class Naive:
    """The published network by plain functions, in evaluation mode, on weights of ours."""

    def __init__(self, model: nn.Module) -> None:
        self.weights: dict[str, Tensor] = model.state_dict()

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        """A convolution that keeps the size at stride 1, and batch norm."""
        kernel = self.weights[f"{name}.0.weight"]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        mean, var, weight, bias = (
            self.weights[f"{name}.1.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def attend(self, x: Tensor, name: str) -> Tensor:
        """Four heads, one after the other."""
        dim = x.shape[-1]
        qkv, heads = self.linear(x, f"{name}.qkv"), []
        for head in range(4):
            q, k, v = (qkv[..., i * dim + head * dim // 4 : i * dim + (head + 1) * dim // 4] for i in range(3))
            heads.append((q @ k.mT / (dim // 4) ** 0.5).softmax(dim=-1) @ v)
        return self.linear(torch.cat(heads, dim=-1), f"{name}.proj")

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], eps=1e-6)

    def places(self, onset: Tensor, depth: int) -> Tensor:
        """The position calibration module; of each 16 x 16 pixels the four in the middle are seen."""
        small = middle(onset)
        x = F.conv2d(small, self.weights["blocks.4.embed.weight"], self.weights["blocks.4.embed.bias"])
        x = x.flatten(2).mT + self.weights["blocks.4.places"]
        for i in range(depth):
            name = f"blocks.4.layers.{i}"
            x = x + self.attend(self.norm(x, f"{name}.norm1"), name)
            hidden = F.gelu(self.linear(self.norm(x, f"{name}.norm2"), f"{name}.mlp.0"))
            x = x + self.linear(hidden, f"{name}.mlp.2")
        return self.norm(x, "blocks.4.norm").mT.reshape(len(x), -1, *small.shape[2:])

    def __call__(self, x: Tensor, depth: int) -> Tensor:
        onset, apex = normalised(x[:, :, 0]), normalised(x[:, :, 1])
        x = self.conv(self.conv(apex - onset, "stem.conv1", stride=2).relu(), "stem.conv2").relu()
        attention = None
        for i in range(4):
            name, stride = f"blocks.{i}", 1 if i == 0 else 2
            new = self.conv(self.conv(x, f"{name}.conv1", stride).relu(), f"{name}.conv2")
            x = (new + (x if i == 0 else self.conv(x, f"{name}.shortcut", stride))).relu()
            own = self.conv(torch.stack([x.mean(dim=1), x.amax(dim=1)], dim=1), f"{name}.attention").sigmoid()
            attention = own if attention is None else own * F.max_pool2d(attention, 3, stride=2, padding=1)
            x = x * attention
        return self.linear((x + self.places(onset, depth)).flatten(1), "fc")


def perturbed(**options: Any) -> nn.Module:
    """A network with other statistics in batch norms than at the start."""
    torch.manual_seed(0)
    model = mer_zoo.create_model("mmnet", **options).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias, std=0.3)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.get_buffer("running_mean"), std=0.3)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2.0)
    return model


@pytest.mark.parametrize("options", [SMALL, {"size": 96, "depth": 3, "mlp_ratio": 2, "drop_path_rate": 0.3}])
@torch.no_grad()
def test_it_equals_the_published_network(options: dict[str, Any]) -> None:
    model, x = perturbed(**options), torch.rand(2, 3, 2, options["size"], options["size"]).double()
    torch.testing.assert_close(model(x), Naive(model)(x, options["depth"]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 9_238_135), ({"num_classes": 5}, 9_438_841), ({"depth": 3, "mlp_ratio": 2}, 9_241_719)],
)
def test_it_has_as_many_weights_as_the_authors_layers(options: dict[str, Any], expected: int) -> None:
    """Summed by hand over the layers of CA_block.py and PC_module.py that are used."""
    assert sum(p.numel() for p in mer_zoo.create_model("mmnet", device="meta", **options).parameters()) == expected


@torch.no_grad()
def test_the_maps_of_every_stage() -> None:
    model: Any = mer_zoo.create_model("mmnet").eval()
    _, maps = model.forward_intermediates(torch.zeros(1, 3, 2, 224, 224))
    shapes = [(128, 112, 112), (128, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 14, 14)]
    assert [tuple(m.shape[1:]) for m in maps] == shapes


@torch.no_grad()
def test_light_that_changes_alike_in_both_frames_is_no_motion() -> None:
    model: Any = mer_zoo.create_model("mmnet", **SMALL).double().eval()
    x = torch.rand(1, 3, 2, 64, 64).double() / 2
    _, maps = model.forward_intermediates(x)
    _, lighter = model.forward_intermediates(x + 0.25)
    for one, other in zip(maps[:-1], lighter[:-1], strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(maps[-1], lighter[-1])  # the onset itself is seen by the last stage


@torch.no_grad()
def test_no_place_gets_more_attention_than_the_block_before_gave_it() -> None:
    torch.manual_seed(0)
    block = ContinuousAttention(8, 16, stride=2).eval()
    x, before = torch.randn(2, 8, 14, 14), torch.rand(2, 1, 14, 14)
    out, attention = block(x, before)
    assert out.shape == (2, 16, 7, 7)
    assert (attention <= F.max_pool2d(before, 3, stride=2, padding=1)).all()
    alone, own = block(x, None)
    torch.testing.assert_close(out / attention, alone / own)
    closed, _ = block(x, torch.zeros_like(before))
    assert not closed.any()


@pytest.mark.parametrize("size", [1, 17, 100])
def test_any_size_will_do(size: int) -> None:
    model = mer_zoo.create_model("mmnet", **{**SMALL, "size": size}).eval()
    assert mer_zoo.input_spec(model).size == size
    assert model(torch.rand(2, 3, 2, size, size)).shape == (2, 3)


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="size is 0; expected a whole number, 1 or more"):
        mer_zoo.create_model("mmnet", size=0)


def test_two_passes_keep_nothing_of_each_other() -> None:
    """Onset and attention are of one pass, also where two are under way."""
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model("mmnet", **SMALL).eval()
    x, y = torch.rand(2, 1, 3, 2, 64, 64)
    first, second = model.stages(), model.stages()
    a, b = x, y
    for one, other in zip(first, second, strict=True):
        a, b = one(a), other(b)
    torch.testing.assert_close(a, model.forward_features(x))
    torch.testing.assert_close(b, model.forward_features(y))


def test_drop_path_leaves_out_whole_clips_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(4, mlp_ratio=1, drop_path_rate=0.25).train()
    x = torch.ones(4000, 3, 4)
    dropped = layer._drop_path(x)
    torch.testing.assert_close(dropped.unique(), torch.tensor([0, 4 / 3]))
    assert (dropped == dropped[:, :1, :1]).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert layer.eval()._drop_path(x) is x


def test_grey_frames_are_normalised_by_the_mean_of_colours() -> None:
    module = PositionCalibration(1, side=2, depth=1, mlp_ratio=1, drop_path_rate=0)
    assert module.mean.item() == pytest.approx(0.449)
    assert module.deviation.item() == pytest.approx(0.226)
