"""The tables of what networks cost, from the numbers that `models.py --write` keeps."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECORD = Path(__file__).with_name("models.json")
PASSES, BATCHES = ("inference", "training"), (1, 16)
CALLS = [f"{what} {size}" for what in PASSES for size in BATCHES]
COLUMNS = [f"{what}, batch {size}" for what in PASSES for size in BATCHES]

Times = Mapping[str, list[float]]  # seconds of each round, by what was timed


def recorded() -> dict[str, Any]:
    """What was measured, by network."""
    found: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


def table_of_costs(record: Mapping[str, Any]) -> list[list[str]]:
    """A row for each network."""
    rows = [["name", "weights", "GFLOP", "GFLOP a step", "MB kept a clip", *COLUMNS, "peak MB (batch)"]]
    for name, found in record.items():
        cost, peak = found["cost"], found["peak"]
        counts = [f"{cost['parameters']:,}", f"{cost['forward']:.3g}", f"{cost['step']:.3g}"]
        most = f"{peak['bytes'] / 2**20:,.0f} ({peak['batch']})" if peak else "-"
        rates = [_rate(found["seconds"][call], int(call.split()[1])) for call in CALLS]
        rows.append([f"`{name}`", *counts, f"{cost['kept'] / 2**20:.3g}", *rates, most])
    return rows


def table_of_rivals(record: Mapping[str, Any]) -> list[list[str]]:
    """A row for each other form: how many times as long it takes, median and range over rounds."""
    rows = [["name", "against", *COLUMNS]]
    for name, found in record.items():
        times = [found["seconds"][call] for call in CALLS]
        titles = {title: None for each in times if each for title in each if title != "ours"}
        rows += [[f"`{name}`", title, *(_ratio(each, title) for each in times)] for title in titles]
    return rows


def _rate(times: Times | None, size: int) -> str:
    """Clips a second, to three digits."""
    if not times:
        return "-"
    rate = size / statistics.median(times["ours"])
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _ratio(times: Times | None, title: str) -> str:
    if not times:
        return "-"
    ratios = [other / ours for other, ours in zip(times[title], times["ours"], strict=True)]
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{statistics.median(ratios):.2f}{spread}"
