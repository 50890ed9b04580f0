"""Any image network of timm on an apex image, a dynamic image or flow."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import timm.optim
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import mer_zoo
from mer_zoo.errors import InputError, UnknownNameError, WeightsError
from mer_zoo.models import _weights
from mer_zoo.models.from_timm import from_timm

COLOURS = ("red", "green", "blue")
IMAGE = mer_zoo.InputSpec("image", COLOURS, size=64)
GREY = mer_zoo.InputSpec("image", ("grey",), size=64, high=255.0)
DYNAMIC = mer_zoo.InputSpec("dynamic", COLOURS, size=64, low=-1.0)
FLOW = mer_zoo.InputSpec("flow", ("u", "v", "strain"), size=64, low=-3.0, high=3.0)
UV = mer_zoo.InputSpec("flow", ("u", "v"), size=64, low=-3.0, high=3.0)

# One of each manner: plain, with layers behind the pooling, tokens, channels last, a fixed size, no maps between.
BACKBONES = [
    "resnet18",
    "mobilenetv3_small_050",
    "convnext_atto",
    "efficientnet_b0",
    "densenet121",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
    "repvgg_a0",
    "mixer_s32_224",
]


def batch(spec: mer_zoo.InputSpec, size: int = 2) -> Tensor:
    values = torch.rand(size, *spec.shape, generator=torch.Generator().manual_seed(0))
    return spec.low + values * (spec.high - spec.low)


@pytest.mark.parametrize("spec", [IMAGE, GREY, DYNAMIC, FLOW, UV], ids=lambda s: f"{s.kind}-{len(s.channels)}")
def test_images_of_every_kind(spec: mer_zoo.InputSpec, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = from_timm("resnet18", spec, num_classes=5).eval()
    assert mer_zoo.input_spec(model) == spec
    assert model(batch(spec)).shape == (2, 5)
    assert model.get_classifier() is model.fc
    folder = mer_zoo.save_pretrained(model, tmp_path / "m", classes="abcde")
    again: Any = mer_zoo.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert mer_zoo.input_spec(again) == spec
    assert again.classes == tuple("abcde")
    torch.testing.assert_close(again(batch(spec)), model(batch(spec)), rtol=0, atol=0)


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_networks_of_every_manner(name: str, tmp_path: Path) -> None:
    """The vector is timm's own on the same values, normalised by hand; maps, saving and layers' depths work."""
    torch.manual_seed(0)
    model: Any = from_timm(name, IMAGE).eval()
    x = batch(IMAGE)
    cfg = model.backbone.pretrained_cfg
    mean, std = (torch.tensor(cfg[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    sized = {"img_size": 64} if cfg["fixed_input_size"] else {}
    twin = timm.create_model(name, num_classes=0, **sized).eval()
    twin.load_state_dict(model.backbone.state_dict())
    vector = model.forward_head(model.forward_features(x), pre_logits=True)
    torch.testing.assert_close(vector, twin((x - mean) / std), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.fc(vector), model(x))
    assert vector.shape == (2, model.num_features)
    last, maps = model.forward_intermediates(x)
    assert len(maps) == len(model.feature_info)
    torch.testing.assert_close(last, model.forward_features(x))
    assert [m.shape[1] for m in maps] == [info["num_chs"] for info in model.feature_info]
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, layer_decay=0.5)
    scales = {p: g["lr_scale"] for g in optimizer.param_groups for p in g["params"]}
    assert scales[model.fc.weight] == 1.0
    assert min(scales.values()) < 0.5
    folder = mer_zoo.save_pretrained(model, tmp_path / "m")
    again: Any = mer_zoo.create_model(f"local-dir:{folder}", pretrained=True).eval()
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)
    other: Any = mer_zoo.create_model(f"local-dir:{folder}", pretrained=True, num_classes=7).eval()
    assert other(x).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_features_only_of_any_network(name: str) -> None:
    backbone = mer_zoo.create_model("timm_image", backbone=name, size=64, features_only=True, out_indices=(0, 2))
    maps = backbone(batch(IMAGE))
    assert [m.shape[1] for m in maps] == channels_of(backbone)
    assert all(m.ndim == 4 for m in maps)


def channels_of(backbone: nn.Module) -> list[int]:
    info: Any = backbone.feature_info
    return list(info.channels())


@torch.no_grad()
def test_the_normalisation_of_timm_is_within() -> None:
    """Whatever the range of the spec; without named colours every channel has the mean of means."""
    model: Any = from_timm("resnet18", IMAGE).eval()
    x = batch(IMAGE)
    seen = model.normalise(x, IMAGE)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen, (x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1))
    torch.testing.assert_close(model.normalise(x[:, :2] * 6 - 3, UV), (x[:, :2] - mean.mean()) / std.mean())
    half: Any = from_timm("vit_tiny_patch16_224", IMAGE)
    torch.testing.assert_close(half.normalise(x, IMAGE), x * 2 - 1)


@pytest.mark.parametrize(
    "spec",
    [
        mer_zoo.InputSpec("clip", COLOURS, size=64, frames=8),
        mer_zoo.InputSpec("difference", ("grey",), size=64, frames=8, low=-1.0),
        mer_zoo.InputSpec("pair", ("grey",), size=64, frames=2),
        mer_zoo.InputSpec("phases", ("u", "v"), size=64, frames=2, low=-3.0, high=3.0),
        mer_zoo.InputSpec("flow", ("u", "v"), size=64, frames=4, low=-3.0, high=3.0),
    ],
    ids=lambda s: s.kind,
)
def test_what_is_no_image_is_refused(spec: mer_zoo.InputSpec) -> None:
    expected = rf"for images \(C, H, W\), and this spec is a {spec.kind} .*Take kind 'image' .*'dynamic'"
    with pytest.raises(InputError, match=expected):
        from_timm("resnet18", spec)


def test_names_that_timm_does_not_know() -> None:
    with pytest.raises(UnknownNameError, match=r"No network of timm is named 'resnet81'\. Did you mean resnet"):
        from_timm("resnet81", IMAGE)
    with pytest.raises(InputError, match=r"'ststnet' is a network of this library.*create_model\('ststnet'\)"):
        from_timm("ststnet", IMAGE)
    with pytest.raises(WeightsError, match=r"no weights 'resnet18\.mine'; for resnet18 there are: .*resnet18\.a1_in1k"):
        from_timm("resnet18.mine", IMAGE)


def test_sizes_and_options_that_do_not_go() -> None:
    with pytest.raises(InputError, match=r"levit_128 cannot take 72 pixels: .*Its own size is 224"):
        from_timm("levit_128", mer_zoo.InputSpec("image", COLOURS, size=72))
    with pytest.raises(InputError, match=r"cannot make 'resnet18' for 64 pixels and options .*nonsense"):
        from_timm("resnet18", IMAGE, nonsense=1)
    for word in ("in_chans", "size", "backbone", "timm_weights"):
        with pytest.raises(InputError, match=f"{word} cannot be options: name, pretrained and the spec say them"):
            from_timm("resnet18", IMAGE, **cast(Any, {word: 1}))
    with pytest.raises(InputError, match="It takes single images; for clips there are r3d_18"):
        mer_zoo.create_model("timm_image", num_frames=8)


@pytest.mark.parametrize("offline", ["1", "0"])
def test_timm_weights_out_of_reach_are_an_error_within_a_second(offline: str, tmp_path: Path) -> None:
    code = (
        "import time, mer_zoo\n"
        "from mer_zoo.models.from_timm import from_timm\n"
        "spec = mer_zoo.InputSpec('image', ('grey',), size=64)\n"
        "for name in ('resnet18', 'resnet50.a1_in1k', 'gcvit_tiny', 'test_mambaout'):\n"
        "    started = time.perf_counter()\n"
        "    try:\n"
        "        from_timm(name, spec, pretrained=True)\n"
        "    except mer_zoo.errors.WeightsError as error:\n"
        "        print(time.perf_counter() - started, error)\n"
    )
    environment = {"HF_HUB_OFFLINE": offline, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    environment |= {"TORCH_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert len(lines) >= 3
    for line in lines:
        assert float(line.partition(" ")[0]) < 1
    assert "timm/resnet18.a1_in1k" in lines[0]
    assert "timm.create_model('resnet18', pretrained=True)" in lines[0]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """timm's own network, whose weights are all that the Hub has."""
    torch.manual_seed(4)
    network = timm.create_model("resnet18").eval()
    file = tmp_path / "timm.safetensors"
    save_file(dict(network.state_dict()), file)

    def fetch(repo: str, filename: str) -> Path:
        assert (repo, filename) == ("timm/resnet18.a1_in1k", "model.safetensors")
        return file

    monkeypatch.setattr(_weights, "fetch", fetch)
    return network


