"""One contract for every network in the registry: what timm's users expect of a model."""

import copy
import inspect
import math
import re
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import timm.optim
import torch
from _zoo import batch, every_model, fresh, made, shared, small, spec_of
from timm.models import group_parameters
from torch import nn

import mer_zoo
from mer_zoo.errors import InputError, MerZooError, UnknownNameError


@every_model
@torch.no_grad()
def test_logits_are_the_head_of_the_features(name: str) -> None:
    model, x = shared(name), batch(name)
    logits = model(x)
    assert logits.shape == (2, 5)
    features = model.forward_features(x)
    torch.testing.assert_close(model.forward_head(features), logits)
    vector = model.forward_head(features, pre_logits=True)
    assert vector.shape == (2, model.num_features) == (2, model.head_hidden_size)
    torch.testing.assert_close(model.get_classifier()(vector), logits)


@every_model
@torch.no_grad()
def test_timm_makes_the_same_model(name: str) -> None:
    torch.manual_seed(0)
    twin = made(name, timm.create_model, num_classes=5).eval()
    torch.testing.assert_close(twin(batch(name)), fresh(name)(batch(name)))
    assert mer_zoo.input_spec(twin) == spec_of(name)


@every_model
def test_without_classes_the_vector_comes_out(name: str) -> None:
    model: Any = made(name, num_classes=0).eval()
    assert isinstance(model.get_classifier(), nn.Identity)
    assert model(batch(name)).shape == (2, model.num_features)
    model.reset_classifier(7)
    assert model.num_classes == 7
    assert model(batch(name)).shape == (2, 7)
    model.reset_classifier(0)
    assert model(batch(name)).shape == (2, model.num_features)


@every_model
@torch.no_grad()
def test_intermediates_agree_with_feature_info(name: str) -> None:
    model, x = shared(name), batch(name)
    last, maps = model.forward_intermediates(x)
    torch.testing.assert_close(last, model.forward_features(x))
    assert len(maps) == len(model.feature_info)
    size = spec_of(name).size
    for info, feature in zip(model.feature_info, maps, strict=True):
        assert feature.shape[1] == info["num_chs"]
        assert feature.shape[-1] == pytest.approx(size / info["reduction"], abs=1)
    early, alone = model.forward_intermediates(x, indices=[0], stop_early=True)
    torch.testing.assert_close(early, maps[0])
    torch.testing.assert_close(alone[0], maps[0])
    normed = model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)
    torch.testing.assert_close(normed[0], last)
    for indices in ([99], [], 0, -1, 99):
        with pytest.raises(InputError, match="there are"):
            model.forward_intermediates(x, indices=indices)
    with pytest.raises(InputError, match="NCHW"):
        model.forward_intermediates(x, output_fmt="NLC")


@every_model
@torch.no_grad()
def test_features_only_gives_the_chosen_maps(name: str) -> None:
    x = batch(name)
    _, maps = shared(name).forward_intermediates(x)
    stages = len(maps)
    for options, expected in (
        ({}, [stages - 1]),
        ({"out_indices": 2}, [stages - 2, stages - 1]),
        ({"out_indices": (0, -1)}, [0, stages - 1]),
        ({"out_indices": (0,)}, [0]),
    ):
        backbone: Any = made(name, timm.create_model, features_only=True, **options).eval()
        state = shared(name).state_dict()
        backbone.model.load_state_dict({key: state[key] for key in backbone.model.state_dict()})
        found = backbone(x)
        assert backbone.feature_info.channels() == [m.shape[1] for m in found]
        assert mer_zoo.input_spec(backbone) == spec_of(name)
        for feature, stage in zip(found, expected, strict=True):
            torch.testing.assert_close(feature, maps[stage])


@every_model
def test_features_only_keeps_no_weight_behind_the_last_chosen_map(name: str) -> None:
    backbone = made(name, features_only=True, out_indices=(0,)).train()
    sum(feature.square().sum() for feature in backbone(batch(name))).backward()
    assert all(p.grad is not None for p in backbone.parameters())
    with pytest.raises(InputError, match="feature_cls is 'hook'"):
        made(name, features_only=True, feature_cls="hook")


@every_model
def test_layers_have_a_depth(name: str) -> None:
    model: Any = shared(name)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, layer_decay=0.5)
    scales = {p: g["lr_scale"] for g in optimizer.param_groups for p in g["params"]}
    assert scales[model.fc.weight] == 1.0
    assert min(scales.values()) == scales[next(iter(model.parameters()))] < 1.0
    groups = {coarse: group_parameters(model, model.group_matcher(coarse)) for coarse in (True, False)}
    assert len(groups[True]) == len(model.stages()) + (1 if name != "ststnet" else 0)  # and the head
    assert len(groups[False]) >= len(groups[True])
    assert groups[True][len(groups[True]) - 1][-2:] == ["fc.weight", "fc.bias"]


@every_model
def test_device_and_dtype(name: str) -> None:
    ghost = made(name, device="meta")
    assert all(p.device.type == "meta" for p in ghost.parameters())
    half = made(name, dtype=torch.bfloat16).eval()
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32
    assert half(batch(name, 1).bfloat16()).dtype == torch.bfloat16  # slow on CPUs without such instructions
    classifier: Any = half
    classifier.reset_classifier(7)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


@every_model
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_another_number_of_channels(name: str, channels: int) -> None:
    model: Any = made(name, in_chans=channels).eval()
    spec = mer_zoo.input_spec(model)
    assert model.in_chans == spec.shape[0] == channels
    assert model(batch(model)).shape == (2, 3)


