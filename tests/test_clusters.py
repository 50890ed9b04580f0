"""Folds on real engines, a worker of which is killed half-way: the table of the sequential run to the last digit."""

import logging
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
from _runs import assert_same, finished, within
from torch import nn

import mer_zoo
from mer_zoo.datasets import Corpus
from mer_zoo.errors import InputError
from mer_zoo.seeds import fold_seed

pytestmark = pytest.mark.slow

PERSONS = 6
RECIPE = mer_zoo.Recipe(epochs=40, batch_size=8, lr=2e-3)
LONG = 300  # seconds; what hangs shall not hang for ever


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

    cluster = LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )
    with cluster, Client(cluster):  # type: ignore[no-untyped-call]
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
        time.sleep(0.5)  # so that who kills this worker comes before its fold is done, on a busy machine, too
        return mer_zoo.create_model("ststnet", num_classes=3)

    return build


class Killer(threading.Thread):
    """Kills the worker that begins the fourth fold, or a later one, as soon as it does."""

    def __init__(self, notes: Path, out: Path | None, folds: list[str]) -> None:
        super().__init__(daemon=True)
        self.notes, self.out = notes, out
        self.names = {fold_seed(RECIPE.seed, fold): fold for fold in folds}
        self.killed, self.fold, self.before = 0, "", 0
        self.finished_then: set[str] = set()

    def begun(self) -> list[tuple[str, int]]:
        """Fold and process of every beginning, the first one first; what evaluate tries beforehand is no fold."""
        notes = sorted(self.notes.iterdir(), key=lambda note: note.stat().st_mtime_ns)
        pairs = [tuple(map(int, note.name.split("-"))) for note in notes]
        return [(self.names[seed], process) for seed, process in pairs if seed in self.names]

    def run(self) -> None:
        while len(begun := self.begun()) < 4:
            time.sleep(0.002)
        self.fold, self.killed = begun[-1]
        assert self.killed != os.getpid()
        self.before = len(begun)
        self.finished_then = finished(self.out) if self.out else set()
        os.kill(self.killed, signal.SIGKILL)

    def check(self, folds: set[str]) -> None:
        """The kill was in the middle, it cost that worker its fold, and nothing that was finished was begun again."""
        begun = self.begun()
        assert os.getpid() not in {process for _, process in begun}
        assert self.killed not in {process for _, process in begun[self.before :]}
        assert {fold for fold, _ in begun} == folds
        assert {process for fold, process in begun if fold == self.fold} > {self.killed}
        if self.out:
            assert 0 < len(self.finished_then - {self.fold}) < len(folds) - 1
            assert all([fold for fold, _ in begun].count(fold) == 1 for fold in self.finished_then)


def evaluate_with_a_kill(roots: dict[str, Corpus], sequential: pd.DataFrame, notes: Path, out: Path | None) -> None:
    folds = list(sequential["fold"].unique())
    notes.mkdir()
    killer = Killer(notes, out, folds)
    killer.start()
    with within(LONG):
        table = mer_zoo.evaluate(announcing(notes), "synthetic-3", roots, recipe=RECIPE, jobs=2, out=out)
    assert_same(table, sequential)
    killer.check(set(folds))


def test_processes_of_this_machine(roots: dict[str, Corpus], sequential: pd.DataFrame, tmp_path: Path) -> None:
    evaluate_with_a_kill(roots, sequential, tmp_path / "notes", tmp_path / "run")


@pytest.mark.parametrize(("allowed_failures", "run"), [(3, "run"), (0, None)])
def test_a_dask_cluster(
    allowed_failures: int,
    run: str | None,
    dask_cluster: Any,
    roots: dict[str, Corpus],
    sequential: pd.DataFrame,
    tmp_path: Path,
) -> None:
    """Dask begins a lost fold again by itself, or gives it up at once; then nothing is on disk, either."""
    dask_cluster.scheduler.allowed_failures = allowed_failures
    with joblib.parallel_config(backend="dask", wait_for_workers_timeout=LONG):
        evaluate_with_a_kill(roots, sequential, tmp_path / "notes", tmp_path / run if run else None)


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
