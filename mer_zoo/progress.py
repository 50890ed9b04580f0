"""How a run gets on: a bar on a terminal, quiet where CI is set, and files beside the folds.

These are ``log.txt``, ``progress.csv`` and, if TensorBoard is installed, ``tensorboard/``.
"""

import csv
import importlib.util
import io
import logging
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from mer_zoo.metrics import accuracy, confusion, uar, uf1
from mer_zoo.runs import Outcome

logger = logging.getLogger("mer_zoo")

COLUMNS = "time,fold,clips,folds_done,folds,uf1,uar,accuracy,seconds,error,note"


class Progress:
    """Counts folds and scores what is there so far; used in a ``with`` statement.

    Args:
        folds: How many there are.
        classes: Names by class index.
        folder: Of the run; None writes no file.
        leak: The mark of a rule that leaks, to stand beside every score.
    """

    def __init__(self, folds: int, classes: Sequence[str], folder: Path | None, leak: str | None) -> None:
        self.folds, self.folder, self.leak = folds, folder, leak
        self.done, self.failed, self.new = 0, 0, 0
        self.matrix = np.zeros((len(classes), len(classes)), np.int64)
        self.started = time.monotonic()
        self.bar = tqdm(
            total=folds, unit="fold", disable=True if os.environ.get("CI") else None
        )  # None: off a terminal
        self.board = _tensorboard(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._log(f"stopped after {self.done} of {self.folds} folds: {type(error).__name__}: {error}")
        self.bar.close()
        if self.board is not None:
            self.board.close()

    def count(self, outcome: Outcome, new: bool = True) -> None:
        """Take in a fold: one that was run, or one that was read from the folder."""
        self.done += 1
        if outcome.error:
            self.failed += 1
        elif "target" in outcome.table:
            self.matrix += confusion(outcome.table["target"], outcome.table["pred"], len(self.matrix))
        self.bar.update()
        self.bar.set_postfix_str(self._so_far())
        if new:
            self.new += 1
            self._note(outcome)

    def say(self, what: str) -> None:
        """Tell of something out of the ordinary, on the terminal and in the log."""
        logger.warning("%s", what)
        self._log(what)

    def scores(self) -> dict[str, float]:
        """Accuracy so far; UF1 and UAR once every class has been tested."""
        if not self.matrix.sum():
            return {}
        means = {"uf1": uf1(self.matrix), "uar": uar(self.matrix)} if self.matrix.sum(axis=1).all() else {}
        return {**means, "accuracy": accuracy(self.matrix)}

    def _so_far(self) -> str:
        words = [f"{name.upper() if name != 'accuracy' else name} {value:.3f}" for name, value in self.scores().items()]
        mark = [self.leak] if words and self.leak else []
        return ", ".join([*words, *mark, *[f"{self.failed} failed"] * bool(self.failed)])

    def _note(self, outcome: Outcome) -> None:
        """Write a fold down wherever it is kept."""
        fold, scores = str(outcome.table["fold"].iloc[0]), self.scores()
        left = (self.folds - self.done) * (time.monotonic() - self.started) / self.new
        what = f"failed: {' '.join(outcome.error.split())}" if outcome.error else f"{len(outcome.table)} clips"
        self._log(f"{self.done}/{self.folds} {fold}: {what}; {self._so_far()}; {_clock(left)} left")
        values = [_now(), fold, len(outcome.table), self.done, self.folds]
        values += [f"{scores[name]:.6f}" if name in scores else "" for name in ("uf1", "uar", "accuracy")]
        values += [f"{outcome.facts.get('seconds', 0):.3f}", outcome.error, self.leak or ""]
        self._append("progress.csv", _row(values), header=COLUMNS)
        if self.board is not None:
            for epoch, loss in enumerate(outcome.losses, start=1):
                self.board.add_scalar(f"loss/{fold}", loss, epoch)
            for name, value in scores.items():
                self.board.add_scalar(f"so far{f' ({self.leak})' if self.leak else ''}/{name}", value, self.done)
            self.board.flush()

    def _log(self, line: str) -> None:
        self._append("log.txt", f"{_now()} {line}")

    def _append(self, name: str, line: str, header: str = "") -> None:
        if self.folder is None:
            return
        file = self.folder / name
        with file.open("a") as out:
            start = f"{header}\n" if header and out.tell() == 0 else ""  # a kill may have left it empty
            out.write(f"{start}{line}\n")


def _tensorboard(folder: Path | None) -> Any:
    """A writer into ``tensorboard/``, if that package is installed and there is a folder."""
    if folder is None or importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))


def _row(values: Sequence[object]) -> str:
    """One line of CSV, every value in quotes."""
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="").writerow(values)
    return line.getvalue()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
