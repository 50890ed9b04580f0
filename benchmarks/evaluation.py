"""What evaluating costs: python benchmarks/evaluation.py [--rounds 3].

1. What `evaluate` spends beside the training steps: processor time of the call, against that within `fit`.
2. Two processes on two cores against one, wall time, one after the other in every round.
3. A report of 2,031 clips of 400 persons: three baselines, 400 loss curves, figures and page included.
STSTNet by the default recipe, leave-one-subject-out over made-up flow images, nine a person. Prints one table.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import mer_zoo
from mer_zoo import selection, training
from mer_zoo.seeds import one_thread

CLASSES = ("negative", "positive", "surprise")


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--persons", type=int, default=24)
    words.add_argument("--epochs", type=int, default=mer_zoo.Recipe().epochs)
    return words


def main() -> None:
    args = parser().parse_args()
    os.environ["CI"] = "1"  # no bars
    roots = {"synthetic_flow": mer_zoo.open_corpus("synthetic_flow", subjects=args.persons)}

    rows: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        found = overhead(roots, args.epochs)
        found["report of 2,031 clips and 400 persons, seconds"] = report_seconds()
        for name, value in found.items():
            rows.setdefault(name, []).append(value)
    print("| what | " + " | ".join(f"round {i + 1}" for i in range(args.rounds)) + " | median |")
    print("|---" * (args.rounds + 2) + "|")
    for name, values in rows.items():
        print(f"| {name} | " + " | ".join(f"{value:.3g}" for value in [*values, statistics.median(values)]) + " |")


def overhead(roots: dict[str, Any], epochs: int) -> dict[str, float]:
    """One run in this process and one in two, both kept on disk as users keep them."""
    within = {"cpu": 0.0}
    real: Callable[..., list[float]] = training.fit

    def timed(*args: Any, **options: Any) -> list[float]:
        started = time.process_time()
        losses = real(*args, **options)
        within["cpu"] += time.process_time() - started
        return losses

    def run(jobs: int) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        with tempfile.TemporaryDirectory() as out:
            mer_zoo.evaluate(
                "ststnet", "synthetic-3", roots, recipe=mer_zoo.Recipe(epochs=epochs), jobs=jobs, out=f"{out}/run"
            )
        return time.perf_counter() - wall, time.process_time() - cpu

    setattr(selection, "fit", timed)  # noqa: B010
    try:
        with one_thread():
            alone, cpu = run(jobs=1)
    finally:
        setattr(selection, "fit", real)  # noqa: B010
    together, _ = run(jobs=2)
    return {
        "beside the training steps, % of their processor time": 100 * (cpu - within["cpu"]) / within["cpu"],
        "one process, wall seconds": alone,
        "two processes, wall seconds": together,
        "two processes against one, times": alone / together,
    }


def report_seconds() -> float:
    """Wall time of scoring and writing a table of guesses."""
    generator = np.random.default_rng(0)
    subjects = np.sort(np.concatenate([np.arange(400), generator.integers(400, size=2031 - 400)]))
    shares = generator.dirichlet(np.ones(3), size=2031)
    table = pd.DataFrame(
        {
            "key": [f"synthetic/{subject:03d}/{clip}" for clip, subject in enumerate(subjects)],
            "corpus": "synthetic",
            "subject": [f"{subject:03d}" for subject in subjects],
            "clip": np.arange(2031).astype(str),
            "fold": [f"synthetic/{subject:03d}" for subject in subjects],
            "target": generator.integers(3, size=2031),
            "pred": shares.argmax(axis=1),
            **{f"p_{name}": shares[:, i] for i, name in enumerate(CLASSES)},
        }
    )
    rows = table["fold"] + " " + table["key"]
    guesses = {name: generator.integers(3, size=2031).tolist() for name in ("majority", "ridge", "svm")}
    table.attrs["baselines"] = {name: dict(zip(rows, preds, strict=True)) for name, preds in guesses.items()}
    table.attrs["losses"] = {fold: generator.random(100).tolist() for fold in table["fold"].unique()}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        mer_zoo.report(table, "synthetic-3", out=out)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
