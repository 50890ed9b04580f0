"""Folds on real engines, a worker of which is killed in the middle: the table of the sequential run, to the last digit."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from torch import nn

import mer_zoo
from _runs import assert_same, finished, within
from mer_zoo import execution
from mer_zoo.datasets import Corpus
from mer_zoo.errors import InputError, RunError
from mer_zoo.seeds import fold_seed

pytestmark = pytest.mark.slow

PERSONS = 8
RECIPE = mer_zoo.Recipe(epochs=40, batch_size=8, lr=2e-3)
LONG = 240  # seconds; what hangs shall not hang for ever


@pytest.fixture(scope="module")
def roots() -> dict[str, Corpus]:
    return {"synthetic_flow": mer_zoo.open_corpus("synthetic_flow", subjects=PERSONS, clips_per_subject=6)}


@pytest.fixture(scope="module")
def sequential(roots: dict[str, Corpus], tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    build = announcing(tmp_path_factory.mktemp("notes"))
    return mer_zoo.evaluate(build, "synthetic-3", roots, recipe=RECIPE)


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[Any]:
    from dask.distributed import Client, LocalCluster

    local: dict[str, Any] = {"host": "127.0.0.1", "dashboard_address": None, "silence_logs": "CRITICAL"}
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **local) as cluster, Client(cluster):
        yield cluster


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """Two nodes of one processor each, on this machine; nothing is reported to anybody."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # or a token is written to the home folder
        import ray
        from ray.cluster_utils import Cluster
        from ray.util.joblib import register_ray

        node = {"num_cpus": 1, "object_store_memory": 100_000_000}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False)
        register_ray()
        yield
        ray.shutdown()
        cluster.shutdown()


def announcing(notes: Path) -> Callable[[], nn.Module]:
    """Makes a network and leaves a note, <seed>-<process>: a fold has a seed of its own, so it is known which began."""

    def build() -> nn.Module:
        import torch

        (notes / f"{torch.initial_seed()}-{os.getpid()}").touch()
        return mer_zoo.create_model("ststnet", num_classes=3)

    return build


class Killer(threading.Thread):
    """Kills the worker that begins the fourth fold, or a later one, as soon as it does."""

    def __init__(self, notes: Path, out: Path | None, folds: list[str]) -> None:
        super().__init__(daemon=True)
        self.notes, self.out = notes, out
        self.names = {fold_seed(RECIPE.seed, fold): fold for fold in folds}
        self.killed, self.fold = 0, ""
        self.finished_then: set[str] = set()

    def begun(self) -> list[tuple[str, int]]:
        """Fold and process of every beginning, the first one first."""
        notes = sorted(self.notes.iterdir(), key=lambda note: note.stat().st_mtime_ns)
        pairs = [tuple(map(int, note.name.split("-"))) for note in notes]
        return [(self.names[seed], process) for seed, process in pairs if process != os.getpid()]

    def run(self) -> None:
        while len(begun := self.begun()) < 4:
            time.sleep(0.002)
        self.fold, self.killed = begun[-1]
        self.finished_then = finished(self.out) if self.out else set()
        os.kill(self.killed, signal.SIGKILL)

    def check(self, folds: set[str]) -> None:
        """The kill was in the middle, it cost that worker its fold, and nothing that was finished was begun again."""
        times = pd.Series([fold for fold, _ in self.begun()]).value_counts()
        assert set(times.index) == folds
        assert {process for fold, process in self.begun() if fold == self.fold} > {self.killed}
        assert self.fold not in self.finished_then
        assert times.sum() <= len(folds) + 2  # what two workers had in hand
        if self.out:
            assert 0 < len(self.finished_then) < len(folds)
            assert (times[list(self.finished_then)] == 1).all()


def evaluate_with_a_kill(roots: dict[str, Corpus], sequential: pd.DataFrame, notes: Path, out: Path | None) -> None:
    folds = list(sequential["fold"].unique())
    notes.mkdir()
    killer = Killer(notes, out, folds)
    killer.start()
    with within(LONG):
        table = mer_zoo.evaluate(announcing(notes), "synthetic-3", roots, recipe=RECIPE, jobs=2, out=out)
    assert_same(table, sequential)
    killer.check(set(folds))


@pytest.mark.parametrize("kept", [True, False])
def test_processes_of_this_machine(
    kept: bool, roots: dict[str, Corpus], sequential: pd.DataFrame, tmp_path: Path
) -> None:
    evaluate_with_a_kill(roots, sequential, tmp_path / "notes", tmp_path / "run" if kept else None)


@pytest.mark.parametrize("allowed_failures", [3, 0])  # Dask begins a fold again by itself, or gives it up at once
def test_a_dask_cluster(
    allowed_failures: int, dask_cluster: Any, roots: dict[str, Corpus], sequential: pd.DataFrame, tmp_path: Path
) -> None:
    dask_cluster.scheduler.allowed_failures = allowed_failures
    with joblib.parallel_config(backend="dask", wait_for_workers_timeout=LONG):
        evaluate_with_a_kill(roots, sequential, tmp_path / "notes", tmp_path / "run")


@pytest.mark.usefixtures("ray_cluster")
def test_a_ray_cluster(roots: dict[str, Corpus], sequential: pd.DataFrame, tmp_path: Path) -> None:
    with joblib.parallel_config(backend="ray"):
        evaluate_with_a_kill(roots, sequential, tmp_path / "notes", tmp_path / "run")


@pytest.mark.usefixtures("dask_cluster")
def test_a_network_that_cannot_be_sent_is_refused(roots: dict[str, Corpus]) -> None:
    lock = threading.Lock()

    def build() -> nn.Module:
        with lock:
            return mer_zoo.create_model("ststnet", num_classes=3)

    with joblib.parallel_config(backend="dask"), within(LONG), pytest.raises(InputError, match="cannot be sent"):
        mer_zoo.evaluate(build, "synthetic-3", roots, recipe=RECIPE, jobs=2)


def test_threads_of_one_process_take_turns(
    roots: dict[str, Corpus], sequential: pd.DataFrame, tmp_path: Path
) -> None:
    """Seeds belong to the whole process, so that folds in its threads would draw from each other's."""
    with joblib.parallel_config(backend="threading"):
        table = mer_zoo.evaluate(announcing(tmp_path), "synthetic-3", roots, recipe=RECIPE, jobs=2)
    assert_same(table, sequential)


def test_workers_that_are_lost_every_time_end_the_run(
    roots: dict[str, Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = execution.run_fold, []

    def dies(work: Any, data: Any, small: Any, fold: Any) -> Any:
        begun.append(fold.name)
        if fold.subject == "0-002":
            raise TerminatedWorkerError
        return real(work, data, small, fold)

    monkeypatch.setattr(execution, "run_fold", dies)
    recipe = mer_zoo.Recipe(epochs=1)
    with pytest.raises(RunError, match="0-002, were begun 3 times and lost"):
        mer_zoo.evaluate("ststnet", "synthetic-3", roots, recipe=recipe, out=tmp_path)
    assert finished(tmp_path) == {"synthetic_flow/0-000", "synthetic_flow/0-001"}
