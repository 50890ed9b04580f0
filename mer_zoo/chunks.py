"""Folds trained together, as many at once as memory allows; what they give is what each alone gives.

Weights of a fold depend on its own clips alone: models share nothing, and of the clips on the device each model is
handed the rows of its training part.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import nn

from mer_zoo.backends import free_bytes, is_gone
from mer_zoo.cost import step_cost
from mer_zoo.errors import LeakError, MerZooError
from mer_zoo.recipe import Recipe
from mer_zoo.seeds import seeded
from mer_zoo.selection import Run, Trained, Training
from mer_zoo.together import Clips, Ensemble, fit_together
from mer_zoo.training import ClipDataset, check_losses, place_of
from mer_zoo.types import Fold

SHARE = 0.7  # of the free memory that a first guess fills
MOST, FEW = 16, 4  # folds at once: of a guess, and where nothing can be guessed
TRIED = 4  # clips that two models are tried with
TOO_MUCH = "memory does not suffice"

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
    """Why folds cannot be trained together; None if they can. Two models are made and tried."""
    recipe = training.recipes[0]
    if training.selection != "last":
        return f"selection {training.selection!r} looks at each epoch"
    if recipe.precision == "fp16":
        return "precision 'fp16' needs a scale for each model"
    if data.augment is not None:
        return "the clips are changed one by one, by create_dataset(augment=…)"
    try:
        runs = [Run(training, data, replace(fold, name=f"{fold.name}/{i}"), recipe) for i in range(2)]
        return _differs(_on_device(runs), _clips(runs), recipe)
    except Exception as error:  # a network may fail under vmap in any way
        if is_gone(error):
            raise
        return _first_line(error)


def _differs(models: Sequence[nn.Module], clips: Clips, recipe: Recipe) -> str | None:
    """Whether two models together answer otherwise than each alone, or keep other statistics of what they see."""
    few = clips.rows[0][: max(2, min(recipe.batch_size, TRIED))]
    alone = [deepcopy(model) for model in models]
    ensemble = Ensemble(models, Clips(clips.x, clips.y, [few] * 2, clips.spec), [recipe] * 2)
    stack, x = ensemble.stack, clips.x[few]
    stack.form.eval()
    answers = stack.logits(stack.weights(None), None, torch.stack([x, x]))
    if not all(torch.allclose(y, m.eval()(x), rtol=1e-3, atol=1e-4) for y, m in zip(answers, alone, strict=True)):
        return "the network answers otherwise together than alone"
    stack.form.train()
    ensemble.epoch()
    before = {name: value.clone() for name, value in alone[0].named_buffers()}
    alone[0].train()(x)
    for name, value in alone[0].named_buffers():
        if not torch.equal(value, before[name]) and torch.equal(stack.buffers[name][0], before[name]):
            return f"the buffer {name!r} is put in another's place where it should be changed in place"
    return None


def train_together(
    training: Training, data: ClipDataset, folds: Sequence[Fold], most: int | None, say: Say
) -> Iterator[Together]:
    """Each fold after training, chunk by chunk; where memory does not suffice for a chunk, half of it is tried.

    Folds of a chunk that fails in another way, or of one whose memory does not suffice for a single fold, are left out.

    Args:
        training: How; its selection is ``last``.
        data: All clips.
        folds: Which of them are learnt from, and which are tested.
        most: Folds at once; None for as many as the free memory is thought to hold.
        say: Told when a chunk is halved or left out.

    Raises:
        LeakError: If a model shows one.
    """
    left, most = list(folds), most or first_guess(training, data)
    while left:
        chunk = left[:most]
        results = _tried(training, data, chunk)
        if isinstance(results, str) and results == TOO_MUCH and len(chunk) > 1:
            most = len(chunk) // 2
            say(f"memory does not suffice for {len(chunk)} folds at once; {most} are tried")
            _forget()
            continue
        if isinstance(results, str):
            say(f"{len(chunk)} folds go one after the other: {results}")
        else:
            yield from results
        left = left[len(chunk) :]


def _tried(training: Training, data: ClipDataset, folds: Sequence[Fold]) -> list[Together] | str:
    """These folds after training, or why there is nothing."""
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        trained = _train(training, data, folds)
    except LeakError:
        raise
    except Exception as error:  # whatever a network does wrong, folds can be tried one by one
        if is_gone(error):
            raise
        return TOO_MUCH if should_reduce_batch_size(error) else _first_line(error)
    wall, cpu = (time.perf_counter() - wall) / len(folds), (time.process_time() - cpu) / len(folds)
    return [Together(fold, each, wall, cpu) for fold, each in zip(folds, trained, strict=True)]


def first_guess(training: Training, data: ClipDataset) -> int:
    """How many folds the free memory is thought to hold: at least one, and few enough that some are kept soon."""
    try:
        cost = step_cost(training.make, spec=data.spec)
    except Exception:  # a network that cannot be made without memory cannot be counted
        return FEW
    free = SHARE * free_bytes(place_of(training.device)) - data.inputs.nbytes
    return max(1, min(MOST, int(free / (2 * cost.training_bytes(training.recipes[0].batch_size)))))


def _train(training: Training, data: ClipDataset, folds: Sequence[Fold]) -> list[Trained | MerZooError]:
    recipe = training.recipes[0]
    runs = [Run(training, data, fold, recipe) for fold in folds]
    models = _on_device(runs)
    with seeded(runs[0].recipe.seed):
        curves = fit_together(models, _clips(runs), [run.recipe for run in runs])
    return [_answered(run, losses) for run, losses in zip(runs, curves, strict=True)]


def _on_device(runs: Sequence[Run]) -> list[nn.Module]:
    """Models that were shown their clips, as ``fit`` would, where they are trained."""
    for run in runs:
        run.admit()
    return [run.model.to(place_of(run.device)) for run in runs]


def _clips(runs: Sequence[Run]) -> Clips:
    """All clips on the device, and the rows of each training part."""
    data, place = runs[0].data, place_of(runs[0].device)
    x, y = torch.from_numpy(data.inputs).to(place), torch.tensor(data.targets, device=place)
    return Clips(x, y, [torch.tensor(data.places(run.fold.train), device=place) for run in runs], data.spec)


def _answered(run: Run, losses: list[float]) -> Trained | MerZooError:
    try:
        check_losses(losses, run.recipe)
        run.check()
        return run.trained(losses, len(losses))
    except MerZooError as error:
        return error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _forget() -> None:
    """Give back what a chunk that did not fit has taken."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
