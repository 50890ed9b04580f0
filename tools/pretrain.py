"""Learn weights from rendered clips: python tools/pretrain.py NAME.TAG [--seed 0] [--out FOLDER].

One network learns three things at once from each clip, as far as they are known of it: which of three classes, which
of five, and which of twelve action units (tags `synth_3`, `synth_5`, `synth_au`). Clips come from two families of
faces and three presets, hard ones later; they are flipped, shifted, made slower, faster and noisier. AdamW, a cosine
schedule, and an exponential moving average of the weights, which is what is kept. A run that was stopped goes on
after its last finished epoch and gives the same weights as one that was not.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from clip_pool import FAMILIES, PROTOCOLS, UNKNOWN, Pool, pool_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import mer_zoo
from mer_zoo.augmentation import Augmentation
from mer_zoo.bf16 import whole_kernels
from mer_zoo.preprocessing.forms import cook_flow
from mer_zoo.recipe import Precision
from mer_zoo.types import InputSpec

TASKS = ("3", "5", "au")
WEIGHTS = {"3": 1.0, "5": 1.0, "au": 4.0}  # of the losses: a mean over twelve units, most of them absent, is small
NOISE = 1.5  # grey levels, the greatest standard deviation added to frames
FLOW_NOISE = 0.05  # the same for flow images, a share of their range


@dataclass(frozen=True)
class Plan:
    """All that a run depends on."""

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)  # what differs from the registered input
    tasks: tuple[str, ...] = TASKS
    clips: int = 10_800
    families: tuple[str, ...] = FAMILIES
    epochs: int = 12
    batch_size: int = 16
    lr: float = 3e-3
    weight_decay: float = 0.01
    average: float = 0.05  # share of all steps over which weights are averaged
    presets: tuple[str, ...] = ("easy", "default", "hard")
    easy_first: float = 0.25  # share of the epochs without hard clips
    shift: int = 3
    precision: Precision = "bf16"
    seed: int = 0


PLANS = {
    "dat_densenet3d": Plan("dat_densenet3d"),
    "ststnet": Plan(
        "ststnet",
        spec={"flow_method": "dis"},
        presets=("default",),
        clips=18_000,  # of which three fifths are of this preset
        epochs=20,
        batch_size=64,
        lr=2e-3,
        shift=2,
        precision="no",
    ),
}


class Heads(nn.Module):
    """A network without its last layer, and one last layer for each task: a batch to logits by task."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        trunk: Any = mer_zoo.create_model(plan.model, num_classes=0, **plan.options)
        self.spec = trunk.input_spec = replace(mer_zoo.input_spec(trunk), **plan.spec)
        self.trunk, width = trunk, trunk.num_features
        self.heads = nn.ModuleDict({task: nn.Linear(width, len(PROTOCOLS[task].classes)) for task in plan.tasks})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.trunk(x)
        return {task: head(features) for task, head in self.heads.items()}


class Inputs:
    """What a network eats, batch by batch: flow is cooked once, frames become clips or differences as they come."""

    def __init__(self, plan: Plan, pool: Pool, spec: InputSpec) -> None:
        self.spec = spec
        self.changed = Augmentation(mer_zoo.Recipe(flip=True, shift=plan.shift), spec)
        if spec.kind == "flow":
            pairs = zip(pool.clips(), pool.apexes, strict=True)
            self.stock = torch.from_numpy(np.stack([cook_flow(clip[0], clip[apex], spec) for clip, apex in pairs]))
        else:
            self.stock = torch.from_numpy(np.concatenate(pool.shards))

    def batch(self, positions: Tensor, device: torch.device) -> Tensor:
        """These clips, each one changed a little: (B, *spec.shape)."""
        x, spec = self.stock[positions].to(device), self.spec
        if spec.kind == "flow":
            x = noisy(x, FLOW_NOISE * (spec.high - spec.low)).clamp(spec.low, spec.high)
        else:
            x = scaled(noisy(warped(x.float()), NOISE), spec)
        return self.changed(x)


