"""Named things that register themselves: one file adds a corpus, one entry a protocol."""

import importlib
import pkgutil
from typing import Generic, TypeVar

from mer_zoo.errors import UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and what they stand for; a second use of a name raises."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Keep ``item`` under ``name`` and give it back.

        Raises:
            ValueError: If the name is taken.
        """
        if name in self._items:
            raise ValueError(f"A {self.kind} named {name!r} exists already; choose another name.")
        self._items[name] = item
        return item

    def get(self, name: str) -> T:
        """What ``name`` stands for.

        Raises:
            UnknownNameError: If nothing does; near names are listed.
        """
        if name not in self._items:
            raise UnknownNameError(self.kind, name, self._items)
        return self._items[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._items)


def import_modules(package: str) -> None:
    """Import every public module of ``package``, so that what they define registers itself."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(path):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package}.{module.name}")
