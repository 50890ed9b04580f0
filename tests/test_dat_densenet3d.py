"""The published network against Keras, the published numbers, and what our reading promises."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.models.dat_densenet3d import load_keras_weights

KERAS = Path(__file__).parent / "fixtures" / "keras_depth7.npz"  # made by tests/fixtures/README.md

# Trainable weights at 3 classes and one channel, as Keras counts them in the published code.
PUBLISHED = {
    "dat_densenet3d_se": 59_679,
    "dat_densenet3d_scse": 59_907,
    "dat_densenet3d_121": 11_917_699,
    "dat_densenet3d_161": 42_249_507,
    "dat_densenet3d_169": 19_834_115,
    "dat_densenet3d_201": 27_343_875,
    "dat_densenet3d_264": 43_801_347,
}


@pytest.fixture(scope="module")
def keras() -> Mapping[str, Any]:
    with np.load(KERAS, allow_pickle=False) as saved:
        return dict(saved)


@pytest.mark.parametrize("channels_last", [True, False])
@torch.no_grad()
def test_logits_equal_keras(keras: Mapping[str, Any], channels_last: bool) -> None:
    model = mer_zoo.create_model("dat_densenet3d_se", channels_last=channels_last).eval()
    load_keras_weights(model, keras)
    clips = torch.from_numpy(keras["x"]).permute(0, 4, 3, 1, 2)  # (B, H, W, T, C) -> (B, C, T, H, W)
    np.testing.assert_allclose(model(clips).numpy(), keras["logits"], rtol=0, atol=1e-4)


def test_keras_weights_of_another_network_are_refused(keras: Mapping[str, Any]) -> None:
    with pytest.raises(InputError, match=r"61 weights 'w/…'; this network takes 66"):
        load_keras_weights(mer_zoo.create_model("dat_densenet3d_scse"), keras)
    wide = mer_zoo.create_model("dat_densenet3d_se", num_classes=5)
    before = [p.clone() for p in wide.parameters()]
    with pytest.raises(InputError, match=r"w/059/dense_10/kernel has shape \(3, 60\).*fc.weight expects \(5, 60\)"):
        load_keras_weights(wide, keras)
    assert all(torch.equal(a, b) for a, b in zip(before, wide.parameters(), strict=True))


@pytest.mark.parametrize(("name", "weights"), PUBLISHED.items())
def test_weights_are_as_many_as_published(name: str, weights: int) -> None:
    model = mer_zoo.create_model(name, device="meta")
    assert sum(p.numel() for p in model.parameters()) == weights


def test_the_flagship_is_small() -> None:
    model = mer_zoo.create_model("dat_densenet3d")
    assert sum(p.numel() for p in model.parameters()) <= 300_000


def _published_length(frames: int) -> list[int]:
    """Frames after the stem, and in each block, by the arithmetic of SAME and VALID padding in Keras."""
    after_stem = math.ceil(math.ceil(frames / 2) / 2)
    return [after_stem, *(after_stem // 2**i for i in range(4))]


@pytest.mark.parametrize("frames", [29, 32, 36])
@torch.no_grad()
def test_the_published_layout_where_it_builds(frames: int) -> None:
    """At 29 frames and more; growth 32, compression one half."""
    model: Any = mer_zoo.create_model("dat_densenet3d_121", num_frames=frames).eval()
    _, maps = model.forward_intermediates(torch.rand(1, 1, frames, 64, 64))
    assert [m.shape[2] for m in maps] == _published_length(frames)
    assert [m.shape[1] for m in maps] == [64, 64 + 6 * 32, 128 + 12 * 32, 256 + 24 * 32, 512 + 16 * 32]
    assert [m.shape[3] for m in maps] == [16, 16, 8, 4, 2]


@torch.no_grad()
def test_below_29_frames_pooling_stops_at_one() -> None:
    model: Any = mer_zoo.create_model("dat_densenet3d_121").eval()
    _, maps = model.forward_intermediates(torch.rand(1, 1, 20, 64, 64))
    assert [m.shape[2] for m in maps] == [5, 5, 2, 1, 1]


def _same_pad(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Padding of TensorFlow's SAME for a kernel of 3, from its definition."""
    pads = []
    for n in reversed(x.shape[2:]):
        total = max((-(-n // stride) - 1) * stride + 3 - n, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=float("-inf"))


@pytest.mark.parametrize("shape", [(10, 32, 32), (15, 33, 31), (7, 8, 9), (1, 2, 3)])
def test_pooling_without_a_copy_is_the_padded_one(shape: tuple[int, int, int]) -> None:
    from mer_zoo.models._layers3d import same_max_pool

    x = torch.randn(2, 3, *shape)
    assert torch.equal(same_max_pool(x, keep_time=False), F.max_pool3d(_same_pad(x, 2), 3, 2))


def _gradients(name: str, seed: int = 0, **options: Any) -> dict[str, torch.Tensor]:
    """Size of every weight's gradient, summed over several batches."""
    torch.manual_seed(seed)
    model = mer_zoo.create_model(name, drop_rate=0.0, **options).train()
    spec = mer_zoo.input_spec(model)
    total = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for _ in range(6):
        x = spec.low + torch.rand(8, *spec.shape) * (spec.high - spec.low)
        model.zero_grad()
        (model(x) * torch.randn(8, 3)).sum().backward()
        for n, p in model.named_parameters():
            assert p.grad is not None
            total[n] += p.grad.abs()
    return total


@pytest.mark.parametrize("seed", range(8))
def test_every_weight_of_our_reading_gets_a_gradient(seed: int) -> None:
    for name, gradient in _gradients("dat_densenet3d", seed).items():
        assert int((gradient == 0).sum()) == 0, name


@pytest.mark.parametrize("attention", ["none", "se", "scse", "cbam"])
@pytest.mark.parametrize("temporal_transition", ["plain", "ttl"])
@pytest.mark.parametrize("num_frames", [10, 20])
def test_no_temporal_tap_is_dead_when_time_is_kept(attention: str, temporal_transition: str, num_frames: int) -> None:
    options = {"attention": attention, "temporal_transition": temporal_transition, "num_frames": num_frames}
    kernels = {n: g for n, g in _gradients("dat_densenet3d", 0, **options).items() if g.ndim == 5}
    for name, gradient in kernels.items():
        assert bool((gradient.sum(dim=(0, 1, 3, 4)) > 0).all()), name


def test_every_frame_of_our_reading_counts() -> None:
    model = mer_zoo.create_model("dat_densenet3d").eval()
    x = torch.rand(4, 1, 20, 64, 64, requires_grad=True)
    model(x).square().sum().backward()
    assert x.grad is not None
    assert bool((x.grad.abs().sum(dim=(0, 1, 3, 4)) > 0).all())


def test_dead_taps_of_the_published_network_are_those_known() -> None:
    """The one exemption: its third block sees one frame, so the outer taps of one kernel meet padding only."""
    kernels = {n: g for n, g in _gradients("dat_densenet3d_se").items() if g.ndim == 5}
    dead = {n: (g.sum(dim=(0, 1, 3, 4)) == 0).tolist() for n, g in kernels.items()}
    assert {n: taps for n, taps in dead.items() if any(taps)} == {"blocks.2.2.conv2.weight": [True, False, True]}
    assert kernels["blocks.2.2.conv2.weight"][:, :, [0, 2]].numel() == 10_368


@torch.no_grad()
def test_temporal_transition_equals_padded_convolutions() -> None:
    from mer_zoo.models._layers3d import TemporalTransition

    layer = TemporalTransition(4, frames=10, depths=(1, 3, 6), maps=2).eval()
    x = torch.randn(2, 4, 10, 5, 5)
    parts = []
    for depth, branch in zip((1, 3, 6), layer.branches, strict=True):
        norm, relu, conv = (branch.get_submodule(str(i)) for i in range(3))
        side = 1 if depth > 1 else 0
        padded = F.pad(relu(norm(x)), (side, side, side, side, (depth - 1) // 2, depth // 2))
        parts.append(F.conv3d(padded, conv.get_parameter("weight")))
    torch.testing.assert_close(layer(x), torch.cat(parts, dim=1))
    clamped: Any = TemporalTransition(4, 3, (1, 3, 6), 2).branches
    assert [branch[2].kernel_size[0] for branch in clamped] == [1, 3, 3]


@pytest.mark.parametrize("global_pool", ["max", "avg", "grid"])
def test_pooling_can_be_chosen(global_pool: str) -> None:
    model: Any = mer_zoo.create_model("dat_densenet3d", global_pool=global_pool).eval()
    assert model.num_features == 60 * (16 if global_pool == "grid" else 1)
    maps = torch.rand(2, 60, 3, 8, 8)
    naive = {
        "max": maps.flatten(2).max(dim=2).values,
        "avg": maps.flatten(2).mean(dim=2),
        "grid": maps.mean(dim=2).unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)).flatten(1),
    }
    torch.testing.assert_close(model.pool(maps), naive[global_pool])
    model.reset_classifier(4, global_pool="max")
    assert model(torch.rand(1, 1, 20, 64, 64)).shape == (1, 4)
    model.reset_classifier(0, global_pool="")
    assert model(torch.rand(1, 1, 20, 64, 64)).shape == (1, 60, 3, 4, 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attention": "senet"}, "attention is 'senet'; expected one of none, se, scse, cbam"),
        ({"temporal_transition": "t3d"}, "temporal_transition is 't3d'; expected one of plain, ttl"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        mer_zoo.create_model("dat_densenet3d", **options)


def test_cbam_is_its_two_equations() -> None:
    from mer_zoo.models._layers3d import CBAM

    block, x = CBAM(32, frames=5).eval(), torch.randn(2, 32, 5, 8, 8)
    first, _, second = (block.mlp.get_submodule(str(i)) for i in range(3))
    spans = (x.flatten(2).mean(dim=2), x.flatten(2).max(dim=2).values)
    channel = sum(second(first(span).clamp(min=0)) for span in spans)
    refined = x * torch.sigmoid(torch.as_tensor(channel))[:, :, None, None, None]
    places = torch.stack([refined.max(dim=1).values, refined.mean(dim=1)], dim=1)
    padding = (block.spatial.weight.shape[2] // 2, 3, 3)
    spatial = block.norm(nn.functional.conv3d(places, block.spatial.weight, padding=padding)).sigmoid()
    torch.testing.assert_close(block(x), refined * spatial)


def test_the_flagship_eats_amplified_differences() -> None:
    spec = mer_zoo.input_spec("dat_densenet3d")
    assert (spec.kind, spec.shape, spec.low, spec.high, spec.gain) == ("difference", (1, 20, 64, 64), -1, 1, 8)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_layout_of_maps_can_be_chosen() -> None:
    """Of one thread torch's convolutions of 1 x 1 x 1 answer in the other layout, whatever they are given."""
    x = torch.rand(2, 1, 20, 64, 64)
    for name, options, last in (
        ("dat_densenet3d_se", {}, True),
        ("dat_densenet3d_se", {"channels_last": False}, False),
        ("dat_densenet3d_121", {}, False),
    ):
        model: Any = mer_zoo.create_model(name, **options).eval()
        assert model.forward_features(x).is_contiguous(memory_format=torch.channels_last_3d) is last


def test_a_narrow_network_still_has_attention() -> None:
    model = mer_zoo.create_model("dat_densenet3d", growth=2, stem_width=4)
    assert all(p.numel() for p in model.parameters())


def test_scse_is_the_sum_of_both() -> None:
    from mer_zoo.models._layers3d import ChannelSpatialExcite

    block, x = ChannelSpatialExcite(16), torch.randn(2, 16, 3, 4, 4)
    channel = block.channel.expand(block.channel.reduce(x.amax((2, 3, 4))).relu()).sigmoid()
    space = nn.functional.conv3d(x, block.spatial.weight).sigmoid()
    torch.testing.assert_close(block(x), x * channel[:, :, None, None, None] + x * space)
