"""Corpora of long videos: micro- and macro-expressions in one sheet, several in one folder."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from mer_zoo.datasets._annotated import SheetCorpus
from mer_zoo.datasets._folders import Folder, Place
from mer_zoo.datasets._tables import Row
from mer_zoo.errors import InputError
from mer_zoo.types import MACRO, Counts, Sample


class LongVideoCorpus(SheetCorpus):
    """Expressions cut from long videos; a subclass says which row is of which kind.

    Args:
        root: As of ``SheetCorpus``.
        form: As of ``SheetCorpus``.
        sheet: As of ``SheetCorpus``.
        missing: As of ``SheetCorpus``.
        index: As of ``SheetCorpus``.
        expressions: ``micro``, ``macro`` (with the flag ``macro``) or ``all``.

    Attributes:
        by_expressions: What the owners count, by that option.
    """

    by_expressions: ClassVar[Mapping[str, Counts]]

    def __init__(
        self,
        root: Path,
        form: str | None = None,
        sheet: str | Path | None = None,
        missing: str = "error",
        index: bool = False,
        expressions: str = "micro",
    ) -> None:
        super().__init__(root, form, sheet, missing, index)
        if expressions not in self.by_expressions:
            allowed = tuple(self.by_expressions)
            raise InputError(f"{self.name}: expressions is {expressions!r}; expected one of {allowed}.")
        self.expressions = expressions

    @abstractmethod
    def is_macro(self, row: Row) -> bool:
        """Whether a row is about a macro-expression."""

    def edition(self, clips: int) -> Counts:
        """The published counts of the expressions that were asked for."""
        return self.by_expressions[self.expressions]

    def annotated(self) -> Iterator[Sample]:
        """One sample for each row about an expression that was asked for."""
        unwanted = {"micro": (True,), "macro": (False,), "all": ()}[self.expressions]
        yield from (sample for sample in self._every if (MACRO in sample.flags) not in unwanted)

    @cached_property
    def _every(self) -> list[Sample]:
        return list(super().annotated())

    def sample(self, row: Row, subject: str, clip: str) -> Sample:
        sample = super().sample(row, subject, clip)
        return replace(sample, flags=(*sample.flags, MACRO)) if self.is_macro(row) else sample

    @cached_property
    def folders(self) -> dict[Place, Folder]:
        """The folder of each clip or video; none that only expressions not asked for are about."""
        asked = {self.place_of(sample) for sample in self.annotated()}
        others = {self.place_of(sample) for sample in self._every} - asked
        return {place: folder for place, folder in super().folders.items() if place not in others}
