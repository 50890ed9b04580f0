"""What preparing clips costs and how exact flow is: python benchmarks/prepare.py [PART ...] [--clips N] [--rounds N].

Parts: flow, clips, reading; all without a name. Each prints one table, and runs in processes of its own.

flow: two faces, scikit-image's photograph of an astronaut and a rendered one, cut to 128 or 224 pixels and warped by
bells at brows, nose and mouth, warped at two or four times the size and made smaller by area; noise of one grey level,
four seeds. End-point errors are means where the true motion is above a tenth of its peak.

clips: folders of 20 to 60 colour jpg, 230 x 280, in the layout of CASME II -> 20 x 64 x 64 grey, by `mer_zoo.prepare`
and by a naive loop, in turn. What a clip costs is the difference between four times as many clips and as many; the rest
is what starting costs, imports and processes included.

reading: what a training epoch of `dat_densenet3d_se` spends on its inputs, batches of 32.

CPU seconds are those of all processes together; wall seconds mean little where other programs run.
"""

import argparse
import io
import os
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

import mer_zoo
from mer_zoo.datasets._specimen import write_pages
from mer_zoo.errors import InputError
from mer_zoo.specs import FLOW_METHODS

Array = npt.NDArray[np.float64]
T = TypeVar("T")

PEAKS, SEEDS = (0.2, 0.5, 1.0, 2.0), range(4)  # of the motion, pixels; of the noise
BIG = {128: 512, 224: 448}  # at what size a picture is warped
BELLS = ((0.3, 0.25, 0, -1), (0.7, 0.25, 0, 1), (0.5, 0.5, 0.7, 0.7), (0.35, 0.75, -1, 0), (0.65, 0.75, 1, 0))
HEIGHT, WIDTH, QUALITY, NOISE = 280, 230, 97, 1.7  # of the jpg; together about 27 kB each
TIMES = 4  # as many clips, to part what a clip costs from what starting costs


PARTS = ("flow", "clips", "reading")


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    words.add_argument("--clips", type=int, default=60, help="in the smaller corpus; the larger has four times as many")
    words.add_argument("--rounds", type=int, default=3)
    return words


def main() -> None:
    args = parser().parse_args()
    parts: dict[str, Callable[[argparse.Namespace], Iterable[str]]] = {
        "flow": lambda _: alone(flow),
        "clips": clips,
        "reading": lambda args: alone(reading, args.rounds),
    }
    os.environ |= {"CI": "1", "OMP_NUM_THREADS": "1"}  # no bars, and one thread a process
    for name in args.parts or parts:
        print(f"\n{name}\n", flush=True)
        for row in parts[name](args):
            print(row, flush=True)


def alone(function: Callable[..., T], *args: Any) -> T:
    """What a function returns, called in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *args).result()


# Flow


def flow() -> list[str]:
    """A row for each picture, size and method."""
    import cv2

    cv2.setNumThreads(1)
    peaks = " | ".join(f"peak {peak:g} px" for peak in PEAKS)
    rows = [f"| picture | size | flow | {peaks} | where nothing moves, peak 1 px | CPU ms |\n{'|---' * 9}|"]
    for name, picture in (("photograph", photograph), ("rendered", rendered)):
        for size in BIG:
            pairs = {(peak, seed): pair(picture, size, peak, seed) for peak in PEAKS for seed in SEEDS}
            rows += [f"| {name} | {size} | {row} |" for row in _flow_rows(pairs)]
    return rows


Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Array]


def _flow_rows(pairs: dict[tuple[float, int], Pair]) -> Iterator[str]:
    from mer_zoo.preprocessing.flow import estimator, optical_flow

    still = {key: (0 * true, 0.0) for key, (_, _, true) in pairs.items()}
    yield _flow_row("none", pairs, still)
    for method in FLOW_METHODS:
        try:
            program = estimator(method)
        except InputError:
            yield f"{method}: its weights are not here" + " | -" * (len(PEAKS) + 2)
            continue
        found = {}
        for key, (first, second, _) in pairs.items():
            started = time.process_time()
            found[key] = optical_flow(first, second, method), time.process_time() - started
        yield _flow_row(f"{method}: {program}", pairs, found)


def _flow_row(name: str, pairs: dict[tuple[float, int], Pair], found: dict[tuple[float, int], Any]) -> str:
    moving: dict[float, list[float]] = {peak: [] for peak in PEAKS}
    elsewhere = []
    for (peak, seed), (_, _, true) in pairs.items():
        error, motion = length(found[peak, seed][0] - true), length(true)
        moving[peak].append(float(error[motion > 0.1 * peak].mean()))
        if peak == 1:
            elsewhere.append(float(error[motion < 0.01].mean()))
    means = [statistics.mean(errors) for errors in (*moving.values(), elsewhere)]
    cost = 1e3 * statistics.median(seconds for _, seconds in found.values())
    return f"{name} | " + " | ".join(f"{mean:.3f}" for mean in means) + f" | {cost:.1f}"


def photograph(side: int, _: int) -> Array:
    """The astronaut's head, (side, side) grey levels."""
    import skimage.data

    head = Image.fromarray(skimage.data.astronaut()[40:184, 150:294]).convert("F")
    return np.asarray(head.resize((side, side), Image.Resampling.BICUBIC), np.float64)


