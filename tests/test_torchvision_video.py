"""torchvision's networks for video: the same function, and its weights for Kinetics where they are at hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import mer_zoo
from mer_zoo.errors import InputError, WeightsError
from mer_zoo.models._kinetics import kinetics_file
from mer_zoo.models.torchvision_video import VideoNetwork

NAMES = ["mc3_18", "mvit_v2_s", "r2plus1d_18", "r3d_18", "s3d", "swin3d_t"]
SMALL: dict[str, Any] = {"num_frames": 8, "size": 64}
every_network = pytest.mark.parametrize("name", NAMES)


def theirs(name: str, frames: int, size: int) -> nn.Module:
    """torchvision's own network, with weights and statistics that matter; MViT told of its grid."""
    torch.manual_seed(3)
    network: nn.Module = torchvision.models.get_model(name).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.get_buffer("running_mean"), -0.2, 0.2)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    if name == "mvit_v2_s":
        encoding: Any = network.get_submodule("pos_encoding")
        encoding.temporal_size, encoding.spatial_size = frames // 2, (size // 4, size // 4)
    return network


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for torch.hub of our own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    checkpoints = Path(torch.hub.get_dir(), "checkpoints")
    checkpoints.mkdir(parents=True)
    return checkpoints


def kept(name: str, network: nn.Module, hub: Path) -> None:
    """Write weights where torchvision would keep its own."""
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    torch.save(network.state_dict(), hub / Path(url).name)


def clips(frames: int, size: int, channels: int = 3) -> Tensor:
    return torch.rand(2, channels, frames, size, size, generator=torch.Generator().manual_seed(1))


def prepared(name: str, x: Tensor) -> Tensor:
    """A clip of 0..1 as torchvision's own transform leaves it."""
    transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    mean, std = (torch.tensor(value).view(1, -1, 1, 1, 1) for value in (transform.mean, transform.std))
    return (x - mean) / std


@every_network
def test_as_many_weights_as_torchvision_says(name: str) -> None:
    model = mer_zoo.create_model(name, num_classes=400, device="meta")
    stated = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
    assert sum(p.numel() for p in model.parameters()) == stated


@every_network
def test_eats_colour_clips_of_the_size_that_its_weights_know(name: str) -> None:
    spec = mer_zoo.input_spec(name)
    crop = torchvision.models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
    assert (spec.kind, spec.channels, spec.size) == ("clip", ("red", "green", "blue"), crop)
    assert 8 <= spec.frames <= 32


@every_network
@torch.no_grad()
def test_kinetics_weights_give_what_torchvision_gives(name: str, hub: Path) -> None:
    """Vectors and logits; another clip than torchvision's, where its S3D cannot go, is tried below."""
    frames, size = (14, 209) if name == "s3d" else (8, 64)
    network = theirs(name, frames, size)
    kept(name, network, hub)
    x = clips(frames, size)
    expected = network(prepared(name, x))
    model: Any = mer_zoo.create_model(name, kinetics=True, num_classes=400, num_frames=frames, size=size).eval()
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    few: Any = mer_zoo.create_model(name, kinetics=True, num_classes=3, num_frames=frames, size=size).eval()
    vector = few.forward_head(few.forward_features(x), pre_logits=True)
    torch.testing.assert_close(model.fc(vector), expected, rtol=1e-4, atol=1e-4)
    assert few(x).shape == (2, 3)


@every_network
@torch.no_grad()
def test_one_channel_answers_as_three_equal_ones(name: str, hub: Path) -> None:
    """The rule of the library: the first convolution is summed. Exact where mean and deviation are one number."""
    kept(name, theirs(name, 8, 64), hub)
    colour: Any = mer_zoo.create_model(name, kinetics=True, num_classes=0, **SMALL).eval()
    grey: Any = mer_zoo.create_model(name, kinetics=True, num_classes=0, in_chans=1, **SMALL).eval()
    for statistics in (colour.normalise.mean, colour.normalise.std):
        statistics.fill_(statistics.mean())
    x = clips(8, 64, channels=1)
    torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1, -1)), rtol=1e-3, atol=1e-4)
    five: Any = mer_zoo.create_model(name, kinetics=True, in_chans=5, **SMALL).eval()
    assert five(clips(8, 64, channels=5)).shape == (2, 3)


