"""Put weights into the package: python tools/ship.py NAME.TAG [--out FOLDER].

After tools/pretrain.py and tools/gates.py; those of the first seed are taken. Writes NAME.TAG.safetensors, .json and
.md into `mer_zoo/weights`; weights above 5 MB go to a folder as the Hub wants it, outside of the repository. They are
float16 if that changes no answer on new rendered persons, else float32.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from clip_pool import SEED, Pool, pool_of
from gates import SEEDS, clips_of
from pretrain import PLANS, TASKS, Plan, finished, train
from publish import FILES

import mer_zoo
from mer_zoo.cards import Result, make_card
from mer_zoo.models._builder import write_pretrained
from mer_zoo.models._weights import CARD, CONFIG, ORGANISATION, SHIPPED, WEIGHTS
from mer_zoo.training import predict

LARGEST = 5_000_000  # bytes


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("name", choices=[f"{name}.synth_{task}" for name in PLANS for task in TASKS], metavar="NAME.TAG")
    words.add_argument("--out", type=Path, default=Path("runs/pretrain"))
    words.add_argument("--to", type=Path, default=SHIPPED, help="the package's weights (%(default)s)")
    large = "where weights above 5 MB go, in a folder of their own, outside of the repository (%(default)s)"
    words.add_argument("--large", type=Path, default=Path("~/mer-zoo-weights"), help=large)
    return words


def main() -> None:
    args = parser().parse_args()
    name, _, task = args.name.partition(".synth_")
    plan = replace(PLANS[name], seed=SEEDS[0])
    pool = pool_of(plan.clips, args.out / "clips", plan.families)
    model = finished(train(plan, pool, args.out / f"{name}-seed{plan.seed}"), plan, pool, task)
    dtype, said = smallest(model, task, args.out / "cooked")
    measured = json.loads((args.out / f"{args.name}.json").read_text())
    with tempfile.TemporaryDirectory() as aside:
        write_pretrained(model, Path(aside), model.saved_facts, dtype)
        card = make_card(
            json.loads((Path(aside) / CONFIG).read_text()),
            repo=f"{ORGANISATION}/{args.name}",
            results=[Result(**values) for values in measured["tests"]],
            training=story(plan, pool, args.name, model.input_spec.kind, said),
            limits=limits(model.input_spec.kind) + tuning_table([Result(**values) for values in measured["tuning"]]),
        )
        print(place(Path(aside), card, args.name, args.to, args.large.expanduser()))


def smallest(model: Any, task: str, cache: Path) -> tuple[torch.dtype, str]:
    """Half precision if no answer changes by it; with what was found."""
    data = clips_of("default-head", task, model.input_spec, cache)
    half = mer_zoo.create_model(model.pretrained_cfg["architecture"], num_classes=model.num_classes)
    half.load_state_dict({key: v.half() if v.is_floating_point() else v for key, v in model.state_dict().items()})
    half.input_spec = model.input_spec
    before, after = predict(model, data), predict(half, data)
    same = (
        bool(((before > 0.5) == (after > 0.5)).all())
        if data.many
        else bool((before.argmax(1) == after.argmax(1)).all())
    )
    change = float((before - after).abs().max())
    if not same:
        return torch.float32, f"Stored as float32: float16 would change answers, probabilities by up to {change:.1e}."
    return (
        torch.float16,
        f"Stored as float16: no answer on {len(data)} clips changes, probabilities by {change:.1e} at most.",
    )


def story(plan: Plan, pool: Pool, name: str, kind: str, said: str) -> str:
    """How the weights were made."""
    tasks = {"3": "three classes", "5": "five classes", "au": "twelve action units"}
    speed, families = ", speed" if kind != "flow" else "", " and ".join(plan.families)
    return (
        f"{sum(preset in plan.presets for preset in pool.presets):,} clips of the corpus `synthetic` (families "
        f"{families}; presets {', '.join(plan.presets)}; seeds from {SEED} up). Tasks, all at once: "
        f"{', '.join(tasks[task] for task in plan.tasks)}. {plan.epochs} epochs, batches of {plan.batch_size}, AdamW, "
        f"cosine schedule from {plan.lr:g}, a moving average of weights over about {plan.average:.0%} of all steps; "
        f"flips, shifts, noise{speed}. Seed {plan.seed}, settled beforehand. Again: "
        f"`python tools/pretrain.py {name}`. {said}"
    )


def limits(kind: str) -> str:
    """What the results do not say."""
    made_up = (
        "Scores on rendered faces say how well the network solves the generator's own task, and nothing about real "
        "faces. Labels are tables of action units, not felt emotions."
    )
    if kind != "flow":
        return f"{made_up} **Not evaluated on real micro-expressions**: no real clips were at hand."
    return (
        f"{made_up} The real flow images are those that STSTNet's authors publish, without SAMM, which was not at "
        "hand; no shipped weight was trained on them. Which clips the network learns from (those of the preset "
        "`default`) was settled after looking at zero-shot scores of several plans on them: docs/pretraining.md lists "
        "all. On 40 persons the interval of UF1 is about 0.09 to either side."
    )


def tuning_table(results: Sequence[Result]) -> str:
    """What the weights add on real persons: a row for each number of persons, a column for each start and rate."""
    if not results:
        return ""
    columns = list(dict.fromkeys(r.tested for r in results))
    cells = {(r.dataset, r.tested): f"{mean(r.scores['UF1']):.3f} ± {stdev(r.scores['UF1']):.3f}" for r in results}
    rows = [["learnt from", *columns], ["---"] * (1 + len(columns))]
    rows += [[n, *(cells[n, column] for column in columns)] for n in dict.fromkeys(r.dataset for r in results)]
    return (
        "\n\n## What they add on real persons\n\nUF1 on the flow images of SMIC and CASME II, mean and standard "
        "deviation over three seeds: in five parts, the persons of each are predicted after learning from so many of "
        "the others (32 are all), 60 epochs from either start.\n\n"
        + "\n".join(f"| {' | '.join(row)} |" for row in rows)
    )


def place(folder: Path, card: str, name: str, package: Path, large: Path) -> str:
    """Copy weights, configuration and card to where they belong; gives a line that says where.

    Configuration and card of weights that are too large are in the package, too: so their tag exists, and leads to the
    Hub once they are published.
    """
    size = (folder / WEIGHTS).stat().st_size
    (folder / CARD).write_text(card, encoding="utf-8")
    shipped = {there: f"{name}{suffix}" for suffix, there in FILES.items()}
    if size > LARGEST:
        shutil.copytree(folder, large / name, dirs_exist_ok=True)
        del shipped[WEIGHTS]
    package.mkdir(exist_ok=True)
    for source, there in shipped.items():
        shutil.copyfile(folder / source, package / f"{there}.tmp")
        (package / f"{there}.tmp").replace(package / there)
    if size > LARGEST:
        return f"{name}: {size / 1e6:.1f} MB, too large for the package: {large / name}. Publish by tools/publish.py."
    return f"{name}: {size / 1e3:.0f} kB in {package}"


if __name__ == "__main__":
    main()