@torch.no_grad()
def test_timm_weights_are_taken(kept: Any, tmp_path: Path) -> None:
    model: Any = from_timm("resnet18", IMAGE, pretrained=True).eval()
    x = batch(IMAGE)
    network = kept
    expected = network.forward_head(network.forward_features(model.normalise(x, IMAGE)), pre_logits=True)
    torch.testing.assert_close(model.forward_head(model.forward_features(x), pre_logits=True), expected)
    apex: Any = mer_zoo.create_model("apex_resnet18", timm_weights=True)
    torch.testing.assert_close(apex.backbone.conv1.weight, network.conv1.weight)
    grey: Any = from_timm("resnet18", GREY, pretrained=True)
    torch.testing.assert_close(grey.backbone.conv1.weight, network.conv1.weight.sum(dim=1, keepdim=True))
    half = mer_zoo.create_model("apex_resnet18", timm_weights=True, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    folder = mer_zoo.save_pretrained(model, tmp_path / "m")
    assert json.loads((folder / "config.json").read_text())["architecture"] == "timm_image"


@pytest.mark.usefixtures("kept")
def test_a_saved_model_asks_the_hub_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = mer_zoo.create_model("apex_resnet18", timm_weights=True).eval()
    folder = mer_zoo.save_pretrained(model, tmp_path / "m")

    def asked(*_: object, **__: object) -> Path:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(_weights, "fetch", asked)
    again = mer_zoo.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = batch(mer_zoo.input_spec(model), 1)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)
    mer_zoo.create_model(f"local-dir:{folder}")


def test_other_channels_of_a_saved_model(tmp_path: Path) -> None:
    folder = mer_zoo.save_pretrained(from_timm("resnet18", IMAGE), tmp_path / "m")
    for channels in (1, 5):
        model: Any = mer_zoo.create_model(f"local-dir:{folder}", pretrained=True, in_chans=channels).eval()
        assert model(torch.rand(2, channels, 64, 64)).shape == (2, 3)


def test_it_is_evaluated_like_any_model() -> None:
    spec = mer_zoo.InputSpec("image", ("grey",), size=32)
    corpus = mer_zoo.open_corpus("synthetic", subjects=3, clips_per_subject=3)
    table = mer_zoo.evaluate(
        partial(from_timm, "resnet10t", spec, num_classes=3),
        "synthetic-3",
        {"synthetic": corpus},
        recipe=mer_zoo.Recipe(epochs=1),
    )
    assert len(table) == 9


def test_the_number_of_weights() -> None:
    model: Any = mer_zoo.create_model("apex_resnet18", num_classes=1000, device="meta")
    timms = timm.create_model("resnet18", device="meta")
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in timms.parameters()) == 11_689_512
