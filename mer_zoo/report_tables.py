"""Whether a table of predictions is one of its protocol, whole, and what its attrs hold for each row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mer_zoo.errors import InputError
from mer_zoo.protocols import Protocol
from mer_zoo.runs import rows_hash

Answers = npt.NDArray[np.int64]  # (N,) class indices, or (N, U) of 0 and 1, in the order of the rows


def check_table(table: pd.DataFrame, protocol: Protocol, columns: Sequence[str], made_by: str) -> None:
    """Raise InputError for what is no table of this protocol with these columns, one row a clip and repetition."""
    missing = [name for name in columns if name not in table]
    if missing or not len(table):
        raise InputError(
            f"The table has {len(table)} rows and columns {list(table)[:12]} and lacks {missing}; expected it as "
            f"evaluate returns it, one row a clip and at least {', '.join(columns[:12])}."
        )
    twice = table["key"][table.duplicated([*({"repeat"} & set(table)), "key"])].tolist()
    if twice:
        raise InputError(f"{len(twice)} clips come more than once: {twice[:3]}; expected each once.")
    corpora = set(table["corpus"])
    alone = len(corpora) == 1 and protocol.stood_in_by(corpora)
    if (corpora - set(protocol.counts) and not alone) or made_by != protocol.name:
        raise InputError(
            f"The table was made by {made_by} and holds {', '.join(sorted(corpora))}; "
            f"{protocol.name} is of {', '.join(protocol.counts)}. Name the protocol that it was made by."
        )


def failed_rows(table: pd.DataFrame, answers: Sequence[str]) -> "pd.Series[bool]":
    """Rows without a prediction."""
    failed = (table[[name for name in answers if name.startswith("pred")]] == -1).any(axis=1)
    return failed | (table["error"] != "") if "error" in table else failed


def missing_rows(table: pd.DataFrame, run: Mapping[str, Any]) -> list[str]:
    """Whether the table has the rows that the run predicts."""
    lacking = run.get("rows", len(table)) - len(table)
    if lacking:
        what = "missing" if lacking > 0 else "too many"
        return [f"{abs(lacking)} rows are {what}: the table has {len(table)}, the run predicts {run['rows']}."]
    same = "keys" not in run or rows_hash(_names(table)) == run["keys"]
    return [] if same else ["Some rows are missing: there are as many as the run predicts, but others in their place."]


def _names(table: pd.DataFrame) -> list[str]:
    """What a row is called in a run: ``fold key``."""
    return [f"{fold} {key}" for fold, key in zip(table["fold"], table["key"], strict=True)]


def baseline_answers(attrs: Mapping[Any, Any], table: pd.DataFrame) -> dict[str, Answers]:
    """What each baseline answers, in the order of the rows."""
    names, answers = _names(table), {}
    for baseline, recorded in attrs.get("baselines", {}).items():
        if lacking := [name for name in names if name not in recorded]:
            raise InputError(
                f"The baseline {baseline} has no answer to {len(lacking)} of {len(names)} rows, such as {lacking[:2]}; "
                "expected one to each, or no such baseline in attrs."
            )
        answers[str(baseline)] = np.array([recorded[name] for name in names])
    return answers
