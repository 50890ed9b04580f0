"""Cooked inputs of many samples as one array, kept on disk when a folder is given."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mer_zoo.datasets._base import Corpus
from mer_zoo.errors import CorpusError, UnreadableError
from mer_zoo.preprocessing.cook import VERSION, cook
from mer_zoo.types import InputSpec, Sample

logger = logging.getLogger("mer_zoo")


def cook_all(
    corpus: Corpus, samples: Sequence[Sample], spec: InputSpec, folder: Path | None = None
) -> npt.NDArray[np.float32]:
    """Inputs of all samples: (N, *spec.shape), in their order.

    With a folder the array is kept there as ``<corpus>-<hash>.npy`` and read back next time; the hash covers the spec,
    every key and what each sample is read from. It is written to a temporary name and renamed.
    """
    if folder is None:
        return _cook(corpus, samples, spec)
    file = folder / f"{corpus.name}-{_digest(corpus, samples, spec)}.npy"
    kept = _load(file, (len(samples), *spec.shape))
    if kept is not None:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    inputs = _cook(corpus, samples, spec)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as out:
        np.save(out, inputs, allow_pickle=False)
    temporary.replace(file)
    return inputs


def _load(file: Path, shape: tuple[int, ...]) -> npt.NDArray[np.float32] | None:
    """What was kept; None if it is not there or cannot be read, so that it is cooked anew."""
    try:
        inputs = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return inputs if inputs.shape == shape and inputs.dtype == np.float32 else None


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