@pytest.mark.parametrize("name", ["s3d", "swin3d_t"])
def test_features_only_begins_with_kinetics_too(name: str, hub: Path) -> None:
    kept(name, theirs(name, 8, 64), hub)
    whole: Any = mer_zoo.create_model(name, kinetics=True, **SMALL).eval()
    backbone = mer_zoo.create_model(name, kinetics=True, features_only=True, out_indices=(1,), **SMALL).eval()
    x = clips(8, 64)
    expected = whole.forward_intermediates(x, indices=[1], intermediates_only=True)
    torch.testing.assert_close(backbone(x), expected)


@every_network
@pytest.mark.usefixtures("hub")
def test_weights_that_are_not_there(name: str) -> None:
    file = Path(torchvision.models.get_model_weights(name).DEFAULT.url).name
    code = rf"get_weight\('{torchvision.models.get_model_weights(name).DEFAULT}'\)\.get_state_dict"
    with pytest.raises(WeightsError, match=rf"needs {file}, \d+ MB, which is not in .*checkpoints\. Fetch it .*{code}"):
        mer_zoo.create_model(name, kinetics=True)


def test_weights_of_another_network(hub: Path) -> None:
    kept("mc3_18", torchvision.models.get_model("s3d"), hub)
    with pytest.raises(InputError, match="These are not the weights of this VideoResNet"):
        mer_zoo.create_model("mc3_18", kinetics=True)
    file = kinetics_file("mc3_18")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be read with weights_only=True"):
        mer_zoo.create_model("mc3_18", kinetics=True)


def test_a_saved_model_needs_kinetics_no_more(hub: Path, tmp_path: Path) -> None:
    kept("s3d", theirs("s3d", 8, 64), hub)
    model = mer_zoo.create_model("s3d", kinetics=True, **SMALL).eval()
    folder = mer_zoo.save_pretrained(model, tmp_path / "m")
    kinetics_file("s3d").unlink()
    for pretrained in (True, False):
        again = mer_zoo.create_model(f"local-dir:{folder}", pretrained=pretrained).eval()
        assert torch.equal(again(clips(8, 64)), model(clips(8, 64))) == pretrained
        assert mer_zoo.input_spec(again) == mer_zoo.input_spec(model)
    mer_zoo.save_pretrained(mer_zoo.create_model("s3d", **SMALL), tmp_path / "fresh")
    with pytest.raises(InputError, match="both bring weights"):
        mer_zoo.create_model(f"local-dir:{tmp_path / 'fresh'}", pretrained=True, kinetics=True)


@pytest.mark.parametrize("name", ["mc3_18", "s3d", "mvit_v2_s", "swin3d_t"])
def test_other_channels_of_a_saved_model(name: str, tmp_path: Path) -> None:
    folder = mer_zoo.save_pretrained(mer_zoo.create_model(name, **SMALL), tmp_path / "m")
    for channels in (1, 5):
        model: Any = mer_zoo.create_model(f"local-dir:{folder}", pretrained=True, in_chans=channels).eval()
        assert model(clips(8, 64, channels)).shape == (2, 3)


@every_network
@torch.no_grad()
def test_grey_levels_of_any_range_are_the_same_clip(name: str) -> None:
    model: Any = mer_zoo.create_model(name, **SMALL).eval()
    x = clips(8, 64)
    expected = model(x)
    for low, high in ((0.0, 255.0), (-1.0, 1.0)):
        model.input_spec = mer_zoo.InputSpec("clip", ("red", "green", "blue"), 64, 8, low=low, high=high)
        torch.testing.assert_close(model(low + x * (high - low)), expected, rtol=1e-3, atol=1e-4)


