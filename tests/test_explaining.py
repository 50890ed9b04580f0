"""Maps and regions: equal to Captum's where it has them, changed when weights are shuffled, on the face that moves."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from _zoo import batch, every_light_model, fresh, shared, spec_of
from captum.attr import FeatureAblation, LayerGradCam, LayerGradientXActivation
from PIL import Image
from torch import Tensor, nn

import mer_zoo
from mer_zoo.asking import asked
from mer_zoo.errors import InputError
from mer_zoo.explaining import METHODS, REGIONS, _watched, last_maps, sanity_check, shuffled
from mer_zoo.explanation_picture import shown
from mer_zoo.models.micro_exp_fusenet import EYES
from mer_zoo.preprocessing.forms import cook_clip
from mer_zoo.synth import Generator
from mer_zoo.synth.settings import settings_of

WEIGHTS = mer_zoo.list_models(pretrained=True)
STILL_HEAD = {"head_motion": 0.0, "blink_rate": 0.0, "gaze_rate": 0.0}


def _clip(subject: int = 1, clip: int = 1, **knobs: Any) -> tuple[npt.NDArray[np.uint8], int]:
    """A rendered clip and its apex; nothing but the expression moves. By default a raised inner brow, AU1."""
    generator = Generator(settings_of("default", **{**STILL_HEAD, **knobs}), 7)
    return generator.clip(subject, clip), generator.coding(subject, clip).apex


# Against Captum


@pytest.mark.parametrize(("method", "peer"), [("gradcam", LayerGradCam), ("hirescam", LayerGradientXActivation)])
@pytest.mark.parametrize("name", ["dat_densenet3d.synth_3", "dat_densenet3d.synth_au"])
def test_of_one_last_layer_the_map_is_captums(name: str, method: str, peer: Any) -> None:
    model: Any = mer_zoo.create_model(name, pretrained=True).eval()
    clip, _ = _clip()
    said = mer_zoo.explain(model, clip, method=method)
    values = torch.from_numpy(cook_clip(clip, mer_zoo.input_spec(model)))[None]
    raw = peer(model, model.norm).attribute(values, target=said.classes.index(said.target))
    large = F.interpolate(raw.sum(1, keepdim=True), size=said.cam.shape, mode="trilinear")[0, 0].relu().detach()
    torch.testing.assert_close(torch.from_numpy(said.cam), large / large.max(), rtol=1e-4, atol=1e-5)


def test_three_streams_are_captums_of_each_added_up() -> None:
    model: Any = mer_zoo.create_model("ststnet.synth_3", pretrained=True).eval()
    clip, apex = _clip()
    said = mer_zoo.explain(model, clip, apex=apex, method="gradcam")
    values = torch.from_numpy(cook_clip(clip, mer_zoo.input_spec(model), apex))[None]
    index = said.classes.index(said.target)
    each = [LayerGradCam(model, layer).attribute(values, target=index) for layer in (model.bn1, model.bn2, model.bn3)]
    large = F.interpolate(sum(each), size=said.cam.shape[1:], mode="bilinear")[0].relu().detach()
    torch.testing.assert_close(torch.from_numpy(said.cam), large / large.max(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WEIGHTS)
def test_regions_are_worth_what_captums_ablation_says(name: str) -> None:
    model: Any = mer_zoo.create_model(name, pretrained=True).eval()
    clip, apex = _clip()
    said = mer_zoo.explain(model, clip, apex=apex)
    values = torch.from_numpy(cook_clip(clip, mer_zoo.input_spec(model), apex))[None]
    flow = values.ndim == 4
    rest = values.flatten(2).median(2).values[..., None, None].expand_as(values) if flow else torch.zeros_like(values)
    mask = torch.zeros(values.shape, dtype=torch.long)
    for number, (upper, _) in enumerate(REGIONS.values()):
        mask[..., round(upper * values.shape[-1]) :, :] = number

    def probability(x: Tensor) -> Tensor:
        shares: Tensor = model(x).sigmoid() if "AU1" in said.classes else model(x).softmax(1)
        return shares[:, said.classes.index(said.target)]

    with torch.no_grad():
        falls = FeatureAblation(probability).attribute(values, baselines=rest, feature_mask=mask)
    for number, fall in enumerate(said.regions.values()):
        assert fall == pytest.approx(float(falls[mask == number].mean()), abs=1e-5)


# Every network


@every_light_model
def test_every_network_of_the_zoo_has_a_map(name: str) -> None:
    model = fresh(name)
    spec = spec_of(name)
    values = batch(name, 1)[0].numpy()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    classes = [f"class {i}" for i in range(5)]
    said = next(said for said in (mer_zoo.explain(model, values, target=each) for each in classes) if said.cam.any())
    steps = spec.frames if len(spec.shape) == 4 else 1
    assert said.cam.shape == (steps, spec.size, spec.size)
    assert said.pictures.shape == (*said.cam.shape, 3)
    assert said.cam.min() >= 0
    assert said.cam.max() == pytest.approx(1)
    assert list(said.regions) == list(REGIONS)
    with torch.no_grad():
        expected = model(torch.from_numpy(values)[None]).softmax(1)[0]
    np.testing.assert_allclose(said.probabilities, expected.numpy(), rtol=1e-3, atol=1e-5)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_network_that_sees_the_eyes_alone_is_explained_there() -> None:
    model = shared("micro_exp_fusenet_late")
    values = batch("micro_exp_fusenet_late", 1)[0].numpy()
    maps = [mer_zoo.explain(model, values, target=name).cam for name in (f"class {i}" for i in range(5))]
    upper = round(EYES[0] * values.shape[-1])
    assert all(not cam[:, :upper].any() for cam in maps)
    assert any(cam.any() for cam in maps)


def test_what_maps_say_past_later_ones_adds_up_to_the_logit() -> None:
    """By Euler's theorem: a network of convolutions, ReLU and sums without biases is homogeneous."""

    class Shortcuts(nn.Module):
        input_spec = mer_zoo.InputSpec("image", ("grey",), size=12)

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second, self.third = (nn.Conv2d(n, 4, 3, padding=1, bias=False) for n in (1, 4, 4))
            self.act, self.fc = nn.ReLU(inplace=True), nn.Linear(4 * 144, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.first(x))
            y = (x + self.second(x)).relu()
            logits: Tensor = self.fc((x + y + self.third(y)).flatten(1))
            return logits

    model, values = Shortcuts(), torch.rand(1, 1, 12, 12, requires_grad=True)
    logit, kept = _watched(model, values, 1, 1)
    parts = [(answer, slope) for (answer, _), slope in last_maps(logit, kept, model)]
    assert [answer.shape[1] for answer, _ in parts] == [4, 4, 4]
    torch.testing.assert_close(sum((answer * slope).sum() for answer, slope in parts), logit)


