"""What a step of leave-one-subject-out costs, by backend: python benchmarks/loso.py [--rounds 5] [--device cpu].

Two cases, each in turn within one run, CPU time of one thread, medians:

- `dat_densenet3d_se` at the size of CASME II: 255 clips of 26 persons, 20 x 64 x 64, batches of 32. `naive` is the way
  of repositories: a DataLoader decodes each clip's jpgs (66 on average) anew each epoch, the loss of each step is asked
  for, the test part is tried each epoch, the network is a plain port. `eager` is the same over clips in memory.
- `ststnet` at the size of MEGC 2019: 442 images of 68 persons, batches of 256. `eager` is the authors' form of loop.

`loop` and `folds` are `mer_zoo.evaluate`'s, and with --device cuda `graphs`, too. Clips and images are made up; a step
costs the same. Prints milliseconds a clip-step (one clip in one epoch of one fold), and how many times as long as
`loop` each takes.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import ports_first
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import mer_zoo
from mer_zoo.recipe import Recipe
from mer_zoo.together import Clips, fit_together
from mer_zoo.training import Device, fit, place_of

FRAMES = range(24, 111, 4)  # lengths of clips, 66 on average; CASME II has 24 to 141, 67 on average
PICTURE = (230, 280)
Picture = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A corpus of made-up clips, and how a network learns from it.

    Attributes:
        model: Its registered name.
        clips: Number of clips.
        persons: Number of persons, of as many clips each as that gives.
        recipe: Optimizer, batch and learning rate; epochs are those of one sample.
        folds: Folds of one sample.
        decoded: Whether the naive loop, which decodes pictures, takes part.
    """

    model: str
    clips: int
    persons: int
    recipe: Recipe
    folds: int
    decoded: bool

    @cached_property
    def data(self) -> tuple[Tensor, Tensor]:
        spec, generator = mer_zoo.input_spec(self.model), torch.Generator().manual_seed(0)
        x = torch.rand(self.clips, *spec.shape, generator=generator)
        return spec.low + x * (spec.high - spec.low), torch.arange(self.clips) % 3

    def rows(self, fold: int) -> tuple[Tensor, Tensor]:
        """Positions of the training part and of the test part."""
        person = torch.arange(self.clips) % self.persons
        return (person != fold).nonzero().flatten(), (person == fold).nonzero().flatten()

    @property
    def clip_steps(self) -> int:
        return sum(len(self.rows(fold)[0]) for fold in range(self.folds)) * self.recipe.epochs


CASES = (
    Case("dat_densenet3d_se", 255, 26, Recipe(epochs=2, batch_size=32, lr=1e-3, optimizer="adam"), 2, decoded=True),
    Case("ststnet", 442, 68, Recipe(epochs=10, batch_size=256, lr=5e-5, optimizer="adam"), 2, decoded=False),
)


def by_opencv(file: Path, size: int) -> Picture:
    """As OpenCV's users do it: colour, then grey, then smaller."""
    grey = cv2.cvtColor(np.asarray(cv2.imread(str(file))), cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)


def by_pillow(file: Path, size: int) -> Picture:
    """As torchvision's transforms do it."""
    with Image.open(file) as picture:
        return np.asarray(picture.convert("L").resize((size, size), Image.Resampling.BILINEAR))


READERS: Mapping[str, Callable[[Path, int], Picture]] = {"OpenCV": by_opencv, "Pillow": by_pillow}


class Pictures(Dataset[tuple[Tensor, int]]):
    """Clips as colour pictures on disk, decoded, turned grey, made smaller and brought to 20 frames when asked for."""

    def __init__(
        self, folder: Path, reader: Callable[[Path, int], Picture], shape: tuple[int, int], rows: Tensor
    ) -> None:
        self.folder, self.reader, self.rows = folder, reader, rows.tolist()
        self.size, self.frames = shape

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        row = self.rows[position]
        files = sorted((self.folder / str(row % len(FRAMES))).glob("*.jpg"))
        clip = np.stack([self.reader(file, self.size) for file in files])
        at = np.linspace(0, len(clip) - 1, self.frames)
        low, share = np.floor(at).astype(int), (at % 1)[:, None, None]
        high = np.minimum(low + 1, len(clip) - 1)
        mixed = (1 - share) * clip[low] + share * clip[high]
        return torch.from_numpy(mixed[None] / 127.5 - 1).float(), row % 3


