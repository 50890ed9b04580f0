"""What each network costs on this machine: python benchmarks/models.py [NAME ...] [--rounds 5] [--write].

First table: weights, GFLOP, clips a CPU second for inference and training with batches of 1 and 16, peak memory of a
training step with Adam; one thread, medians of rounds. Second table: others in turn with ours within one run, that is a
straightforward port of the same function with the same weights (`ports_first.py`, `ports_flow.py`, `ports_clips.py`),
MONAI's DenseNet121 (`pip install --no-deps monai`), and what ours wrap of torchvision and timm. What would take more
than --seconds a call, or --gigabytes, is left out, "-". --write keeps the numbers in models.json, from which
`python tools/tables.py` makes the tables of docs/models.md.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from typing import Any

import ports_clips
import ports_first
import ports_flow
import timm
import torch
import torch.nn.functional as F
import torchvision
from cost_tables import BATCHES, PASSES, RECORD, recorded, table_of_costs, table_of_rivals
from memory import Peak
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

import mer_zoo
from mer_zoo.cost import step_cost
from mer_zoo.models.from_timm import TimmNetwork
from mer_zoo.models.torchvision_video import VideoNetwork

SAMPLE = 0.1  # CPU seconds that a sample takes at least
PORTS: Mapping[str, Callable[[nn.Module], nn.Module]] = {
    **ports_first.PORTS,
    **ports_flow.PORTS,
    **ports_clips.PORTS,
}


@dataclass(frozen=True)
class Limits:
    """How often, how long and how much."""

    rounds: int
    seconds: float
    bytes: float


def monai_densenet(_: nn.Module) -> nn.Module:
    """MONAI's DenseNet121, its pools told to keep a last frame that has no second."""
    from monai.networks.nets.densenet import DenseNet121  # not among what the project installs

    network: nn.Module = DenseNet121(spatial_dims=3, in_channels=1, out_channels=3)
    for module in network.modules():
        if isinstance(module, nn.AvgPool3d):
            module.ceil_mode = True
    return network


class Original(nn.Module):
    """The network of torchvision or timm that one of ours wraps, behind the mean and deviation that ours has within."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        if isinstance(ours, VideoNetwork):
            self.network = torchvision.models.get_model(ours.original, num_classes=3)
        else:
            self.network = timm.create_model(ours.backbone.pretrained_cfg["architecture"], num_classes=3)
        for layer in self.network.modules():
            if isinstance(layer, StochasticDepth):
                layer.p = 0.0  # as ours
        mean, std = ours.normalise.mean, ours.normalise.std
        shape = (-1, *[1] * (len(ours.input_spec.shape) - 1))
        self.mean, self.std = mean.view(shape), std.view(shape)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits


def rivals(name: str, ours: nn.Module) -> dict[str, Callable[[nn.Module], nn.Module]]:
    """What a network is compared with."""
    found = {"straightforward port": PORTS[name]} if name in PORTS else {}
    if name == "dat_densenet3d_121":
        found["MONAI DenseNet121"] = monai_densenet
    if isinstance(ours, VideoNetwork | TimmNetwork):
        found["torchvision" if isinstance(ours, VideoNetwork) else "timm"] = Original
    return found


def one_pass(model: nn.Module, x: Tensor, training: bool) -> Callable[[], None]:
    """Inference, or a step with Adam, over a batch."""
    model.train(training)
    if not training:

        @torch.no_grad()
        def infer() -> None:
            model(x)

        return infer
    y = torch.randint(3, (len(x),))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def batch_of(name: str, size: int) -> Tensor:
    spec = mer_zoo.input_spec(name)
    return spec.low + torch.rand(size, *spec.shape) * (spec.high - spec.low)


def seconds(run: Callable[[], None], times: int = 1) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - started) / times


def speed(name: str, limits: Limits) -> dict[str, Any]:
    """Seconds of each pass with each batch, of ours and of others; None where a limit forbids it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours = mer_zoo.create_model(name)
    forms = {"ours": ours, **{title: make(ours) for title, make in rivals(name, ours).items()}}
    cost = step_cost(partial(mer_zoo.create_model, name))
    found: dict[str, dict[str, list[float]] | None] = {}
    for what in PASSES:
        last = 0.0
        for size in BATCHES:
            need = cost.training_bytes(size) if what == "training" else 4 * cost.parameters
            if need > limits.bytes or last * size > limits.seconds:
                found[f"{what} {size}"] = None
                continue
            x = batch_of(name, size)
            runs = {title: one_pass(form, x, what == "training") for title, form in forms.items()}
            found[f"{what} {size}"] = times = timed(runs, limits)
            last = statistics.median(times["ours"])
    return {"cost": asdict(cost), "seconds": found, "torch": torch.__version__, "day": f"{date.today()}"}


def timed(runs: Mapping[str, Callable[[], None]], limits: Limits) -> dict[str, list[float]]:
    """Seconds of each round, in turn, after one to warm up; as many rounds as the limit lasts for, at least one."""
    first = {title: seconds(run) for title, run in runs.items()}
    quick = sum(first.values()) < limits.seconds / 4
    warm = {title: seconds(run) for title, run in runs.items()} if quick else first
    times = {title: max(1, round(SAMPLE / took)) for title, took in warm.items()}
    rounds = limits.rounds if quick else 1
    samples = [{title: seconds(run, times[title]) for title, run in runs.items()} for _ in range(rounds)]
    return {title: [sample[title] for sample in samples] for title in runs}


def peak(name: str, size: int) -> int:
    """Bytes that a step with Adam adds to the most that this process has held."""
    torch.set_num_threads(1)
    with Peak() as found:
        one_pass(mer_zoo.create_model(name), batch_of(name, size), training=True)()
    return found.bytes


def measured(name: str, limits: Limits) -> dict[str, Any]:
    """All of one network, each part in a process of its own."""
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        found = pool.apply(speed, (name, limits))
        size = max((n for n in BATCHES if found["seconds"][f"training {n}"]), default=None)
        found["peak"] = None if size is None else {"batch": size, "bytes": pool.apply(peak, (name, size))}
    return found


def _rounded(value: Any) -> Any:
    """Seconds to four digits: more are noise."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [float(f"{each:.4g}") for each in value]
    return value


def _count_anew() -> None:
    record = recorded()
    for name, found in record.items():
        found["cost"] = asdict(step_cost(partial(mer_zoo.create_model, name)))
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("names", nargs="*", metavar="NAME", help="all if none is given")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--seconds", type=float, default=20)
    words.add_argument("--gigabytes", type=float, default=6)
    words.add_argument("--write", action="store_true")
    words.add_argument("--counts", action="store_true", help="measure nothing, count anew what is in models.json")
    return words


def main() -> None:
    args = parser().parse_args()
    if args.counts:
        _count_anew()
        return
    limits = Limits(args.rounds, args.seconds, args.gigabytes * 2**30)
    found: dict[str, Any] = {}
    for name in args.names or mer_zoo.list_models():
        found[name] = measured(name, limits)
        print(f"{name}: {json.dumps(found[name]['seconds'])}", flush=True)
        if args.write:
            kept = {n: facts for n, facts in recorded().items() if n in mer_zoo.list_models()}
            RECORD.write_text(json.dumps(_rounded({**kept, name: found[name]}), indent=1, sort_keys=True) + "\n")
    for table in (table_of_costs(found), table_of_rivals(found)):
        print("\n".join(f"| {' | '.join(row)} |" for row in table), end="\n\n")


if __name__ == "__main__":
    main()