def test_a_gate_does_not_hide_what_it_lets_through() -> None:
    class Gated(nn.Module):
        input_spec = mer_zoo.InputSpec("image", ("grey",), size=12)

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gate = nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Conv2d(1, 1, 1)
            nn.init.ones_(self.conv.weight)
            nn.init.zeros_(self.gate.weight)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            means = (x * self.gate(x).sigmoid()).mean((2, 3))
            return torch.cat([means, -means], dim=1)

    picture = np.zeros((1, 12, 12), np.float32)
    picture[0, 3, 8] = 1
    cam = mer_zoo.explain(Gated(), picture).cam[0]
    assert cam[3, 8] == pytest.approx(1)
    assert cam[8, 3] == 0


def test_coarse_and_fine_maps_weigh_by_what_they_say() -> None:
    """The left half speaks through a map of 2 x 2, the right one through a map of 12 x 12, as much in all."""

    class Halves(nn.Module):
        input_spec = mer_zoo.InputSpec("image", ("grey",), size=12)

        def __init__(self) -> None:
            super().__init__()
            self.coarse, self.fine = nn.AvgPool2d(6), nn.AvgPool2d(1)

        def forward(self, x: Tensor) -> Tensor:
            means = (self.coarse(x)[..., :1].mean((2, 3)) + self.fine(x)[..., 6:].mean((2, 3))).squeeze(1)
            return torch.stack([means, -means], dim=1)

    cam = mer_zoo.explain(Halves(), np.ones((1, 12, 12), np.float32)).cam[0]
    assert cam.sum() > 0
    assert cam[:, :6].sum() == pytest.approx(cam[:, 6:].sum(), rel=0.35)  # the coarse half runs over when enlarged