@every_model
def test_save_and_load(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model: Any = made(name, num_classes=4).eval()
    mer_zoo.save_pretrained(model, tmp_path / "saved", classes=("a", "b", "c", "d"))
    x = batch(name)
    loaded = mer_zoo.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    assert mer_zoo.input_spec(loaded) == mer_zoo.input_spec(model)
    headless: Any = mer_zoo.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True, num_classes=0).eval()
    vector = model.forward_head(model.forward_features(x), pre_logits=True)
    torch.testing.assert_close(headless(x), vector, rtol=0, atol=0)
    file = tmp_path / "saved" / "model.safetensors"
    plain = made(name, num_classes=4, checkpoint_path=str(file)).eval()
    torch.testing.assert_close(plain(x), model(x), rtol=0, atol=0)


@every_model
def test_a_wrong_shape_is_named(name: str) -> None:
    model, spec = shared(name), spec_of(name)
    expected = r"expected \(B, " + ", ".join(map(str, spec.shape)) + r"\)"
    for shape in (spec.shape, (1, *spec.shape, 2), (1, spec.shape[0] + 1, *spec.shape[1:]), (1, *spec.shape[:-1], 9)):
        with pytest.raises(InputError, match=expected):
            model(torch.zeros(shape))


@every_model
def test_copies_and_whole_model_files(name: str, tmp_path: Path) -> None:
    model, x = shared(name), batch(name)
    torch.testing.assert_close(copy.deepcopy(model)(x=x), model(x))
    torch.save(model, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").stat().st_size > 0


@every_model
def test_maps_without_pooling_go_with_no_classes(name: str) -> None:
    model: Any = made(name, num_classes=0, global_pool="").eval()
    torch.testing.assert_close(model(batch(name)), model.forward_features(batch(name)))
    with pytest.raises(InputError, match="goes with num_classes=0, not 3"):
        model.reset_classifier(3)
    with pytest.raises(InputError, match="expected one of"):
        made(name, global_pool="catavgmax")


@every_model
def test_wrong_values_are_named(name: str) -> None:
    model, spec = shared(name), spec_of(name)
    with pytest.warns(UserWarning, match=rf"expected {spec.low:g}\.\.{spec.high:g}"):
        model(batch(name) * 3 - spec.high)
    with pytest.raises(InputError, match=rf"expected {spec.low:g}\.\.{spec.high:g}"):
        mer_zoo.training.predict(model, (batch(name) * 3 - spec.high, torch.zeros(2, dtype=torch.long)))


@every_model
def test_an_option_that_it_does_not_have_is_named(name: str) -> None:
    with pytest.raises(InputError, match="nonsense"):
        made(name, nonsense=1)


@every_model
def test_a_value_that_an_option_cannot_have_is_named(name: str) -> None:
    """Of each option with a default: a value of another kind, and one that is out of its range."""
    network = type(mer_zoo.create_model(name, device="meta"))
    bases = [base for base in reversed(network.__mro__) if "__init__" in vars(base)]
    options = {w: p.default for base in bases for w, p in inspect.signature(base).parameters.items()}
    tried = 0
    for option, default in options.items():
        if default in (inspect.Parameter.empty, None) or option == "backbone":  # names of timm's, which are looked up
            continue
        least = -1 if option == "num_classes" else 0
        numbers = [-0.1, "0.1", math.nan, math.inf, True, *([1.5] if option.endswith("_rate") else [])]
        wrong: dict[type, list[Any]] = {bool: [1], int: [least, 2.5, True], float: numbers, str: [3]}
        for value in wrong.get(type(default), [[], [0], 3]):
            tried += 1
            with pytest.raises(InputError, match=re.escape(f"{option} is {value!r}; expected ")):
                mer_zoo.create_model(name, **{**small(name), option: value}, device="meta")
    assert tried > 9


def test_names_and_patterns() -> None:
    names = mer_zoo.list_models()
    assert set(mer_zoo.list_models("dat_densenet3d_*")) == {n for n in names if n.startswith("dat_densenet3d_")}
    assert "resnet18" not in names
    assert set(names) <= set(timm.list_models())
    tags = mer_zoo.list_models("dat_*", pretrained=True)
    assert tags == sorted(tags) == [w for w in mer_zoo.list_models(pretrained=True) if w.startswith("dat_")]
    assert {tag.partition(".")[0] for tag in tags} <= set(names)


def test_an_unknown_model_lists_near_names() -> None:
    with pytest.raises(UnknownNameError, match=r"No model is named 'dat_densnet3d'. Did you mean dat_densenet3d"):
        mer_zoo.create_model("dat_densnet3d")
    with pytest.raises(UnknownNameError, match="Did you mean ststnet"):
        mer_zoo.input_spec("stsnet")


def test_weights_that_do_not_exist_are_refused() -> None:
    with pytest.raises(MerZooError, match=r"no weights 'dat_densenet3d_264'; for dat_densenet3d_264 there are: none"):
        mer_zoo.create_model("dat_densenet3d_264", pretrained=True)
    with pytest.raises(MerZooError, match=r"no weights 'ststnet.imagenet'"):
        mer_zoo.create_model("ststnet.imagenet")


def test_a_module_that_does_not_say_what_it_eats() -> None:
    with pytest.raises(InputError, match=r"set model.input_spec"):
        mer_zoo.input_spec(nn.Linear(2, 2))


def test_num_classes_must_not_be_negative() -> None:
    with pytest.raises(InputError, match="num_classes is -1"):
        cast(Any, mer_zoo.create_model("ststnet")).reset_classifier(-1)
