"""Cooked inputs of many samples as one array, kept on disk when a folder is given."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mer_zoo.datasets._base import Corpus
from mer_zoo.errors import CorpusError, UnreadableError
from mer_zoo.preprocessing.cook import VERSION, cook
from mer_zoo.types import InputSpec, Sample

logger = logging.getLogger("mer_zoo")


@dataclass(frozen=True)
class Cooked:
    """Inputs (N, *spec.shape) of samples, in their order, and the keys of clips that their preparation learnt from."""

    inputs: npt.NDArray[np.float32]
    fitted_on: frozenset[str]


def cook_all(corpus: Corpus, samples: Sequence[Sample], spec: InputSpec, folder: Path | None = None) -> Cooked:
    """Inputs of all samples.

    With a folder they are kept there as ``<corpus>-<hash>.npy`` and read back next time; the hash covers the spec,
    every key and what each sample is read from. Beside it a ``.json`` says what the array is: its own hash, and
    ``fitted_on``. An array that is not what this says is cooked anew. Each is written to a temporary name and renamed.
    """
    fitted_on = frozenset(corpus.fitted_on)
    if folder is None:
        return Cooked(_cook(corpus, samples, spec), fitted_on)
    file = folder / f"{corpus.name}-{_digest(corpus, samples, spec)}.npy"
    kept = _load(file, (len(samples), *spec.shape))
    if kept is not None:
        return Cooked(kept.inputs, kept.fitted_on | fitted_on)
    folder.mkdir(parents=True, exist_ok=True)
    cooked = Cooked(_cook(corpus, samples, spec), fitted_on)
    _keep(file, cooked, {"corpus": corpus.name, "input_spec": spec.to_dict(), "cooked_by": _cooks(corpus)})
    return cooked


def _keep(file: Path, cooked: Cooked, facts: dict[str, Any]) -> None:
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as out:
        np.save(out, cooked.inputs, allow_pickle=False)
    what = {**facts, "sha256": _sha256(cooked.inputs), "fitted_on": sorted(cooked.fitted_on)}
    beside = file.with_suffix(f".json.{os.getpid()}.tmp")
    beside.write_text(json.dumps(what, indent=2) + "\n")
    beside.replace(file.with_suffix(".json"))
    temporary.replace(file)


def _load(file: Path, shape: tuple[int, ...]) -> Cooked | None:
    """What was kept; None if it is not there or not what it should be, so that it is cooked anew."""
    try:
        inputs = np.load(file, allow_pickle=False)
        facts = json.loads(file.with_suffix(".json").read_text())
        sound = inputs.shape == shape and inputs.dtype == np.float32 and facts["sha256"] == _sha256(inputs)
        return Cooked(inputs, frozenset(facts["fitted_on"])) if sound else None
    except (OSError, ValueError, EOFError, KeyError):
        return None


def _sha256(inputs: npt.NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(inputs).data).hexdigest()


def _cook(corpus: Corpus, samples: Sequence[Sample], spec: InputSpec) -> npt.NDArray[np.float32]:
    given = corpus.native_spec.flow_method if corpus.native_spec else None
    if given and spec.kind == "flow" and spec.flow_method != given:
        logger.warning(
            "%s holds flow by %s; this network was made for flow by %s.", corpus.name, given, spec.flow_method
        )
    if samples and corpus.native_spec is None and not corpus.cropped:
        logger.warning(
            "%s: these pictures show more than the face; the middle square of each is taken, and no face is aligned. "
            "Scores will suffer; cropped pictures are better.",
            corpus.name,
        )
    inputs = np.empty((len(samples), *spec.shape), np.float32)
    unreadable: dict[str, str] = {}
    for i, sample in enumerate(samples):
        try:
            inputs[i] = cook(corpus, sample, spec)
        except CorpusError as error:
            unreadable[sample.key] = str(error)
    if unreadable:
        said = " ".join(unreadable.values())
        raise UnreadableError(
            f"{len(unreadable)} of {len(samples)} clips cannot be read. {said}", frozenset(unreadable)
        )
    return inputs


def _cooks(corpus: Corpus) -> list[str]:
    """What cooks raw frames: our version of it and the libraries', whose flow and resizing differ between releases."""
    if corpus.native_spec is not None:
        return []
    import cv2

    return [f"cook {VERSION}", f"cv2 {cv2.getVersionString()}", f"scikit-image {version('scikit-image')}"]


def _digest(corpus: Corpus, samples: Sequence[Sample], spec: InputSpec) -> str:
    parts = [json.dumps(spec.to_dict(), sort_keys=True), *_cooks(corpus)]
    parts += [f"{sample.key} {corpus.fingerprint(sample)}" for sample in samples]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