def noisy(x: Tensor, most: float) -> Tensor:
    """Each clip of (B, …) with Gaussian noise of a standard deviation of its own, up to ``most``."""
    deviation = most * torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device)
    return x + deviation * torch.randn_like(x)


def warped(frames: Tensor) -> Tensor:
    """Each clip slower or faster by up to a quarter, the last frame repeated: (B, T, H, W) -> the same."""
    last = frames.shape[1] - 1
    speed = 0.75 + 0.5 * torch.rand(len(frames), 1, device=frames.device)
    at = (speed * torch.arange(last + 1, device=frames.device)).clamp(max=last)
    before = at.floor().long()
    rows = torch.arange(len(frames), device=frames.device)[:, None]
    share = (at - before)[:, :, None, None]
    return frames[rows, before].lerp(frames[rows, (before + 1).clamp(max=last)], share)


def scaled(frames: Tensor, spec: InputSpec) -> Tensor:
    """Grey levels 0..255, (B, T, H, W), as the spec says, frames or differences from the first: (B, 1, T, H, W)."""
    if spec.kind == "difference":
        return ((frames - frames[:, :1]) * (spec.gain / 255)).clamp(spec.low, spec.high)[:, None]
    return (spec.low + frames.clamp(0, 255) * ((spec.high - spec.low) / 255))[:, None]


def train(plan: Plan, pool: Pool, folder: Path, device: str = "cpu") -> Heads:
    """The averaged network after all epochs; what the folder holds of this run is gone on from."""
    torch.manual_seed(plan.seed)
    model = Heads(plan).to(device)
    batches = [_batches(plan, pool, epoch) for epoch in range(plan.epochs)]
    total = sum(map(len, batches))
    decay = 1 - 1 / max(1, plan.average * total)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
    done = _resume(plan, average, model, optimizer, folder)
    if done == plan.epochs:
        return _averaged(average)
    inputs = Inputs(plan, pool, model.spec)
    for epoch in range(done, plan.epochs):
        torch.manual_seed(plan.seed * 1000 + epoch)
        before, started, losses = sum(map(len, batches[:epoch])), time.process_time(), []
        for i, batch in enumerate(batches[epoch]):
            _set_rate(optimizer, plan.lr, (before + i) / total)
            x = inputs.batch(batch, torch.device(device))
            losses.append(_step(model, optimizer, plan, x, {task: pool.targets[task][batch] for task in plan.tasks}))
            average.update_parameters(model)
        _keep(plan, average, model, optimizer, epoch + 1, folder)
        seconds = time.process_time() - started
        print(
            f"{folder}: epoch {epoch + 1} of {plan.epochs}, loss {np.mean(losses):.3f}, {seconds:.0f} CPU s", flush=True
        )
    return _averaged(average)


def _averaged(average: AveragedModel) -> Heads:
    module: Any = average.module
    return cast(Heads, module.eval())


def _batches(plan: Plan, pool: Pool, epoch: int) -> list[Tensor]:
    """Positions in random order, without a remainder; in the first epochs hard clips are left out."""
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(plan.seed * 1000 + epoch))
    now = set(plan.presets) - ({"hard"} if epoch < plan.easy_first * plan.epochs else set())
    order = order[torch.tensor([preset in now for preset in pool.presets])[order]]
    return list(order[: len(order) - len(order) % plan.batch_size].split(plan.batch_size))


def _set_rate(optimizer: torch.optim.Optimizer, highest: float, share: float) -> None:
    """Up over the first tenth of all steps, then down along a cosine."""
    rate = share / 0.1 if share < 0.1 else (1 + math.cos(math.pi * (share - 0.1) / 0.9)) / 2
    for group in optimizer.param_groups:
        group["lr"] = highest * rate


