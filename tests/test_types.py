"""Nonsense is refused at construction, with words that help."""

from typing import Any

import numpy as np
import pytest
import torch

from mer_zoo.errors import InputError, UnknownNameError
from mer_zoo.registry import Registry
from mer_zoo.types import Fold, InputSpec, Sample

FLOW: dict[str, Any] = {"kind": "flow", "channels": ("u", "v"), "size": 28, "flow_method": "dis"}
CLIP: dict[str, Any] = {"kind": "clip", "channels": ("grey",), "size": 64, "frames": 16}


def sample(**changes: Any) -> Sample:
    return Sample(**{"corpus": "samm", "subject": "006", "clip": "006_1_2", "emotion": "other", **changes})


def test_persons_of_two_corpora_differ() -> None:
    assert sample().key == "samm/006/006_1_2"
    assert sample().person != sample(corpus="smic").person


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": ""},
        {"subject": " 006"},
        {"clip": "a/b"},
        {"onset": 5, "offset": 4},
        {"onset": 5},
        {"fps": 0.0},
    ],
)
def test_sample_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        sample(**changes)


@pytest.mark.parametrize(
    ("base", "changes", "words"),
    [
        (CLIP, {"kind": "video"}, "kind 'video'; expected one of"),
        (CLIP, {"channels": ()}, "no channels"),
        (CLIP, {"channels": ("gray",)}, r"a clip has \('grey', 'red'"),
        (CLIP, {"channels": ("red", "red", "blue")}, "name one twice"),
        (CLIP, {"size": 0}, "positive whole number of pixels"),
        (CLIP, {"size": 64.0}, "positive whole number of pixels"),
        (CLIP, {"frames": -1}, "frames -1"),
        (CLIP, {"low": 1.0, "high": 0.0}, "expected low below high"),
        (CLIP, {"scaling": "zscore"}, "scaling 'zscore'"),
        (CLIP, {"gain": 8.0}, "it is for linear differences"),
        (CLIP, {"flow_method": "dis"}, "flow_method 'dis' on a clip"),
        (CLIP, {"low": None}, "low None; expected a finite number"),
        (CLIP, {"high": float("inf")}, "high inf; expected a finite number"),
        ({**CLIP, "kind": "difference"}, {"low": -1.0, "frames": 1}, "a difference of one frame"),
        ({**CLIP, "kind": "difference"}, {}, "differences from 0.0 up"),
        (FLOW, {"channels": ("u", "grey")}, "a flow has"),
        (
            {**FLOW, "kind": "phases"},
            {"frames": 3},
            "3 frames of a phases; expected 2: optical flow",
        ),
        ({**CLIP, "kind": "image"}, {"frames": 2}, "2 frames of a image; expected 1: the apex frame"),
        ({**CLIP, "kind": "pair"}, {"frames": 1}, "1 frames of a pair; expected 2"),
        ({**CLIP, "kind": "dynamic"}, {"frames": 1}, "differences from 0.0 up"),
        ({**CLIP, "kind": "pair", "frames": 2}, {"channels": ("u",)}, "a pair has"),
        (CLIP, {"filter": "fft"}, "filter 'fft'; expected one of"),
        (CLIP, {"wavelength": -1.0}, "wavelength -1.0"),
        (CLIP, {"frames": "3"}, "frames '3'; expected a positive whole number"),
        ({**CLIP, "kind": "pair"}, {"frames": None}, "frames None; expected a positive whole number"),
        (CLIP, {"band": 5}, r"band \(5,\); expected two frequencies"),
        (CLIP, {"band": ("a", 1)}, "band .*; expected two frequencies"),
        (FLOW, {"flow_method": "banana"}, "flow_method 'banana' on a flow; expected"),
    ],
)
def test_input_spec_refuses_nonsense(base: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        InputSpec(**{**base, **changes})


def test_input_spec_survives_json() -> None:
    for spec in (InputSpec(**FLOW), InputSpec(**CLIP)):
        assert InputSpec.from_dict(spec.to_dict()) == spec
    with pytest.raises(InputError, match="expected among"):
        InputSpec.from_dict({**CLIP, "fps": 100})
    with pytest.raises(InputError, match="expected among"):
        InputSpec.from_dict({"kind": "clip"})


def test_shapes() -> None:
    assert InputSpec("flow", ("u", "v"), size=28).flow_method == "dis"
    assert InputSpec(**FLOW).shape == (2, 28, 28)
    assert InputSpec(**{**FLOW, "frames": 8}).shape == (2, 8, 28, 28)
    assert InputSpec("phases", ("u",), size=28, frames=2).shape == (1, 2, 28, 28)
    assert InputSpec(**CLIP).shape == (1, 16, 64, 64)
    assert InputSpec(**{**CLIP, "frames": 1}).shape == (1, 1, 64, 64)
    assert InputSpec("pair", ("grey",), size=28, frames=2).shape == (1, 2, 28, 28)
    assert InputSpec("image", ("red", "green", "blue"), size=28).shape == (3, 28, 28)
    assert InputSpec("dynamic", ("grey",), size=28, low=-1).shape == (1, 28, 28)
    assert InputSpec(**CLIP).with_channels(3).channels == ("red", "green", "blue")
    assert InputSpec(**FLOW).with_channels(5).unnamed


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (torch.zeros(2, 1, 15, 64, 64), r"expected \(B, 1, 16, 64, 64\)"),
        (torch.zeros(1, 16, 64, 64), r"expected \(B, 1, 16, 64, 64\)"),
        (torch.zeros(0, 1, 16, 64, 64), "batch of one or more"),
        (torch.full((2, 1, 16, 64, 64), 200.0), r"span 200..200; expected 0..1"),
        (torch.full((2, 1, 16, 64, 64), torch.nan), r"span nan..nan"),
        (np.full((2, 1, 16, 64, 64), -1.0), r"span -1..-1; expected 0..1"),
    ],
)
def test_check_says_what_was_found_and_expected(batch: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        InputSpec(**CLIP).check(batch)


def test_check_recognises_a_division_by_255() -> None:
    spec = InputSpec(**FLOW, high=255.0, scaling="channel_min_max")
    spec.check(torch.zeros(1, 2, 28, 28))
    spec.check(torch.rand(1, 2, 28, 28) * 255)
    with pytest.raises(InputError, match="Do not divide by 255"):
        spec.check(torch.rand(1, 2, 28, 28))


def test_a_fold_has_two_sides_without_overlap() -> None:
    with pytest.raises(InputError, match="both sides"):
        Fold("x", (sample(),), (sample(),))
    with pytest.raises(InputError, match="0 training"):
        Fold("x", (), (sample(),))


def test_registry_lists_near_names_and_refuses_a_second_use() -> None:
    registry: Registry[int] = Registry("corpus")
    registry.add("casme2", 1)
    with pytest.raises(UnknownNameError, match=r"No corpus is named 'casmeII'. Did you mean casme2\?"):
        registry.get("casmeII")
    with pytest.raises(ValueError, match="exists already"):
        registry.add("casme2", 2)
