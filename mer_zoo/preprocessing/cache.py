"""The cache of a protocol: inputs by the keys of their clips."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mer_zoo.preprocessing.cook import Preparation
from mer_zoo.preprocessing.forms import Array
from mer_zoo.preprocessing.shelf import Row, Shelf, inputs_among
from mer_zoo.types import InputSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class ClipCache(Mapping[str, Array]):
    """Cooked inputs on disk by the keys of their clips, as ``mer_zoo.prepare`` leaves them.

    It holds those clips that have an input, in the order of the protocol; ``left_out`` says why others have none. Pass
    it as ``cache`` to ``create_dataset`` or ``evaluate``, which then cook as it was cooked.

    Attributes:
        folder: Where they lie.
        spec: What network they are for.
        preparation: What was done before.
        digests: What tells each clip that was asked for from others, by its key.
        shelves: The arrays, one of each corpus.
        on_error: What to do about clips that cannot be cooked, ``raise`` or ``skip``.
        absent: Why clips that belong here were not even tried, by key.
    """

    folder: Path
    spec: InputSpec
    preparation: Preparation
    digests: Mapping[str, str]
    shelves: tuple[Shelf, ...]
    on_error: str = "raise"
    absent: Mapping[str, str] = field(default_factory=dict)

    __eq__, __hash__ = object.__eq__, object.__hash__  # two are one cache or another; arrays are not compared

    def __len__(self) -> int:
        return inputs_among([*self._rows.values()])

    def __getitem__(self, key: str) -> Array:
        """The input of one clip, ``spec.shape``.

        Raises:
            KeyError: If there is none of this clip.
        """
        shelf, _, position = self._places[key]
        if position < 0:
            raise KeyError(key)
        return np.array(shelf.array()[position])

    def __iter__(self) -> Iterator[str]:
        return (key for key, row in self._rows.items() if not row.why)

    @property
    def left_out(self) -> dict[str, str]:
        """Why clips have no input, by key."""
        return {row.key: row.why for row in self._rows.values() if row.why} | dict(self.absent)

    @cached_property
    def _places(self) -> dict[str, tuple[Shelf, Row, int]]:
        """Where the input of each clip that was asked for lies; rows are only ever added, so that it stays there."""
        found = {digest: (shelf, *place) for shelf in self.shelves for digest, place in shelf.places().items()}
        return {key: found[digest] for key, digest in self.digests.items()}

    @property
    def _rows(self) -> dict[str, Row]:
        """The row of each clip that was asked for."""
        return {key: row for key, (_, row, _) in self._places.items()}

    @cached_property
    def table(self) -> "pd.DataFrame":
        """A row for each clip that was asked for, those without pictures last.

        Columns are key, person, source, apex, apex_by, why, sha256 and digest.
        """
        import pandas as pd

        absent = [Row(key, digest="", why=why) for key, why in self.absent.items()]
        rows = [{"person": row.key.rpartition("/")[0], **asdict(row)} for row in (*self._rows.values(), *absent)]
        return pd.DataFrame(rows, columns=list(COLUMNS))


COLUMNS = ("key", "person", "source", "apex", "apex_by", "why", "sha256", "digest")
