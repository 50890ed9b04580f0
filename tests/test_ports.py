"""The plain ports that ours are timed against are the same functions, with the same weights."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from _zoo import small
from torch import Tensor, nn

import mer_zoo

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
MODULES = [importlib.import_module(name) for name in ("ports_first", "ports_flow", "ports_clips")]
PORTS = {name: port for module in MODULES for name, port in module.PORTS.items()}
MINUTES = ("slstt", "slstt_mean")  # at full size

Options = Mapping[str, Any]


OTHERS: list[tuple[str, Options]] = [
    ("htnet", {"patch_size": 1, "dim": 12, "depths": (1, 1, 2)}),  # of 49 tokens a block
    ("causalnet_reading", {"dim": 16, "depths": (1, 1, 2), "size": 56}),
    ("capsulenet_me", {"size": 136, "routings": 1}),
    ("mmnet", {"size": 64, "depth": 3, "drop_path_rate": 0.3}),
    ("emr", {"size": 64, "in_chans": 2}),
    *((name, {"in_chans": 3}) for name in ("off_apexnet", "dual_inception")),
]
FULL: list[tuple[str, Options]] = [(name, {}) for name in PORTS if name not in MINUTES]
LIGHT: list[tuple[str, Options]] = [(name, small(name)) for name in PORTS]


def noisy(name: str, options: Options) -> tuple[nn.Module, Tensor]:
    """Ours, whose every weight and statistic matters, and a batch."""
    torch.manual_seed(0)
    model = mer_zoo.create_model(name, drop_rate=0.0, **options)
    spec = mer_zoo.input_spec(model)
    x = spec.low + torch.rand(2, *spec.shape) * (spec.high - spec.low)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5 * torch.randn_like(p) / max(1, p[0].numel()) ** 0.5)
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
            model.train()(x)
    return model, x


def assert_near(found: Tensor, expected: Tensor) -> None:
    magnitude = max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * magnitude)


def test_every_name_is_one_of_ours() -> None:
    names = [name for module in MODULES for name in module.PORTS]
    assert len(names) == len(set(names))
    assert set(names) < set(mer_zoo.list_models())


@pytest.mark.parametrize(("name", "options"), [*FULL, *((n, o) for n, o in LIGHT if o), *OTHERS])
@torch.no_grad()
def test_a_port_gives_the_same_logits(name: str, options: Options) -> None:
    model, x = noisy(name, options)
    model.eval()
    assert_near(PORTS[name](model).eval()(x), model(x))


@pytest.mark.parametrize(("name", "options"), LIGHT)
def test_a_port_learns_the_same(name: str, options: Options) -> None:
    """In training, too, logits are ours; every weight has a gradient, and all together are as long as ours."""
    model, x = noisy(name, options)
    port = PORTS[name](model)
    found, slopes = [], []
    for form in (model.train(), port.train()):
        found.append(form(x))
        nn.functional.cross_entropy(found[-1], torch.tensor([0, 2])).backward()
        assert all(p.grad is not None for p in form.parameters())
        slopes.append(sum(float(p.grad.double().square().sum()) for p in form.parameters() if p.grad is not None))
    assert_near(found[1], found[0])
    assert sum(p.numel() for p in port.parameters()) == sum(p.numel() for p in model.parameters())
    assert slopes[1] == pytest.approx(slopes[0], rel=1e-3)


@pytest.mark.parametrize(("name", "options"), LIGHT)
def test_a_port_holds_weights_of_its_own_in_the_default_layout(name: str, options: Options) -> None:
    model, _ = noisy(name, options)
    port = PORTS[name](model)
    ours = {p.data_ptr() for p in model.parameters()}
    for p in port.parameters():
        assert p.data_ptr() not in ours
        assert p.stride() == torch.empty(p.shape).stride()
