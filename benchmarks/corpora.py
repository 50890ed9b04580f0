"""How long a large corpus takes to open: python benchmarks/corpora.py [--clips N] [--frames N].

It writes a made-up tree in the layout of CASME II, empty files for pictures, opens it several times, and counts how
often each folder is listed. The disk is warm: the tree has just been written.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mer_zoo
from mer_zoo.datasets._specimen import write_pages
from mer_zoo.datasets._tree import Tree

REPEATS = 5


def write_tree(root: Path, clips: int, frames: int) -> None:
    """A sheet and folders of empty pictures, a hundred clips a person."""
    rows: list[list[Any]] = [["Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Action Units"]]
    rows[0].append("Estimated Emotion")
    for i in range(clips):
        person, clip = i // 100 + 1, f"EP{i % 100:02d}_01f"
        folder = root / "Cropped" / f"sub{person:02d}" / clip
        folder.mkdir(parents=True)
        for number in range(46, 46 + frames):
            (folder / f"reg_img{number}.jpg").touch()
        rows.append([f"{person:02d}", clip, 46, 46 + frames // 2, 45 + frames, "4+7", "disgust"])
    write_pages(root / "CASME2-coding-20140508.xlsx", {"Sheet1": rows})


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    """Median wall and CPU seconds of several calls."""
    walls, cpus = [], []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def listings(root: Path) -> Counter[str]:
    """How often each folder is listed while samples, frames and a check of every clip are asked for."""
    counted: Counter[str] = Counter()
    plain = os.scandir

    def counting(path: Any) -> Any:
        counted[str(path)] += 1
        return plain(path)

    os.scandir = counting  # type: ignore[assignment]
    try:
        corpus = mer_zoo.open_corpus("casme2", root)
        for sample in corpus.samples:
            corpus.frames(sample)
    finally:
        os.scandir = plain
    return counted


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--clips", type=int, default=10_000)
    words.add_argument("--frames", type=int, default=50)
    return words


def main() -> None:
    words = parser().parse_args()
    above = Path(tempfile.mkdtemp())
    root = above / "CASME2"
    try:
        write_tree(root, words.clips, words.frames)
        time.sleep(3)  # an index keeps no folder that has just changed
        mer_zoo.open_corpus("casme2", root, index=True).samples  # noqa: B018  # it writes the index
        counted = listings(root)
        ways: dict[str, Callable[[], object]] = {
            "the tree alone": lambda: Tree(root).folders,
            "the tree, by index": lambda: Tree(root, index=True).folders,
            "open and samples": lambda: mer_zoo.open_corpus("casme2", root).samples,
            "open and samples, by index": lambda: mer_zoo.open_corpus("casme2", root, index=True).samples,
        }
        print(
            f"{words.clips:,} clips, {words.clips * words.frames:,} pictures; {len(counted):,} folders, listed at most"
        )
        print(f"{max(counted.values())} time each. Median of {REPEATS}.\n")
        print("| what | seconds | CPU seconds |\n|---|---|---|")
        for what, action in ways.items():
            wall, cpu = seconds(action)
            print(f"| {what} | {wall:.2f} | {cpu:.2f} |")
    finally:
        shutil.rmtree(above)


if __name__ == "__main__":
    main()
