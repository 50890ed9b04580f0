"""Honest scores of the networks, in one table form: python benchmarks/loso_scores.py flow PATH | clips [--seeds 0 1 2].

`flow` leaves out each person of the flow images that STSTNet's authors publish, PATH, in any form that `megc2019_flow`
reads; `clips` each of twelve rendered persons. The last epoch is scored, `selection="last"`. Recipes are the papers'
where these state one that can be paid for; each row says which. None was changed for its score. Runs are kept in --out,
so that a second call goes on where the first stopped; --table prints what is there and trains nothing.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import mer_zoo
from mer_zoo import Recipe
from mer_zoo.baselines import BASELINES
from mer_zoo.folds import group_k_fold

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Entry:
    """A network, its options, how it is trained, and in words where that is from."""

    model: str
    recipe: Recipe
    says: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = SEEDS
    folds: int | None = None  # None leaves out each person; a number makes so many groups of persons

    @property
    def title(self) -> str:
        """Its name, with what is unlike the published form."""
        return " ".join([self.model, *(f"{key}={value}" for key, value in self.options.items())])


def adam(epochs: int, batch_size: int, lr: float) -> Recipe:
    return Recipe(epochs=epochs, batch_size=batch_size, lr=lr, optimizer="adam")


PAPER = "the paper's"
CROPS = {"crops": "published"}  # these faces were not aligned by this library
FLOW = (
    Entry("ststnet", adam(800, 256, 5e-5), PAPER),
    Entry("off_apexnet", adam(200, 64, 1e-4), f"{PAPER}, which has 3000 epochs"),
    Entry("dual_inception", adam(40, 32, 3e-4), "ours; the paper has batches of 3 and lr 1e-4"),
    Entry("htnet", adam(60, 64, 5e-5), "ours, of a small form; the code has 800 epochs", {"dim": 64, **CROPS}),
)
SMALL = Recipe(epochs=30, batch_size=16, lr=1e-3)
LARGE = Recipe(epochs=5, batch_size=8, lr=1e-4)
CUT = {"num_frames": 8, "size": 64}
TINY = {**CUT, "dim": 192, "depth": 4, "num_heads": 3}
CLIPS = (
    Entry("dat_densenet3d", SMALL, "ours"),
    Entry("dat_densenet3d_se", SMALL, "ours"),
    Entry("micro_exp_stcnn", replace(SMALL, lr=1e-2, optimizer="sgd"), "the code's lr, optimizer and batch"),
    Entry("micro_exp_fusenet_intermediate", replace(SMALL, lr=1e-2, optimizer="sgd"), "as micro_exp_stcnn"),
    Entry("micro_exp_fusenet_late", replace(SMALL, lr=1e-2, optimizer="sgd"), "as micro_exp_stcnn"),
    Entry("causalnet_reading", adam(30, 64, 5e-5), "the code's lr"),
    Entry("dat_densenet3d_121", LARGE, "ours", folds=4),
    Entry("s3d", LARGE, "ours", CUT, folds=4),
    Entry("mc3_18", LARGE, "ours", CUT, seeds=(0,), folds=4),
    Entry("r3d_18", LARGE, "ours", CUT, seeds=(0,), folds=4),
    Entry("r2plus1d_18", LARGE, "ours", CUT, seeds=(0,), folds=4),
    Entry("mvit_v2_s", LARGE, "ours", CUT, seeds=(0,), folds=4),
    Entry("swin3d_t", LARGE, "ours", CUT, seeds=(0,), folds=4),
    Entry("slstt", LARGE, "ours, of a small form", TINY, folds=4),
)


@dataclass(frozen=True)
class Task:
    """What is left out, and who competes."""

    protocol: str
    roots: Mapping[str, Any]
    entries: Sequence[Entry]


def task_of(args: argparse.Namespace) -> Task:
    if args.corpus == "flow":
        if args.path is None:
            raise SystemExit("flow needs PATH, the flow images of MEGC 2019 as published.")
        return Task("megc2019", {"megc2019_flow": args.path}, FLOW)
    rendered = mer_zoo.open_corpus("synthetic", subjects=12, clips_per_subject=12)
    return Task("synthetic-3", {"synthetic": rendered}, CLIPS)


@dataclass(frozen=True)
class Desk:
    """One task and where its runs are kept."""

    task: Task
    out: Path
    jobs: int

    def folder(self, entry: Entry, seed: int) -> Path:
        recipe = entry.recipe
        words = f"{entry.title} {recipe.epochs}x{recipe.batch_size} seed-{seed}"
        return self.out / words.replace(" ", "_")

    def run(self, entry: Entry, seed: int) -> None:
        """Train and predict; folds that are there are not trained again."""
        protocol = mer_zoo.get_protocol(self.task.protocol)
        if entry.folds:
            protocol = replace(protocol, fold_maker=partial(group_k_fold, k=entry.folds))
        classes = len(protocol.classes)
        build = partial(mer_zoo.create_model, entry.model, num_classes=classes, **entry.options)
        recipe = replace(entry.recipe, seed=seed)
        mer_zoo.evaluate(build, protocol, self.task.roots, recipe=recipe, jobs=self.jobs, out=self.folder(entry, seed))

    def facts(self, entry: Entry, seed: int) -> dict[str, Any] | None:
        """Scores and cost of a finished run."""
        folder = self.folder(entry, seed)
        folds = [json.loads(file.read_text()) for file in folder.glob("folds/**/fold.json")]
        if not folds or len(folds) < len(json.loads((folder / "run.json").read_text())["fold_names"]):
            return None
        report = mer_zoo.report(mer_zoo.read_run(folder), self.task.protocol, out=folder).to_dict()
        if report["run"]["recipe"] != asdict(replace(entry.recipe, seed=seed)):
            raise SystemExit(f"{folder} was trained by {report['run']['recipe']}; delete it, or name another --out.")
        spent = {what: sum(fold[what] for fold in folds) / 60 for what in ("seconds", "cpu_seconds_of_training")}
        return {**report, "spent": spent}


def row_of(entry: Entry, runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line of the table: what was trained how, what it scored, what baselines score on its input, what it cost."""
    recipe, rivals = entry.recipe, runs[0]["baselines"]
    pooled = [run["pooled"] for run in runs]
    how = f"{recipe.optimizer} {recipe.lr:g}, batch {recipe.batch_size}, {recipe.epochs} epochs ({entry.says})"
    return [
        f"`{entry.title}`",
        f"{runs[0]['run']['parameters']:,}",
        how + (f"; {entry.folds} groups of persons" if entry.folds else ""),
        " / ".join(f"{each['uf1']:.3f}" for each in pooled),
        *(_spread([each[score] for each in pooled]) for score in ("uf1", "uar", "accuracy")),
        f"{rivals['svm']['uf1']:.3f}",
        f"{rivals['ridge']['uf1']:.3f}",
        " / ".join(f"{run['baselines']['svm']['p']:.2f}" for run in runs),
        _minutes(runs, "cpu_seconds_of_training"),
        _minutes(runs, "seconds"),
    ]


