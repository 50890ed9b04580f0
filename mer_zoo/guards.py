"""Guards against leaks: each raises ``LeakError`` where a test clip could have been learnt from.

Persons on both sides are refused by ``folds.check_folds``. What no guard can see: a recipe, a network or a threshold
that a person chose by reading test scores.
"""

import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from mer_zoo.copies import find_copies
from mer_zoo.errors import LeakError
from mer_zoo.folds import SAME_PEOPLE, human, human_of
from mer_zoo.standardise import standardisers
from mer_zoo.training import ClipDataset, Device, predict
from mer_zoo.types import UNNAMED, Fold, Sample, plain, seen_by

logger = logging.getLogger("mer_zoo")

RELEASES = {"megc2019_flow": ("smic", "casme2", "samm")}  # corpora that hold clips of others


def check_copies(data: ClipDataset, folds: Sequence[Fold]) -> None:
    """Refuse the same pixels, or an augmented copy of a clip, on both sides of a fold.

    Raises:
        LeakError: Naming some of them.
    """
    keys = [sample.key for sample in data.samples]
    persons = [human(sample) for sample in data.samples]
    pairs = [(keys[i], keys[j], how) for i, j, how in find_copies(data.inputs, data.spec, persons)]
    for fold in folds if pairs else ():
        train, test = {s.key for s in fold.train}, {s.key for s in fold.test}
        split = [
            f"{a} and {b} ({how})" for a, b, how in pairs if (a in train and b in test) or (a in test and b in train)
        ]
        if split:
            raise LeakError(
                f"Fold {fold.name!r} learns from copies of clips that it is tested on: {'; '.join(split[:3])}. Keep "
                "each clip once, and augment by Recipe or create_dataset(augment=…), which touch training clips only."
            )


def check_seen(model: nn.Module, tested: Iterable[Sample]) -> None:
    """Refuse weights that have seen a corpus or a person that is tested, by what ``fit`` and ``save_pretrained`` noted.

    Raises:
        LeakError: Naming them.
    """
    seen = seen_by(model)
    if UNNAMED in seen:
        logger.warning("The weights were fitted on tensors, so it is not known whose clips they have seen.")
    patterns = {name for entry in seen for name in _patterns(entry)}
    known = sorted({s.person for s in tested if any(fnmatch(name, p) for name in _names(s) for p in patterns)})
    if known:
        raise LeakError(
            f"The weights have seen {len(known)} of the persons that are tested, {known[:3]}: they were trained on "
            f"{', '.join(seen[:5])}{'…' * (len(seen) > 5)}. Take weights that were trained on other corpora, or start "
            "from none."
        )


def _patterns(entry: str) -> list[str]:
    """A corpus, a person or a pattern of persons, as ``_names`` writes them."""
    corpus, slash, rest = entry.partition("/")
    return [plain(SAME_PEOPLE.get(c, c) + slash + rest) for c in RELEASES.get(corpus, (corpus,))]


def _names(sample: Sample) -> tuple[str, str]:
    person = plain(human(sample))
    return person, person.partition("/")[0]


def check_cooking(data: ClipDataset, folds: Sequence[Fold]) -> None:
    """Refuse inputs whose preparation took something, such as a mean face, from clips that are tested.

    Raises:
        LeakError: If a test clip is among ``data.fitted_on``.
    """
    for fold in folds:
        _check_apart(data.fitted_on, fold, "The inputs were cooked with parameters")


def check_statistics(model: nn.Module, fold: Fold) -> None:
    """Refuse a fresh model that knows mean and deviation of clips that are tested.

    Raises:
        LeakError: If a ``Standardise`` layer learnt from a test clip, or does not say what it learnt from.
    """
    for layer in standardisers(model):
        if layer.clips and not layer.learnt_from:
            raise LeakError(
                f"A Standardise layer holds mean and deviation of {int(layer.clips)} clips and does not say of which. "
                "Build it anew, so that fit computes them on the training part; or set its learnt_from to their keys."
            )
        _check_apart(layer.learnt_from, fold, "A Standardise layer holds mean and deviation")


def _check_apart(used: Collection[str], fold: Fold, what: str) -> None:
    tested = {human(s) for s in fold.test}
    known = sorted(key for key in used if human_of(*key.split("/")[:2]) in tested)
    if known:
        raise LeakError(
            f"{what} of {len(used)} clips, {len(known)} of them of persons whom fold {fold.name!r} tests: {known[:3]}. "
            "Compute them on the training part of each fold."
        )


def check_neighbours(model: nn.Module, data: ClipDataset, device: Device = "cpu") -> None:
    """Refuse a model whose answer about a clip depends on the clips beside it: they are of the test part.

    Raises:
        LeakError: If it does, as when batch normalisation takes its statistics from the batch at hand.
    """
    ask = partial(predict, model, device=device)
    with untouched(model):
        together = ask(data)
        alone = torch.cat([ask(data.subset([sample])) for sample in data.samples])
    if not torch.allclose(together, alone, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise LeakError(
            "What the model says of a clip depends on the clips beside it, or on chance. Held-out clips would be "
            "scored by each other's statistics: let batch normalisation keep running statistics, and drop out nothing "
            "in eval()."
        )


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Make sure that predicting leaves weights and running statistics as they were.

    Raises:
        LeakError: If it does not, naming what changed.
    """
    before = {name: value.detach().clone() for name, value in _state(model)}
    yield
    changed = [name for name, value in _state(model) if name not in before or not _same(value, before[name])]
    if changed:
        raise LeakError(
            f"Predicting changed {', '.join(changed[:3])}: held-out clips have touched the model. Is a layer kept in "
            "training mode, such as batch normalisation? Let eval() reach it."
        )


def _state(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and buffers, those that are not saved included."""
    return chain(model.named_parameters(), model.named_buffers())


def _same(one: Tensor, other: Tensor) -> bool:
    return bool(((one == other) | (one.isnan() & other.isnan())).all())
