"""Models on disk, in the form in which timm and the Hugging Face Hub keep them."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mer_zoo.errors import InputError
from mer_zoo.models._builder import ZooModel, write_pretrained


def save_pretrained(
    model: nn.Module, folder: str | Path, *, classes: Sequence[str] = (), trained_on: Sequence[str] = ()
) -> Path:
    """Write a registered model so that ``create_model("local-dir:FOLDER", pretrained=True)`` gives it back.

    The folder gets ``model.safetensors`` and ``config.json``; the latter carries the input spec, without which weights
    are worth nothing. All is written to a temporary folder first.

    Args:
        model: Made by ``create_model``.
        folder: Where; an earlier model there is replaced.
        classes: Names by class index.
        trained_on: Corpora whose clips the weights have seen.

    Returns:
        The folder.

    Raises:
        InputError: If the model is not one of ours, if ``classes`` are not as many as it has, or if the folder holds
            something else.
    """
    folder = Path(folder).expanduser()
    if not isinstance(model, ZooModel):
        raise InputError(f"{type(model).__name__} was not made by create_model; save its state dict yourself.")
    if classes and len(classes) != model.num_classes:
        raise InputError(f"{len(classes)} class names {list(classes)} for a model of {model.num_classes} classes.")
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").exists():
        raise InputError(f"{folder} holds files but no model; pass an empty folder.")
    facts: dict[str, Any] = {"classes": list(classes), "trained_on": list(trained_on)}
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    write_pretrained(model, temporary, facts)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
    return folder
