"""Every fold with a fresh model, and one table of predictions, keyed by clip.

A fold sees its training part only. What it predicts does not depend on which folds ran before it, on how many run
side by side, or on whether the run was interrupted: its seed comes from the recipe's and the fold's name, and each
process computes with one thread.
"""

import contextlib
import hashlib
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from mer_zoo.datasets import Corpus
from mer_zoo.errors import InputError
from mer_zoo.folds import check_folds
from mer_zoo.inputs import RENDERED_LABELS, Roots, create_dataset, open_corpora
from mer_zoo.metrics import Matrix, confusion, uf1
from mer_zoo.models import create_model
from mer_zoo.protocols import STAND_IN, Protocol, get_protocol
from mer_zoo.runs import RunFolder
from mer_zoo.training import ClipDataset, Device, Recipe, check_device, fit, predict
from mer_zoo.types import Fold, InputSpec, spec_of

Build = str | Callable[[], nn.Module]


logger = logging.getLogger("mer_zoo")


def evaluate(
    build: Build,
    protocol: str | Protocol,
    roots: Roots | None = None,
    *,
    recipe: Recipe | None = None,
    selection: str = "last",
    jobs: int = 1,
    device: Device = "auto",
    out: str | Path | None = None,
    cache: str | Path | None = None,
) -> pd.DataFrame:
    """Train a fresh model for every fold and predict the clips that it has not seen.

    Args:
        build: A model name, with a tag or source if its weights are to be loaded, or a function without arguments
            that returns a fresh module with one logit a class, sharing no weights with another. A module eats what its
            ``input_spec`` says; one without gets the corpus as it is.
        protocol: A protocol or its name.
        roots: Folder of each corpus by its name, or an open corpus; None for a protocol whose corpus is made.
        recipe: How to train; its seed gives every fold its own.
        selection: Which epoch is scored. ``last``: the last one, the same for all.
        jobs: Folds side by side, each a process with one thread.
        device: ``auto``, ``cpu`` or ``cuda``.
        out: Folder in which each finished fold is kept; a second call goes on where the first stopped.
        cache: Folder in which cooked inputs are kept; None keeps nothing.

    Returns:
        One row a clip: ``key, corpus, subject, clip, fold, target, pred, p_<class>…``; ``target`` and ``pred`` are
        class indices. For action units ``target_<class>…, pred_<class>…`` instead, 0 or 1, a unit being predicted from
        a probability of one half. ``attrs["run"]`` says how it was made.

    Raises:
        CorpusError, InputError: If corpora, model, folds and protocol do not fit each other; before any training.
        RunError: If ``out`` holds a run of other settings or versions; nothing is overwritten.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    recipe = recipe or Recipe()
    _check_arguments(recipe, selection, jobs, device)
    make = _factory(build, protocol)
    model = _fresh(make, recipe.seed)
    corpora = open_corpora(protocol, roots)
    _check_stand_in(protocol, corpora.values())
    data = create_dataset(protocol, corpora, _spec(model, corpora.values()), cache=cache)
    _check_classes(data, protocol)
    folds = protocol.folds(data.samples)
    check_folds(folds, data.samples)
    run = {
        "protocol": protocol.name,
        "classes": list(protocol.classes),
        "selection": selection,
        **_describe(build, model, data),
        "input_spec": data.spec.to_dict(),
        "data": _digest(data.inputs, np.array(data.targets)),
        "folds": _digest(np.array([f"{fold.name} {s.key}" for fold in folds for s in (*fold.train, *fold.test)])),
        "recipe": asdict(recipe),
    }
    folder = RunFolder(Path(out).expanduser() if out else None, run)
    done = {fold.name: table for fold in folds if (table := folder.read(fold)) is not None}
    work = partial(_run_fold, make, data, recipe=recipe, device=device, folder=folder)
    tables = _run(work, [fold for fold in folds if fold.name not in done], done, jobs, len(protocol.classes))
    table = pd.concat([tables[fold.name] for fold in folds], ignore_index=True)
    table.attrs["run"] = folder.description
    return table


def _run(
    work: Callable[[Fold], tuple[str, pd.DataFrame]],
    folds: list[Fold],
    done: dict[str, pd.DataFrame],
    jobs: int,
    classes: int,
) -> dict[str, pd.DataFrame]:
    """Run folds, ``jobs`` at a time, with a bar that shows the score so far; quiet where CI is set."""
    tables = dict(done)
    matrix = np.zeros((classes, classes), np.int64)
    for table in done.values():
        matrix = matrix + _confusion(table, classes)
    results = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(joblib.delayed(work)(f) for f in folds)
    with tqdm(total=len(done) + len(folds), initial=len(done), unit="fold", disable=bool(os.environ.get("CI"))) as bar:
        for name, table in results:
            tables[name] = table
            matrix = matrix + _confusion(table, classes)
            if matrix.sum(axis=1).all():
                bar.set_postfix_str(f"UF1 {uf1(matrix):.3f}")
            bar.update()
    return tables


def _confusion(table: pd.DataFrame, classes: int) -> Matrix:
    """Counts of a fold; none where a clip may be of any number of classes."""
    if "target" not in table:
        return np.zeros((classes, classes), np.int64)
    return confusion(table["target"], table["pred"], classes)


def _run_fold(
    make: Callable[[], nn.Module], data: ClipDataset, fold: Fold, recipe: Recipe, device: Device, folder: RunFolder
) -> tuple[str, pd.DataFrame]:
    wall, cpu = time.perf_counter(), time.process_time()
    seed = fold_seed(recipe.seed, fold.name)
    with _one_thread():
        with _seeded(seed):
            model = make()
        losses = fit(model, data.subset(fold.train), replace(recipe, seed=seed), device=device)
        test = data.subset(fold.test)
        probabilities = predict(model, test, device=device).double().numpy()
    table = pd.DataFrame(
        {
            "key": [s.key for s in test.samples],
            "corpus": [s.corpus for s in test.samples],
            "subject": [s.subject for s in test.samples],
            "clip": [s.clip for s in test.samples],
            "fold": fold.name,
            **_answers(test, probabilities),
            **{f"p_{name}": probabilities[:, i] for i, name in enumerate(data.classes)},
        }
    )
    spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    folder.write(fold, table, {"seed": seed, "losses": losses, **spent})
    return fold.name, table


def _answers(test: ClipDataset, probabilities: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Columns of what is true and what was predicted."""
    targets = np.array(test.targets)
    if targets.ndim == 1:
        return {"target": targets, "pred": probabilities.argmax(axis=1)}
    said = (probabilities > 0.5).astype(np.int64)
    return {
        f"{what}_{name}": values[:, i]
        for what, values in (("target", targets), ("pred", said))
        for i, name in enumerate(test.classes)
    }


