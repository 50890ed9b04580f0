"""How leave-one-subject-out grows with persons, clips and weights: python benchmarks/growth.py [--figure docs].

One epoch of each fold by `loop` and by `folds`, eight folds at once, over made-up clips: CPU seconds of one thread, and
the most memory beyond what the process held before, each in a process of its own. Prints a table and draws growth.png
and growth.svg. Linux only.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from loso import Case, ours, together
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter
from memory import Peak

import mer_zoo
from mer_zoo.figures import save
from mer_zoo.recipe import Recipe

RECIPE = Recipe(epochs=1, batch_size=64, lr=1e-4, optimizer="adam")
AT_ONCE = 8
PERSONS = (8, 16, 32, 64, 128)
CLIPS = (100, 300, 1000, 3000, 10000)
MODELS = ("dat_densenet3d_se", "dat_densenet3d", "micro_exp_stcnn", "micro_exp_fusenet_late", "dat_densenet3d_121")
COLOURS = {"loop": "#0072B2", "folds": "#D55E00"}  # of Okabe and Ito


def cases() -> Iterator[tuple[str, int, Case]]:
    """What grows, to what, and the case."""
    start = Case("ststnet", 256, 8, RECIPE, 8, decoded=False)
    for persons in PERSONS:
        yield "persons", persons, replace(start, persons=persons, folds=persons)
    for clips in CLIPS:
        yield "clips", clips, replace(start, clips=clips)
    for name in MODELS:
        weights = sum(p.numel() for p in mer_zoo.create_model(name, device="meta").parameters())
        yield "weights", weights, Case(name, 32, 8, replace(RECIPE, batch_size=8), 2, decoded=False)


def in_chunks(case: Case, device: torch.device) -> None:
    """As `backend="folds"` with `max_parallel`: so many folds at once."""
    for first in range(0, case.folds, AT_ONCE):
        together(case, device, range(first, min(first + AT_ONCE, case.folds)))


WAYS: dict[str, Callable[[Case, torch.device], None]] = {"loop": ours, "folds": in_chunks}


def cost(way: str, case: Case) -> tuple[float, int]:
    """CPU seconds and bytes."""
    torch.set_num_threads(1)
    WAYS[way](replace(case, clips=4 * case.persons, folds=2), torch.device("cpu"))  # imports and first touches
    with Peak() as peak:
        started = time.process_time()
        WAYS[way](case, torch.device("cpu"))
        spent = time.process_time() - started
    return spent, peak.bytes


def draw(rows: list[tuple[str, int, str, float, int]]) -> Figure:
    """Time above, memory below; networks of several sizes are no series, so no line joins them."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    grown = list(dict.fromkeys(row[0] for row in rows))
    axes = figure.subplots(2, len(grown), sharex="col", squeeze=False)
    for column, what in enumerate(grown):
        mine = [(to, way, (spent, held / 2**20)) for w, to, way, spent, held in rows if w == what]
        for row, axis in enumerate(axes[:, column]):
            _panel(axis, [(to, way, values[row]) for to, way, values in mine], joined=what != "weights")
        axes[1][column].set_xlabel(what)
    axes[0][0].set_ylabel("CPU seconds, one epoch of all folds")
    axes[1][0].set_ylabel("peak memory, MB")
    axes[0][0].legend(frameon=False)
    return figure


def _panel(axis: Axes, points: list[tuple[int, str, float]], joined: bool) -> None:
    for way, colour in COLOURS.items():
        mine = [(to, value) for to, w, value in points if w == way]
        axis.plot(*zip(*mine, strict=True), marker="o", linestyle="-" if joined else "", color=colour, label=way)
    for line, scale in ((axis.xaxis, axis.set_xscale), (axis.yaxis, axis.set_yscale)):
        scale("log")
        line.set_major_formatter(EngFormatter(sep=""))
        line.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.3)


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--figure", type=Path, help="folder of growth.png and growth.svg")
    words.add_argument("--most", type=int, default=10**9, help="leave out what grows beyond this (to try the command)")
    return words


def main() -> None:
    args = parser().parse_args()
    rows = []
    print("| what grows | to | network | backend | CPU seconds | peak MB |\n|---|---|---|---|---|---|")
    for what, to, case in cases():
        for way in WAYS if to <= args.most else ():
            with multiprocessing.get_context("fork").Pool(1) as pool:
                spent, held = pool.apply(cost, (way, case))
            rows.append((what, to, way, spent, held))
            print(f"| {what} | {to:,} | `{case.model}` | {way} | {spent:.2f} | {held / 2**20:,.0f} |", flush=True)
    if args.figure:
        save({"growth": draw(rows)}, args.figure)


if __name__ == "__main__":
    main()
