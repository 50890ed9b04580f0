"""Every fold with a fresh model, and one table of predictions, keyed by clip.

A fold sees its training part only. What it predicts does not depend on which folds ran before it, on how many run
side by side, or on whether the run was interrupted: its seed comes from the recipe's and the fold's name, and each
process computes with one thread. Only where ``backend="folds"`` trains several at once does a network's dropout draw
by which folds they are.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from mer_zoo.backends import MaxParallel, backend_of
from mer_zoo.baselines import BASELINES
from mer_zoo.datasets import Corpus
from mer_zoo.errors import InputError, UnknownNameError
from mer_zoo.execution import Work, run_folds
from mer_zoo.folds import check_folds
from mer_zoo.guards import check_cooking, check_copies, check_neighbours, check_seen
from mer_zoo.inputs import RENDERED_LABELS, Cache, Roots, check_jobs, create_dataset, open_corpora, preparation_of
from mer_zoo.models import create_model, list_models
from mer_zoo.preprocessing.cook import Preparation
from mer_zoo.protocols import STAND_IN, Protocol, get_protocol
from mer_zoo.random_clips import random_split, ten_copies
from mer_zoo.recipe import Recipe
from mer_zoo.rules import RULES, check_rule
from mer_zoo.runs import RunFolder, assemble, rows_hash
from mer_zoo.seeds import one_thread, seeded
from mer_zoo.selection import Make, Training, check_inner_folds
from mer_zoo.training import ClipDataset, Device, check_device, place_of, predict
from mer_zoo.types import Fold, InputSpec, seen_by, spec_of

Material = tuple[ClipDataset, list[Fold]]
Build = str | Callable[[], nn.Module]

# What a baseline gets of raw frames when it stands alone: beside a network it gets what the network eats.
BASELINE_SPEC = InputSpec("flow", ("u", "v", "strain"), size=28, high=255.0, scaling="channel_min_max")

logger = logging.getLogger("mer_zoo")


def evaluate(
    build: Build,
    protocol: str | Protocol,
    roots: Roots | None = None,
    *,
    recipe: Recipe | Sequence[Recipe] | None = None,
    selection: str = "last",
    jobs: int = 1,
    device: Device = "auto",
    backend: str = "auto",
    max_parallel: MaxParallel = "auto",
    out: str | Path | None = None,
    cache: Cache = None,
    preparation: Preparation | None = None,
    keep_weights: bool = False,
    i_know_this_leaks: bool = False,
) -> pd.DataFrame:
    """Train a fresh model for every fold and predict the clips that it has not seen.

    Args:
        build: A model name, with a tag or source if its weights are to be loaded; a baseline, ``majority``, ``ridge``
            or ``svm``; or a function without arguments that returns a fresh module with one logit a class, sharing no
            weights with another. A module eats what its ``input_spec`` says; one without gets the corpus as it is.
        protocol: A protocol or its name.
        roots: Folder of each corpus by its name, or an open corpus; None for a protocol whose corpus is made.
        recipe: How to train; its seed gives every fold its own. ``nested`` takes several and chooses.
        selection: Which epoch is scored. ``last``: the last one, the same for all. ``nested``: chosen on training
            persons. ``test_oracle``: the best on the test part. ``random-clip``: copies of clips split at random, the
            best epoch on the smaller part. The last two leak, and are for showing what that does.
        jobs: Folds side by side, each a process with one thread; on a cluster under ``joblib.parallel_config``.
        device: ``auto``, ``cpu`` or ``cuda``.
        backend: How folds are computed: ``auto``, or one of ``backends.BACKENDS``. Folds are the same by ``loop`` and
            ``processes``; by ``graphs`` and ``folds`` they are but for rounding, and dropout draws otherwise.
        max_parallel: Folds at once, of ``folds``; ``auto``: as many as memory allows.
        out: Folder in which each finished fold is kept; a second call goes on where the first stopped.
        cache: As for ``create_dataset``.
        preparation: As for ``create_dataset``.
        keep_weights: Keep each fold's weights, too, in ``out``.
        i_know_this_leaks: Must be True for a selection that leaks.

    Returns:
        One row a clip, ``key, corpus, subject, clip, fold, target, pred, p_<class>…``; ``target`` and ``pred`` are
        class indices. For action units ``target_<class>…, pred_<class>…`` instead, 0 or 1, a unit being predicted from
        a probability of one half. Repeated folds add ``repeat``; a selection that leaks ``note``, which says so; failed
        folds ``error``, and ``pred`` is -1 there. ``attrs`` say how it was made (``run``), what the baselines predict
        (``baselines``) and the ``losses``.

    Raises:
        CorpusError, InputError: If corpora, model, folds and protocol do not fit each other; before any training.
        LeakError: If something of a test part would be learnt from.
        RunError: If ``out`` holds a run of other settings or versions, of which nothing is overwritten; or if every
            fold failed.
    """
    protocol = get_protocol(protocol) if isinstance(protocol, str) else protocol
    recipes = _recipes(recipe, selection)
    check_rule(selection, i_know_this_leaks)
    _check_arguments(recipes, jobs, device)
    by = backend_of(backend, jobs, max_parallel, device)
    if keep_weights and (out is None or build in BASELINES):
        raise InputError("keep_weights needs a folder, out=FOLDER, and a network; a baseline has none to keep.")
    make = _factory(build, protocol)
    model = None if make is None else _fresh(make, recipes[0].seed)
    corpora = open_corpora(protocol, roots)
    mixed = recipes[0].seed if selection == "random-clip" else None
    prepared = preparation_of(cache, preparation)
    data, folds = _material(protocol, corpora, _spec(model, corpora.values()), (cache, prepared), mixed)
    if selection == "nested":
        check_inner_folds(folds)
    if model is None:
        facts = _describe_baseline(str(build), selection)
    else:
        check_seen(model, (sample for fold in folds for sample in fold.test))
        facts = _describe(build, model, data)
    folder = RunFolder(
        None if out is None else Path(out).expanduser().absolute(),  # workers may have been started elsewhere
        {
            **_settings(protocol, selection, recipes, (data, folds)),
            **facts,
            "preparation": prepared.says if any(c.native_spec is None for c in corpora.values()) else "",
            "device": place_of(device).type,
            **({} if make is None or by.name == "loop" else {"backend": by.name}),
            "keep_weights": keep_weights,
        },
    )
    work = Work(
        training=None if make is None else Training(make, recipes, selection, device, by.name == "graphs"),
        model=str(build),
        folder=folder,
        backend=by,
        repeated=any(fold.repeat for fold in folds),
        keep_weights=keep_weights,
        beside=tuple(name for name in BASELINES if name != build),
    )
    return assemble(run_folds(work, data, folds), folder.description)


def _material(
    protocol: Protocol,
    corpora: dict[str, Corpus],
    spec: InputSpec,
    cooking: tuple[Cache, Preparation],
    mixed: int | None,
) -> tuple[ClipDataset, list[Fold]]:
    """Clips and folds, after all guards that need no training; ``mixed`` is the seed of copies split at random."""
    _check_stand_in(protocol, corpora.values())
    data = create_dataset(protocol, corpora, spec, cache=cooking[0], preparation=cooking[1])
    _check_classes(data, protocol)
    if mixed is not None:
        data = ten_copies(data, mixed)
        return data, random_split(data.samples, data.targets, mixed)
    folds = protocol.folds(data.samples)
    check_folds(folds, data.samples)
    _check_learnable(protocol, folds)
    check_cooking(data, folds)
    check_copies(data, folds)
    return data, folds


def _settings(protocol: Protocol, selection: str, recipes: Sequence[Recipe], material: Material) -> dict[str, Any]:
    """All that the predictions depend on, beside model and versions."""
    data, folds = material
    rows = [f"{fold.name} {sample.key}" for fold in folds for sample in fold.test]
    sides = [f"{fold.name} {s.key}" for fold in folds for s in (*fold.train, *fold.test)]
    return {
        "protocol": protocol.name,
        "classes": list(protocol.classes),
        "selection": selection,
        "leak": RULES[selection].leak,
        "input_spec": data.spec.to_dict(),
        "data": _digest(data.inputs, np.array(data.targets)),
        "folds_by": "ten copies of each clip, split at random" if selection == "random-clip" else protocol.folds_by,
        "fold_names": [fold.name for fold in folds],
        "folds": _digest(np.array(sides)),
        "rows": len(rows),
        "keys": rows_hash(rows),
        "recipe": asdict(recipes[0]),
        **({"recipes": [asdict(recipe) for recipe in recipes]} if len(recipes) > 1 else {}),
    }


def _factory(build: Build, protocol: Protocol) -> Make | None:
    """What makes a fresh model; None for a baseline."""
    if isinstance(build, nn.Module) or not (isinstance(build, str) or callable(build)):
        raise InputError(
            f"build is a {type(build).__name__}; expected a model name, or a function that returns a fresh module for "
            "each fold: one module would learn from every person in turn."
        )
    if not isinstance(build, str):
        return build
    if build in BASELINES:
        return None
    weights = "." in build or ":" in build
    if not weights and build not in (known := list_models()):
        raise UnknownNameError("model", build, [*known, *BASELINES])
    return partial(create_model, build, pretrained=weights, num_classes=len(protocol.classes))


def _fresh(make: Make, seed: int) -> nn.Module:
    """A first model, after making sure that a second one shares nothing with it."""
    with seeded(seed):
        first, second = make(), make()
    if first is second or _storages(first) & _storages(second):
        raise InputError(
            "build returns modules that share weights, so each fold would start from what others have learnt, their "
            "test persons included; make every part anew inside it."
        )
    return first


def _storages(model: nn.Module) -> set[int]:
    """Where weights and buffers lie in memory; tensors may share a place without being one."""
    tensors = [*model.parameters(), *model.buffers()]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel() and not tensor.is_meta}


def _describe(build: Build, model: nn.Module, data: ClipDataset) -> dict[str, Any]:
    """Which model this is: name, structure, first weights, and what it makes of two clips."""
    name = build if isinstance(build, str) else f"{type(model).__module__}.{type(model).__qualname__}"
    if name.startswith("local-dir:"):
        name = f"local-dir:{Path(name.partition(':')[2]).expanduser().resolve()}"
    with one_thread():
        clips = data.subset(data.samples[:2])
        probe = predict(model, clips, device="cpu")
        if tuple(probe.shape[1:]) != (len(data.classes),):
            raise InputError(
                f"The model gives {tuple(probe.shape[1:])} logits a clip; expected {len(data.classes)}: {data.classes}."
            )
        check_neighbours(model, clips)
    return {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "structure": hashlib.sha256(repr(model).encode()).hexdigest()[:16],
        "initial_weights": _digest(*(v.detach().cpu().float().numpy() for v in model.state_dict().values())),
        "initial_answers": [round(value, 3) for value in probe.flatten().tolist()],
        "trained_on": seen_by(model),
    }


def _describe_baseline(name: str, selection: str) -> dict[str, Any]:
    if selection not in ("last", "random-clip"):
        raise InputError(f"{name} has no epochs to choose from; expected selection 'last', not {selection!r}.")
    return {"model": name, "parameters": 0, "structure": BASELINES[name].summary, "recipe": {}}


def _spec(model: nn.Module | None, corpora: Iterable[Corpus]) -> InputSpec:
    """What the model says that it eats, or the corpus as it is; a baseline gets flow of frames."""
    spec = spec_of(model)
    if spec is not None:
        return spec
    for corpus in corpora:
        if corpus.native_spec is not None:
            return corpus.native_spec
    if model is None:
        return BASELINE_SPEC
    raise InputError(
        f"{type(model).__name__} does not say what it eats, and raw frames must be cooked for it; set "
        "model.input_spec = mer_zoo.InputSpec(…)."
    )


def _recipes(recipe: Recipe | Sequence[Recipe] | None, selection: str) -> tuple[Recipe, ...]:
    if recipe is None or isinstance(recipe, Recipe):
        return (recipe or Recipe(),)
    recipes = tuple(recipe) if isinstance(recipe, Sequence) else ()
    if not recipes or not all(isinstance(each, Recipe) for each in recipes):
        raise InputError(f"recipe is {recipe!r:.60}; expected mer_zoo.Recipe(…), or for 'nested' a list of them.")
    if len(recipes) > 1 and selection != "nested":
        raise InputError(f"{len(recipes)} recipes to choose from; only selection='nested' chooses, give one to others.")
    return recipes


def _check_arguments(recipes: Sequence[Recipe], jobs: int, device: Device) -> None:
    for recipe in recipes:
        check_device(device, recipe.precision)
    check_jobs(jobs)
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


def _check_learnable(protocol: Protocol, folds: Sequence[Fold]) -> None:
    """Refuse a class that no fold can learn; say which folds test a class that they cannot."""
    if protocol.units:
        return
    learnt = {fold.name: {protocol.target(s) for s in fold.train} for fold in folds}
    for number, name in enumerate(protocol.classes):
        blind = [f.name for f in folds if number not in learnt[f.name] and number in map(protocol.target, f.test)]
        if not any(number in classes for classes in learnt.values()):
            raise InputError(
                f"{protocol.name}: no training part of any fold has a clip of {name}, which is tested. Add persons who "
                "show it, or take a protocol without that class."
            )
        if blind:
            logger.warning("%s: %s is tested in fold %s, where no training clip is.", protocol.name, name, blind[0])


def _digest(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
