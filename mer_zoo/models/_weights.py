"""Weights as they lie in the package, in a folder or on the Hub, and what is made sure of before they are believed.

Everywhere they are the same three files: weights (safetensors), configuration (timm's ``config.json`` with our block)
and card. With the weights lies a probe, an input and what the network says of it; the configuration holds their
sha256. Nothing is read by pickle.
"""

import contextlib
import copy
import hashlib
import json
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import huggingface_hub
import torch
from huggingface_hub import constants, errors
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of httpx or httpx2
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mer_zoo.errors import InputError, WeightsError
from mer_zoo.models._base import PROBE, ZooModel

SHIPPED = Path(__file__).parent.parent / "weights"  # <name>.<tag>.json, .md and, if it is small, .safetensors
ORGANISATION = "mer-zoo"
CONFIG_KEY = "mer_zoo"  # our block in config.json
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
PATIENCE = 0.9  # seconds in which a connection must open
HUB_ERRORS = (OSError, ValueError, HTTPError)  # what the client raises
ANSWER = 3.0  # seconds in which the Hub must then say something; its client alone would ask on for minutes

# Options by which a network answers as it did when it was saved; fc is set aside by prove().
_HARMLESS = {
    "num_classes",
    "drop_rate",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "cache_dir",
    "pretrained_model_args",
}
_TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}


@dataclass(frozen=True)
class Found:
    """A configuration, and the weights that go with it, which may still have to be fetched.

    Attributes:
        config: The file.
        weights: The file; None if it is only on the Hub.
        repo: Where on the Hub, ``owner/repo`` or ``owner/repo@revision``; None for a folder.
        cache_dir: Where fetched files are kept; None for the usual place.
    """

    config: Path
    weights: Path | None
    repo: str | None = None
    cache_dir: str | Path | None = None

    @property
    def values(self) -> dict[str, Any]:
        """All of the configuration.

        Raises:
            WeightsError: If it is no configuration.
        """
        try:
            values = json.loads(self.config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WeightsError(f"{self.config} is no configuration of a model: {error}.") from error
        if not isinstance(values, dict):
            raise WeightsError(f"{self.config} is no configuration of a model.")
        return values

    @property
    def block(self) -> dict[str, Any]:
        """Our part of the configuration.

        Raises:
            WeightsError: If there is none with an input spec.
        """
        block = self.values.get(CONFIG_KEY) or {}
        if "input_spec" not in block:
            raise WeightsError(
                f"{self.config} has no {CONFIG_KEY!r} block with an input spec; save with mer_zoo.save_pretrained."
            )
        return dict(block)

    def file(self) -> Path:
        """The weights, fetched if need be, whole, and those that the configuration means.

        Raises:
            WeightsError: If they are not to be had, or are not that.
        """
        file = self.weights or fetch(str(self.repo), WEIGHTS, self.cache_dir)
        check_whole(file)
        expected = self.block.get("sha256")
        if expected is not None and (found := sha256(file)) != expected:
            raise WeightsError(
                f"{file} is not the file that {self.config} describes: its sha256 is {found[:16]}…, expected "
                f"{expected[:16]}…. Delete it and fetch or save it again."
            )
        return file


def in_folder(folder: Path) -> Found:
    """Configuration and weights of a folder.

    Raises:
        WeightsError: If it has no configuration.
    """
    if not (folder / CONFIG).is_file():
        there = "has no config.json" if folder.is_dir() else "is not there"
        raise WeightsError(f"{folder} {there}; expected a folder written by mer_zoo.save_pretrained.")
    return Found(folder / CONFIG, folder / WEIGHTS)


def beside(file: Path) -> Found | None:
    """A file of weights with the configuration that describes it, ``config.json`` or of its own name; None without."""
    config = file.with_name(CONFIG) if file.name == WEIGHTS else file.with_suffix(".json")
    if not config.is_file():
        return None
    found = Found(config, file)
    return found if CONFIG_KEY in found.values else None


def on_hub(repo: str, cache_dir: str | Path | None = None) -> Found:
    """Configuration, fetched now, and weights of a repository, ``owner/repo`` or ``owner/repo@revision``.

    Raises:
        InputError: If the name is none of a repository.
        WeightsError: If it is not to be had.
    """
    name = repo.partition("@")[0]
    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(
            f"{repo!r} is no repository of the Hub; expected hf-hub:OWNER/REPO or hf-hub:OWNER/REPO@REVISION."
        )
    return Found(fetch(repo, CONFIG, cache_dir), None, repo, cache_dir)


def fetch(repo: str, filename: str, cache_dir: str | Path | None = None) -> Path:
    """A file of a repository, from the cache if the Hub cannot be reached.

    Raises:
        WeightsError: If it is not to be had; within a second where no connection opens.
    """
    name, _, revision = repo.partition("@")
    if not constants.HF_HUB_OFFLINE and not _answers(name, filename, revision):
        kept = huggingface_hub.try_to_load_from_cache(name, filename, cache_dir, revision or None)
        if isinstance(kept, str):
            return Path(kept)
        raise WeightsError(f"{repo}: {filename} is not in the cache, and {constants.ENDPOINT} cannot be reached.")
    try:
        return Path(huggingface_hub.hf_hub_download(name, filename, revision=revision or None, cache_dir=cache_dir))
    except HUB_ERRORS as error:
        raise WeightsError(f"{repo}: {_reason(error, filename, revision)}") from error


def _answers(name: str, filename: str, revision: str) -> bool:
    """Whether the Hub says anything about a file, be it that there is none."""
    if not reachable(constants.ENDPOINT):
        return False
    try:
        url = huggingface_hub.hf_hub_url(name, filename, revision=revision or None)
        huggingface_hub.get_hf_file_metadata(url, timeout=ANSWER)
    except (OSError, ValueError):
        return True
    except HTTPError:  # no connection, or no answer in time
        return False
    return True


def _reason(error: Exception, filename: str, revision: str) -> str:
    """What the Hub's client ran into, and what to do."""
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"{filename} is not in the cache, and the Hub was not asked (HF_HUB_OFFLINE) or did not answer."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"there is no revision {revision!r}; name a branch, a tag or a commit."
    if isinstance(error, errors.EntryNotFoundError):
        return f"the repository has no {filename}; expected a model pushed by mer_zoo.push_to_hub."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "there is no such repository on the Hub, or it is private and your token may not read it. Look at the "
            "name, log in by `hf auth login`, or set HF_TOKEN."
        )
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code == 401:
        return "the Hub does not know your token; log in by `hf auth login`, or set or unset HF_TOKEN."
    return f"{filename} could not be fetched ({error}); try again."


