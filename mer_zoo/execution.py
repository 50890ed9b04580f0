"""Many folds through one function: side by side, again where a worker is lost, each result kept as soon as it is there.

A fold that fails says why and does not stop the others; a leak stops all.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import joblib
import numpy as np
import pandas as pd
from torch import nn

from mer_zoo.backends import Backend, is_gone
from mer_zoo.baselines import BASELINES, baseline_answers, pooled
from mer_zoo.chunks import Together, train_together, why_not
from mer_zoo.errors import DivergedError, InputError, LeakError, RunError
from mer_zoo.hub import keep_weights
from mer_zoo.progress import Progress
from mer_zoo.runs import Outcome, RunFolder
from mer_zoo.seeds import one_thread
from mer_zoo.selection import Answers, Trained, Training, called, train_fold
from mer_zoo.training import ClipDataset
from mer_zoo.types import Fold

LOST_WORKERS = {  # what engines raise when a process of theirs is gone, by name: none of them need be installed
    *("TerminatedWorkerError", "BrokenProcessPool"),  # joblib's own
    *("KilledWorker", "FutureCancelledError", "CommClosedError"),  # Dask
    *("ActorDiedError", "RayActorError", "ActorUnavailableError", "WorkerCrashedError", "OutOfMemoryError"),  # Ray
}
GONE = "The GPU was lost in {} ({}). Folds that were finished are kept if out= was given; call again to go on."
LOST = "Its process was lost ({}), perhaps for want of memory."
ONE_AT_A_TIME = threading.Lock()  # within one process folds would share torch's generator and number of threads


@dataclass(frozen=True)
class Work:
    """What a worker needs beside the data and the fold.

    Attributes:
        training: How a network is trained; None for a baseline.
        model: Name of the baseline that stands where a network would.
        folder: Where finished folds are kept.
        backend: How folds are computed.
        repeated: Whether every clip is tested more than once.
        keep_weights: Whether weights are kept with each fold.
        beside: Baselines that answer beside the model.
    """

    training: Training | None
    model: str
    folder: RunFolder
    backend: Backend
    repeated: bool = False
    keep_weights: bool = False
    beside: tuple[str, ...] = tuple(BASELINES)

    @property
    def leak(self) -> str | None:
        """The mark of a rule that leaks, as the run describes itself."""
        return self.folder.description.get("leak")


def run_folds(work: Work, data: ClipDataset, folds: Sequence[Fold]) -> dict[str, Outcome]:
    """What comes of each fold, by name and in their order; those that the folder holds are read, not run.

    Raises:
        LeakError: If a fold shows one.
        RunError: If no fold succeeds.
    """
    with Progress(len(folds), data.classes, work.folder.path, work.leak) as progress:
        runner = _Runner(work, data, progress)
        outcomes = runner.run(folds)
    _check_some_succeeded(outcomes)
    work.folder.sweep()
    return {fold.name: outcomes[fold.name] for fold in folds}


class _Runner:
    """Runs folds on joblib's engine at hand until each has an outcome."""

    def __init__(self, work: Work, data: ClipDataset, progress: Progress) -> None:
        self.work, self.data, self.jobs, self.progress = work, data, work.backend.jobs, progress
        self.outcomes: dict[str, Outcome] = {}

    @cached_property
    def small(self) -> ClipDataset:
        """What baselines see, pooled once for all folds; a run that is there already needs none."""
        return pooled(self.data)

    def run(self, folds: Sequence[Fold]) -> dict[str, Outcome]:
        """Outcomes by name. Folds of a lost worker are run again; one that loses its worker by itself has failed."""
        self._run_together(self._left(folds))
        alone = False
        while left := self._left(folds):
            done, batch = len(self.outcomes), left[:1] if alone else left
            try:
                self._run_side_by_side(batch)
                alone = False
            except Exception as error:
                name = type(error).__name__
                if name not in LOST_WORKERS:
                    raise
                self.progress.say(f"a worker was lost ({name}); its folds are run again")
                if alone:
                    self._note(batch[0].name, _failure(self.work, self.data, batch[0], LOST.format(name)))
                alone = not alone and len(self.outcomes) == done
        return self.outcomes

    def _left(self, folds: Sequence[Fold]) -> list[Fold]:
        """Folds without an outcome, after those that the folder holds were read."""
        left = [fold for fold in folds if fold.name not in self.outcomes]
        for fold in left:
            if (kept := self.work.folder.read(fold)) is not None:
                self.outcomes[fold.name] = kept
                self.progress.count(kept, new=False)
        return [fold for fold in left if fold.name not in self.outcomes]

    def _run_together(self, folds: Sequence[Fold]) -> None:
        """Many at once, if that was asked for and the network allows it; what is left goes one after the other."""
        training, backend = self.work.training, self.work.backend
        if not folds or training is None or backend.name != "folds":
            return
        try:
            with ONE_AT_A_TIME, one_thread():
                if reason := why_not(training, self.data, folds[0]):
                    self.progress.say(f"folds go one after the other: {reason}")
                    return
                for done in train_together(training, self.data, folds, backend.most, self.progress.say):
                    self._note(done.fold.name, together_outcome(self.work, self.data, self.small, done))
        except RuntimeError as error:
            if is_gone(error):
                raise RunError(GONE.format("several folds at once", error)) from error
            raise

    def _run_side_by_side(self, folds: Sequence[Fold]) -> None:
        engine = _engine(self.work, self.jobs)
        for name, outcome in engine(joblib.delayed(run_fold)(self.work, self.data, self.small, f) for f in folds):
            self._note(name, outcome)

    def _note(self, name: str, outcome: Outcome) -> None:
        self.outcomes[name] = outcome
        self.progress.count(outcome)


