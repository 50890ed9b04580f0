"""What the fast forms of the networks gain: python benchmarks/model_speed.py [--rounds 7].

Each network against the plain form of the same function, in turn within one run, one thread, CPU time of a training
step, medians. Plain: `dat_densenet3d_se` with padding copied before the pool, ReLU before it and channels first;
`ststnet` with three streams one after the other, as its authors publish it. Checks first that both give the same
logits.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mer_zoo


class PlainStem(nn.Module):
    """The stem written as Keras computes it: normalise, rectify, pad with a copy, pool."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = stem.get_submodule("conv"), stem.get_submodule("norm")

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(F.pad(x, (0, 1) * 3))).relu()
        return F.max_pool3d(F.pad(x, (0, 1) * 3), kernel_size=3, stride=2)


class PlainStreams(nn.Module):
    """STSTNet's three streams one after the other."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(
                model.get_submodule(f"conv{i}"),
                nn.ReLU(),
                model.get_submodule(f"bn{i}"),
                nn.MaxPool2d(kernel_size=3, stride=3, padding=1),
                nn.Dropout(0.5),
            )
            for i in (1, 2, 3)
        )
        self.fc = model.get_submodule("fc")

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.cat([stream(x) for stream in self.streams], dim=1)
        logits: Tensor = self.fc(F.avg_pool2d(maps, kernel_size=2).flatten(1))
        return logits


def plain_densenet(model: nn.Module) -> nn.Module:
    plain = mer_zoo.create_model("dat_densenet3d_se", channels_last=False)
    plain.load_state_dict(model.state_dict())
    plain.stem = PlainStem(plain.get_submodule("stem"))
    return plain


CASES: dict[str, tuple[Callable[[nn.Module], nn.Module], int]] = {
    "dat_densenet3d_se": (plain_densenet, 32),
    "ststnet": (lambda model: PlainStreams(copy.deepcopy(model)), 256),
}


def step_ms(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """CPU milliseconds of one training step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    started = time.process_time()
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return (time.process_time() - started) / 3 * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| network | batch | plain, CPU ms a step | ours | plain / ours | largest difference of logits |")
    print("|---|---|---|---|---|---|")
    for name, (plain_form, batch) in CASES.items():
        ours = mer_zoo.create_model(name)
        plain = plain_form(ours)
        spec = mer_zoo.input_spec(name)
        x = spec.low + torch.rand(batch, *spec.shape) * (spec.high - spec.low)
        y = torch.randint(3, (batch,))
        with torch.no_grad():
            difference = float((ours.eval()(x) - plain.eval()(x)).abs().max())
        times: dict[str, list[float]] = {"plain": [], "ours": []}
        for turn in range(rounds + 1):
            for form, model in (("plain", plain), ("ours", ours)):
                spent = step_ms(model.train(), x, y)
                times[form] += [spent] if turn else []  # the first round warms up
        medians = {form: statistics.median(values) for form, values in times.items()}
        ratios = [p / o for p, o in zip(times["plain"], times["ours"], strict=True)]
        print(
            f"| {name} | {batch} | {medians['plain']:.1f} | {medians['ours']:.1f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {difference:.1g} |"
        )


if __name__ == "__main__":
    main()
