"""Which choices of tools/pretrain.py matter: python tools/ablate.py [--out FOLDER] [--rows NAME ...].

Each row is the plan of `dat_densenet3d` with one thing changed, learnt from as many clips for the same number of
epochs, three seeds each; scores are UF1 over three classes on new persons of both families of faces. Runs are kept in
the folder, so that a second call goes on where the first stopped. Prints one table.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from clip_pool import pool_of
from gates import TESTS, clips_of, scores_of
from pretrain import PLANS, Plan, finished, train

from mer_zoo.recipe import Precision

CLIPS = 1_080
SEED = 5_002  # of the persons tested, who are not those of the gates
BASE = replace(PLANS["dat_densenet3d"], clips=CLIPS)


def _options(precision: Precision = BASE.precision, **options: Any) -> Plan:
    return replace(BASE, options=options, precision=precision)


ROWS: dict[str, tuple[str, Plan]] = {
    "base": ("as it is: differences, scSE, TTL, time kept, coarse grid, two families, three tasks at once", BASE),
    "raw": ("raw frames, -1 to 1", replace(BASE, spec={"kind": "clip", "gain": 1.0})),
    "none": ("no attention", _options(attention="none")),
    "se": ("SE", _options(attention="se")),
    "float32": ("float32 instead of bfloat16", replace(BASE, precision="no")),
    "cbam": ("CBAM (float32)", _options("no", attention="cbam")),
    "plain": ("plain transitions instead of TTL", _options(temporal_transition="plain")),
    "halved": ("time halved twice before the blocks (float32)", _options("no", keep_time=False)),
    "max": ("head by the maximum over all places", _options(global_pool="max")),
    "classes": ("three classes as the only task", replace(BASE, tasks=("3",))),
    "head": ("one family: head", replace(BASE, families=("head",))),
    "300": ("300 clips", replace(BASE, clips=300)),
    "3240": ("3,240 clips", replace(BASE, clips=3_240)),
    "10800": ("10,800 clips", PLANS["dat_densenet3d"]),
    "10800-head": ("10,800 clips of one family: head", replace(PLANS["dat_densenet3d"], families=("head",))),
}


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    words.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    words.add_argument("--out", type=Path, default=Path("runs/pretrain"))
    return words


def main() -> None:
    args = parser().parse_args()
    torch.set_num_threads(1)
    for seed in args.seeds:
        for name in args.rows:
            run(name, seed, args.out)
    print(*table(args.rows, args.seeds, args.out), sep="\n")


def run(name: str, seed: int, out: Path) -> None:
    """Train one row with one seed, and write its scores; nothing if they are there."""
    file = out / "ablation" / f"{name}-seed{seed}.json"
    if file.exists():
        return
    plan = replace(ROWS[name][1], seed=seed)
    pool = pool_of(plan.clips, out / "clips", plan.families)
    shipped = ROWS[name][1] == PLANS[plan.model]
    folder = f"{plan.model}-seed{seed}" if shipped else f"ablation/{name}-seed{seed}"
    model = finished(train(plan, pool, out / folder), plan, pool, "3")
    scores = {
        test: scores_of(model, clips_of(test, "3", model.input_spec, out / "cooked", SEED))["UF1"] for test in TESTS
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(scores))


def table(names: list[str], seeds: list[int], out: Path) -> Iterator[str]:
    """Mean and standard deviation over seeds, a row a plan."""
    yield f"| what is changed | {' | '.join(title for title, _ in TESTS.values())} |"
    yield "|---" * (1 + len(TESTS)) + "|"
    for name in names:
        runs = [json.loads((out / "ablation" / f"{name}-seed{seed}.json").read_text()) for seed in seeds]
        cells = [_cell([scores[test] for scores in runs]) for test in TESTS]
        yield f"| {ROWS[name][0]} | {' | '.join(cells)} |"


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
