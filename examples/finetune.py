"""Fine-tune a small network and see what it is worth: python examples/finetune.py.

It learns on rendered persons first, is tuned on others, and is scored on each person it has not seen, beside the same
network tuned alike from scratch. By default the others are rendered, too, and the scores say nothing about real
faces; with `--flow PATH` they are SMIC, CASME II and SAMM in the flow images that STSTNet's authors publish.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import mer_zoo

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--flow", type=Path, help="the flow images of MEGC 2019, as published")
parser.add_argument("--epochs", type=int, default=15, help="of fine-tuning and of training from scratch")
parser.add_argument("--jobs", type=int, default=2, help="folds side by side")
parser.add_argument("--out", type=Path, default=Path("runs/finetune"))
args = parser.parse_args()


def from_scratch() -> Any:
    """A fresh network. It eats flow by DIS, which carries over to real flow better than TV-L1; docs/synthetic.md."""
    model: Any = mer_zoo.create_model("ststnet", num_classes=3)
    model.input_spec = replace(mer_zoo.input_spec(model), flow_method="dis")
    return model


# 1. Learn on 40 persons who exist only as numbers, and keep the weights with what they eat.
torch.manual_seed(0)
model = from_scratch()
persons = mer_zoo.open_corpus("synthetic", subjects=40, clips_per_subject=9, seed=1)
protocol = mer_zoo.get_protocol("synthetic-3")
data = mer_zoo.create_dataset(protocol, {"synthetic": persons}, mer_zoo.input_spec(model))
print(f"1. Learning on {len(data)} clips of {len(set(data.persons))} rendered persons …")
mer_zoo.training.fit(model, data, mer_zoo.Recipe(epochs=30, lr=2e-3, schedule="cosine", flip=True))
weights = mer_zoo.save_pretrained(model, args.out / "pretrained", classes=protocol.classes)

# 2. The persons to be tuned on and scored: leave one out, tune on the others, predict the one.
if args.flow:
    protocol, roots = mer_zoo.get_protocol("megc2019"), {"megc2019_flow": args.flow}
else:
    roots = {"synthetic": mer_zoo.open_corpus("synthetic", subjects=10, clips_per_subject=6, seed=2)}
recipe = mer_zoo.Recipe(epochs=args.epochs, lr=5e-4, flip=True)
lines = ["| start | UF1 | UAR | accuracy | 95 % interval of UF1 |", "|---|---|---|---|---|"]
builds: dict[str, Any] = {"from scratch": from_scratch, "fine-tuned": f"local-dir:{weights}"}
for name, build in builds.items():
    print(f"2. {protocol.name}, {name}:")
    table = mer_zoo.evaluate(build, protocol, roots, recipe=recipe, jobs=args.jobs)
    report = mer_zoo.report(table, protocol, out=args.out / name.replace(" ", "-"))
    low, high = report.interval
    lines.append(f"| {name} | {report.uf1:.3f} | {report.uar:.3f} | {report.accuracy:.3f} | {low:.3f} to {high:.3f} |")

# 3. One table, and where everything is.
print("\n".join(["", *lines, "", f"Weights: {weights}. Reports and predictions: {args.out}."]))