def majority_row(run: Mapping[str, Any]) -> list[str]:
    """Always the most frequent class, on the same clips and folds."""
    found = run["baselines"]["majority"]
    scores = [f"{found[score]:.3f}" for score in ("uf1", "uf1", "uar", "accuracy")]
    return ["`majority`", "-", BASELINES["majority"].summary, *scores, *["-"] * (len(HEADER) - 7)]


HEADER = (
    *("network", "weights", "recipe", "UF1 by seed", "UF1", "UAR", "accuracy"),
    *("SVM's UF1", "ridge's UF1", "p against the SVM, by seed"),
    *("CPU minutes of training a seed", "wall minutes, folds in a row"),
)


def _spread(values: Sequence[float]) -> str:
    mean = statistics.mean(values)
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else f"{mean:.3f}"


def _minutes(runs: Sequence[Mapping[str, Any]], what: str) -> str:
    return f"{statistics.median(run['spent'][what] for run in runs):.1f}"


def table_of(desk: Desk) -> list[list[str]]:
    """A row for each network with a finished run, best first, then the baselines."""
    found = []
    for entry in desk.task.entries:
        runs = [run for seed in entry.seeds if (run := desk.facts(entry, seed)) is not None]
        if runs:
            found.append((entry, runs))
    found.sort(key=lambda pair: -statistics.mean(run["pooled"]["uf1"] for run in pair[1]))
    rows = [row_of(entry, runs) for entry, runs in found]
    whole = [runs[0] for entry, runs in found if entry.folds is None]
    return [list(HEADER), ["---"] * len(HEADER), *rows, *(majority_row(run) for run in whole[:1])]


def chosen(entries: Sequence[Entry], args: argparse.Namespace) -> list[Entry]:
    """Those that were asked for.

    Raises:
        SystemExit: If a name or a seed is none of theirs.
    """
    names = {name for entry in entries for name in (entry.model, entry.title)}
    if unknown := set(args.only or ()) - names:
        raise SystemExit(f"--only {', '.join(sorted(unknown))}; expected of {', '.join(sorted(names))}.")
    found = [entry for entry in entries if not args.only or {entry.title, entry.model} & set(args.only)]
    if args.seeds:
        found = [replace(entry, seeds=[seed for seed in args.seeds if seed in entry.seeds]) for entry in found]
        if not any(entry.seeds for entry in found):
            raise SystemExit(f"--seeds {args.seeds}; expected of {', '.join(map(str, SEEDS))}.")
    if args.epochs:
        found = [replace(entry, recipe=replace(entry.recipe, epochs=args.epochs)) for entry in found]
    return found


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("corpus", choices=("flow", "clips"))
    words.add_argument("path", type=Path, nargs="?", help="of flow: the images as published")
    words.add_argument("--only", nargs="+", help="names of networks; all if none is given")
    words.add_argument("--seeds", type=int, nargs="+", help="those of each row if none is given")
    words.add_argument("--epochs", type=int, help="other than the recipes' (to try the command)")
    words.add_argument("--jobs", type=int, default=2)
    words.add_argument("--out", type=Path, default=Path("runs/loso_scores"))
    words.add_argument("--table", action="store_true", help="train nothing")
    return words


def main() -> None:
    args = parser().parse_args()
    task = task_of(args)
    entries = chosen(task.entries, args)
    desk = Desk(replace(task, entries=entries), args.out / args.corpus, args.jobs)
    for entry in [] if args.table else entries:
        for seed in entry.seeds:
            desk.run(entry, seed)
    print("\n".join(f"| {' | '.join(row)} |" for row in table_of(desk)))


if __name__ == "__main__":
    main()
