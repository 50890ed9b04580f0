"""One contract for every network in the registry: what timm's users expect of a model."""

import copy
import functools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import timm.optim
import torch
from timm.models import group_parameters
from torch import Tensor, nn

import mer_zoo
from mer_zoo.errors import InputError, MerZooError, UnknownNameError


def weights_of(name: str) -> int:
    """How many a model has, without making it."""
    return sum(p.numel() for p in mer_zoo.create_model(name, device="meta").parameters())


@functools.cache
def small(name: str) -> Mapping[str, Any]:
    """Options of a form that can be tried within a second; none of networks that can be tried as they are."""
    options: Mapping[str, Any] = cast(Any, mer_zoo.create_model(name, device="meta")).small
    return options


every_model = pytest.mark.parametrize("name", mer_zoo.list_models())
# What costs a minute a model is asked of each up to 15 million weights or with a small form; the others are deeper
# forms of dat_densenet3d_121.
every_light_model = pytest.mark.parametrize(
    "name", [n for n in mer_zoo.list_models() if small(n) or weights_of(n) < 15e6]
)


def made(name: str, create: Callable[..., nn.Module] = mer_zoo.create_model, **options: Any) -> Any:
    """The network, or its small form."""
    return create(name, **{**small(name), **options})


@functools.cache
def spec_of(name: str) -> mer_zoo.InputSpec:
    """What that form eats."""
    return mer_zoo.input_spec(made(name, device="meta")) if small(name) else mer_zoo.input_spec(name)


def batch(model: nn.Module | str, size: int = 2) -> Tensor:
    spec = spec_of(model) if isinstance(model, str) else mer_zoo.input_spec(model)
    generator = torch.Generator().manual_seed(0)
    return spec.low + torch.rand(size, *spec.shape, generator=generator) * (spec.high - spec.low)


@functools.cache
def fresh(name: str) -> Any:
    """A network with its first weights that no test changes, in evaluation mode."""
    torch.manual_seed(0)
    return made(name, num_classes=5).eval()


@functools.cache
def shared(name: str) -> Any:
    """The same, with weights and statistics that matter: by first weights, some hardly look at their input."""
    model = copy.deepcopy(fresh(name))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5 * torch.randn(p.shape, generator=generator) / max(1, p[0].numel()) ** 0.5)
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.train().momentum = 1.0
        if norms:
            model(batch(name, 8))
    return model.eval()


@every_model
@torch.no_grad()
def test_the_answer_depends_on_the_clip(name: str) -> None:
    """By five times what the tests below overlook."""
    one, other = shared(name)(batch(name))
    assert (one - other).abs().max() > 5 * (1e-4 * one.abs().max() + 1e-4)


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
def test_a_clip_does_not_see_its_neighbours(name: str) -> None:
    model, x = shared(name), batch(name)
    torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=1e-4, atol=1e-4)


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


class Kept(torch.autograd.graph.saved_tensors_hooks):
    """Counts the numbers that are kept for the way back."""

    def __init__(self) -> None:
        self.numbers = 0
        super().__init__(self._count, lambda tensor: tensor)

    def _count(self, tensor: Tensor) -> Tensor:
        self.numbers += tensor.numel()
        return tensor


@every_light_model
def test_grad_checkpointing_changes_no_gradient(name: str) -> None:
    torch.manual_seed(0)
    model: Any = made(name, drop_rate=0.0).train().double()
    x = batch(name, 4 if "_se" in name or name == "ststnet" else 2).double()
    gradients, kept = [], []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        saved = Kept()
        with saved:
            loss = model(x).square().sum()
        kept.append(saved.numbers)
        loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert kept[1] < 0.5 * kept[0]
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-6, atol=1e-9)


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
    assert half(batch(name).bfloat16()).dtype == torch.bfloat16
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


