"""Fine-tune pretrained weights, and see what they are worth: python examples/finetune.py.

A network that has learnt from rendered persons is tuned on one corpus and scored on each person it has not seen,
beside the same network trained from scratch with the same budget. Without arguments the corpus is rendered, too, and
the scores say nothing about real faces. On your own copy: --corpus casme2 --root FOLDER.
"""

import argparse
from pathlib import Path
from typing import Any

import mer_zoo

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--corpus", default="synthetic", help="as `mer-zoo corpora` lists them (%(default)s)")
parser.add_argument("--root", type=Path, help="its folder, as its owners' archive makes it")
parser.add_argument("--protocol", help="as `mer-zoo protocols` lists them (three classes, CORPUS-3)")
parser.add_argument("--weights", default="ststnet.synth_3", help="as `mer-zoo models` lists them (%(default)s)")
parser.add_argument("--epochs", type=int, default=15, help="of fine-tuning and of training from scratch (%(default)s)")
parser.add_argument("--jobs", type=int, default=2, help="folds side by side (%(default)s)")
parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
parser.add_argument("--out", type=Path, default=Path("runs/finetune"))
args = parser.parse_args()
if not set(args.weights) & set(".:"):
    parser.error(f"--weights {args.weights} is a network without weights; name a tag, such as ststnet.synth_3")

# 1. Whose clips, and which classes: each person is left out in turn.
composite = {"megc2019_flow": "megc2019"}
protocol = mer_zoo.get_protocol(args.protocol or composite.get(args.corpus, f"{args.corpus}-3"))
rendered = args.corpus == "synthetic" and not args.root
made = {"subjects": 10, "clips_per_subject": 6, "seed": 2, **protocol.made.get("synthetic", {})} if rendered else {}
roots = {args.corpus: mer_zoo.open_corpus(args.corpus, args.root, **made)}


# 2. Two starts: the weights, and the same network with none, eating what the weights eat.
def from_scratch() -> Any:
    return mer_zoo.create_model(args.weights, num_classes=len(protocol.classes))


# 3. The same recipe for both; a finished run is kept, and a second call goes on where the first stopped.
recipe = mer_zoo.Recipe(epochs=args.epochs, lr=5e-4, flip=True, balanced=True)
how: dict[str, Any] = {"recipe": recipe, "jobs": args.jobs, "device": args.device, "cache": args.out / "cache"}
lines = ["| start | UF1 | UAR | accuracy | 95 % interval of UF1 |", "|---|---|---|---|---|"]
starts: dict[str, Any] = {"from scratch": from_scratch, "fine-tuned": args.weights}
for name, build in starts.items():
    out = args.out / f"{protocol.name}-{name.replace(' ', '-')}"
    print(f"{protocol.name}, {name}:")
    table = mer_zoo.evaluate(build, protocol, roots, out=out, keep_weights=True, **how)
    report = mer_zoo.report(table, protocol, out=out)
    low, high = report.interval
    interval = f"{low:.3f} to {high:.3f}".replace("nan to nan", "too few persons")
    lines.append(f"| {name} | {report.uf1:.3f} | {report.uar:.3f} | {report.accuracy:.3f} | {interval} |")

# 4. One table, and where everything is.
print("\n".join(["", *lines, "", f"Reports, predictions and the weights of each fold: {args.out}."]))