@every_network
@pytest.mark.parametrize(("frames", "size"), [(5, 33), (12, 96)])
@torch.no_grad()
def test_other_frames_and_sizes(name: str, frames: int, size: int) -> None:
    model: Any = mer_zoo.create_model(name, num_frames=frames, size=size).eval()
    assert mer_zoo.input_spec(model).shape == (3, frames, size, size)
    assert torch.isfinite(model(clips(frames, size))).all()


@pytest.mark.parametrize("other", ["resnet18", "s3d"])
def test_another_kind_of_network_is_refused(other: str) -> None:
    with pytest.raises(InputError, match=f"original is '{other}'; a VideoResNet is one of r3d_18, mc3_18, r2plus1d_18"):
        mer_zoo.create_model("r3d_18", original=other)


def test_too_few_frames_or_pixels_are_named() -> None:
    with pytest.raises(InputError, match="s3d cannot take 4 frames; it needs 5 or more"):
        mer_zoo.create_model("s3d", num_frames=4)
    for name in NAMES:
        with pytest.raises(InputError, match=f"{name} cannot take 31 pixels a side; it needs 32 or more"):
            mer_zoo.create_model(name, size=31)
        with pytest.raises(InputError, match="num_frames is 0; expected a whole number, 1 or more"):
            mer_zoo.create_model(name, num_frames=0)
    with pytest.raises(InputError, match="num_frames is '8'; expected a whole number"):
        mer_zoo.create_model("r3d_18", num_frames="8")


@torch.no_grad()
def test_the_window_of_s3d_shrinks_to_its_maps() -> None:
    model: Any = mer_zoo.create_model("s3d").eval()
    maps = torch.rand(2, 1024, 5, 9, 8)
    torch.testing.assert_close(model.pool(maps), nn.functional.avg_pool3d(maps, (2, 7, 7), 1).mean(dim=(2, 3, 4)))
    torch.testing.assert_close(model.pool(maps[:, :, :1, :3, :3]), maps[:, :, :1, :3, :3].mean(dim=(2, 3, 4)))


@pytest.mark.parametrize(("name", "rate"), [("mvit_v2_s", 0.2), ("swin3d_t", 0.1)])
def test_stochastic_depth_is_that_of_torchvision(name: str, rate: float) -> None:
    def rates(network: nn.Module) -> list[float]:
        return [m.p for m in network.modules() if isinstance(m, torchvision.ops.StochasticDepth)]

    with torch.device("meta"):
        expected = rates(torchvision.models.get_model(name))
    model = mer_zoo.create_model(name, drop_path_rate=rate, device="meta")
    assert rates(model) == pytest.approx(expected)
    assert set(rates(mer_zoo.create_model(name, device="meta"))) == {0.0}


@pytest.mark.parametrize("name", ["r3d_18", "s3d"])
def test_a_checkpoint_of_torchvision_has_our_names(name: str) -> None:
    """But for mean, deviation and the last layer."""
    with torch.device("meta"):
        names = set(torchvision.models.get_model(name).state_dict())
    ours = set(mer_zoo.create_model(name, device="meta").state_dict())
    assert ours - names <= {"normalise.mean", "normalise.std", "fc.weight", "fc.bias"}


def test_what_is_saved_says_how_it_was_built(tmp_path: Path) -> None:
    folder = mer_zoo.save_pretrained(mer_zoo.create_model("mc3_18", in_chans=1, **SMALL), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "mc3_18"
    assert config["mer_zoo"]["input_spec"]["channels"] == ["grey"]
    model = mer_zoo.create_model(f"local-dir:{folder}", pretrained=True)
    assert isinstance(model, VideoNetwork)
    assert model.num_frames == 8