def write_pictures(folder: Path) -> None:
    """A clip of each length, of smooth noise that moves, as jpgs of the size of CASME II's cropped faces."""
    rng = np.random.default_rng(0)
    for i, frames in enumerate(FRAMES):
        (folder / str(i)).mkdir()
        face = cv2.GaussianBlur(rng.integers(0, 256, (*PICTURE, 3)).astype(np.uint8), (0, 0), 3)
        for t in range(frames):
            cv2.imwrite(str(folder / str(i) / f"{t:03d}.jpg"), np.roll(face, t, axis=0))


def repository_loop(case: Case, parts: Callable[[Tensor], Dataset[Any]]) -> None:
    """Fold after fold: a DataLoader, a plain port, Adam as torch has it by default, each loss looked at."""
    for fold in range(case.folds):
        model = ports_first.PORTS[case.model](mer_zoo.create_model(case.model))
        optimizer = torch.optim.Adam(model.parameters(), lr=case.recipe.lr)
        train, test = (
            DataLoader(parts(rows), batch_size=case.recipe.batch_size, shuffle=i == 0)
            for i, rows in enumerate(case.rows(fold))
        )
        for _ in range(case.recipe.epochs):
            total = 0.0
            for x, y in train:
                optimizer.zero_grad()
                loss = F.cross_entropy(model.train()(x), y)
                loss.backward()
                optimizer.step()
                total += loss.item()
            with torch.no_grad():
                sum((model.eval()(x).argmax(dim=1) == y).sum().item() for x, y in test)


def fresh(case: Case, device: torch.device) -> nn.Module:
    return mer_zoo.create_model(case.model).to(device)


def ours(case: Case, device: torch.device, graphs: bool = False) -> None:
    x, y = case.data
    kind: Device = "cuda" if device.type == "cuda" else "cpu"
    for fold in range(case.folds):
        rows, test = case.rows(fold)
        model = fresh(case, device)
        fit(model, (x[rows], y[rows]), case.recipe, device=kind, graphs=graphs)
        mer_zoo.training.predict(model, (x[test], y[test]), device=kind)


def together(case: Case, device: torch.device, folds: range | None = None) -> None:
    x, y = (part.to(device) for part in case.data)
    chosen = range(case.folds) if folds is None else folds
    rows = [case.rows(fold)[0].to(device) for fold in chosen]
    models = [fresh(case, device) for _ in chosen]
    recipes = [replace(case.recipe, seed=fold) for fold in chosen]
    fit_together(models, Clips(x, y, rows, mer_zoo.input_spec(case.model)), recipes)


def ways(case: Case, folder: Path, device: torch.device) -> Mapping[str, Callable[[], None]]:
    x, y = case.data
    spec = mer_zoo.input_spec(case.model)
    found: dict[str, Callable[[], None]] = {}
    if device.type == "cpu":
        for title, reader in READERS.items() if case.decoded else ():
            found[f"naive, {title}"] = partial(
                repository_loop, case, partial(Pictures, folder, reader, (spec.size, spec.frames))
            )
        found["eager"] = lambda: repository_loop(case, lambda rows: TensorDataset(x[rows], y[rows]))
    found["loop"] = lambda: ours(case, device)
    if device.type == "cuda":
        found["graphs"] = lambda: ours(case, device, graphs=True)
    found["folds"] = lambda: together(case, device)
    return found


def spent(run: Callable[[], None], device: torch.device) -> float:
    """CPU seconds; on a GPU wall seconds."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def measure(case: Case, folder: Path, device: torch.device, rounds: int) -> list[str]:
    found = ways(case, folder, device)
    for run in found.values():
        run()
    samples = [{name: spent(run, device) for name, run in found.items()} for _ in range(rounds)]
    lines = []
    for name in found:
        steps = [sample[name] / case.clip_steps * 1e3 for sample in samples]
        ratios = [sample[name] / sample["loop"] for sample in samples]
        lines.append(
            f"| {case.model} | {name} | {statistics.median(steps):.3f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return lines


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    words.add_argument("--only", choices=[case.model for case in CASES], help="one of the two")
    words.add_argument("--folds", type=int, help="of one sample, other than the two that are taken by default")
    return words


def main() -> None:
    args = parser().parse_args()
    torch.set_num_threads(1)
    device = place_of(args.device)
    clock = "CPU" if args.device == "cpu" else "wall"
    print(f"| network | backend | {clock} ms a clip-step | times loop |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        for case in (case for case in CASES if args.only in (None, case.model)):
            chosen = replace(case, folds=args.folds or case.folds)
            print("\n".join(measure(chosen, Path(folder), device, args.rounds)), flush=True)


if __name__ == "__main__":
    main()