def reachable(url: str) -> bool:
    """Whether a connection to this address, or to the proxy before it, opens within a second."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme) or getproxies().get("all")
    if proxy and not proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = parts.port or (80 if parts.scheme == "http" else 443)
    opened = threading.Event()

    def knock(address: tuple[Any, ...]) -> None:
        with contextlib.suppress(OSError), socket.create_connection(address[:2], timeout=PATIENCE):
            opened.set()

    def knock_at_all() -> None:
        with contextlib.suppress(OSError):
            for *_, address in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM):
                threading.Thread(target=knock, args=(address,), daemon=True).start()

    threading.Thread(target=knock_at_all, daemon=True).start()  # looking up a name has no time limit of its own
    return opened.wait(PATIENCE)


def check_whole(file: Path) -> None:
    """Refuse a file that is not there, or is not a whole safetensors file.

    Raises:
        WeightsError: If it is not.
    """
    try:
        with safe_open(file, framework="pt") as saved:
            saved.keys()
    except FileNotFoundError as error:
        raise WeightsError(f"{file} is not there; weights come as safetensors only.") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{file} is no whole safetensors file ({error}); delete it and fetch or save it again."
        ) from error


def sha256(file: Path) -> str:
    """Of the whole file, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def prove(model: ZooModel, found: Found, file: Path, options: Mapping[str, Any]) -> None:
    """Refuse a network that does not answer its probe as it did when it was saved.

    A network made for other channels, frames or pooling than were saved is not asked.

    Args:
        model: With these weights; its number of classes may have been changed.
        found: Where they are from.
        file: The weights.
        options: What the network was built with.

    Raises:
        WeightsError: If logits differ.
    """
    built_with = found.values.get("model_args", {})
    changed = {key for key, value in options.items() if key not in _HARMLESS and (key, value) not in built_with.items()}
    with safe_open(file, framework="pt") as saved:
        names = set(saved.keys())
        if changed or f"{PROBE}input" not in names or next(model.parameters()).is_meta:
            return
        x, expected = saved.get_tensor(f"{PROBE}input"), saved.get_tensor(f"{PROBE}logits")
        last = {key: saved.get_tensor(key) for key in ("fc.weight", "fc.bias") if key in names}
    answer = _answer(model, x, last)
    allowed = _TOLERANCE.get(next(model.parameters()).dtype, 1e-3) * max(1.0, float(expected.abs().max()))
    difference = float((answer - expected.float()).abs().max())
    if not difference <= allowed:
        raise WeightsError(
            f"{file}: the network answers its probe otherwise than when it was saved, by {difference:.2g}; expected "
            f"{allowed:.2g} at most. The file, or a library that computes with it, has changed."
        )


@torch.no_grad()
def _answer(model: ZooModel, x: Tensor, last: Mapping[str, Tensor]) -> Tensor:
    """Logits by the saved last layer, whatever the model's own is now; float32 on the CPU."""
    weight = next(model.parameters())
    training = model.training
    model.eval()
    with torch.autocast(weight.device.type, enabled=False):
        vector = model.forward_head(model.forward_features(x.to(weight.device, weight.dtype)), pre_logits=True)
        if last:
            vector = nn.functional.linear(vector, *(last[key].to(vector) for key in ("fc.weight", "fc.bias")))
    model.train(training)
    return vector.float().cpu()


def probe_of(model: ZooModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One random input in the spec's range, and what these weights say of it."""
    spec = model.input_spec
    noise = torch.rand(1, *spec.shape, generator=torch.Generator().manual_seed(0))
    x = (spec.low + (spec.high - spec.low) * noise).half()
    saved = copy.deepcopy(model).cpu().float()
    saved.load_state_dict(dict(state))
    last = {key: value for key, value in state.items() if key in ("fc.weight", "fc.bias")}
    return {f"{PROBE}input": x, f"{PROBE}logits": _answer(saved, x, last)}
