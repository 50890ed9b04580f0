"""MicroExpFuseNet: its regions against OpenCV and dlib's mean face, its layers written out naively."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.models.micro_exp_fusenet import EYES, MOUTH, area_weights
from mer_zoo.preprocessing import faces

NAMES = ["micro_exp_fusenet_intermediate", "micro_exp_fusenet_late"]

# Where dlib's mean face has the centres of the eyes, and the points by which the authors cut, as listed in
# cmusatyalab/openface, openface/align_dlib.py.
MEAN_EYES = (0.32664, 0.32931), (0.70909, 0.32203)
MEAN_POINTS = {1: (0.08292, 0.45696), 2: (0.09679, 0.57565), 6: (0.32566, 0.97707), 15: (0.97058, 0.44176)}
MEAN_POINTS |= {14: (0.96112, 0.56224), 19: (0.29130, 0.19237)}


def aligned(point: tuple[float, float]) -> complex:
    """Where a point of the mean face lies in the aligned clip, x + iy."""
    left, right = (complex(*eye) for eye in MEAN_EYES)
    to_left, to_right = (complex(*eye) for eye in faces.EYES)
    return to_left + (complex(*point) - left) * (to_right - to_left) / (right - left)


def test_regions_lie_where_the_authors_cut_a_mean_face() -> None:
    points = {number: aligned(point) for number, point in MEAN_POINTS.items()}
    assert (points[19].imag, points[1].imag) == pytest.approx(EYES, abs=0.01)
    assert points[2].imag == pytest.approx(MOUTH[0], abs=0.01)
    assert points[6].imag > MOUTH[1] == 1.0  # the chin lies below the clip
    for left, right in ((1, 15), (2, 14)):  # the jaw is wider than the clip
        assert points[left].real < 0 < 1 < points[right].real


@pytest.mark.parametrize(("upper", "lower"), [(0, 100), (10, 53), (59, 100), (20, 84), (31, 63)])
def test_regions_shrink_as_opencv_shrinks_by_area(upper: int, lower: int) -> None:
    picture = np.random.default_rng(0).random((100, 100))
    expected = cv2.resize(picture[upper:lower], (32, 32), interpolation=cv2.INTER_AREA)
    rows, columns = area_weights(100, upper / 100, lower / 100), area_weights(100, 0.0, 1.0).T
    found = rows.double() @ torch.from_numpy(picture) @ columns.double()
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("size", [32, 128, 224])
def test_areas_are_means(size: int) -> None:
    for place in (EYES, MOUTH, (0.0, 1.0)):
        weights = area_weights(size, *place)
        assert weights.shape == (32, size)
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(32))


@pytest.mark.parametrize(("name", "expected"), list(zip(NAMES, (6_694_915, 6_827_523), strict=True)))
def test_it_has_as_many_weights_as_the_authors_layers(name: str, expected: int) -> None:
    assert sum(p.numel() for p in mer_zoo.create_model(name, device="meta").parameters()) == expected


@pytest.mark.parametrize(("name", "widths"), list(zip(NAMES, ((1024, 128), (2048, 256)), strict=True)))
@torch.no_grad()
def test_the_maps_of_every_stage(name: str, widths: tuple[int, int]) -> None:
    model: Any = mer_zoo.create_model(name).eval()
    _, maps = model.forward_intermediates(torch.zeros(1, 1, 18, 128, 128))
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 1, 10, 10), (widths[0], 1, 1, 1), (widths[1], 1, 1, 1)]


def stream(region: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """Convolution - ReLU - pooling of one region, as one vector."""
    convolved = F.conv3d(region, weights[f"stem.{name}.conv.weight"], weights[f"stem.{name}.conv.bias"])
    return F.max_pool3d(convolved.relu(), kernel_size=3).flatten(1)


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_it_equals_the_published_network(name: str) -> None:
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model(name, num_frames=21).double().eval()
    x, weights = torch.rand(2, 1, 21, 128, 128).double() * 2 - 1, model.state_dict()
    regions = model.stem.regions(x)
    eyes, mouth = stream(regions[0], weights, "eyes"), stream(regions[1], weights, "mouth")
    if name.endswith("intermediate"):
        both = linear(
            linear(torch.cat([eyes, mouth], dim=1), weights, "blocks.0.layers.0"), weights, "blocks.1.layers.0"
        )
    else:
        own = [linear(x, weights, f"blocks.0.layers.{i}") for i, x in enumerate((eyes, mouth))]
        both = torch.cat([linear(x, weights, f"blocks.1.layers.{i}") for i, x in enumerate(own)], dim=1)
    torch.testing.assert_close(model(x), linear(both, weights, "fc"))


@pytest.mark.parametrize(
    ("rows", "seen_by_eyes", "seen_by_mouth"),
    [((0, 11), False, False), ((12, 55), True, False), ((56, 74), False, False), ((75, 128), False, True)],
)
@torch.no_grad()
def test_each_stream_sees_its_region_only(rows: tuple[int, int], seen_by_eyes: bool, seen_by_mouth: bool) -> None:
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model(NAMES[0]).eval()
    x = torch.rand(1, 1, 18, 128, 128)
    changed = x.clone()
    changed[..., slice(*rows), :] = torch.rand(rows[1] - rows[0], 128)
    eyes, mouth = (model.stem(changed) != model.stem(x)).chunk(2, dim=1)
    assert (bool(eyes.any()), bool(mouth.any())) == (seen_by_eyes, seen_by_mouth)


def test_an_unknown_fusion_is_refused() -> None:
    with pytest.raises(InputError, match="fusion is 'early'; expected one of intermediate, late"):
        mer_zoo.create_model(NAMES[0], fusion="early")
