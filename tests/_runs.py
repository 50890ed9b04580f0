"""What tests of interrupted runs share: a table's equal, and an end to waiting."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest


@contextlib.contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail, with the place where it hangs, what takes longer."""

    def fail(*_: Any) -> None:
        pytest.fail(f"not done after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def assert_same(table: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Equal to the last digit, with settings, baselines and losses."""
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert table.attrs == expected.attrs


def finished(out: Path) -> set[str]:
    """Names of the folds that a run folder holds."""
    return {f"{place.parent.name}/{place.name}" for place in out.glob("folds/*/*")}
