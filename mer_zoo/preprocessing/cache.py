"""Cooked inputs of many samples as one array, kept on disk when a folder is given."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mer_zoo.datasets._base import Corpus
from mer_zoo.preprocessing.cook import cook
from mer_zoo.types import InputSpec, Sample


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
    inputs = np.empty((len(samples), *spec.shape), np.float32)
    for i, sample in enumerate(samples):
        inputs[i] = cook(corpus, sample, spec)
    return inputs


def _digest(corpus: Corpus, samples: Sequence[Sample], spec: InputSpec) -> str:
    parts = [json.dumps(spec.to_dict(), sort_keys=True)]
    parts += [f"{sample.key} {corpus.fingerprint(sample)}" for sample in samples]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
