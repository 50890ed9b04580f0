"""Corpora by name. Importing this package registers every file in it."""

from pathlib import Path
from typing import Any

from mer_zoo.datasets._base import CORPORA, Corpus, Fix
from mer_zoo.datasets._tree import holds, shown
from mer_zoo.errors import CorpusError
from mer_zoo.options import check_known
from mer_zoo.registry import import_modules

__all__ = ["Corpus", "Fix", "list_corpora", "open_corpus"]

import_modules(__name__)


def list_corpora() -> list[str]:
    """Names that ``open_corpus`` takes."""
    return CORPORA.names()


def open_corpus(name: str, root: str | Path | None = None, **options: Any) -> Corpus:
    """Open a corpus where its owners' files lie, or make one that needs no files.

    Args:
        name: One of ``list_corpora()``.
        root: The folder (or file) as unpacked; None for a corpus that is made. A folder that ``synthetic`` was written
            to is read back.
        **options: What the corpus offers, such as ``subjects`` and ``seed`` of ``synthetic``.

    Raises:
        UnknownNameError: If no corpus has this name.
        InputError: If the corpus does not take such an option.
        CorpusError: If the folder is missing or holds something else; the message says how to ask for the data.
    """
    corpus = CORPORA.get(name)
    if root is not None and not corpus.needs_root:
        if corpus.folder_form is None:
            raise CorpusError(f"{name} is made, not read; leave the folder out (got {shown(root)}).")
        corpus = corpus.folder_form
    folder = "" if corpus is CORPORA.get(name) else " in a folder"
    check_known(f"{name}{folder}", corpus, options, hidden={"root"})
    if root is None and not corpus.needs_root:
        return corpus(**options)
    where = Path(root).expanduser() if root is not None else None
    if where is None or not holds(where.exists):
        absent = f"{shown(where)} does not exist, or may not be looked for"
        found = "no folder was given" if where is None else absent
        raise CorpusError(f"{name}: {found}.\n{corpus.obtaining()}")
    return corpus(where.absolute(), **options)  # workers may have been started elsewhere
