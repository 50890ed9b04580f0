"""Models from the Hub, by the real client against a server on loopback."""

import dataclasses
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from _hub import Hub, connected, point_at
from huggingface_hub import HfApi, constants
from torch import nn

import mer_zoo
from mer_zoo.errors import InputError, WeightsError


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with connected(tmp_path / "cache", monkeypatch) as hub:
        yield hub


def _model(seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    return mer_zoo.create_model("ststnet", **options).eval()


def _load(address: str) -> Any:
    return mer_zoo.create_model(address, pretrained=True).eval()


@torch.no_grad()
def _same(first: nn.Module, second: nn.Module) -> bool:
    spec = mer_zoo.input_spec(first)
    x = torch.rand(2, *spec.shape) * spec.high
    return torch.equal(first(x), second(x))


# What comes back


@pytest.mark.parametrize("name", ["ststnet", "dat_densenet3d"])
def test_a_model_comes_back_with_the_same_logits_and_its_spec(name: str) -> None:
    model: Any = mer_zoo.create_model(name, num_classes=4).eval()
    model.input_spec = dataclasses.replace(model.input_spec, low=-2.0)
    mer_zoo.push_to_hub(model, f"me/{name}")
    loaded = _load(f"hf-hub:me/{name}")
    assert _same(loaded, model)
    assert mer_zoo.input_spec(loaded) == mer_zoo.input_spec(f"hf-hub:me/{name}") == model.input_spec


def test_branches_tags_and_commits_are_pulled_each_by_its_name() -> None:
    first, second, branch = _model(1), _model(2), _model(3)
    old = mer_zoo.push_to_hub(first, "me/x").rpartition("/")[2]
    HfApi().create_tag("me/x", tag="v1")
    mer_zoo.push_to_hub(second, "me/x")
    branch.input_spec = dataclasses.replace(branch.input_spec, high=300.0)
    mer_zoo.push_to_hub(branch, "me/x", revision="other")
    for revision, model in (("", second), ("@main", second), ("@v1", first), (f"@{old}", first), ("@other", branch)):
        assert _same(_load(f"hf-hub:me/x{revision}"), model), revision
    assert mer_zoo.input_spec("hf-hub:me/x@other").high == 300.0
    assert mer_zoo.input_spec("hf-hub:me/x").high == 255.0


def test_a_private_model_is_pulled_with_the_token_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mer_zoo.push_to_hub(_model(), "me/x")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(WeightsError, match=r"^me/x: there is no such repository on the Hub, or it is private and your"):
        _load("hf-hub:me/x")


# What is cached


def test_what_is_cached_loads_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    mer_zoo.push_to_hub(_model(), "me/x")
    first = _load("hf-hub:me/x")
    hub.repositories.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert _same(_load("hf-hub:me/x"), first)


def test_what_is_not_cached_does_not_load_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    mer_zoo.push_to_hub(_model(), "me/x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"config\.json is not in the cache, and the Hub was not asked"):
        _load("hf-hub:me/x")


@contextmanager
def _refusing() -> Iterator[str]:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def _swallowing() -> Iterator[str]:
    """An address that answers no packet: its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as first, socket.socket() as second:
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        time.sleep(0.05)
        yield f"http://127.0.0.1:{full.getsockname()[1]}"


@contextmanager
def _mute() -> Iterator[str]:
    """An address at which connections open, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(("dead", "seconds"), [(_refusing, 1.0), (_swallowing, 1.5), (_mute, 8)])
def test_a_hub_that_does_not_answer_is_an_error_at_once(
    dead: Any, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dead() as address:
        point_at(address, monkeypatch)
        began = time.monotonic()
        with pytest.raises(WeightsError, match=rf"^me/x: config.json is not in the cache, and {address} cannot be"):
            _load("hf-hub:me/x")
        assert time.monotonic() - began < seconds


def test_a_hub_that_refuses_connections_does_not_matter_to_what_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    mer_zoo.push_to_hub(_model(), "me/x")
    first = _load("hf-hub:me/x")
    with _refusing() as address:
        point_at(address, monkeypatch)
        began = time.monotonic()
        assert _same(_load("hf-hub:me/x"), first)
        assert time.monotonic() - began < 5


# What is refused


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("hf-hub:me/absent", WeightsError, r"^me/absent: there is no such repository on the Hub, or it is private"),
        ("hf-hub:me/x@never", WeightsError, r"^me/x@never: there is no revision 'never'; name a branch, a tag or a co"),
        ("hf-hub:me/bare", WeightsError, r"^me/bare: the repository has no config\.json; expected a model pushed by"),
        ("hf-hub:me/half", WeightsError, r"^me/half: the repository has no model\.safetensors; expected a model pus"),
        ("hf-hub:x", InputError, r"^'x' is no repository of the Hub; expected hf-hub:OWNER/REPO or hf-hub:OWNER"),
        ("hf-hub:me/x y", WeightsError, r"^me/x y: .*Repo id must use alphanumeric"),
    ],
)
def test_what_is_not_there_is_an_error(address: str, error: type[Exception], message: str, hub: Hub) -> None:
    mer_zoo.push_to_hub(_model(), "me/x")
    hub.put("me/bare", {"README.md": b""})
    hub.put("me/half", {"config.json": hub.files("me/x")["config.json"]})
    with pytest.raises(error, match=message):
        _load(address)


def test_a_token_that_the_hub_does_not_know_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    mer_zoo.push_to_hub(_model(), "me/x", private=False)
    monkeypatch.setenv("HF_TOKEN", "hf_forgotten")
    with pytest.raises(WeightsError, match=r"^me/x: the Hub does not know your token; log in by `hf auth login`, or"):
        _load("hf-hub:me/x")


def _change_config(hub: Hub, **block: Any) -> None:
    """Commit a configuration of which our block says something else; None takes a key out."""
    config = json.loads(hub.files("me/x")["config.json"])
    merged = {**config["mer_zoo"], **block}
    config["mer_zoo"] = {key: value for key, value in merged.items() if value is not None}
    hub.put("me/x", {"config.json": json.dumps(config).encode()})


def test_weights_with_another_hash_than_the_configuration_says_are_refused(hub: Hub) -> None:
    mer_zoo.push_to_hub(_model(), "me/x")
    _change_config(hub, sha256="0" * 64)
    message = r"model\.safetensors is not the file that .*config\.json describes: its sha256 is .*expected 0000000000"
    with pytest.raises(WeightsError, match=message):
        _load("hf-hub:me/x")


def test_half_a_file_on_the_hub_is_refused(hub: Hub) -> None:
    mer_zoo.push_to_hub(_model(), "me/x")
    whole = hub.files("me/x")["model.safetensors"]
    hub.put("me/x", {"model.safetensors": whole[: len(whole) // 2]})
    with pytest.raises(WeightsError, match=r"model\.safetensors is no whole safetensors file .*; delete it and fetch"):
        _load("hf-hub:me/x")


def test_a_configuration_without_a_spec_is_refused(hub: Hub) -> None:
    mer_zoo.push_to_hub(_model(), "me/x")
    _change_config(hub, input_spec=None)
    with pytest.raises(WeightsError, match=r"config\.json has no 'mer_zoo' block with an input spec; save with mer_zo"):
        _load("hf-hub:me/x")


# Downloads that break


def test_a_download_that_breaks_once_goes_on_where_it_stopped(hub: Hub) -> None:
    model = _model()
    mer_zoo.push_to_hub(model, "me/x")
    hub.cuts["model.safetensors"] = 1
    assert _same(_load("hf-hub:me/x"), model)
    assert hub.cuts["model.safetensors"] == 0


def test_a_download_that_always_breaks_is_an_error_and_can_be_tried_again(hub: Hub) -> None:
    model = _model()
    mer_zoo.push_to_hub(model, "me/x")
    hub.cuts["model.safetensors"] = 1000
    began = time.monotonic()
    with pytest.raises(WeightsError, match=r"^me/x: model\.safetensors could not be fetched \(.*\); try again"):
        _load("hf-hub:me/x")
    assert time.monotonic() - began < 15
    hub.cuts.clear()
    assert _same(_load("hf-hub:me/x"), model)