def _engine(work: Work, jobs: int) -> joblib.Parallel:
    """The engine that joblib has at hand, giving each result as it comes; those of two clusters are mended first.

    Ray's can do that, but inherits from one that cannot. Dask's does not tell joblib of a fold that it cannot send or
    has given up, so joblib would wait for ever; and joblib would run folds here while the cluster has but one core.
    """
    backend = copy(joblib.parallel.get_active_backend()[0])
    if type(backend).__name__ == "RayBackend":
        backend.supports_return_generator = True
    elif type(backend).__name__ == "DaskDistributedBackend":
        _check_sendable(work)
        backend.submit = partial(_submit, backend.submit)
        backend.effective_n_jobs = partial(_two_at_least, backend.effective_n_jobs)
    return joblib.Parallel(n_jobs=jobs, backend=backend, return_as="generator_unordered", batch_size=1)


def _check_sendable(work: Work) -> None:
    import cloudpickle  # is there where Dask is

    try:
        cloudpickle.dumps(work)
    except Exception as error:
        raise InputError(f"build cannot be sent to other processes ({error}); make such things inside it.") from error


def _submit(submit: Callable[..., Any], task: Any, callback: Callable[[Any], None]) -> Any:
    """Hand a task to Dask; ``callback`` gets what goes wrong, too."""
    future = submit(task, callback)
    future.add_done_callback(lambda done: callback(done.exception()) if done.exception() else None)
    return future


def _two_at_least(cores: Callable[[int], int], jobs: int) -> int:
    return max(2, cores(jobs))


def run_fold(work: Work, data: ClipDataset, small: ClipDataset, fold: Fold) -> tuple[str, Outcome]:
    """Name and outcome of one fold; it is kept in the folder unless it failed, and read if it is there meanwhile.

    Args:
        work: What is to be done.
        data: All clips.
        small: The same as ``baselines.pooled`` gives them.
        fold: Which of them are learnt from, and which are tested.

    Raises:
        LeakError: If the fold shows one; anything else that goes wrong is the outcome.
    """
    if (kept := work.folder.read(fold)) is not None:
        return fold.name, kept
    with ONE_AT_A_TIME, one_thread():
        try:
            return fold.name, _run_fold(work, data, small, fold)
        except (LeakError, OSError):
            raise
        except Exception as error:  # whatever a network does wrong, the other folds are not to blame
            if is_gone(error):
                raise RunError(GONE.format(f"fold {fold.name}", error)) from error
            return fold.name, _failure(work, data, fold, f"{type(error).__name__}: {error}")


def _run_fold(work: Work, data: ClipDataset, small: ClipDataset, fold: Fold) -> Outcome:
    wall, cpu = time.perf_counter(), time.process_time()
    trained = _train(work, data, small, fold)
    return _finish(work, (data, small), fold, trained, (time.perf_counter() - wall, time.process_time() - cpu))


