"""Folds trained together, as many at once as memory allows; what they give is what each alone gives.

Weights of a fold depend on its own clips alone: models share nothing, and of the clips on the device each model is
handed the rows of its training part.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn

from mer_zoo.backends import free_bytes
from mer_zoo.cost import step_cost
from mer_zoo.errors import MerZooError
from mer_zoo.selection import Run, Trained, Training
from mer_zoo.together import Clips, Ensemble, fit_together
from mer_zoo.training import ClipDataset, check_losses, place_of
from mer_zoo.types import Fold

SHARE = 0.7  # of the free memory that a first guess fills

Say = Callable[[str], None]


@dataclass(frozen=True)
class Together:
    """A fold that was trained with others.

    Attributes:
        fold: Which.
        trained: What came of it, or the error that it alone made.
        wall: Seconds, those of all divided by their number.
        cpu: CPU seconds, likewise.
    """

    fold: Fold
    trained: Trained | MerZooError
    wall: float
    cpu: float


def why_not(training: Training, data: ClipDataset, fold: Fold) -> str | None:
    """Why folds cannot be trained together; None if they can."""
    recipe = training.recipes[0]
    if training.selection != "last":
        return f"selection {training.selection!r} looks at each epoch"
    if recipe.precision == "fp16":
        return "precision 'fp16' needs a scale for each model"
    if data.augment is not None:
        return "the clips are changed one by one, by create_dataset(augment=…)"
    try:
        runs = [Run(training, data, fold, recipe) for _ in range(2)]
        few = [torch.arange(len(fold.train))[: recipe.batch_size]] * 2
        Ensemble(_on_device(runs), _clips(runs, few), [recipe] * 2).epoch()
    except Exception as error:  # a network may fail under vmap in any way
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return None


def train_together(
    training: Training, data: ClipDataset, folds: Sequence[Fold], most: int | None, say: Say
) -> Iterator[Together]:
    """Each fold after training, chunk by chunk; where memory does not suffice for a chunk, half of it is tried.

    Args:
        training: How; its selection is ``last``.
        data: All clips.
        folds: Which of them are learnt from, and which are tested.
        most: Folds at once; None for as many as the free memory is thought to hold.
        say: Told when a chunk is halved.

    Raises:
        LeakError: If a model shows one.
        RuntimeError: torch's, if memory does not suffice for a single fold.
    """
    left, most = list(folds), most or first_guess(training, data)
    while left:
        chunk = left[:most]
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            results = _train(training, data, chunk)
        except Exception as error:
            if not should_reduce_batch_size(error) or len(chunk) == 1:
                raise
            most = len(chunk) // 2
            say(f"memory does not suffice for {len(chunk)} folds at once; {most} are tried")
            _forget()
            continue
        wall, cpu = (
            (now - then) / len(chunk) for now, then in ((time.perf_counter(), wall), (time.process_time(), cpu))
        )
        for fold, trained in zip(chunk, results, strict=True):
            yield Together(fold, trained, wall, cpu)
        left = left[len(chunk) :]


def first_guess(training: Training, data: ClipDataset) -> int:
    """How many folds the free memory is thought to hold, at least one."""
    cost, device = step_cost(training.make), place_of(training.device)
    free = SHARE * free_bytes(device) - data.inputs.nbytes
    return max(1, int(free / (2 * cost.training_bytes(training.recipes[0].batch_size))))


def _train(training: Training, data: ClipDataset, folds: Sequence[Fold]) -> list[Trained | MerZooError]:
    recipe = training.recipes[0]
    runs = [Run(training, data, fold, recipe) for fold in folds]
    models = _on_device(runs)
    with torch.random.fork_rng():
        torch.manual_seed(runs[0].recipe.seed)
        curves = fit_together(models, _clips(runs), [run.recipe for run in runs])
    return [_answered(run, losses) for run, losses in zip(runs, curves, strict=True)]


def _on_device(runs: Sequence[Run]) -> list[nn.Module]:
    """Models that were shown their clips, as ``fit`` would, where they are trained."""
    for run in runs:
        run.admit()
    return [run.model.to(place_of(run.device)) for run in runs]


def _clips(runs: Sequence[Run], rows: Sequence[torch.Tensor] | None = None) -> Clips:
    """All clips on the device, and the rows of each training part, or of them those given."""
    data, place = runs[0].data, place_of(runs[0].device)
    parts = [torch.tensor(data.places(run.fold.train), device=place) for run in runs]
    if rows is not None:
        parts = [part[some.to(place)] for part, some in zip(parts, rows, strict=True)]
    x, y = torch.from_numpy(data.inputs).to(place), torch.tensor(data.targets, device=place)
    return Clips(x, y, parts, data.spec)


def _answered(run: Run, losses: list[float]) -> Trained | MerZooError:
    try:
        check_losses(losses, run.recipe)
        run.check()
        return run.trained(losses, len(losses))
    except MerZooError as error:
        return error


def _forget() -> None:
    """Give back what a chunk that did not fit has taken."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
