"""Many clips cooked, one after the other or side by side in processes, and kept if there is a folder."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from tqdm import tqdm

from mer_zoo.datasets._base import Corpus
from mer_zoo.errors import MerZooError
from mer_zoo.preprocessing.cook import AS_THEY_ARE, Preparation, check_spec, cook, named, with_apex
from mer_zoo.preprocessing.forms import Array
from mer_zoo.preprocessing.shelf import Row, Shelf, digest_of, row_of
from mer_zoo.types import InputSpec, Sample

logger = logging.getLogger("mer_zoo")

TRIED = 4  # clips that are cooked before it is told whether other processes pay
BATCH = 8  # clips that are sent to a process at a time
WORTH = 10.0  # seconds of work left from which they do: to start one takes about five

Outcome = tuple[Sample, Array | MerZooError]  # the sample with the apex that was taken; its input, or why there is none


class Cook:
    """Cooks samples of one corpus for one network; it can be sent to other processes.

    Args:
        corpus: Whose clips.
        spec: What the network eats.
        preparation: What is done before.
    """

    def __init__(self, corpus: Corpus, spec: InputSpec, preparation: Preparation) -> None:
        self.corpus, self.spec, self.preparation = corpus, spec, preparation

    def __call__(self, sample: Sample) -> Outcome:
        try:
            if self.spec.needs_apex and self.corpus.native_spec is None:
                with named(sample):
                    sample = with_apex(self.corpus, sample, self.preparation)
            return sample, cook(self.corpus, sample, self.spec, self.preparation)
        except MerZooError as error:
            return sample, error

    def each(self, samples: Sequence[Sample], jobs: int = 1) -> Iterator[Outcome]:
        """Every sample in turn, by so many processes at the most, with a bar on a terminal."""
        outcomes = self._outcomes(samples, joblib.effective_n_jobs(jobs))  # one where no process can be started
        quiet = True if os.environ.get("CI") or len(samples) < 2 else None
        yield from tqdm(outcomes, self.corpus.name, len(samples), unit="clip", disable=quiet, leave=False)

    def _outcomes(self, samples: Sequence[Sample], jobs: int) -> Iterator[Outcome]:
        """Here, and in other processes as soon as what is left is worth starting them."""
        started = time.perf_counter()
        for done, sample in enumerate(samples, start=1):
            yield self(sample)
            left = (time.perf_counter() - started) / done * (len(samples) - done)
            if jobs > 1 and done >= TRIED and left > WORTH:
                yield from self._side_by_side(samples[done:], jobs)
                return

    def _side_by_side(self, samples: Sequence[Sample], jobs: int) -> Iterator[Outcome]:
        """The corpus is sent once to each process, not with each clip: its list of files may be long."""
        how: dict[str, Any] = {"initializer": _start, "initargs": (self,), "return_as": "generator"}
        # joblib's own choice of batches, for as few as it sends ahead, left all processes but one without work
        engine = joblib.Parallel(n_jobs=jobs, backend="loky", batch_size=BATCH, pre_dispatch=2 * jobs * BATCH, **how)
        yield from engine(joblib.delayed(_one)(sample) for sample in samples)


_cook: Cook  # of this process


def _start(cook_here: Cook) -> None:
    import cv2

    global _cook
    _cook = cook_here
    cv2.setNumThreads(1)


def _one(sample: Sample) -> Outcome:
    return _cook(sample)


@dataclass(frozen=True)
class Kitchen:
    """How clips are cooked.

    Attributes:
        folder: Where inputs are kept; None keeps nothing.
        preparation: What is done to frames before.
        jobs: Processes side by side.
    """

    folder: Path | None = None
    preparation: Preparation = AS_THEY_ARE
    jobs: int = 1


@dataclass(frozen=True)
class Cooked:
    """Inputs of those samples that could be cooked.

    Attributes:
        inputs: (N, *spec.shape), float32.
        samples: The N samples in the order asked for, with the apex that was taken where one had to be found.
        left_out: Why clips have no input, by key.
        fitted_on: Keys of clips that the preparation learnt from.
    """

    inputs: Array
    samples: list[Sample]
    left_out: dict[str, str] = field(default_factory=dict)
    fitted_on: frozenset[str] = frozenset()


def cook_all(corpus: Corpus, samples: Sequence[Sample], spec: InputSpec, kitchen: Kitchen) -> Cooked:
    """Inputs of all samples, of those that are kept already without cooking them again.

    Raises:
        InputError: If the corpus has nothing that this spec asks for.
        CacheError: If they cannot be kept.
    """
    if kitchen.folder is None:
        return _cooked_here(corpus, samples, spec, kitchen)
    shelf, digests = fill(corpus, samples, spec, kitchen)
    places = shelf.places()
    rows = {key: places[digest] for key, digest in digests.items()}
    there = [sample for sample in samples if not rows[sample.key][0].why]
    inputs = shelf.array()[[rows[sample.key][1] for sample in there]] if there else np.empty((0, *spec.shape))
    left_out = {key: row.why for key, (row, _) in rows.items() if row.why}
    found = [_with_apex_of(rows[sample.key][0], sample) for sample in there]
    return Cooked(np.array(inputs, np.float32), found, left_out, shelf.fitted_on | frozenset(corpus.fitted_on))


def fill(corpus: Corpus, samples: Sequence[Sample], spec: InputSpec, kitchen: Kitchen) -> tuple[Shelf, dict[str, str]]:
    """Cook what is not on the shelf yet, whatever fails; clips that failed before are tried again.

    Returns:
        The shelf, and by key what tells each clip from others.

    Raises:
        InputError: If the corpus has nothing that this spec asks for.
        CacheError: If they cannot be kept.
    """
    assert kitchen.folder is not None  # noqa: S101
    _check_corpus(corpus, spec, kitchen)
    shelf = Shelf.of(kitchen.folder, corpus, spec, kitchen.preparation)
    digests = {sample.key: digest_of(corpus, sample) for sample in samples}
    kept = shelf.sound(set(digests.values()))
    if len(kept) == len(set(digests.values())) and not any(row.why for row in kept.values()):
        return shelf, digests
    with shelf.locked():
        resumed = shelf.resumed()
        known = shelf.sound(set(digests.values())) | {row.digest: row for row in resumed}
        todo = [s for s in samples if digests[s.key] not in known or known[digests[s.key]].why]
        if todo or resumed:
            outcomes = Cook(corpus, spec, kitchen.preparation).each(todo, kitchen.jobs)
            rows = (row_of(corpus, digests[outcome[0].key], outcome) for outcome in outcomes)
            new = (pair for pair in rows if pair[0] != known.get(pair[0].digest))
            shelf.add(resumed, new, frozenset(corpus.fitted_on))
    return shelf, digests


def _cooked_here(corpus: Corpus, samples: Sequence[Sample], spec: InputSpec, kitchen: Kitchen) -> Cooked:
    _check_corpus(corpus, spec, kitchen)
    inputs = np.empty((len(samples), *spec.shape), np.float32)
    found: list[Sample] = []
    left_out: dict[str, str] = {}
    for sample, values in Cook(corpus, spec, kitchen.preparation).each(samples, kitchen.jobs):
        if isinstance(values, MerZooError):
            left_out[sample.key] = str(values)
        else:
            inputs[len(found)] = values
            found.append(sample)
    return Cooked(inputs[: len(found)], found, left_out, frozenset(corpus.fitted_on))


def _with_apex_of(row: Row, sample: Sample) -> Sample:
    if not row.apex_by:
        return sample
    return replace(sample, apex=row.apex, flags=(*sample.flags, f"apex_by_{row.apex_by}"))


def _check_corpus(corpus: Corpus, spec: InputSpec, kitchen: Kitchen) -> None:
    """Refuse what no clip can be cooked for, and say what scores will suffer from."""
    check_spec(corpus, spec)
    given = corpus.native_spec.flow_method if corpus.native_spec else None
    if given and spec.is_flow and spec.flow_method != given:
        logger.warning(
            "%s holds flow by %s; this network was made for flow by %s.", corpus.name, given, spec.flow_method
        )
    if corpus.native_spec is not None and kitchen.preparation != AS_THEY_ARE:
        logger.warning("%s holds finished flow; no face is aligned and no apex found in it.", corpus.name)
    if corpus.native_spec is None and not corpus.cropped and kitchen.preparation.aligner is None:
        logger.warning(
            "%s: these pictures show more than the face; the middle square of each is taken, and no face is aligned. "
            "Scores will suffer; cropped pictures are better, or prepare(…, preparation=Preparation(Aligner())).",
            corpus.name,
        )
