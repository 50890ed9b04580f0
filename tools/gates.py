"""What weights are worth: python tools/gates.py NAME [--flow PATH] [--out FOLDER].

For each tag of a network, three seeds: scores on new rendered persons of both families, and at three levels of
difficulty. For a network that eats flow, with PATH, the flow images that STSTNet's authors publish: zero-shot, and what
five, ten and all real persons add to fine-tuning and to training from scratch. Nothing is trained on them that is
kept. Writes NAME.TAG.json into the folder of the runs, from which tools/ship.py makes cards; prints them as tables.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from clip_pool import PROTOCOLS, pool_of
from pretrain import PLANS, TASKS, finished, train

import mer_zoo
from mer_zoo.cards import Result
from mer_zoo.metrics import accuracy, confusion, uar, uf1
from mer_zoo.training import ClipDataset, fit, predict
from mer_zoo.types import InputSpec

SEEDS = (0, 1, 2)
PERSONS = 60  # times nine clips
TEST_SEED = 5_001  # of no person that is learnt from
Test = tuple[str, dict[str, Any]]  # what the tables call it, and the knobs of its corpus
TESTS: dict[str, Test] = {
    "default-head": ("new persons", {}),
    "default-field": ("new persons, family field", {"family": "field"}),
}
MORE: dict[str, Test] = {
    "easy-head": ("new persons, easy", {"preset": "easy"}),
    "hard-head": ("new persons, hard", {"preset": "hard"}),
    "miex-head": ("new persons, units by MiE-X's table", {"table": "miex"}),
    "miex-field": ("new persons, family field, units by MiE-X's table", {"table": "miex", "family": "field"}),
}
LAST = "last epoch"
MERGED = {"happiness": "positive", "surprise": "surprise"}  # of five classes; the others are negative
TUNING = mer_zoo.Recipe(epochs=60, flip=True)
RATES = (1e-4, 1e-3)

Scores = dict[str, float]
Labels = npt.NDArray[Any]  # class indices (N,), or units (N, U) of 0 and 1


def clips_of(test: str, task: str, spec: InputSpec, cache: Path, seed: int = TEST_SEED) -> ClipDataset:
    """New persons, with labels as they are meant: no label noise."""
    knobs: dict[str, Any] = {"classes": task if task == "au" else int(task), **{**TESTS, **MORE}[test][1]}
    corpus = mer_zoo.open_corpus(
        "synthetic",
        subjects=PERSONS,
        clips_per_subject=9,
        seed=seed,
        label_noise=0.0,
        **knobs,
    )
    return mer_zoo.create_dataset(PROTOCOLS[task], {"synthetic": corpus}, spec, cache=cache)


def scores_of(model: Any, data: ClipDataset) -> Scores:
    """UF1, UAR and accuracy; of units the mean of their F1, and the share of units that are right."""
    said = predict(model, data).numpy()
    return score(said > 0.5 if data.many else said.argmax(axis=1), np.array(data.targets))


def score(pred: Labels, target: Labels) -> Scores:
    """The same of answers."""
    if target.ndim == 2:
        both, either = (target * pred).sum(axis=0), target.sum(axis=0) + pred.sum(axis=0)
        return {"mean F1": float((2 * both / either).mean()), "accuracy": float((target == pred).mean())}
    matrix = confusion(target, pred, int(target.max()) + 1)
    return {"UF1": uf1(matrix), "UAR": uar(matrix), "accuracy": accuracy(matrix)}


def simple(target: Labels) -> dict[str, Scores]:
    """What simple rules score: the most frequent class, and guesses, the mean of 200; of units, all or a coin each."""
    rng = np.random.default_rng(0)
    if target.ndim == 2:
        always, guesses = np.ones_like(target), [rng.integers(0, 2, target.shape) for _ in range(200)]
    else:
        always = np.full_like(target, np.bincount(target).argmax())
        guesses = [rng.integers(0, int(target.max()) + 1, len(target)) for _ in range(200)]
    guessed = [score(guess, target) for guess in guesses]
    name = "every unit always" if target.ndim == 2 else "majority"
    return {
        name: score(always, target),
        "chance": {key: float(np.mean([g[key] for g in guessed])) for key in guessed[0]},
    }


def result(dataset: str, tested: str, runs: list[Scores], target: Labels) -> Result:
    """Scores of all seeds, with what simple rules get beside them."""
    return Result(dataset, tested, LAST, {key: [run[key] for run in runs] for key in runs[0]}, simple(target))


def rendered(models: list[Any], task: str, cache: Path) -> Iterator[Result]:
    """Tests on made-up persons."""
    for test, (name, knobs) in {**TESTS, **MORE}.items():
        if task == "au" and "table" in knobs:
            continue  # units are drawn as they are, by no table
        data = clips_of(test, task, models[0].input_spec, cache)
        tested = f"{name}: {PERSONS}, {len(data)} clips"
        yield result("rendered faces", tested, [scores_of(model, data) for model in models], np.array(data.targets))


def zero_shot(models: list[Any], task: str, real: ClipDataset) -> Iterator[Result]:
    """Tests on real flow by corpus and together; five classes are merged into the three of the release."""
    names = {"SMIC": ["smic"], "CASME II": ["casme2"], "SMIC and CASME II": ["smic", "casme2"]}
    for name, corpora in names.items():
        data = real.subset([s for s in real.samples if s.corpus in corpora])
        target = np.array(data.targets)
        runs = [score(_merged(model, task, data), target) for model in models]
        tested = f"zero-shot: {len(set(data.persons))} real persons, {len(data)} clips"
        yield result(f"{name}, flow images", tested, runs, target)


def _merged(model: Any, task: str, data: ClipDataset) -> Labels:
    model.input_spec = data.spec  # the release says nothing of its flow but "TV-L1"; it is taken as it is
    said = predict(model, data).numpy()
    places = [data.classes.index(MERGED.get(c, "negative") if task == "5" else c) for c in PROTOCOLS[task].classes]
    shares = np.stack([said[:, np.array(places) == i].sum(axis=1) for i in range(len(data.classes))], axis=1)
    return cast(Labels, shares.argmax(axis=1))


def tuned(start: Callable[[], Any], real: ClipDataset, persons: int, recipe: mer_zoo.Recipe) -> Scores:
    """Five parts of the real persons are predicted, each after learning from so many of the others."""
    rng = np.random.default_rng(recipe.seed)
    everybody = rng.permutation(sorted(set(real.persons)))
    pred, target = [], []
    for part in np.array_split(everybody, 5):
        others = [person for person in everybody if person not in part]
        taken = set(rng.permutation(others)[:persons])
        torch.manual_seed(recipe.seed)
        model = start()
        model.input_spec = real.spec
        fit(model, real.subset([s for s in real.samples if s.person in taken]), recipe)
        test = real.subset([s for s in real.samples if s.person in part])
        pred.append(predict(model, test).argmax(dim=1).numpy())
        target.append(np.array(test.targets))
    return score(np.concatenate(pred), np.concatenate(target))


def few_persons(how: str, start: Callable[[int], Any], real: ClipDataset) -> Iterator[Result]:
    """What comes of learning from some real persons, from a start that depends on the seed, at two rates."""
    target = np.array(real.targets)
    for persons, rate in product((5, 10, 32), RATES):
        recipes = [replace(TUNING, lr=rate, seed=seed) for seed in SEEDS]
        runs = [tuned(partial(start, recipe.seed), real, persons, recipe) for recipe in recipes]
        yield result(f"{persons} real persons", f"{how}, lr {rate:g}", runs, target)


def from_scratch(name: str, _: int) -> Any:
    """A fresh network for the three classes of the real images."""
    return mer_zoo.create_model(name, num_classes=3)


def from_weights(name: str, models: list[Any], seed: int) -> Any:
    """The same with these weights; the last layer stays fresh where they are for other classes."""
    fresh, state = from_scratch(name, seed), models[seed].state_dict()
    same = models[seed].num_classes == fresh.num_classes
    fresh.load_state_dict({k: v for k, v in state.items() if same or not k.startswith("fc.")}, strict=False)
    return fresh


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("name", choices=list(PLANS))
    words.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    words.add_argument("--flow", type=Path, help="the flow images of MEGC 2019, as published")
    words.add_argument("--out", type=Path, default=Path("runs/pretrain"))
    return words


def main() -> None:
    args = parser().parse_args()
    torch.set_num_threads(1)
    plans = [replace(PLANS[args.name], seed=seed) for seed in SEEDS]
    pool = pool_of(plans[0].clips, args.out / "clips", plans[0].families)
    heads = [train(plan, pool, args.out / f"{args.name}-seed{plan.seed}") for plan in plans]
    real = scratch = None
    if args.flow and mer_zoo.input_spec(args.name).kind == "flow":
        real = mer_zoo.create_dataset("megc2019", {"megc2019_flow": args.flow}, mer_zoo.input_spec(args.name))
        scratch = [*few_persons("from scratch", partial(from_scratch, args.name), real)]
    for task in args.tasks:
        models = [finished(head, plan, pool, task) for head, plan in zip(heads, plans, strict=True)]
        tests, tuning = [*rendered(models, task, args.out / "cooked")], []
        if real and scratch:
            tests += zero_shot(models, task, real) if task != "au" else []
            tuning = [*few_persons("fine-tuned", partial(from_weights, args.name, models), real), *scratch]
        file = args.out / f"{args.name}.synth_{task}.json"
        found = {"tests": [asdict(r) for r in tests], "tuning": [asdict(r) for r in tuning]}
        file.write_text(json.dumps(found, indent=1))
        for r in (*tests, *tuning):
            print(f"{file.stem} | {r.dataset} | {r.tested} | {_line(r)}", flush=True)


def _line(r: Result) -> str:
    means = ", ".join(f"{key} {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" for key, values in r.scores.items())
    first = next(iter(r.scores))
    return f"{means} | " + ", ".join(f"{rule} {values[first]:.3f}" for rule, values in r.beside.items())


if __name__ == "__main__":
    main()
