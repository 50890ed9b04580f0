"""Models from the Hub, by the real client against a server on loopback."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from _hub import COMMIT, serve
from huggingface_hub import constants

import mer_zoo


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose ``owner/repo`` are served as a Hub, with an empty cache."""
    root = tmp_path / "hub"
    with serve(root) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield root


@pytest.mark.parametrize("name", mer_zoo.list_models())
def test_a_model_comes_back_from_the_hub(name: str, hub: Path) -> None:
    torch.manual_seed(3)
    model: Any = mer_zoo.create_model(name, num_classes=4).eval()
    model.input_spec = dataclasses.replace(model.input_spec, low=-2.0)
    mer_zoo.save_pretrained(model, hub / "me" / name)
    for address in (f"hf-hub:me/{name}", f"hf-hub:me/{name}@v1", f"hf-hub:me/{name}@{COMMIT}"):
        loaded: Any = mer_zoo.create_model(address, pretrained=True).eval()
        x = torch.rand(2, *mer_zoo.input_spec(loaded).shape)
        torch.testing.assert_close(
            loaded.forward_head(loaded.forward_features(x)), model.forward_head(model.forward_features(x))
        )
        assert mer_zoo.input_spec(loaded).low == -2.0


def test_each_revision_has_its_own_spec(hub: Path) -> None:
    for revision, low in (("main", -1.0), ("v1", -2.0)):
        model: Any = mer_zoo.create_model("dat_densenet3d_se")
        model.input_spec = dataclasses.replace(model.input_spec, low=low)
        mer_zoo.save_pretrained(model, hub / "me" / "x" / "@" / revision)
    for address, low in (("hf-hub:me/x", -1.0), ("hf-hub:me/x@v1", -2.0)):
        assert mer_zoo.input_spec(mer_zoo.create_model(address, pretrained=True)).low == low


def test_what_is_cached_loads_offline(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), hub / "me" / "x")
    first = mer_zoo.create_model("hf-hub:me/x", pretrained=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = mer_zoo.create_model("hf-hub:me/x", pretrained=True)
    for p, q in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("address", ["hf-hub:me/absent", "hf-hub:me/x@never"])
def test_what_is_not_there_is_an_error(address: str, hub: Path) -> None:
    mer_zoo.save_pretrained(mer_zoo.create_model("ststnet"), hub / "me" / "x")
    with pytest.raises(OSError, match=r"absent|never"):
        mer_zoo.create_model(address, pretrained=True)