def _step(model: Heads, optimizer: torch.optim.Optimizer, plan: Plan, x: Tensor, targets: dict[str, Tensor]) -> float:
    rough = torch.autocast(x.device.type, torch.bfloat16, enabled=plan.precision == "bf16")
    with rough, whole_kernels(model, plan.precision, x.device):
        logits = model(x)
    parts = [WEIGHTS[task] * _loss(logits[task].float(), targets[task].to(x.device)) for task in plan.tasks]
    loss = torch.stack(parts).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def _loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the clips that have a target; nought if none has."""
    if target.ndim == 2:
        return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))
    known = (target != UNKNOWN).sum().clamp(min=1)
    return F.cross_entropy(logits, target, ignore_index=UNKNOWN, reduction="sum") / known


def _keep(
    plan: Plan, average: nn.Module, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, folder: Path
) -> None:
    """Write everything that the next epoch needs; a half-written file never has the name of a whole one."""
    moments = {
        f"optimizer.{i}.{name}": value
        for i, part in optimizer.state_dict()["state"].items()
        for name, value in part.items()
    }
    parts = {"average": average, "model": model}
    state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"state.{os.getpid()}.tmp"
    said = {"plan": json.dumps(asdict(plan)), "epoch": str(epoch)}
    save_file({key: value.contiguous() for key, value in {**state, **moments}.items()}, temporary, metadata=said)
    temporary.replace(folder / "state.safetensors")


def _resume(plan: Plan, average: nn.Module, model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> int:
    """Load what was kept; gives the number of epochs done."""
    file = folder / "state.safetensors"
    if not file.exists():
        return 0
    with safe_open(file, framework="pt") as saved:
        said = saved.metadata()
    if json.loads(said["plan"]) != json.loads(json.dumps(asdict(plan))):
        raise SystemExit(f"{folder} holds a run of another plan: {said['plan']}. Name another folder by --out.")
    state = load_file(file)
    for name, part in (("average", average), ("model", model)):
        part.load_state_dict({k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for key in (key for key in state if key.startswith("optimizer.")):
        _, i, name = key.split(".")
        moments.setdefault(int(i), {})[name] = state[key]
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(said["epoch"])


def finished(heads: Heads, plan: Plan, pool: Pool, task: str) -> Any:
    """A registered model for one task, which knows what it has seen."""
    protocol = PROTOCOLS[task]
    model: Any = mer_zoo.create_model(plan.model, num_classes=len(protocol.classes), **plan.options)
    model.input_spec = heads.spec
    state = heads.trunk.state_dict()
    last = {f"fc.{name}": value for name, value in heads.heads[task].state_dict().items()}
    model.load_state_dict({**state, **last})
    model.saved_facts = {"classes": list(protocol.classes), "trained_on": pool.persons}
    return model.eval()


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("name", metavar="NAME.TAG", help=", ".join(f"{m}.synth_{t}" for m in PLANS for t in TASKS))
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--clips", type=int)
    words.add_argument("--epochs", type=int)
    words.add_argument("--jobs", type=int, default=2, help="processes that render")
    words.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    words.add_argument("--out", type=Path, default=Path("runs/pretrain"))
    return words


def main() -> None:
    args = parser().parse_args()
    name, _, tag = args.name.partition(".synth_")
    if name not in PLANS or tag not in TASKS:
        parser().error(f"{args.name} is none of {', '.join(f'{m}.synth_{t}' for m in PLANS for t in TASKS)}")
    given = {key: value for key in ("clips", "epochs") if (value := getattr(args, key)) is not None}
    plan = replace(PLANS[name], seed=args.seed, **given)
    pool = pool_of(plan.clips, args.out / "clips", plan.families, args.jobs)
    heads = train(plan, pool, args.out / f"{name}-seed{args.seed}", args.device)
    model = finished(heads.cpu(), plan, pool, tag)
    folder = mer_zoo.save_pretrained(model, args.out / f"{args.name}-seed{args.seed}")
    print(f"Wrote {folder}")


if __name__ == "__main__":
    main()
