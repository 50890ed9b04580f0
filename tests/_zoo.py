"""Each network of the registry, or its small form, for tests that run over all of them."""

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import mer_zoo


def weights_of(name: str) -> int:
    """How many a model has, without making it."""
    return sum(p.numel() for p in mer_zoo.create_model(name, device="meta").parameters())


@functools.cache
def small(name: str) -> Mapping[str, Any]:
    """Options of a form that can be tried within a second; none of networks that can be tried as they are."""
    options: Mapping[str, Any] = cast(Any, mer_zoo.create_model(name, device="meta")).small
    return options


every_model = pytest.mark.parametrize("name", mer_zoo.list_models())


def made(name: str, create: Callable[..., nn.Module] = mer_zoo.create_model, **options: Any) -> Any:
    """The network, or its small form."""
    return create(name, **{**small(name), **options})


def modules_of(name: str) -> int:
    """How many that form has."""
    return len(list(made(name, device="meta").modules()))


# What costs seconds a layer is asked of all but the four deeper forms of dat_densenet3d_121.
every_light_model = pytest.mark.parametrize("name", [n for n in mer_zoo.list_models() if modules_of(n) < 500])


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
