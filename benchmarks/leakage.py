"""The same network, four numbers: python benchmarks/leakage.py [--flow PATH] [--jobs 2].

STSTNet under each selection rule, three seeds, on rendered persons and, with --flow, on the flow images that STSTNet's
authors publish, in any form that `megc2019_flow` reads. Epochs, batch and learning rate were fixed before any score was
seen. Prints the tables of docs/leakage.md and draws its figure; runs are kept in --out, so that a second call goes on
where the first stopped.
"""

import argparse
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import mer_zoo
from mer_zoo.figures import save
from mer_zoo.null_model import null_score
from mer_zoo.rules import RULES

RECIPE = mer_zoo.Recipe(epochs=60, batch_size=256, lr=1e-3, optimizer="adam")
HONEST, LEAKY, NULL, SVM = "#0072B2", "#D55E00", "#999999", "#009E73"  # of Okabe and Ito


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--flow", type=Path, help="the flow images of MEGC 2019, as published")
    words.add_argument("--persons", type=int, default=16, help="rendered ones (%(default)s)")
    words.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    words.add_argument("--jobs", type=int, default=2)
    words.add_argument("--out", type=Path, default=Path("runs/leakage"))
    words.add_argument("--figure", type=Path, default=Path("docs"), help="folder of leakage.png and leakage.svg")
    return words


def main() -> None:
    args = parser().parse_args()
    rendered = {"synthetic": mer_zoo.open_corpus("synthetic", subjects=args.persons, clips_per_subject=9)}
    tasks: dict[str, tuple[str, dict[str, Any]]] = {"rendered persons": ("synthetic-3", rendered)}
    if args.flow:
        tasks["real flow, SMIC and CASME II"] = ("megc2019", {"megc2019_flow": args.flow})
    panels = {}
    for title, (protocol, roots) in tasks.items():
        tables = {rule: [evaluate(protocol, roots, rule, seed, args) for seed in args.seeds] for rule in RULES}
        panels[title] = scores_of(tables, protocol)
        print(f"\n{title}: {len(tables['last'][0])} clips, UF1 of seeds {args.seeds}\n")
        print_table(panels[title])
    figure = draw(panels)
    save({"leakage": figure}, args.figure)


def build() -> Any:
    """STSTNet for flow by DIS, which is quick to compute of rendered frames."""
    model: Any = mer_zoo.create_model("ststnet")
    model.input_spec = replace(mer_zoo.input_spec(model), flow_method="dis")
    return model


def evaluate(protocol: str, roots: Mapping[str, Any], rule: str, seed: int, args: argparse.Namespace) -> pd.DataFrame:
    out = args.out / protocol / f"{rule}-{seed}"
    print(f"{protocol}, {rule}, seed {seed}", flush=True)
    return mer_zoo.evaluate(
        *(build, protocol, roots),
        recipe=replace(RECIPE, seed=seed),
        selection=rule,
        jobs=args.jobs,
        out=out,
        cache=args.out / "cache",
        i_know_this_leaks=bool(RULES[rule].leak),
    )


def scores_of(tables: Mapping[str, list[pd.DataFrame]], protocol: str) -> dict[str, dict[str, Any]]:
    """For each rule UF1 of every seed, of the support-vector machine on the same folds, and of guessing."""
    found = {}
    for rule, runs in tables.items():
        reports = [mer_zoo.report(table, protocol) for table in runs]
        classes = mer_zoo.get_protocol(protocol).classes
        guess = {epochs: null_score(runs[0], classes, rule, epochs).uf1 for epochs in (RECIPE.epochs, 800)}
        found[rule] = {
            "network": [report.uf1 for report in reports],
            "svm": [mer_zoo.metrics.uf1(report.rivals["svm"].sum(axis=0)) for report in reports],
            "guess": guess,
        }
    return found


def print_table(rules: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"| rule | seeds | mean | svm, same folds | guessing, {RECIPE.epochs} epochs | guessing, 800 epochs |")
    print("|---|---|---|---|---|---|")
    for rule, scores in rules.items():
        seeds = " / ".join(f"{value:.3f}" for value in scores["network"])
        mean, svm = statistics.mean(scores["network"]), statistics.mean(scores["svm"])
        guess = " | ".join(f"{value:.3f}" for value in scores["guess"].values())
        leak = f" ({RULES[rule].leak})" if RULES[rule].leak else ""
        print(f"| `{rule}`{leak} | {seeds} | {mean:.3f} | {svm:.3f} | {guess} |")


def draw(panels: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Figure:
    """One panel a corpus, one column a rule: a dot for each seed, and marks for what knows little or nothing."""
    figure = Figure(figsize=(4.6 * len(panels), 4.2), layout="constrained")
    for axes, (title, rules) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for place, (rule, scores) in enumerate(rules.items()):
            _column(axes, place, scores, LEAKY if RULES[rule].leak else HONEST)
        axes.set_title(title, fontsize=11)
        axes.set_xticks(range(len(rules)), [rule.replace("_", "\n").replace("-", "-\n") for rule in rules])
        axes.set(ylim=(0, 1.02), xlim=(-0.5, len(rules) - 0.5), ylabel="UF1")
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    figure.suptitle("One network, four rules; orange: chosen on test subjects, no result", fontsize=12)
    return figure


def _column(axes: Axes, place: int, scores: Mapping[str, Any], colour: str) -> None:
    first = place == 0
    places = [place - 0.12 + 0.12 * i for i in range(len(scores["network"]))]
    axes.scatter(
        places, scores["network"], s=45, color=colour, zorder=3, label="STSTNet, a dot a seed" if first else "_"
    )
    label = "support-vector machine, same folds" if first else "_"
    svm = statistics.mean(scores["svm"])
    axes.hlines(svm, place - 0.3, place + 0.3, color=SVM, linestyle="--", label=label)
    label = f"guessing, best of {RECIPE.epochs} epochs where the rule allows" if first else "_"
    axes.bar(place, scores["guess"][RECIPE.epochs], width=0.6, color=NULL, alpha=0.45, label=label)


if __name__ == "__main__":
    main()
