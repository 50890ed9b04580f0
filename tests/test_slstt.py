"""SLSTT against its description, written out naively, and flow in colours against OpenCV."""

from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.models.slstt import IMAGENET_MEAN, IMAGENET_STD, flow_to_colours

SMALL: dict[str, Any] = {"size": 48, "num_frames": 3, "dim": 24, "depth": 2, "num_heads": 3}
LSTM: dict[str, Any] = {**SMALL, "lstm_dim": 16}


def linear(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    normal = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    return normal * state[f"{name}.weight"] + state[f"{name}.bias"]


def naive_vit(state: dict[str, Tensor], image: Tensor, depth: int, heads: int) -> Tensor:
    """One image (3, H, W) to its class token's vector, (D,)."""
    weight = state["vit.patch_embed.proj.weight"]
    side = weight.shape[-1]
    patches = [
        image[:, row : row + side, column : column + side].flatten()
        for row in range(0, image.shape[1], side)
        for column in range(0, image.shape[2], side)
    ]
    tokens = torch.stack(patches) @ weight.flatten(1).T + state["vit.patch_embed.proj.bias"]
    x = torch.cat([state["vit.cls_token"][0], tokens]) + state["vit.pos_embed"][0]
    for name in (f"vit.blocks.{i}" for i in range(depth)):
        q, k, v = linear(norm(x, state, f"{name}.norm1"), state, f"{name}.attn.qkv").chunk(3, dim=1)
        parts = zip(q.chunk(heads, 1), k.chunk(heads, 1), v.chunk(heads, 1), strict=True)
        attended = [(a @ b.T / a.shape[1] ** 0.5).softmax(dim=1) @ c for a, b, c in parts]
        x = x + linear(torch.cat(attended, dim=1), state, f"{name}.attn.proj")
        hidden = linear(norm(x, state, f"{name}.norm2"), state, f"{name}.mlp.fc1")
        hidden = 0.5 * hidden * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)))
        x = x + linear(hidden, state, f"{name}.mlp.fc2")
    return norm(x[0], state, "vit.norm")


def naive_lstm(state: dict[str, Tensor], vectors: list[Tensor], size: int) -> Tensor:
    """Gates one by one, frame after frame and layer after layer."""
    for layer in range(3):
        name, h, c, out = "aggregator.lstm", torch.zeros(size).double(), torch.zeros(size).double(), []
        for x in vectors:
            gates = state[f"{name}.weight_ih_l{layer}"] @ x + state[f"{name}.bias_ih_l{layer}"]
            gates = gates + state[f"{name}.weight_hh_l{layer}"] @ h + state[f"{name}.bias_hh_l{layer}"]
            let_in, keep, new, show = gates.chunk(4)
            c = keep.sigmoid() * c + let_in.sigmoid() * new.tanh()
            h = show.sigmoid() * c.tanh()
            out.append(h)
        vectors = out
    return linear(vectors[-1], state, "aggregator.fc1").relu()


def noisy(name: str, **options: Any) -> Any:
    """A small network whose every weight matters."""
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model(name, drop_rate=0.0, **options).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return model


@pytest.mark.parametrize(("name", "weights"), [("slstt", 93_050_627), ("slstt_mean", 86_092_803)])
def test_number_of_weights(name: str, weights: int) -> None:
    """A ViT-B/16 of 86,090,496; LSTM and two layers of 6,960,131 for three classes; one of 2,307."""
    assert sum(p.numel() for p in mer_zoo.create_model(name, device="meta").parameters()) == weights


def test_shapes_of_the_stages() -> None:
    model: Any = mer_zoo.create_model("slstt", device="meta")
    vector, maps = model.forward_intermediates(torch.zeros(2, 2, 11, 384, 384, device="meta"))
    shapes = [tuple(m.shape[1:]) for m in maps]
    assert shapes == [(768, 11, 24, 24)] * 13 + [(768, 11, 1, 1), (256, 1, 1, 1)]
    assert tuple(vector.shape) == (2, 256, 1, 1, 1)


