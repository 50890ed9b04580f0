"""The errors that users meet. Every message says what was found, what was expected and what to do."""

import difflib
from collections.abc import Iterable
from typing import TextIO

LISTED = 60  # names at most in a message


def printable(text: str, stream: TextIO) -> str:
    """Text that this stream can print: what its encoding lacks is written as backslash and number."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class MerZooError(Exception):
    """Whatever this library refuses on purpose."""


class UnknownNameError(MerZooError, ValueError):
    """No model, corpus or protocol has this name; the message lists near ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(str(name).lower(), names, n=3, cutoff=0.5)
        rest = len(names) - LISTED
        listed = ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")
        hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {listed or 'none'}."
        super().__init__(f"No {kind} is named {name!r}. {hint}")


class InputError(MerZooError, ValueError):
    """A tensor, a setting or a table is not what the function takes."""


class FaceError(InputError):
    """A picture holds no face that can be found."""


class WeightsError(MerZooError, OSError):
    """Weights cannot be found or fetched, or are not what they say."""


class LeakError(MerZooError, ValueError):
    """Something of the test part would be learnt from, so that the score would mean nothing."""


class DivergedError(MerZooError):
    """The loss, or what a network answers, is no longer a number."""


class CorpusError(MerZooError, ValueError):
    """A folder or file does not hold the corpus that it should."""


class CacheError(MerZooError, OSError):
    """Cooked inputs cannot be kept."""


class UnreadableError(CorpusError, InputError):
    """Some clips cannot be read, or not be cooked.

    Attributes:
        keys: Of these clips.
    """

    def __init__(self, message: str, keys: frozenset[str]) -> None:
        super().__init__(message)
        self.keys = keys


class RunError(MerZooError, RuntimeError):
    """A run folder belongs to other settings, or cannot be read."""