def test_visitors_may_ask_one_network_at_once() -> None:
    model = mer_zoo.create_model("dat_densenet3d.synth_3", pretrained=True)
    clips = [_clip(clip=number)[0] for number in range(4)]
    alone = [mer_zoo.explain(model, clip).cam for clip in clips]
    with ThreadPoolExecutor(4) as threads:
        together = [*threads.map(lambda clip: mer_zoo.explain(model, clip).cam, clips * 2)]
    for one, other in zip(alone * 2, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_parts_keep_their_mode() -> None:
    model: Any = mer_zoo.create_model("ststnet.synth_3", pretrained=True).train()
    model.bn1.eval()
    mer_zoo.explain(model, _clip()[0])
    assert (model.training, model.bn1.training, model.bn2.training) == (True, False, True)


def test_whoever_asks_longest_gives_the_modes_back() -> None:
    """Two that ask a network in training at once: the one that is done first must not set the other's dropout on."""
    model: Any = mer_zoo.create_model("ststnet").train()
    model.bn1.eval()
    first, second = asked(model), asked(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not any(part.training for part in model.modules())
    second.__exit__(None, None, None)
    assert (model.training, model.bn1.training, model.bn2.training) == (True, False, True)


def test_a_part_that_is_asked_for_itself_keeps_its_mode_too() -> None:
    part = mer_zoo.create_model("ststnet").train()
    whole = nn.Sequential(part).train()
    first, second = asked(whole), asked(part)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (whole.training, part.training) == (True, False)
    second.__exit__(None, None, None)
    assert part.training


def test_a_network_that_cannot_be_evaluated_is_given_back() -> None:
    class Stubborn(nn.Module):
        def train(self, mode: bool = True) -> Any:
            raise RuntimeError("not now")

    network = Stubborn()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not now"), asked(network):
            raise AssertionError("nobody gets here")
    assert network.training


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_models_and_clips_of_other_types_are_explained(context: Any) -> None:
    clip, apex = _clip()
    model = mer_zoo.create_model("ststnet.synth_3", pretrained=True)
    cooked = torch.from_numpy(cook_clip(clip, mer_zoo.input_spec(model), apex))
    expected = mer_zoo.explain(model, cooked).cam
    with context():
        np.testing.assert_allclose(mer_zoo.explain(model, cooked).cam, expected, atol=1e-5)
    for frozen in (model.requires_grad_(False), model.double()):
        for values in (cooked.clone().requires_grad_(), cooked.double()):
            np.testing.assert_allclose(mer_zoo.explain(frozen, values).cam, expected, atol=1e-4)


def test_a_frozen_backbone_leaves_the_maps_after_it() -> None:
    class Frozen(nn.Module):
        input_spec = mer_zoo.InputSpec("image", ("grey",), size=12)

        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.body(x)
            means: Tensor = self.head(x).mean((2, 3))
            return means

    picture = np.random.default_rng(0).random((1, 12, 12), np.float32)
    said = [mer_zoo.explain(Frozen(), picture, target=f"class {i}").cam for i in range(2)]
    assert any(cam.any() for cam in said)


def test_flow_of_several_steps_is_shown_at_the_frames_it_goes_to() -> None:
    spec = mer_zoo.InputSpec("flow", ("u", "v"), size=16, frames=3, low=-8, high=8)
    frames = np.arange(10, dtype=np.uint8)[:, None, None].repeat(16, 1).repeat(16, 2)
    assert shown(frames, spec, 5)[:, 0, 0, 0].tolist() == [3, 6, 9]


# Does it depend on what was learnt, and does it lie where the face moves?


@pytest.mark.parametrize("name", [name for name in WEIGHTS if "ststnet" in name or "synth_3" in name])
def test_maps_change_when_weights_are_shuffled(name: str) -> None:
    clip, apex = _clip()
    assert abs(sanity_check(name, clip, apex=apex, seeds=5)) < 0.4


def test_a_map_that_ignores_the_weights_would_be_found_out() -> None:
    class Edges(nn.Module):
        """All classes see the same, whatever the one weight is."""

        input_spec = mer_zoo.InputSpec("image", ("grey",), size=24)
        classes = ("a", "b")

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, bias=False)
            nn.init.ones_(self.conv.weight)

        def forward(self, x: Tensor) -> Tensor:
            same: Tensor = self.conv(x).mean((2, 3)).repeat(1, 2)
            return same

    picture = np.random.default_rng(0).random((1, 24, 24), np.float32)
    assert sanity_check(Edges(), picture, seeds=2) == pytest.approx(1)


def test_shuffled_weights_are_the_same_values() -> None:
    model = mer_zoo.create_model("ststnet.synth_3", pretrained=True)
    mixed = shuffled(model, 0)
    for (name, one), other in zip(model.named_parameters(), mixed.parameters(), strict=True):
        assert torch.equal(one.flatten().sort().values, other.flatten().sort().values), name
    assert not torch.equal(model.get_parameter("fc.weight"), mixed.get_parameter("fc.weight"))


@pytest.mark.parametrize("name", ["dat_densenet3d.synth_3", "ststnet.synth_3"])
def test_a_raised_brow_is_seen_at_the_brows(name: str) -> None:
    clip, apex = _clip()
    said = mer_zoo.explain(name, clip, apex=apex)
    assert said.target == "surprise"
    assert max(said.regions, key=lambda region: said.regions[region]) == "brows"
    assert said.regions["brows"] > 0.4


def test_regions_hold_the_units_that_they_are_named_after() -> None:
    """By true motion of rendered faces, which are placed as the aligner places faces."""
    homes = {"1": "brows", "4": "brows", "5": "eyes", "12": "mouth", "14": "mouth", "17": "mouth", "26": "mouth"}
    generator = Generator(settings_of("easy", classes="au", amplitude=(0.5, 0.5)), 3)
    seen = set()
    for clip in range(len(generator.labels)):
        coding = generator.coding(0, clip)
        if len(coding.units) > 1 or coding.units[0] not in homes:
            continue
        moved = np.linalg.norm(generator.flow(0, clip)[coding.apex], axis=-1)
        strongest = moved * (moved > 0.8 * moved.max())
        shares = {name: strongest[round(a * 64) : round(b * 64)].sum() for name, (a, b) in REGIONS.items()}
        assert max(shares, key=lambda region: shares[region]) == homes[coding.units[0]], (coding.units, shares)
        seen.add(coding.units[0])
    assert seen == set(homes)


# What is saved


def test_a_picture_and_arrays_are_saved(tmp_path: Path) -> None:
    clip, apex = _clip()
    said = mer_zoo.explain("ststnet.synth_3", clip, apex=apex)
    for ending in ("png", "svg", "pdf"):
        assert said.save(tmp_path / f"why.{ending}").stat().st_size > 5000
    with Image.open(tmp_path / "why.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 20
    assert "surprise" in (tmp_path / "why.svg").read_text()
    with np.load(said.save(tmp_path / "why.npz"), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["cam"], said.cam)
        assert dict(zip(arrays["regions"], arrays["falls"], strict=True)) == pytest.approx(said.regions)
        assert str(arrays["target"]) == said.target
        assert sorted(arrays) == ["cam", "classes", "falls", "pictures", "probabilities", "regions", "target"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["why.npz", "why.pdf", "why.png", "why.svg"]


@pytest.mark.parametrize("name", ["dat_densenet3d.synth_3", "ststnet.synth_3"])
def test_prepared_and_raw_clips_are_explained_alike(name: str) -> None:
    model = mer_zoo.create_model(name, pretrained=True)
    clip, apex = _clip()
    raw = mer_zoo.explain(model, clip, apex=apex, target="negative")
    cooked = mer_zoo.explain(model, cook_clip(clip, mer_zoo.input_spec(model), apex), target="negative")
    np.testing.assert_allclose(raw.cam, cooked.cam, atol=1e-6)
    assert raw.regions == cooked.regions
    assert raw.target == "negative"


# What is refused


@pytest.mark.parametrize("method", METHODS)
def test_a_network_without_maps_is_refused(method: str) -> None:
    class Flat(nn.Module):
        input_spec = mer_zoo.InputSpec("image", ("grey",), size=24)

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(576, 2)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(x.flatten(1))
            return logits

    with pytest.raises(InputError, match="Flat has no layer of maps"):
        mer_zoo.explain(Flat(), np.zeros((1, 24, 24), np.float32), method=method)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"clip": np.zeros((3, 20, 20))}, "The clip is float64 (3, 20, 20); expected frames, uint8 (T, H, W)"),
        ({"clip": np.full((3, 28, 28), np.nan, np.float32)}, "The values span nan..nan"),
        ({"clip": np.full((3, 28, 28), 300, np.float32)}, "The values span 300..300; expected 0..255"),
        ({"clip": np.zeros((1, 64, 64), np.uint8)}, "the clip has 1 frames"),
        ({"target": "joy"}, "target is 'joy'; the network knows negative, positive, surprise."),
        ({"method": "lime"}, "method is 'lime'; expected one of hirescam, gradcam."),
        ({"apex": 99}, "apex is 99; expected a position among 20 frames"),
        ({"apex": 2.5}, "apex is 2.5; expected a position"),
        ({"fps": -1.0}, "fps is -1.0; expected a positive number"),
        ({"model": 3}, "model is a int"),
        ({"model": nn.Conv2d(1, 1, 1)}, "Conv2d does not say what it eats"),
    ],
)
def test_wrong_arguments_are_named(changed: dict[str, Any], complaint: str) -> None:
    asked = {"model": "ststnet.synth_3", "clip": _clip()[0], **changed}
    with pytest.raises(InputError, match=re.escape(complaint)):
        mer_zoo.explain(asked.pop("model"), asked.pop("clip"), **asked)


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    clip, apex = _clip()
    with pytest.raises(InputError, match=re.escape("does not end in .png, .svg, .pdf or, for the arrays, .npz")):
        mer_zoo.explain("ststnet.synth_3", clip, apex=apex).save(tmp_path / "why.gif")
