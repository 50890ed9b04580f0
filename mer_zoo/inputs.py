"""From a protocol and its corpora to a torch dataset of cooked clips."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from mer_zoo.datasets import Corpus, list_corpora, open_corpus
from mer_zoo.errors import CorpusError, InputError, UnreadableError
from mer_zoo.preprocessing.cache import Cooked, cook_all
from mer_zoo.protocols import STAND_IN, Protocol, get_protocol
from mer_zoo.training import ClipDataset
from mer_zoo.types import Counts, InputSpec, Sample, plain

Roots = Mapping[str, str | Path | Corpus | None]

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
    cache: str | Path | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
) -> ClipDataset:
    """The clips of a protocol as a network eats them.

    Args:
        protocol: A protocol or its name.
        roots: Folder of each corpus by its name, or an open corpus; None for a protocol whose corpus is made.
        spec: What the network eats; see ``input_spec``.
        persons: Take only these, written ``corpus/subject``.
        cache: Folder in which cooked inputs are kept; None keeps nothing.
        augment: Applied to the tensor of each item when it is taken.

    Raises:
        CorpusError: If a folder holds another corpus or no clip that takes part, or if pictures cannot be read; a
            corpus opened with ``missing="skip"`` does without those clips.
        InputError: If a person is not there, or the corpus cannot give what the spec asks for.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    corpora = open_corpora(protocol, roots)
    chosen = {name: protocol.select(corpus.samples) for name, corpus in corpora.items()}
    _check_selected(protocol, chosen)
    if persons is None:
        for note in protocol.deviations(counts_of([s for part in chosen.values() for s in part], protocol)):
            logger.warning("%s: %s", protocol.name, note)
    else:
        chosen = _of_persons(protocol, chosen, persons)
    folder = Path(cache).expanduser() if cache else None
    cooked = [_cooked(corpora[name], part, spec, folder) for name, part in chosen.items()]
    samples = [sample for part, _ in cooked for sample in part]
    inputs = np.concatenate([each.inputs for _, each in cooked])
    data = ClipDataset(inputs, [protocol.target(s) for s in samples], samples, spec, protocol.classes, augment)
    data.fitted_on = frozenset().union(*(each.fitted_on for _, each in cooked))
    return data


def _cooked(corpus: Corpus, samples: list[Sample], spec: InputSpec, folder: Path | None) -> tuple[list[Sample], Cooked]:
    """Samples and their inputs; a corpus opened with ``missing="skip"`` does without those that cannot be read."""
    try:
        return samples, cook_all(corpus, samples, spec, folder)
    except UnreadableError as error:
        if getattr(corpus, "missing", "error") != "skip":
            raise
        logger.warning("%s: left out. %s", corpus.name, error)
        samples = [sample for sample in samples if sample.key not in error.keys]
        return samples, cook_all(corpus, samples, spec, folder)


def counts_of(samples: Sequence[Sample], protocol: Protocol) -> dict[str, Counts]:
    """Persons, clips and clips of each class that were found, by corpus."""
    found = {}
    for corpus in sorted({s.corpus for s in samples}):
        clips = [s for s in samples if s.corpus == corpus]
        classes = Counter(name for s in clips for name in protocol.names(protocol.target(s)))
        in_order = {name: classes[name] for name in protocol.classes if classes[name]}
        found[corpus] = Counts(len({s.person for s in clips}), len(clips), in_order)
    return found


def open_corpora(protocol: Protocol, roots: Roots | None) -> dict[str, Corpus]:
    """The corpora of ``roots``, or those that the protocol makes; open ones stay as they are.

    Raises:
        InputError: If there are no roots and the protocol makes nothing.
    """
    roots = dict.fromkeys(protocol.made) if roots is None else roots
    if not isinstance(roots, Mapping) or not roots:
        raise InputError(
            f"roots is {roots!r}; {protocol.name} is of {', '.join(protocol.counts)} and needs a mapping from corpora "
            f"to folders, such as {{'{next(iter(protocol.counts))}': FOLDER}}. Corpora: {', '.join(list_corpora())}."
        )
    return {name: _open_one(name, root, protocol) for name, root in roots.items()}


def _open_one(name: str, root: str | Path | Corpus | None, protocol: Protocol) -> Corpus:
    if isinstance(root, Corpus):
        return root
    return open_corpus(name, root, **({} if root is not None else protocol.made.get(name, {})))


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
