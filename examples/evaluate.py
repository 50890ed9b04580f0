"""Evaluate a network on SMIC, CASME II and SAMM: python examples/evaluate.py --smic DIR --casme2 DIR --samm DIR.

Each person is left out in turn. With all three corpora it is the composite of MEGC 2019; with fewer, each is scored by
its three classes; with none, rendered persons stand in, and the scores say nothing about real faces. --device cuda
trains on a GPU.
"""

import argparse
from pathlib import Path
from typing import Any

import mer_zoo

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for corpus in ("smic", "casme2", "samm"):
    parser.add_argument(f"--{corpus}", type=Path, metavar="DIR", help="its folder, as its owners' archive makes it")
parser.add_argument("--model", default="ststnet.synth_3", help="a name; with a tag its weights are tuned (%(default)s)")
parser.add_argument("--epochs", type=int, default=30, help="in each fold (%(default)s)")
parser.add_argument("--jobs", type=int, default=2, help="folds side by side (%(default)s)")
parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
parser.add_argument("--out", type=Path, default=Path("runs/evaluate"))
args = parser.parse_args()

# 1. What is there decides what is scored.
folders = {corpus: folder for corpus in ("smic", "casme2", "samm") if (folder := getattr(args, corpus))}
runs: dict[str, Any] = {f"{corpus}-3": {corpus: folder} for corpus, folder in folders.items()}
if len(folders) == 3:
    runs = {"megc2019": folders}
elif not folders:
    persons = mer_zoo.open_corpus("synthetic", subjects=10, clips_per_subject=6, seed=2)
    runs = {"synthetic-3": {"synthetic": persons}}

# 2. One run each: a fresh network for every person, trained on the others.
recipe = mer_zoo.Recipe(epochs=args.epochs, lr=1e-3, flip=True)
for protocol, roots in runs.items():
    out = args.out / f"{args.model.replace('/', '-').replace(':', '-')}-{protocol}"
    table = mer_zoo.evaluate(
        args.model,
        protocol,
        roots,
        recipe=recipe,
        jobs=args.jobs,
        device=args.device,
        out=out,
        cache=args.out / "cache",
    )
    print(mer_zoo.report(table, protocol, out=out).to_markdown())
    print(f"Report, figures and predictions: {out}\n")