def together_outcome(work: Work, data: ClipDataset, small: ClipDataset, done: Together) -> Outcome:
    """What came of a fold that was trained with others; it is kept in the folder unless it failed.

    Raises:
        LeakError: If it shows one.
    """
    if isinstance(done.trained, LeakError):
        raise done.trained
    if isinstance(done.trained, Exception):
        return _failure(work, data, done.fold, f"{type(done.trained).__name__}: {done.trained}")
    try:
        return _finish(work, (data, small), done.fold, done.trained, (done.wall, done.cpu))
    except DivergedError as error:
        return _failure(work, data, done.fold, f"{type(error).__name__}: {error}")


def _finish(
    work: Work, clips: tuple[ClipDataset, ClipDataset], fold: Fold, trained: Trained, spent: tuple[float, float]
) -> Outcome:
    """Let baselines answer beside, and keep it all; ``spent`` is wall and CPU seconds of training."""
    if not np.isfinite(trained.answers).all():
        raise DivergedError("The answers about the test clips are no numbers; try a smaller lr.")
    data, small = clips
    wall, cpu = time.perf_counter(), time.process_time()
    baselines = _baselines(work, small, fold)
    seconds = {
        "seconds": spent[0] + time.perf_counter() - wall,
        "cpu_seconds": spent[1] + time.process_time() - cpu,
        "cpu_seconds_of_training": spent[1],
    }
    table = _table(work, data, fold, trained.answers)
    outcome = Outcome(table, baselines, trained.losses, {**trained.facts, **seconds})
    keep = partial(keep_weights, trained.model, data.classes, work.leak) if work.keep_weights else None
    work.folder.write(fold, outcome, keep)
    return outcome


def _failure(work: Work, data: ClipDataset, fold: Fold, why: str) -> Outcome:
    return Outcome(_table(work, data, fold, None), error=why)


def _train(work: Work, data: ClipDataset, small: ClipDataset, fold: Fold) -> Trained:
    if work.training is not None:
        return train_fold(work.training, data, fold)
    answers = baseline_answers(work.model, small.subset(fold.train), small.subset(fold.test))
    return Trained(nn.Identity(), answers, [], {})


def _baselines(work: Work, small: ClipDataset, fold: Fold) -> pd.DataFrame:
    """Key and prediction of each baseline; none for action units, where several may be there at once."""
    train, test = small.subset(fold.train), small.subset(fold.test)
    names = [] if small.many else work.beside
    preds = {name: baseline_answers(name, train, test).argmax(axis=1) for name in names}
    return pd.DataFrame({"key": [sample.key for sample in fold.test], **preds})


def _table(work: Work, data: ClipDataset, fold: Fold, answers: Answers | None) -> pd.DataFrame:
    """One row a test clip; of a fold that failed without answers."""
    test = data.subset(fold.test)
    shares = np.full((len(test), len(data.classes)), np.nan) if answers is None else answers
    columns: dict[str, Any] = {
        "key": [s.key for s in fold.test],
        "corpus": [s.corpus for s in fold.test],
        "subject": [s.subject for s in fold.test],
        "clip": [s.clip for s in fold.test],
        "fold": fold.name,
        **({"repeat": fold.repeat} if work.repeated else {}),
        **_verdicts(test, shares, failed=answers is None),
        **{f"p_{name}": shares[:, i] for i, name in enumerate(data.classes)},
        **({"note": work.leak} if work.leak else {}),
    }
    return pd.DataFrame(columns)


def _verdicts(test: ClipDataset, shares: Answers, failed: bool) -> dict[str, Any]:
    """Columns of what is true and what was predicted, -1 where nothing was."""
    targets, calls = np.array(test.targets), called(shares, test.many)
    if not test.many:
        return {"target": targets, "pred": -1 if failed else calls.argmax(axis=1)}
    return {
        f"{what}_{name}": -1 if failed and what == "pred" else values[:, i]
        for what, values in (("target", targets), ("pred", calls))
        for i, name in enumerate(test.classes)
    }


def _check_some_succeeded(outcomes: Mapping[str, Outcome]) -> None:
    errors = [outcome.error for outcome in outcomes.values()]
    if all(errors):
        raise RunError(f"All {len(errors)} folds failed; the first: {errors[0]}")
