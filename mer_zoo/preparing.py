"""From a protocol and its corpora to inputs on disk, once."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mer_zoo.datasets import Corpus
from mer_zoo.errors import InputError
from mer_zoo.inputs import Roots, check_jobs, open_corpora, select, unreadable
from mer_zoo.preprocessing.cache import ClipCache
from mer_zoo.preprocessing.cook import AS_THEY_ARE, Preparation
from mer_zoo.preprocessing.many import Kitchen, fill
from mer_zoo.protocols import Protocol, get_protocol
from mer_zoo.types import FLAGS, UNUSABLE, InputSpec

logger = logging.getLogger("mer_zoo")

ON_ERROR = ("raise", "skip")


def prepare(
    protocol: str | Protocol,
    roots: Roots | None,
    spec: InputSpec,
    folder: str | Path,
    *,
    preparation: Preparation = AS_THEY_ARE,
    jobs: int = 1,
    on_error: str = "raise",
) -> ClipCache:
    """Cook the clips of a protocol for a network, and keep what comes out.

    What is there already is not made again, and a call that was stopped is gone on from. Two calls may share a folder.

    Args:
        protocol: A protocol or its name.
        roots: As for ``create_dataset``.
        spec: What the network eats; see ``input_spec``.
        folder: Where the arrays and their tables are kept: one of each for a corpus and a way of cooking.
        preparation: How faces are cut out of whole pictures, and apexes found where none is coded.
        jobs: Processes side by side at the most; none is started for what is soon done without.
        on_error: ``raise``: when all others are done, name every clip that cannot be cooked, and why. ``skip``: say so
            in the table alone, and go without them; clips without pictures are then no error either.

    Returns:
        The cache, for ``create_dataset(…, cache=…)`` and ``evaluate(…, cache=…)``.

    Raises:
        UnreadableError: If clips cannot be read or cooked, or show no face.
        InputError: If an argument is not allowed, or a corpus cannot give what the spec asks for.
        CorpusError: If a folder holds another corpus or no clip that takes part.
        CacheError: If the folder cannot be written to; what is done is kept.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    check_jobs(jobs)
    if on_error not in ON_ERROR:
        raise InputError(f"on_error is {on_error!r}; expected one of {', '.join(ON_ERROR)}.")
    corpora = open_corpora(protocol, roots, skip=on_error == "skip")
    chosen = select(protocol, corpora)
    place = Path(folder).expanduser().absolute()  # workers may have been started elsewhere
    kitchen = Kitchen(place, preparation, jobs)
    filled = [fill(corpora[name], part, spec, kitchen) for name, part in chosen.items()]
    digests = {key: digest for _, part in filled for key, digest in part.items()}
    shelves = tuple(shelf for shelf, _ in filled)
    absent = _absent(protocol, corpora)
    cache = ClipCache(place, spec, preparation, digests, shelves, on_error, absent)
    missing = cache.left_out
    if missing and on_error == "raise":
        raise unreadable(missing, len(cache.table))
    if missing:
        logger.warning("%d of %d clips are left out; the table says why.", len(missing), len(cache.table))
    return cache


def _absent(protocol: Protocol, corpora: Mapping[str, Corpus]) -> dict[str, str]:
    """Clips that would take part if their pictures were there; corpora that were opened to skip them have such."""
    skipping = [corpus for corpus in corpora.values() if getattr(corpus, "missing", "error") == "skip"]
    without = [sample for corpus in skipping for sample in corpus.samples if UNUSABLE in sample.flags]
    wanted = protocol.select([replace(s, flags=tuple(f for f in s.flags if f != UNUSABLE)) for s in without])
    return {sample.key: f"{sample.key}: {FLAGS[UNUSABLE]}." for sample in wanted}