def rendered(side: int, seed: int) -> Array:
    """A made-up person's face at rest, (side, side) grey levels, without noise."""
    corpus = mer_zoo.open_corpus("synthetic", subjects=2, clips_per_subject=1, seed=seed, size=side, noise=(0.0, 0.0))
    return np.asarray(corpus.clip(corpus.samples[0])[0], np.float64)


def bells(size: int, peak: float) -> Array:
    """A smooth motion of this peak in pixels: (size, size, 2), u and v."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    motion: Array = np.zeros((size, size, 2))
    for centre_x, centre_y, u, v in BELLS:
        motion += np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * 0.09**2))[..., None] * [u, v]
    return np.asarray(motion * (peak / length(motion).max()))


def length(motion: Array) -> Array:
    return np.asarray(np.hypot(motion[..., 0], motion[..., 1]))


def pair(picture: Callable[[int, int], Array], size: int, peak: float, seed: int) -> Pair:
    """Two noisy pictures, the first at x as the second at x + motion, and the motion."""
    from scipy.ndimage import map_coordinates

    times = BIG[size] // size
    large, motion = picture(BIG[size], seed), bells(BIG[size], peak * times)
    y, x = np.mgrid[: len(large), : len(large)].astype(float)
    warped = map_coordinates(large, (y + motion[..., 1], x + motion[..., 0]), order=3, mode="nearest")
    rng = np.random.default_rng([size, seed])
    first, second = (
        np.rint(image.reshape(size, times, size, times).mean(axis=(1, 3)) + rng.normal(size=(size, size)))
        for image in (warped, large)
    )
    return first.clip(0, 255).astype(np.uint8), second.clip(0, 255).astype(np.uint8), bells(size, peak)


# Clips


@dataclass(frozen=True)
class Cost:
    """What a run took, its workers included, and the most memory of its process and of the largest worker, MiB."""

    wall: float
    cpu: float
    memory: float
    worker: float


def clips(args: argparse.Namespace) -> Iterator[str]:
    """A row for each way of preparing."""
    ways: dict[str, Callable[[Path], Cost]] = {
        "naive loop": naive,
        "prepare, jobs=1": one_job,
        "prepare, jobs=2": two_jobs,
    }
    few, many = args.clips, TIMES * args.clips
    costs: dict[str, list[tuple[Cost, Cost]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as above:
        small, large = (Path(above, str(count)) for count in (few, many))
        size = alone(write_corpus, small, few), alone(write_corpus, large, many)
        for _ in range(args.rounds):
            for way, action in ways.items():
                costs[way].append((alone(action, small), alone(action, large)))
    yield f"{many} clips, pictures of {size[1]:.1f} kB; median of {args.rounds} rounds.\n"
    yield (
        "| way | CPU ms a clip | clips in 2 CPU seconds | times the naive loop, in turn | CPU s to start | "
        f"wall s, {many} clips | MiB, {few} clips | {many} clips | largest worker, {few} clips | {many} clips |\n"
        f"{'|---' * 10}|"
    )
    for way, runs in costs.items():
        yield f"| {way} | " + _clips_row(runs, costs["naive loop"], few) + " |"


def _clips_row(runs: list[tuple[Cost, Cost]], naive_runs: list[tuple[Cost, Cost]], few: int) -> str:
    def each(rounds: list[tuple[Cost, Cost]]) -> list[float]:
        return [(long.cpu - short.cpu) / ((TIMES - 1) * few) for short, long in rounds]

    clip, median = each(runs), statistics.median
    gains = [plain / ours for plain, ours in zip(each(naive_runs), clip, strict=True)]
    start = median(short.cpu - few * cost for (short, _), cost in zip(runs, clip, strict=True))
    memory = [median(run[i].memory for run in runs) for i in (0, 1)]
    worker = [median(run[i].worker for run in runs) for i in (0, 1)]
    return " | ".join(
        [
            f"{1e3 * median(clip):.1f}",
            f"{2 / median(clip):.0f}",
            f"{median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})",
            f"{start:.1f}",
            f"{median(long.wall for _, long in runs):.1f}",
            *(f"{value:.0f}" for value in memory),
            *(f"{value:.0f}" if value else "-" for value in worker),
        ]
    )


def naive(root: Path) -> Cost:
    """Picture after picture and clip after clip, a file each."""

    def work(folder: Path) -> None:
        for number, clip in enumerate(sorted(root.glob("Cropped/*/*"))):
            files = sorted(clip.glob("*.jpg"), key=lambda file: int(re.findall(r"\d+", file.name)[0]))
            frames = np.stack([np.asarray(Image.open(file).convert("L").resize((64, 64))) for file in files])
            times = np.linspace(0, len(frames) - 1, 20)
            before, share = times.astype(int), (times % 1)[:, None, None]
            after = np.minimum(before + 1, len(frames) - 1)
            even = (frames[before] * (1 - share) + frames[after] * share) / 127.5 - 1
            np.save(folder / f"{number}.npy", even.astype(np.float32)[None])

    return cost_of(work)


def one_job(root: Path) -> Cost:
    return cost_of(lambda folder: _prepared(root, folder, jobs=1))


def two_jobs(root: Path) -> Cost:
    from joblib.externals.loky import get_reusable_executor

    def work(folder: Path) -> None:
        _prepared(root, folder, jobs=2)
        get_reusable_executor().shutdown(wait=True)  # so that their seconds count

    return cost_of(work, workers=True)


def _prepared(root: Path, folder: Path, jobs: int = 1) -> mer_zoo.ClipCache:
    spec = mer_zoo.input_spec("dat_densenet3d_se")
    return mer_zoo.prepare("casme2-5", {"casme2": root}, spec, folder, jobs=jobs)


def cost_of(work: Callable[[Path], object], workers: bool = False) -> Cost:
    """What some work took that writes to a folder."""
    wall, cpu = time.perf_counter(), _cpu()
    with tempfile.TemporaryDirectory() as folder:
        work(Path(folder))
    own, others = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Cost(time.perf_counter() - wall, _cpu() - cpu, own, others if workers else 0.0)


def _cpu() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def write_corpus(root: Path, count: int) -> float:
    """A made-up CASME II of so many clips, ten a person; returns the mean size of its pictures in kB."""
    pictures, rng = _pictures(), np.random.default_rng(0)
    rows: list[list[Any]] = [["Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Action Units"]]
    rows[0].append("Estimated Emotion")
    for i in range(count):
        person, clip, frames = f"{i // 10 + 1:02d}", f"EP{i % 10:02d}_01f", int(rng.integers(20, 61))
        folder = root / "Cropped" / f"sub{person}" / clip
        folder.mkdir(parents=True)
        for k in range(frames):
            (folder / f"reg_img{46 + k}.jpg").write_bytes(pictures[(7 * i + k) % len(pictures)])
        rows.append([person, clip, 46, 46 + frames // 2, 45 + frames, "4+7", ("disgust", "happiness")[i % 2]])
    write_pages(root / "CASME2-coding-20140508.xlsx", {"Sheet1": rows})
    return statistics.mean(map(len, pictures)) / 1e3


def _pictures() -> list[bytes]:
    """Two made-up persons in colour as jpg, 60 pictures in all."""
    corpus = mer_zoo.open_corpus(
        "synthetic", subjects=2, clips_per_subject=1, seed=1, size=HEIGHT, frames=30, noise=(0.0, 0.0)
    )
    rng, files = np.random.default_rng(0), []
    edge = (HEIGHT - WIDTH) // 2
    for grey in (frame[:, edge : edge + WIDTH] for sample in corpus.samples for frame in corpus.clip(sample)):
        colour = grey[..., None] * [1.1, 0.9, 0.8] + rng.normal(scale=NOISE, size=(HEIGHT, WIDTH, 1))
        content = io.BytesIO()
        Image.fromarray(np.rint(colour).clip(0, 255).astype(np.uint8)).save(content, "JPEG", quality=QUALITY)
        files.append(content.getvalue())
    return files


# Reading


def reading(rounds: int) -> list[str]:
    """What an epoch of 64 clips spends on its inputs, CPU time of one thread."""
    import torch

    torch.set_num_threads(1)
    spent: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as above:
        root = Path(above, "CASME2")
        write_corpus(root, 64)
        cache = _prepared(root, Path(above, "cache"))
        for _ in range(rounds + 1):  # the first warms up
            for what, seconds in _one_epoch(root, cache).items():
                spent.setdefault(what, []).append(seconds)
    medians = {what: statistics.median(seconds[1:]) for what, seconds in spent.items()}
    epoch = medians["a training epoch"]
    rows = [f"| what, of 64 clips; median of {rounds} rounds | CPU ms | share of an epoch |\n|---|---|---|"]
    return rows + [f"| {what} | {1e3 * cpu:.1f} | {100 * cpu / epoch:.2f} % |" for what, cpu in medians.items()]


def _one_epoch(root: Path, cache: mer_zoo.ClipCache) -> dict[str, float]:
    import torch

    from mer_zoo.training import fit

    seconds, started = {}, time.process_time()

    def lap(what: str) -> None:
        nonlocal started
        seconds[what] = time.process_time() - started
        started = time.process_time()

    corpus = mer_zoo.open_corpus("casme2", root)
    found = len(corpus.samples)
    lap("opening the corpus, once a training")
    data = mer_zoo.create_dataset("casme2-5", {"casme2": corpus}, cache.spec, cache=cache)
    assert len(data) == found
    lap("looking whether pictures and inputs are as they were, and reading all inputs, once a training")
    inputs, positions = torch.from_numpy(data.inputs), torch.randperm(len(data))
    for batch in positions.split(32):
        inputs.index_select(0, batch)
    lap("taking the batches of 32 of an epoch")
    model = mer_zoo.create_model("dat_densenet3d_se", num_classes=len(data.classes))
    started = time.process_time()
    fit(model, data, mer_zoo.Recipe(epochs=1, batch_size=32))
    lap("a training epoch")
    return seconds


if __name__ == "__main__":
    main()
