"""What bites when 3-D networks live in timm's registry; each trap has a test."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import mer_zoo
from mer_zoo.errors import InputError, MerZooError
from mer_zoo.models import _builder
from mer_zoo.models.ststnet import STSTNet

CHANNELS = [("dat_densenet3d", 1, 3), ("dat_densenet3d", 3, 1), ("dat_densenet3d_se", 1, 4), ("ststnet", 3, 1)]


@pytest.mark.parametrize(("name", "saved", "wanted"), [*CHANNELS, ("ststnet", 3, 5)])
@torch.no_grad()
def test_first_convolutions_are_adapted_not_drawn_anew(
    name: str, saved: int, wanted: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """timm drops a 5-D first convolution with a warning, or draws it anew; equal channels must give equal logits."""
    model: Any = mer_zoo.create_model(name, in_chans=saved).eval()
    mer_zoo.save_pretrained(model, tmp_path / "m")
    with caplog.at_level(logging.WARNING):
        adapted: Any = mer_zoo.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True, in_chans=wanted).eval()
    assert not caplog.records
    spec = mer_zoo.input_spec(model)
    grey = torch.rand(2, 1, *spec.shape[1:]) * spec.high
    many, few = (grey.expand(-1, n, *spec.shape[1:]) for n in (wanted, saved))
    if wanted % saved and wanted > 1:  # three channels repeated to five: weights are those of the original, scaled
        weight = torch.cat([model.conv1.weight, model.conv1.weight[:, :2]], dim=1) * 3 / 5
        torch.testing.assert_close(adapted.conv1.weight, weight)
    else:
        torch.testing.assert_close(adapted(many), model(few), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", mer_zoo.list_models())
def test_input_size_has_no_time_in_it(name: str) -> None:
    model: Any = mer_zoo.create_model(name, device="meta")
    cfg = model.pretrained_cfg
    spec = mer_zoo.input_spec(name)
    assert cfg["input_size"] == (spec.shape[0], spec.size, spec.size)
    assert timm.data.resolve_model_data_config(model)["input_size"] == cfg["input_size"]


def test_number_of_frames_is_a_model_argument_and_survives_saving(tmp_path: Path) -> None:
    model = mer_zoo.create_model("dat_densenet3d", num_frames=32)
    assert mer_zoo.input_spec(model).shape == (1, 32, 64, 64)
    mer_zoo.save_pretrained(model, tmp_path / "m")
    loaded: Any = mer_zoo.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)
    assert loaded.num_frames == 32
    assert mer_zoo.input_spec(loaded).frames == 32
    assert mer_zoo.input_spec(f"local-dir:{tmp_path / 'm'}").frames == 32


def test_what_an_entry_point_was_given_survives_saving(tmp_path: Path) -> None:
    """timm notes the arguments in its factory only; an entry point may be called by itself."""
    from mer_zoo.models.dat_densenet3d import dat_densenet3d

    model: Any = dat_densenet3d(num_frames=32, attention="cbam", global_pool="grid").eval()
    mer_zoo.save_pretrained(model, tmp_path / "m")
    loaded = mer_zoo.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True).eval()
    x = torch.rand(1, 1, 32, 64, 64)
    torch.testing.assert_close(loaded(x), model(x))


def test_a_pool_that_was_changed_survives_saving(tmp_path: Path) -> None:
    model: Any = mer_zoo.create_model("dat_densenet3d").eval()
    model.reset_classifier(4, global_pool="grid")
    mer_zoo.save_pretrained(model, tmp_path / "m")
    loaded = mer_zoo.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True).eval()
    x = torch.rand(1, 1, 20, 64, 64)
    torch.testing.assert_close(loaded(x), model(x))


def test_a_spec_of_other_frames_than_the_model_is_refused(tmp_path: Path) -> None:
    model: Any = mer_zoo.create_model("dat_densenet3d")
    model.input_spec = dataclasses.replace(model.input_spec, frames=32)
    with pytest.raises(InputError, match="build it with num_frames=32"):
        mer_zoo.save_pretrained(model, tmp_path / "m")


def test_provenance_survives_loading_and_saving_again(tmp_path: Path) -> None:
    first = mer_zoo.create_model("ststnet")
    mer_zoo.save_pretrained(first, tmp_path / "m", classes=("a", "b", "c"), trained_on=("smic",))
    again: Any = mer_zoo.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)
    mer_zoo.save_pretrained(again, tmp_path / "n")
    block = json.loads((tmp_path / "n" / "config.json").read_text())["mer_zoo"]
    assert (block["classes"], block["trained_on"]) == (["a", "b", "c"], ["smic"])
    again.reset_classifier(5)
    mer_zoo.save_pretrained(again, tmp_path / "n")
    block = json.loads((tmp_path / "n" / "config.json").read_text())["mer_zoo"]
    assert (block["classes"], block["trained_on"]) == ([], ["smic"])


def test_weights_given_by_hand_are_taken(tmp_path: Path) -> None:
    model = mer_zoo.create_model("ststnet")
    save_file(dict(model.state_dict()), tmp_path / "w.safetensors")
    overlay = {"file": str(tmp_path / "w.safetensors")}
    loaded = mer_zoo.create_model("ststnet", pretrained=True, pretrained_cfg_overlay=overlay)
    assert torch.equal(loaded.get_parameter("fc.weight"), model.get_parameter("fc.weight"))


def test_our_block_lies_beside_the_configuration_of_timm(tmp_path: Path) -> None:
    mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path / "m", trained_on=["synthetic_flow"])
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["mer_zoo"]["trained_on"] == ["synthetic_flow"]
    assert set(config["pretrained_cfg"]) <= set(vars(timm.models.PretrainedCfg()))
    assert timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True) is not None


def test_a_spec_that_was_changed_is_the_one_saved(tmp_path: Path) -> None:
    model: Any = mer_zoo.create_model("ststnet", in_chans=2)
    model.input_spec = mer_zoo.InputSpec("flow", ("u", "v"), size=28, low=-3.0, high=3.0, flow_method="dis")
    mer_zoo.save_pretrained(model, tmp_path / "m")
    loaded = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)
    assert mer_zoo.input_spec(loaded) == model.input_spec


def test_a_folder_without_a_spec_is_refused(tmp_path: Path) -> None:
    mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "mer_zoo"}))
    with pytest.raises(MerZooError, match="has no 'mer_zoo' block"):
        mer_zoo.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)


def test_a_name_of_timm_cannot_be_taken() -> None:
    def resnet18(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _builder.build("resnet18", STSTNet, pretrained, **kwargs)

    before = timm.model_entrypoint("resnet18")
    with pytest.raises(ValueError, match=r"'resnet18' is registered by timm\.models\.resnet"):
        _builder.register(mer_zoo.input_spec("ststnet"))(resnet18)
    assert timm.model_entrypoint("resnet18") is before


def test_our_files_merge_with_no_module_of_timm() -> None:
    ours = {timm.model_entrypoint(name).__module__ for name in mer_zoo.list_models()}
    theirs = {timm.model_entrypoint(n).__module__ for n in timm.list_models() if n not in mer_zoo.list_models()}
    assert not {m.rpartition(".")[2] for m in ours} & {m.rpartition(".")[2] for m in theirs}


def test_a_tag_exists_when_its_file_does(tmp_path: Path) -> None:
    """Registered anew from a folder of weights, as the wheel carries them."""
    torch.manual_seed(0)
    original: Any = mer_zoo.create_model("ststnet", num_classes=4).eval()
    saved = mer_zoo.save_pretrained(original, tmp_path / "m", classes="abcd")
    (saved / "model.safetensors").rename(tmp_path / "toynet.first_4.safetensors")
    (saved / "config.json").rename(tmp_path / "toynet.first_4.json")

    def toynet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _builder.build("toynet", STSTNet, pretrained, **kwargs)

    spec = mer_zoo.input_spec("ststnet")
    try:
        _builder.register(spec, weights=tmp_path)(toynet)
        assert mer_zoo.list_models("toynet*", pretrained=True) == ["toynet.first_4"]
        x = torch.rand(2, *spec.shape) * spec.high
        for name in ("toynet", "toynet.first_4"):
            tagged: Any = mer_zoo.create_model(name, pretrained=True).eval()
            assert tagged.classes == ("a", "b", "c", "d")
            torch.testing.assert_close(tagged(x), original(x))
        other: Any = mer_zoo.create_model("toynet.first_4", pretrained=True, num_classes=3)
        torch.testing.assert_close(other.conv1.weight, original.conv1.weight)
        with pytest.raises(MerZooError, match=r"no weights 'toynet.second'; for toynet there are: toynet.first_4"):
            mer_zoo.create_model("toynet.second", pretrained=True)
    finally:
        for known in (_builder._SPECS, _builder._TAGS):
            for name in [name for name in known if name.startswith("toynet")]:
                known.pop(name)


@pytest.mark.parametrize(("classes", "words"), [(("a", "b"), "2 class names .* for a model of 3")])
def test_saving_refuses_wrong_facts(classes: tuple[str, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path / "m", classes=classes)
    assert not (tmp_path / "m").exists()


def test_saving_spares_what_else_lies_there(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("three years")
    (tmp_path / "data").mkdir()
    for _ in range(2):
        mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "three years"
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["config.json", "data", "model.safetensors", "thesis.tex"]


@pytest.mark.parametrize("text", ["{}", "[tool]", '{"model_type": "bert"}'])
def test_saving_refuses_the_configuration_of_something_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="is not that of a model"):
        mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == text


def test_saving_refuses_a_module_from_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not made by create_model"):
        mer_zoo.save_pretrained(nn.Linear(2, 2), tmp_path / "m")


def test_a_failure_leaves_the_earlier_model_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path / "m")
    before = {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(_builder, "save_config_for_hf", full)
    with pytest.raises(OSError, match="no space left"):
        mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path / "m")
    assert {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()} == before


def test_saving_again_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    for _ in range(2):
        mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]