@pytest.mark.parametrize("name", ["dat_densenet3d", "dat_densenet3d_se", "ststnet"])
@pytest.mark.parametrize("training", [True, False])
def test_many_copies_run_at_once_by_vmap(name: str, training: bool) -> None:
    models = [made(name, drop_rate=0.0).double().train(training) for _ in range(3)]
    x = batch(name).double()
    alone = torch.stack([copy.deepcopy(model)(x) for model in models])
    state = torch.func.stack_module_state(models)
    together = torch.vmap(lambda p, b: torch.func.functional_call(models[0], (p, b), (x,)))(*state)
    torch.testing.assert_close(together, alone)


@every_model
@torch.no_grad()
def test_dropout_is_on_in_training_only(name: str) -> None:
    torch.manual_seed(0)
    model, x = made(name, drop_rate=0.5), batch(name)
    assert not torch.equal(copy.deepcopy(model).train()(x), copy.deepcopy(model).train()(x))
    assert torch.equal(model.eval()(x), model(x))


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
def test_it_learns(name: str) -> None:
    """Every weight gets a gradient, and a step along them lowers the loss by as much as they promise."""
    torch.manual_seed(0)
    model: Any = made(name, drop_rate=0.0).train()
    x, y = batch(name, 4), torch.tensor([0, 1, 2, 1])
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    slope = sum(float(p.grad.square().sum()) for p in model.parameters())
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.01 / slope * p.grad
        gain = loss - nn.functional.cross_entropy(model(x), y)
    assert 0.005 < gain < 0.015


@every_light_model
def test_export_with_any_batch(name: str) -> None:
    model, x = shared(name), batch(name)
    dynamic = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    three = batch(name, 3)
    torch.testing.assert_close(dynamic.module()(three), model(three), rtol=1e-4, atol=1e-4)


@every_model
def test_one_clip_alone_can_be_learnt_from(name: str) -> None:
    torch.manual_seed(0)
    model = made(name, drop_rate=0.0).train()
    loss = model(batch(name, 1)).square().sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@every_model
@torch.no_grad()
def test_autocast_to_bfloat16_gives_numbers_near(name: str) -> None:
    """By first weights, within a twentieth of the largest; deep networks of other weights magnify what is rounded."""
    model, x = fresh(name), batch(name)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
    whole = model(x)
    assert torch.isfinite(half).all()
    assert (half.float() - whole).abs().max() <= 0.05 * whole.abs().max()


@every_model
def test_it_learns_under_autocast(name: str) -> None:
    torch.manual_seed(0)
    model: Any = made(name, drop_rate=0.0).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch(name, 4))
    nn.functional.cross_entropy(logits.float(), torch.tensor([0, 1, 2, 1])).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


@every_model
@torch.no_grad()
def test_float64_gives_the_same_numbers(name: str) -> None:
    model, x = shared(name), batch(name)
    exact = copy.deepcopy(model).double()(x.double())
    assert exact.dtype == torch.float64
    torch.testing.assert_close(model(x).double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ststnet", "off_apexnet", "micro_exp_stcnn"])
@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
def test_compiled_it_learns_the_same(name: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits and gradients of a training step; the first backend writes C++, the second only traces."""
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler for this backend")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    torch.manual_seed(0)
    model = made(name, drop_rate=0.0).train()
    x = batch(name, 4)
    found = []
    for form in (model, torch.compile(model, backend=backend, fullgraph=True)):
        model.zero_grad()
        logits = form(x)
        logits.square().sum().backward()
        found.append([logits.detach(), *(p.grad.clone() for p in model.parameters())])
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-4 * plain.abs().max().item())


@every_model
@torch.no_grad()
def test_a_seed_gives_the_same_network(name: str) -> None:
    torch.manual_seed(0)
    again = made(name, num_classes=5).eval()
    for found, expected in zip(again.state_dict().values(), fresh(name).state_dict().values(), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(again(batch(name)), fresh(name)(batch(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in mer_zoo.list_models() if small(name)])
@torch.no_grad()
def test_the_registered_form_runs(name: str) -> None:
    """Of networks whose small form the other tests try: one clip as the spec says."""
    model = mer_zoo.create_model(name).eval()
    logits = model(torch.full((1, *mer_zoo.input_spec(name).shape), mer_zoo.input_spec(name).low))
    assert logits.shape == (1, 3)
    assert torch.isfinite(logits).all()


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
