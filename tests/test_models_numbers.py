"""One contract for every network in the registry, continued: what training and compiling ask of its numbers."""

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from _zoo import batch, every_light_model, every_model, fresh, made, shared, small, weights_of
from torch import Tensor, nn

import mer_zoo


@every_model
@torch.no_grad()
def test_the_answer_depends_on_the_clip(name: str) -> None:
    """By five times what the tests below overlook."""
    one, other = shared(name)(batch(name))
    assert (one - other).abs().max() > 5 * (1e-4 * one.abs().max() + 1e-4)


@every_model
@torch.no_grad()
def test_a_clip_does_not_see_its_neighbours(name: str) -> None:
    model, x = shared(name), batch(name)
    torch.testing.assert_close(model(x)[:1], model(x[:1]), rtol=1e-4, atol=1e-4)


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


IDLE = {  # by name, parameters that get a gradient of zeros at first, and why
    "apex_resnet18": r"backbone\.layer",  # timm begins with residual branches weighed by zero
    "timm_image": r"backbone\.layer",
    "mvit_v2_s": r"blocks\.15\.attn\.(?:rel_pos|pool_q)",  # the small form's last maps are one place
    "off_tanet": r"blocks\.2\.middle\.0\.",  # one rectified unit, as published; it may start below zero for all
}


@every_model
def test_it_learns(name: str) -> None:
    """Every weight gets a gradient, and a step along them lowers the loss by as much as they promise."""
    torch.manual_seed(0)
    model: Any = made(name, drop_rate=0.0).train()
    x, y = batch(name, 4), torch.tensor([0, 1, 2, 1])
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    idle = re.compile(IDLE.get(name, "nothing"))
    assert all(p.grad is not None and (p.grad.any() or idle.match(key)) for key, p in model.named_parameters())
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
    model, x = fresh(name), batch(name, 1)
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
        logits = model(batch(name))
    nn.functional.cross_entropy(logits.float(), torch.tensor([0, 1])).backward()
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


@every_light_model
def test_a_seed_gives_the_same_step(name: str) -> None:
    """Dropout included."""
    gradients = []
    for _ in range(2):
        model = copy.deepcopy(fresh(name)).train()
        torch.manual_seed(1)
        nn.functional.cross_entropy(model(batch(name)), torch.tensor([0, 1])).backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in mer_zoo.list_models() if small(name)])
@torch.no_grad()
def test_the_registered_form_runs(name: str) -> None:
    """Of networks whose small form the other tests try: one clip as the spec says; of the largest its shapes alone."""
    device = "meta" if weights_of(name) > 5e7 else "cpu"
    model, spec = mer_zoo.create_model(name, device=device).eval(), mer_zoo.input_spec(name)
    logits = model(torch.full((1, *spec.shape), spec.low, device=device))
    assert logits.shape == (1, 3)
    assert device == "meta" or torch.isfinite(logits).all()
