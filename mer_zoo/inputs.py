"""From a protocol and its corpora to a torch dataset of cooked clips."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from mer_zoo.datasets import Corpus, list_corpora, open_corpus
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.preprocessing.cache import cook_all
from mer_zoo.protocols import Protocol, get_protocol
from mer_zoo.training import ClipDataset
from mer_zoo.types import InputSpec, Sample, plain

Roots = Mapping[str, str | Path | Corpus | None]

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
        CorpusError: If a folder holds another corpus or no clip that takes part.
        InputError: If a person is not there, or the corpus cannot give what the spec asks for.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    corpora = open_corpora(protocol, roots).values()
    chosen = [[s for s in protocol.select(c.samples) if persons is None or s.person in persons] for c in corpora]
    samples = [sample for part in chosen for sample in part]
    _check_samples(protocol, samples, persons)
    _check_apart(chosen)
    folder = Path(cache).expanduser() if cache else None
    inputs = [cook_all(corpus, part, spec, folder) for corpus, part in zip(corpora, chosen, strict=True)]
    targets = [protocol.target(s) for s in samples]
    return ClipDataset(np.concatenate(inputs), targets, samples, spec, protocol.classes, augment)


def open_corpora(protocol: Protocol, roots: Roots | None) -> dict[str, Corpus]:
    """The corpora of ``roots``, or those that the protocol makes; open ones stay as they are.

    Raises:
        InputError: If there are no roots and the protocol makes nothing.
    """
    roots = dict.fromkeys(protocol.made) if roots is None else roots
    if not isinstance(roots, Mapping) or not roots:
        raise InputError(
            f"roots is {roots!r}; {protocol.name} is of {', '.join(protocol.counts)} and needs a mapping from corpora "
            f"to folders, such as {{'megc2019_flow': FOLDER}}. Corpora: {', '.join(list_corpora())}."
        )
    return {name: _open_one(name, root, protocol) for name, root in roots.items()}


def _open_one(name: str, root: str | Path | Corpus | None, protocol: Protocol) -> Corpus:
    if isinstance(root, Corpus):
        return root
    return open_corpus(name, root, **({} if root is not None else protocol.made.get(name, {})))


def _check_samples(protocol: Protocol, samples: list[Sample], persons: Sequence[str] | None) -> None:
    if isinstance(persons, str):
        raise InputError(f"persons is the text {persons!r}; expected a list of them.")
    if persons is not None:
        absent = sorted(set(persons) - {s.person for s in samples})
        if absent:
            raise InputError(f"{protocol.name}: no clip of {absent[:3]}; expected persons as corpus/subject.")
    if not samples:
        raise CorpusError(
            f"No clip found that takes part in {protocol.name}, which is of {', '.join(protocol.counts)} and of clips "
            f"labelled {', '.join(protocol.emotions) or 'by action units'}.{RENDERED_LABELS}"
        )


def _check_apart(parts: Sequence[Sequence[Sample]]) -> None:
    """Refuse corpora that hold the same clips, however they write them: s01 of one release is s1 of another."""
    seen: dict[str, str] = {}
    twice = []
    for part in parts:
        twice += [f"{seen[name]} = {s.key}" for s in part if (name := plain(s.key)) in seen]
        seen |= {plain(s.key): s.key for s in part}
    if twice:
        raise InputError(f"Two corpora hold the same {len(twice)} clips: {twice[:3]}; pass one of them.")
