"""From a protocol and its corpora to a torch dataset of cooked clips."""

import inspect
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from mer_zoo.datasets import Corpus, list_corpora, open_corpus
from mer_zoo.datasets._base import CORPORA
from mer_zoo.errors import CorpusError, InputError, UnreadableError
from mer_zoo.options import is_whole
from mer_zoo.preprocessing.cache import ClipCache
from mer_zoo.preprocessing.cook import AS_THEY_ARE, Preparation
from mer_zoo.preprocessing.many import Cooked, Kitchen, cook_all
from mer_zoo.preprocessing.shelf import user_folder
from mer_zoo.protocols import STAND_IN, Protocol, get_protocol
from mer_zoo.training import ClipDataset
from mer_zoo.types import Counts, InputSpec, Sample, plain

Roots = Mapping[str, str | Path | Corpus | None]
Cache = str | Path | ClipCache | Literal[False] | None

logger = logging.getLogger("mer_zoo")

RENDERED_LABELS = (
    ' Rendered faces get other labels by open_corpus("synthetic", classes=…): 3, 5, 7, "objective" or "au".'
)


def create_dataset(
    protocol: str | Protocol,
    roots: Roots | None,
    spec: InputSpec,
    *,
    persons: Sequence[str] | None = None,
    cache: Cache = None,
    preparation: Preparation | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
) -> ClipDataset:
    """The clips of a protocol as a network eats them.

    Args:
        protocol: A protocol or its name.
        roots: Folder of each corpus by its name, or an open corpus; None for a protocol whose corpus is made.
        spec: What the network eats; see ``input_spec``.
        persons: Take only these, written ``corpus/subject``.
        cache: Folder in which cooked inputs are kept, or what ``prepare`` returned, whose preparation is then taken.
            None: inputs made from frames are kept in the user's cache directory, ``$MER_ZOO_CACHE`` or
            ``~/.cache/mer-zoo``; published flow is read anew. False keeps nothing.
        preparation: How faces are cut out of whole pictures, and apexes found where none is coded; None takes that of
            what ``prepare`` returned, or else frames as they are.
        augment: Applied to the tensor of each item when it is taken.

    Raises:
        CorpusError: If a folder holds another corpus or no clip that takes part, or if pictures cannot be read; a
            corpus opened with ``missing="skip"`` does without those clips.
        InputError: If a person is not there, or the corpus cannot give what the spec asks for.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    corpora = open_corpora(protocol, roots)
    chosen = select(protocol, corpora)
    if persons is None:
        for note in protocol.deviations(counts_of([s for part in chosen.values() for s in part], protocol)):
            logger.warning("%s: %s", protocol.name, note)
    else:
        chosen = _of_persons(protocol, chosen, persons)
    prepared = preparation_of(cache, preparation)
    cooked = [_cooked(corpora[name], part, spec, cache, prepared) for name, part in chosen.items()]
    samples = [sample for each in cooked for sample in each.samples]
    inputs = np.concatenate([each.inputs for each in cooked])
    data = ClipDataset(inputs, [protocol.target(s) for s in samples], samples, spec, protocol.classes, augment)
    data.fitted_on = frozenset().union(*(each.fitted_on for each in cooked))
    return data


def _cooked(corpus: Corpus, samples: list[Sample], spec: InputSpec, cache: Cache, preparation: Preparation) -> Cooked:
    """Samples and their inputs; without those that cannot be read, if corpus or cache say so."""
    kitchen, skip = kitchen_of(corpus, cache, preparation), getattr(corpus, "missing", "error") == "skip"
    if isinstance(cache, ClipCache):
        if cache.spec != spec:
            raise InputError(f"The cache is of inputs for {cache.spec}; this network eats {spec}. Prepare it anew.")
        skip = skip or cache.on_error == "skip"
    cooked = cook_all(corpus, samples, spec, kitchen)
    if cooked.left_out and not skip:
        raise unreadable(cooked.left_out, len(samples))
    if cooked.left_out:
        logger.warning("%s: left out. %s", corpus.name, unreadable(cooked.left_out, len(samples)))
    return cooked


def preparation_of(cache: Cache, preparation: Preparation | None) -> Preparation:
    """What is done to frames before: what is asked for, or what was done to those that are kept.

    Raises:
        InputError: If a cache was prepared otherwise than is asked for.
    """
    if preparation is not None and not isinstance(preparation, Preparation):
        raise InputError(f"preparation is {preparation!r:.60}; expected mer_zoo.Preparation(…).")
    if not isinstance(cache, ClipCache):
        return preparation or AS_THEY_ARE
    if preparation not in (None, cache.preparation):
        raise InputError(f"The cache was prepared by {cache.preparation}, not {preparation}; leave one of them out.")
    return cache.preparation


def kitchen_of(corpus: Corpus, cache: Cache, preparation: Preparation = AS_THEY_ARE) -> Kitchen:
    """Where inputs are kept, and what is done to frames before."""
    if isinstance(cache, ClipCache):
        return Kitchen(cache.folder, preparation)
    if cache is None:
        keeps = corpus.native_spec is None and type(corpus).fingerprint is not Corpus.fingerprint
        return Kitchen(user_folder() if keeps else None, preparation)
    return Kitchen(Path(cache).expanduser() if cache else None, preparation)


def unreadable(left_out: Mapping[str, str], asked: int) -> UnreadableError:
    """An error that names all clips that cannot be read, and says of each why."""
    said = " ".join(left_out.values())
    return UnreadableError(f"{len(left_out)} of {asked} clips cannot be read. {said}", frozenset(left_out))


def check_jobs(jobs: object) -> None:
    """Refuse what is no number of processes.

    Raises:
        InputError: If it is none.
    """
    if not is_whole(jobs, 1):
        raise InputError(f"jobs is {jobs!r}; expected a whole number, 1 or more.")


def select(protocol: Protocol, corpora: Mapping[str, Corpus]) -> dict[str, list[Sample]]:
    """The clips of each corpus that take part.

    Raises:
        CorpusError: If a corpus has none.
        InputError: If two corpora hold the same clips.
    """
    chosen = {name: protocol.select(corpus.samples) for name, corpus in corpora.items()}
    _check_selected(protocol, chosen)
    return chosen


def counts_of(samples: Sequence[Sample], protocol: Protocol) -> dict[str, Counts]:
    """Persons, clips and clips of each class that were found, by corpus."""
    found = {}
    for corpus in sorted({s.corpus for s in samples}):
        clips = [s for s in samples if s.corpus == corpus]
        classes = Counter(name for s in clips for name in protocol.names(protocol.target(s)))
        in_order = {name: classes[name] for name in protocol.classes if classes[name]}
        found[corpus] = Counts(len({s.person for s in clips}), len(clips), in_order)
    return found


def open_corpora(protocol: Protocol, roots: Roots | None, skip: bool = False) -> dict[str, Corpus]:
    """The corpora of ``roots``, or those that the protocol makes; open ones stay as they are.

    Args:
        protocol: Whose corpora.
        roots: As for ``create_dataset``.
        skip: Open those that can be read so with ``missing="skip"``.

    Raises:
        InputError: If there are no roots and the protocol makes nothing.
    """
    roots = dict.fromkeys(protocol.made) if roots is None else roots
    if not isinstance(roots, Mapping) or not roots:
        raise InputError(
            f"roots is {roots!r}; {protocol.name} is of {', '.join(protocol.counts)} and needs a mapping from corpora "
            f"to folders, such as {{'{next(iter(protocol.counts))}': FOLDER}}. Corpora: {', '.join(list_corpora())}."
        )
    return {name: _open_one(name, root, protocol, skip) for name, root in roots.items()}


def _open_one(name: str, root: str | Path | Corpus | None, protocol: Protocol, skip: bool) -> Corpus:
    if isinstance(root, Corpus):
        return root
    if root is None:
        return open_corpus(name, root, **protocol.made.get(name, {}))
    skips = skip and "missing" in inspect.signature(CORPORA.get(name)).parameters
    return open_corpus(name, root, **({"missing": "skip"} if skips else {}))


def _of_persons(
    protocol: Protocol, parts: Mapping[str, list[Sample]], persons: Sequence[str]
) -> dict[str, list[Sample]]:
    """Those clips that are of these persons."""
    if isinstance(persons, str):
        raise InputError(f"persons is the text {persons!r}; expected a list of them.")
    absent = sorted(set(persons) - {s.person for part in parts.values() for s in part})
    if absent:
        raise InputError(f"{protocol.name}: no clip of {absent[:3]}; expected persons as corpus/subject.")
    wanted = {name: [s for s in part if s.person in persons] for name, part in parts.items()}
    return {name: part for name, part in wanted.items() if part}


def _check_selected(protocol: Protocol, parts: Mapping[str, Sequence[Sample]]) -> None:
    """Refuse corpora that have nothing for this protocol, and corpora that hold the same clips."""
    idle = [name for name, part in parts.items() if not part]
    if idle:
        rendered = RENDERED_LABELS if STAND_IN in idle else ""
        sheet = " Objective classes stand in a sheet of their own in CASME II; is it there?" * protocol.objective
        raise CorpusError(
            f"No clip found in {', '.join(idle)} that takes part in {protocol.name}, which is of "
            f"{', '.join(protocol.counts)} and of clips labelled {', '.join(protocol.emotions) or 'by action units'}."
            f"{sheet}{rendered}"
        )
    _check_apart([*parts.values()])


def _check_apart(parts: Sequence[Sequence[Sample]]) -> None:
    """Refuse corpora that hold the same clips, however they write them: s01 of one release is s1 of another."""
    seen: dict[str, str] = {}
    twice = []
    for part in parts:
        twice += [f"{seen[name]} = {s.key}" for s in part if (name := plain(s.key)) in seen]
        seen |= {plain(s.key): s.key for s in part}
    if twice:
        raise InputError(f"Two corpora hold the same {len(twice)} clips: {twice[:3]}; pass one of them.")
