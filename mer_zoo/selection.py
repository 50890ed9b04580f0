"""How one fold is trained, and which epoch answers, by each rule of ``rules.RULES``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from mer_zoo.errors import DivergedError, InputError
from mer_zoo.folds import group_k_fold, human
from mer_zoo.guards import check_neighbours, check_statistics, untouched
from mer_zoo.recipe import Recipe
from mer_zoo.seeds import fold_seed, seeded
from mer_zoo.training import ClipDataset, Device, admit, fit, predict
from mer_zoo.types import Fold, remember

Make = Callable[[], nn.Module]
Answers = npt.NDArray[np.float64]  # (N, C), what is predicted of each clip and class
INNER_GROUPS = 3


@dataclass(frozen=True)
class Training:
    """What every fold of a run is trained by.

    Attributes:
        make: Gives a fresh model.
        recipes: One; or several, of which ``nested`` chooses.
        selection: A key of ``rules.RULES``.
        device: Where.
        graphs: Whether steps are recorded as CUDA graphs.
    """

    make: Make
    recipes: Sequence[Recipe]
    selection: str
    device: Device
    graphs: bool = False


@dataclass(frozen=True)
class Trained:
    """A fold after training: its model, (N, C) probabilities of its test clips, and how it came about.

    Attributes:
        model: With the weights that answered.
        answers: Of the test clips, in the order of the fold.
        losses: Mean loss of each epoch trained.
        facts: Seed, epoch scored, and what was chosen.
    """

    model: nn.Module
    answers: Answers
    losses: list[float]
    facts: dict[str, Any]


def train_fold(training: Training, data: ClipDataset, fold: Fold) -> Trained:
    """Train a fresh model on the training part of a fold, and let it answer for the test part.

    Raises:
        LeakError: If the model carries statistics of clips of the test part, or lets those clips change it.
        MerZooError: If the loss is no longer a number.
    """
    if training.selection in ("test_oracle", "random-clip"):
        return _best_on_test(training, data, fold)
    if training.selection == "nested":
        recipe, epochs = _choose(training, data, fold)
        return _last(training, data, fold, recipe, epochs)
    return _last(training, data, fold, training.recipes[0], training.recipes[0].epochs)


def _last(training: Training, data: ClipDataset, fold: Fold, recipe: Recipe, epochs: int) -> Trained:
    """After so many epochs of a recipe."""
    run = Run(training, data, fold, recipe)
    losses = run.fit(lambda done: done == epochs)
    chosen = {"recipe": training.recipes.index(recipe)} if training.selection == "nested" else {}
    return run.trained(losses, epochs, **chosen)


def _best_on_test(training: Training, data: ClipDataset, fold: Fold) -> Trained:
    """The epoch that is most often right on the test part, the later of equals: what honest rules must not do."""
    run = Run(training, data, fold, training.recipes[0])
    best: dict[str, Any] = {"right": -1.0}

    def look(done: int) -> bool:
        right = _share_right(run.answers(), run.test.targets)
        if right >= best["right"]:
            weights = {name: value.detach().clone() for name, value in run.model.state_dict().items()}
            best.update(right=right, epoch=done, weights=weights)
        return False

    losses = run.fit(look)
    run.model.load_state_dict(best["weights"])
    remember(run.model, run.test.persons)
    return run.trained(losses, best["epoch"], accuracy_of_that_epoch_on_the_test_part=best["right"])


def _choose(training: Training, data: ClipDataset, fold: Fold) -> tuple[Recipe, int]:
    """Recipe and number of epochs of the best F1 over training persons, each of them predicted by a model without them.

    Counted is the mean F1 of the classes that are there, pooled over the inner groups; of equals the fewest epochs and
    the first recipe.
    """
    inner = group_k_fold(fold.train, min(INNER_GROUPS, _persons(fold)))
    curves = [_curve(training, data, fold.name, inner, recipe) for recipe in training.recipes]
    best = max(range(len(curves)), key=lambda i: max(curves[i]))
    return training.recipes[best], int(np.argmax(curves[best])) + 1


def check_inner_folds(folds: Sequence[Fold]) -> None:
    """Refuse folds within which no training person can be left out.

    Raises:
        InputError: Naming one.
    """
    for fold in folds:
        if (persons := _persons(fold)) < 2:
            raise InputError(
                f"selection 'nested' needs two training persons or more in every fold; {fold.name} has {persons}. Use "
                "selection='last'."
            )


def _persons(fold: Fold) -> int:
    return len({human(sample) for sample in fold.train})


def _curve(training: Training, data: ClipDataset, name: str, inner: Sequence[Fold], recipe: Recipe) -> list[float]:
    """F1 after each epoch, pooled over the inner folds of one fold."""
    curve: list[list[Answers]] = [[] for _ in range(recipe.epochs)]
    truth: list[Any] = []
    for part in inner:
        run = Run(training, data, replace(part, name=f"{name}/inner/{part.name}"), recipe)
        truth += run.test.targets

        def look(done: int, run: Run = run) -> bool:
            curve[done - 1].append(run.answers())
            return False

        try:
            run.fit(look)
        except DivergedError:
            if len(training.recipes) == 1:
                raise
            return [-1.0]  # below all others, so that they are chosen
    return [_f1(np.concatenate(answers), truth) for answers in curve]


class Run:
    """One model on its way through the training part of a fold."""

    def __init__(self, training: Training, data: ClipDataset, fold: Fold, recipe: Recipe) -> None:
        self.data, self.fold, self.device, self.graphs = data, fold, training.device, training.graphs
        self.recipe = replace(recipe, seed=fold_seed(recipe.seed, fold.name))
        self.test = data.subset(fold.test)
        with seeded(self.recipe.seed):
            self.model = training.make()
        check_statistics(self.model, fold)

    def fit(self, each_epoch: Callable[[int], bool]) -> list[float]:
        """Train; ``each_epoch`` says when to stop, or looks on."""
        train = self.data.subset(self.fold.train)
        with seeded(self.recipe.seed):
            losses = fit(self.model, train, self.recipe, device=self.device, each_epoch=each_epoch, graphs=self.graphs)
        self.check()
        return losses

    def admit(self) -> None:
        """Show the model its training part, as ``fit`` does first."""
        admit(self.model, self.data.subset(self.fold.train))

    def check(self) -> None:
        """Refuse a model whose answer about a clip depends on the clips beside it.

        Raises:
            LeakError: If it does.
        """
        check_neighbours(self.model, self.data.subset(self.fold.train[:2]), self.device)

    def answers(self) -> Answers:
        """Probabilities of the test clips; the model must be the same afterwards."""
        with untouched(self.model):
            probabilities: Tensor = predict(self.model, self.test, device=self.device)
        answers: Answers = probabilities.double().numpy()
        return answers

    def trained(self, losses: list[float], epoch: int, **facts: Any) -> Trained:
        """What came of it, as the model is now."""
        return Trained(self.model, self.answers(), losses, {"seed": self.recipe.seed, "epoch": epoch, **facts})


def called(answers: Answers, many: bool) -> npt.NDArray[np.int64]:
    """What is predicted, (N, C) of 0 and 1: the likeliest class; of ``many`` at once all from one half."""
    if many:
        return (answers > 0.5).astype(np.int64)
    one_hot: npt.NDArray[np.int64] = np.eye(answers.shape[1], dtype=np.int64)[answers.argmax(axis=1)]
    return one_hot


def _truth(targets: Sequence[Any], answers: Answers) -> tuple[npt.NDArray[np.int64], bool]:
    """Targets as (N, C) of 0 and 1, and whether a clip may be of many classes at once."""
    truth = np.array(targets)
    if truth.ndim == 2:
        return truth, True
    return np.eye(answers.shape[1], dtype=np.int64)[truth], False


def _share_right(answers: Answers, targets: Sequence[Any]) -> float:
    """Share of clips, or of decisions about units, that are right."""
    truth, many = _truth(targets, answers)
    right = called(answers, many) == truth
    return float(right.mean() if many else right.all(axis=1).mean())


def _f1(answers: Answers, targets: Sequence[Any]) -> float:
    """Mean F1 of the classes, or units, that are there."""
    truth, many = _truth(targets, answers)
    calls, there = called(answers, many), truth.sum(axis=0)
    f1 = 2 * (calls & truth).sum(axis=0) / np.maximum(calls.sum(axis=0) + there, 1)
    return float(f1[there > 0].mean()) if there.any() else 0.0