@torch.no_grad()
def test_it_equals_the_naive_one() -> None:
    model = noisy("slstt", **LSTM)
    state, x = dict(model.state_dict()), torch.randn(2, 2, 3, 48, 48).double()
    for clip, logits in zip(x, model(x), strict=True):
        images = flow_to_colours(clip.transpose(0, 1))
        vectors = [naive_vit(state, image, depth=2, heads=3) for image in images]
        torch.testing.assert_close(linear(naive_lstm(state, vectors, 16), state, "fc"), logits, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_mean_of_the_frames_logits_is_that_of_their_vectors() -> None:
    """The authors classify every frame, then take the mean."""
    model = noisy("slstt_mean", **SMALL)
    state, x = dict(model.state_dict()), torch.randn(2, 2, 3, 48, 48).double()
    for clip, logits in zip(x, model(x), strict=True):
        images = flow_to_colours(clip.transpose(0, 1))
        each = torch.stack([linear(naive_vit(state, image, depth=2, heads=3), state, "fc") for image in images])
        torch.testing.assert_close(each.mean(dim=0), logits, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_order_of_frames_matters_to_the_lstm_alone() -> None:
    x = torch.randn(1, 2, 3, 48, 48).double()
    for name, options, same in (("slstt", LSTM, False), ("slstt_mean", SMALL, True)):
        model = noisy(name, **options).eval()
        assert torch.allclose(model(x), model(x.flip(2))) == same


def test_weights_of_timms_vit_load() -> None:
    """Names and shapes are those of timm, so that ImageNet weights load as the module's docstring says."""
    model: Any = mer_zoo.create_model("slstt", device="meta")
    theirs = timm.create_model("vit_base_patch16_384", num_classes=0, device="meta").state_dict()
    assert {n: v.shape for n, v in model.vit.state_dict().items()} == {n: v.shape for n, v in theirs.items()}
    small: Any = mer_zoo.create_model("slstt", **{**LSTM, "dim": 192, "depth": 12}).eval()
    tiny = timm.create_model("vit_tiny_patch16_224", img_size=48, num_classes=0, act_layer="gelu_tanh").eval()
    small.vit.load_state_dict(tiny.state_dict())
    x = torch.randn(1, 2, 3, 48, 48)
    vectors = small.forward_intermediates(x, indices=[-2], intermediates_only=True)[0]
    torch.testing.assert_close(vectors[0, :, :, 0, 0].T, tiny(flow_to_colours(x[0].transpose(0, 1))))


@pytest.mark.parametrize("scale", [0.01, 3.0])
def test_colours_are_those_of_opencv(scale: float) -> None:
    """Of the authors' preprocessing: hue is half the angle in degrees, value the length from 0 to 255, in 8 bits."""
    u, v = (scale * np.random.default_rng(seed).normal(size=(32, 32)).astype(np.float32) for seed in (0, 1))
    length, angle = cv2.cartToPolar(u, v)
    hsv = np.full((32, 32, 3), 255, dtype=np.uint8)
    hsv[..., 0] = angle * 180 / np.pi / 2
    hsv[..., 2] = cv2.normalize(length, length.copy(), 0, 255, cv2.NORM_MINMAX)
    expected = torch.from_numpy(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).permute(2, 0, 1) / 255
    ours = flow_to_colours(torch.from_numpy(np.stack([u, v]))[None])[0]
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    # Hue in steps of two degrees, value in steps of 1 / 255.
    torch.testing.assert_close(ours * std + mean, expected, rtol=0, atol=2 / 60 + 2 / 255)


def test_no_motion_is_black_and_has_a_gradient() -> None:
    black = -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD)
    flow = torch.zeros(1, 2, 4, 4, requires_grad=True)
    colours = flow_to_colours(flow)
    torch.testing.assert_close(colours, black[None, :, None, None].expand(1, 3, 4, 4))
    flow_with_still_places = torch.tensor([[[0.0, 1.0], [0.0, -2.0]], [[0.0, 0.5], [0.0, 1.0]]])[None].requires_grad_()
    for moved in (flow, flow_with_still_places):
        (gradient,) = torch.autograd.grad(flow_to_colours(moved).sum(), moved)
        assert gradient.isfinite().all()


def test_every_weight_learns_from_a_batch_of_one() -> None:
    """Unlike in the authors' code, where the transformer's blocks get no gradient."""
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model("slstt", drop_rate=0.0, **LSTM).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    x, y, losses = torch.randn(1, 2, 3, 48, 48), torch.tensor([1]), []
    for _ in range(4):
        loss = F.cross_entropy(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_dropout_as_published() -> None:
    """Of attention, of its result and of the second layer's, not between the two layers."""
    model: Any = mer_zoo.create_model("slstt", **LSTM)
    for block in model.blocks:
        rates = [m.p for m in block.modules() if isinstance(m, torch.nn.Dropout)]
        assert rates == [0.1, 0.1, 0.1]
        assert isinstance(block.mlp.drop1, torch.nn.Identity)


def test_other_channels_are_not_coloured_and_other_sizes_change_the_spec() -> None:
    model: Any = mer_zoo.create_model("slstt", in_chans=3, **LSTM)
    assert model.vit.patch_embed.proj.in_channels == 3
    assert mer_zoo.input_spec(model).shape == (3, 3, 48, 48)
    assert mer_zoo.input_spec("slstt").shape == mer_zoo.input_spec("slstt_mean").shape == (2, 11, 384, 384)
    with pytest.raises(InputError, match="size is 50; expected a multiple of patch_size, which is 16"):
        mer_zoo.create_model("slstt", **{**LSTM, "size": 50})
    with pytest.raises(InputError, match="aggregation is 'gru'; expected one of lstm, mean"):
        mer_zoo.create_model("slstt", aggregation="gru", **LSTM)
