"""SIGKILL at any moment, then again: the table of a run that nobody killed, and nothing done twice."""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from _runs import assert_same, finished, within

import mer_zoo
from mer_zoo.runs import read_run

pytestmark = pytest.mark.slow

PERSONS, EPOCHS, KILLS = 6, 4, 50
WHOLE = {
    *("predictions.csv", "baselines.csv", "losses.csv", "fold.json"),
    *("weights/config.json", "weights/model.safetensors"),
}
LONG = 600  # seconds; what hangs shall not hang for ever

Start = Callable[..., ForkServerProcess]
Contents = dict[Path, tuple[bytes, int, int]]

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["pytest", "mer_zoo.evaluation", "torch.utils.tensorboard"])


def run(out: Path, epochs: int, jobs: int = 1) -> pd.DataFrame:
    roots = {"synthetic_flow": mer_zoo.open_corpus("synthetic_flow", subjects=PERSONS, clips_per_subject=3)}
    recipe = mer_zoo.Recipe(epochs=epochs, batch_size=8, lr=2e-3)
    return mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=recipe, jobs=jobs, out=out, keep_weights=True)


def run_apart(out: Path, epochs: int, jobs: int) -> None:
    os.setsid()  # so that workers that outlive it can be found
    run(out, epochs, jobs).to_pickle(out.with_suffix(".table"))


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a run in a process of its own; what is left of it in the end is taken away."""
    started: list[ForkServerProcess] = []

    def one(out: Path, epochs: int, jobs: int = 1) -> ForkServerProcess:
        started.append(forks.Process(target=run_apart, args=(out, epochs, jobs)))
        started[-1].start()
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.join()
        end_orphans(process)


def end_orphans(process: ForkServerProcess) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGTERM)


def wait_for_more(process: ForkServerProcess, files: Callable[[Path], set[Any]], out: Path) -> None:
    """Until there are other files in the folder than now, or the process ends."""
    before = files(out)
    while process.is_alive() and files(out) <= before:
        time.sleep(0.001)


def kill(process: ForkServerProcess) -> bool:
    """Whether it was alive to be killed."""
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def unfinished(out: Path) -> set[Path]:
    return set(out.glob(".unfinished-*"))


def kept(out: Path) -> Contents:
    """Contents, time and number of every file of the finished folds."""
    files = [file for file in out.glob("folds/**/*") if file.is_file()]
    return {file: (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino) for file in files}


def check_kept(out: Path, before: Contents) -> Contents:
    """What was finished before is untouched, what is finished now is whole, and no fold was noted twice.

    Workers that outlive their run may finish a fold meanwhile.
    """
    now = kept(out)
    assert {file: now.get(file) for file in before} == before
    for place in out.glob("folds/*/*"):
        assert {file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()} == WHOLE
    if earlier := finished(out):
        assert earlier <= set(read_run(out)["fold"]) <= finished(out)
    notes = out / "progress.csv"
    if notes.exists() and notes.stat().st_size:
        folds = pd.read_csv(notes)["fold"]
        assert folds.is_unique
        assert set(folds) <= finished(out)
    return now


def check_complete(out: Path, table: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert_same(table, expected)
    assert_same(read_run(out), expected)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def time_of_a_run(start: Start, folder: Path) -> float:
    """Seconds from start to end; the second run's, as the first one's process loads what all others share."""
    start(folder / "first", EPOCHS).join()
    begun = time.monotonic()
    start(folder / "second", EPOCHS).join()
    return time.monotonic() - begun


def test_killed_at_any_moment(start: Start, tmp_path: Path) -> None:
    """Any moment of a run; every fifth kill comes while a fold is being written."""
    expected, span = run(tmp_path / "whole", EPOCHS), time_of_a_run(start, tmp_path)
    draw, torn = random.Random(5), set[Path]()
    kills, complete, out, before = 0, 0, tmp_path / "0", Contents()
    with within(LONG):
        while kills < KILLS:
            process = start(out, EPOCHS)
            if kills % 5 == 4:
                wait_for_more(process, unfinished, out)
                time.sleep(draw.uniform(0, span / 100))
            else:
                process.join(draw.uniform(0, span))
            killed = kill(process)
            before = check_kept(out, before)
            torn |= unfinished(out)
            if killed:
                kills += 1
            else:
                check_complete(out, pd.read_pickle(out.with_suffix(".table")), expected)
                complete += 1
                out, before = tmp_path / str(complete), Contents()
        start(out, EPOCHS).join()
        check_kept(out, before)
        check_complete(out, pd.read_pickle(out.with_suffix(".table")), expected)
    assert torn


def test_workers_that_outlive_their_run(start: Start, tmp_path: Path) -> None:
    """The process that called is killed; what its workers have in hand, the next run does at the same time."""
    draw, epochs = random.Random(6), 8 * EPOCHS
    expected = run(tmp_path / "whole", epochs)
    with within(LONG):
        for number in range(3):
            out = tmp_path / str(number)
            first = start(out, epochs, jobs=2)
            wait_for_more(first, finished, out)
            assert kill(first)
            before = check_kept(out, Contents())
            second = start(out, epochs)
            second.join(draw.uniform(0, 1))
            kill(second)
            before = check_kept(out, before)
            third = start(out, epochs)
            third.join()
            assert third.exitcode == 0
            check_kept(out, before)
            end_orphans(first)
            check_complete(out, run(out, epochs), expected)
