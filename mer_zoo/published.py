"""Published numbers of the protocols, with how the epoch was chosen and where each stands.

They are in ``published.csv``. ``selection`` is what the authors' code does, where there is code; a number of a code
that chooses on test persons says how well one can choose, and is no measure for an honest run.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

LEAKS = {
    "last epoch": False,
    "no epochs": False,
    "chosen on test subjects": True,
    "random clips": True,
    "not said": None,
}
SCORES = ("uf1", "uar", "accuracy")


@dataclass(frozen=True)
class Published:
    """One row of a published table; scores from 0 to 1, None where none was given.

    Attributes:
        protocol: Name of the protocol; the authors' clips may differ from its by a few.
        part: ``all``, or the corpus of a composite protocol that the scores are of.
        method: As its authors call it.
        uf1: Unweighted F1.
        uar: Unweighted average recall.
        accuracy: Share of right predictions.
        selection: How the epoch was chosen, a key of ``LEAKS``.
        source: Where the scores and the rule of selection stand.
        digits: The scores that were given, by name, as they were printed: 0.7605 is not rounded again.
    """

    protocol: str
    part: str
    method: str
    uf1: float | None
    uar: float | None
    accuracy: float | None
    selection: str
    source: str
    digits: Mapping[str, str]

    @property
    def leaks(self) -> bool | None:
        """Whether test clips had a say in it; None if that is not known."""
        return LEAKS[self.selection]


def published(protocol: str) -> list[Published]:
    """What was published for a protocol, the highest UF1 first, rows without one last; none for most protocols."""
    rows = [row for row in _read() if row.protocol == protocol]
    return sorted(rows, key=lambda row: (row.uf1 or 0.0, row.accuracy or 0.0), reverse=True)


def _read() -> list[Published]:
    text = (files("mer_zoo") / "published.csv").read_text(encoding="utf-8")
    return [
        Published(
            protocol=row["protocol"],
            part=row["part"],
            method=row["method"],
            uf1=_number(row["uf1"]),
            uar=_number(row["uar"]),
            accuracy=_number(row["accuracy"]),
            selection=row["selection"],
            source=row["source"],
            digits={score: row[score] for score in SCORES if row[score]},
        )
        for row in csv.DictReader(text.splitlines())
    ]


def _number(cell: str) -> float | None:
    return float(cell) if cell else None