def fold_seed(seed: int, name: str) -> int:
    """A fold's own seed, from the recipe's and its name, whatever other folds there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The generators of torch, numpy and Python, as a network may draw its weights from any, put back afterwards."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002  # the global state is the one meant
            random.seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """More threads are slower for networks of this size, and their number would move the last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _factory(build: Build, protocol: Protocol) -> Callable[[], nn.Module]:
    if isinstance(build, nn.Module) or not (isinstance(build, str) or callable(build)):
        raise InputError(
            f"build is a {type(build).__name__}; expected a model name, or a function that returns a fresh module for "
            "each fold: one module would learn from every person in turn."
        )
    if not isinstance(build, str):
        return build
    weights = "." in build or ":" in build
    return partial(create_model, build, pretrained=weights, num_classes=len(protocol.classes))


def _fresh(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A first model, after making sure that a second one shares nothing with it."""
    with _seeded(seed):
        first, second = make(), make()
    ours = {id(tensor) for tensor in first.state_dict(keep_vars=True).values()}
    if first is second or any(id(tensor) in ours for tensor in second.state_dict(keep_vars=True).values()):
        raise InputError(
            "build returns modules that share weights, so each fold would start from what others have learnt, their "
            "test persons included; make every part anew inside it."
        )
    return first


def _describe(build: Build, model: nn.Module, data: ClipDataset) -> dict[str, Any]:
    """Which model this is: name, structure, first weights, and what it makes of two clips."""
    name = build if isinstance(build, str) else f"{type(model).__module__}.{type(model).__qualname__}"
    if name.startswith("local-dir:"):
        name = f"local-dir:{Path(name.partition(':')[2]).expanduser().resolve()}"
    with _one_thread():
        probe = predict(model, data.subset(data.samples[:2]), device="cpu")
    if tuple(probe.shape[1:]) != (len(data.classes),):
        raise InputError(
            f"The model gives {tuple(probe.shape[1:])} logits a clip; expected {len(data.classes)}: {data.classes}."
        )
    return {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "structure": hashlib.sha256(repr(model).encode()).hexdigest()[:16],
        "initial_weights": _digest(*(v.detach().cpu().float().numpy() for v in model.state_dict().values())),
        "initial_answers": [round(value, 3) for value in probe.flatten().tolist()],
    }


def _spec(model: nn.Module, corpora: Iterable[Corpus]) -> InputSpec:
    """What the model says that it eats, or the corpus as it is."""
    spec = spec_of(model)
    if spec is not None:
        return spec
    for corpus in corpora:
        if corpus.native_spec is not None:
            return corpus.native_spec
    raise InputError(
        f"{type(model).__name__} does not say what it eats, and raw frames must be cooked for it; set "
        "model.input_spec = mer_zoo.InputSpec(…)."
    )


def _check_arguments(recipe: Recipe, selection: str, jobs: int, device: Device) -> None:
    if not isinstance(recipe, Recipe):
        raise InputError(f"recipe is a {type(recipe).__name__}; expected mer_zoo.Recipe(…).")
    check_device(device, recipe.precision)
    if selection != "last":
        raise InputError(f"selection is {selection!r}; expected 'last': the last epoch, the same for every fold.")
    if not isinstance(jobs, int) or jobs < 1:
        raise InputError(f"jobs is {jobs!r}; expected a whole number, 1 or more.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("evaluate runs folds side by side by jobs=; under torchrun call mer_zoo.training.fit.")


def _check_stand_in(protocol: Protocol, corpora: Iterable[Corpus]) -> None:
    found = {s.corpus for corpus in corpora for s in protocol.select(corpus.samples)}
    if protocol.stood_in_by(found) and len(found) > 1:
        raise InputError(
            f"{protocol.name}: clips of {', '.join(sorted(found))} together; rendered persons would be scored as if "
            "they were real. Learn from them first, by mer_zoo.training.fit, and evaluate on the real ones alone."
        )


def _rendered(data: ClipDataset) -> bool:
    return any(s.corpus == STAND_IN for s in data.samples)


def _check_classes(data: ClipDataset, protocol: Protocol) -> None:
    there = {name for target in data.targets for name in protocol.names(target)}
    missing = [name for name in protocol.classes if name not in there]
    if missing and not protocol.units:
        raise InputError(
            f"{protocol.name}: no clip is {' or '.join(missing)}, so no score over its {len(protocol.classes)} classes "
            f"can be given. Add corpora that have such clips.{RENDERED_LABELS if _rendered(data) else ''}"
        )


def _digest(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
