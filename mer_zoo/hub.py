"""Models on disk, in the form in which timm and the Hugging Face Hub keep them."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import ZooModel
from mer_zoo.models._weights import CONFIG, WEIGHTS, write_pretrained
from mer_zoo.types import seen_by

FILES = (WEIGHTS, CONFIG)


def save_pretrained(
    model: nn.Module,
    folder: str | Path,
    *,
    classes: Sequence[str] | None = None,
    trained_on: Sequence[str] | None = None,
) -> Path:
    """Write a registered model so that ``create_model("local-dir:FOLDER", pretrained=True)`` gives it back.

    The folder gets ``model.safetensors`` and ``config.json``; the latter carries the input spec, without which weights
    are worth nothing. Both are written aside first and then moved; other files in the folder stay.

    Args:
        model: Made by ``create_model``.
        folder: Where; an earlier model there is replaced.
        classes: Names by class index; by default those that the model was loaded with.
        trained_on: Corpora, persons (``corpus/subject``) or patterns of persons (``synthetic/1-*``) that the weights
            have seen; by default those that the model was loaded with and that ``training.fit`` noted since.

    Returns:
        The folder.

    Raises:
        InputError: If the model is not one of ours, if ``classes`` are not as many as it has, if its spec says other
            frames than it was built for, or if a ``config.json`` of something else lies in the folder.
    """
    folder = Path(folder).expanduser()
    if not isinstance(model, ZooModel):
        raise InputError(f"{type(model).__name__} was not made by create_model; save its state dict yourself.")
    spec, built_for = model.input_spec, model.adapt_spec(model.input_spec)
    if built_for != spec:
        raise InputError(
            f"The model was built for {built_for.frames} frames and its input_spec says {spec.frames}; build it with "
            f"num_frames={spec.frames}."
        )
    facts = _facts(model, classes, trained_on)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    try:
        write_pretrained(model, aside, facts)
        for name in FILES:
            (aside / name).replace(folder / name)
    finally:
        shutil.rmtree(aside)
    return folder


def _facts(model: ZooModel, classes: Sequence[str] | None, trained_on: Sequence[str] | None) -> dict[str, Any]:
    """Class names and what the weights have seen, as given or as loaded."""
    loaded = model.saved_facts
    if classes is None and len(loaded.get("classes", ())) == model.num_classes:
        classes = loaded["classes"]
    if classes and len(classes) != model.num_classes:
        raise InputError(f"{len(classes)} class names {list(classes)} for a model of {model.num_classes} classes.")
    seen = seen_by(model) if trained_on is None else trained_on
    leak = {"leak": loaded["leak"]} if "leak" in loaded else {}
    return {"classes": list(classes or ()), "trained_on": list(seen), **leak}


def keep_weights(model: Any, classes: Sequence[str], leak: str | None, folder: Path) -> None:
    """Write the weights of a fold: a registered model as ``save_pretrained`` does, another one its state alone.

    What leaked into choosing them stands in ``config.json``, or in the metadata of the weights.
    """
    if leak:
        model.saved_facts = {**getattr(model, "saved_facts", {}), "leak": leak}
    if isinstance(model, ZooModel):
        save_pretrained(model, folder, classes=classes)
        return
    folder.mkdir()
    facts = {"format": "pt", "classes": json.dumps(list(classes)), "trained_on": json.dumps(seen_by(model))}
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={**facts, **({"leak": leak} if leak else {})})


def _check_folder(folder: Path) -> None:
    """Refuse to write over the configuration of something that is not a model."""
    file = folder / "config.json"
    if not file.exists():
        return
    try:
        known = "architecture" in json.loads(file.read_text())
    except ValueError:
        known = False
    if not known:
        raise InputError(f"{file} is not that of a model; pass another folder.")
