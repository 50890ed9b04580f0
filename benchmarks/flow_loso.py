"""Leave-one-subject-out on real flow images: python benchmarks/flow_loso.py PATH [--jobs 2].

PATH is the release of STSTNet's authors, in any form that `megc2019_flow` reads. The recipe is the authors' (Adam
5e-5, batches of 256, 800 epochs, last epoch), but for shuffling: theirs takes the clips class by class. Prints one
table; runs are kept in --out, so that a second call goes on where the first stopped.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import mer_zoo

RECIPE = {"epochs": 800, "batch_size": 256, "lr": 5e-5, "optimizer": "adam"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=RECIPE["epochs"])
    parser.add_argument("--out", type=Path, default=Path("runs/flow_loso"))
    args = parser.parse_args()

    rows: dict[str, list[list[float]]] = {}
    for seed in args.seeds:
        recipe = mer_zoo.Recipe(**{**RECIPE, "epochs": args.epochs, "seed": seed})
        out = args.out / f"seed-{seed}"
        started = time.perf_counter()
        table = mer_zoo.evaluate(
            "ststnet", "megc2019", {"megc2019_flow": args.path}, recipe=recipe, jobs=args.jobs, out=out
        )
        minutes = (time.perf_counter() - started) / 60
        report = mer_zoo.report(table, "megc2019", out=out)
        print(report.to_markdown(), f"{minutes:.1f} minutes\n", flush=True)
        facts = report.to_dict()
        for name, scores in {"all": facts["pooled"], **facts["corpora"]}.items():
            rows.setdefault(name, []).append([scores["uf1"], scores["uar"], scores["accuracy"]])
        rows.setdefault("wall minutes of this call", []).append([minutes])
        rows.setdefault("CPU minutes of all folds", []).append([_cpu_minutes(out)])

    print("| | " + " | ".join(f"seed {seed}" for seed in args.seeds) + " | mean |")
    print("|---" * (len(args.seeds) + 2) + "|")
    for name, values in rows.items():
        means = [statistics.mean(column) for column in zip(*values, strict=True)]
        print(f"| {name} | " + " | ".join(_cell(v) for v in [*values, means]) + " |")


def _cpu_minutes(out: Path) -> float:
    folds = [json.loads(file.read_text()) for file in out.glob("folds/*/*/fold.json")]
    return float(sum(fold["cpu_seconds"] for fold in folds)) / 60


def _cell(values: list[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in values) if len(values) > 1 else f"{values[0]:.1f}"


if __name__ == "__main__":
    main()
