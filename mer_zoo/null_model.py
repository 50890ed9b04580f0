"""What knowing nothing scores under each rule that says which epoch counts.

A guesser draws every answer by the frequencies of the classes, whatever the clip. Where the epoch is chosen by what
is right on the test clips, it is as if it might guess again in each epoch and keep its best guess of each fold. Real
epochs are alike, so networks gain less by such a rule: this is its upper bound.

Ours; the rule of the best epoch of each test person is that of many public training codes (see docs/leakage.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mer_zoo import metrics
from mer_zoo.errors import InputError
from mer_zoo.rules import RULES

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class NullScore:
    """What guessing scores: means over the guessers, and how far they scatter (standard deviations).

    Attributes:
        rule: Which epoch counts.
        epochs: Among how many it was chosen; 1 where nothing is chosen on test clips.
        uf1: Unweighted F1, from 0 to 1.
        uar: Unweighted average recall, from 0 to 1.
        accuracy: Share of right guesses, from 0 to 1.
        uf1_std: Scatter of ``uf1``.
        uar_std: Scatter of ``uar``.
        accuracy_std: Scatter of ``accuracy``.
    """

    rule: str
    epochs: int
    uf1: float
    uar: float
    accuracy: float
    uf1_std: float
    uar_std: float
    accuracy_std: float

    @property
    def sentence(self) -> str:
        """One sentence for a report."""
        scores = f"UF1 {self.uf1:.3f} ± {self.uf1_std:.3f}, UAR {self.uar:.3f}, accuracy {self.accuracy:.3f}"
        if RULES[self.rule].leak:
            return f"Guessing scores {scores} if, as here, the best of {self.epochs} epochs on each test part counts."
        return f"Guessing by the frequencies of the classes scores {scores}."


def null_score(
    table: pd.DataFrame, classes: Sequence[str], rule: str, epochs: int, *, guessers: int = 20, seed: int = 0
) -> NullScore:
    """Score guessers on the clips and folds of a table of predictions.

    Args:
        table: One row a clip, with the columns ``fold`` and ``target``, a class index; of folds that were repeated
            also ``repeat``, each scored on its own.
        classes: Of the protocol, in the order of the indices.
        rule: ``last`` or ``nested``: one guess a clip. ``test_oracle`` or ``random-clip``: of each fold the epoch with
            most right guesses on its test clips, the later one of equals.
        epochs: How often the model might be looked at.
        guessers: How many to average over.
        seed: Of the generator.

    Raises:
        InputError: If the rule is unknown, epochs or guessers are fewer than 1, the table lacks a column, or a class
            has no target.
    """
    if rule not in RULES:
        raise InputError(f"rule is {rule!r}; expected one of {', '.join(RULES)}.")
    missing = {"fold", "target"} - set(table)
    if missing or not len(table):
        raise InputError(
            f"The table has {len(table)} rows and lacks {sorted(missing)}; expected it as evaluate makes it."
        )
    if epochs < 1 or guessers < 1:
        raise InputError(f"{epochs} epochs and {guessers} guessers; expected 1 or more of each.")
    looks = epochs if RULES[rule].leak else 1
    generator = np.random.default_rng(seed)
    matrices = [
        metrics.confusion(targets, _guess(targets, folds, looks, generator), len(classes))
        for targets, folds in _repeats(table)
        for _ in range(guessers)
    ]
    scores = np.array([[metrics.uf1(m), metrics.uar(m), metrics.accuracy(m)] for m in matrices])
    return NullScore(rule, looks, *scores.mean(axis=0).tolist(), *scores.std(axis=0).tolist())


def _repeats(table: pd.DataFrame) -> list[tuple[Indices, list[Indices]]]:
    """Targets of all clips, and the rows of each fold; once for each repeat."""
    plain = table.copy()
    plain.attrs = {}  # which every step below would copy
    parts = [rows for _, rows in plain.groupby("repeat")] if "repeat" in plain else [plain]
    return [(rows["target"].to_numpy(np.int64), list(rows.groupby("fold").indices.values())) for rows in parts]


def _guess(targets: Indices, folds: list[Indices], epochs: int, generator: np.random.Generator) -> Indices:
    """Targets (N,) and the clips of each fold -> what is guessed in the best epoch of each fold (N,)."""
    answers = np.empty_like(targets)
    for clips in folds:
        guesses = generator.choice(targets, size=(len(clips), epochs))  # so that classes come by their frequencies
        right = (guesses == targets[clips, None]).sum(axis=0)
        latest_best = epochs - 1 - right[::-1].argmax()
        answers[clips] = guesses[:, latest_best]
    return answers
