"""Options that a caller passes on by name: whether there is such a one, and whether its value can be meant."""

import inspect
import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, Literal, get_args, get_origin

import numpy as np

from mer_zoo.errors import InputError


def of_python(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same with Python's numbers for NumPy's, which neither layers nor JSON take everywhere."""
    return {option: value.item() if isinstance(value, np.generic) else value for option, value in options.items()}


def check_known(whose: str, maker: type, options: Mapping[str, Any], hidden: Set[str] = frozenset()) -> None:
    """Refuse options that a class is not made with; one with ``**options`` checks them itself.

    Args:
        whose: Name of what is made, for the message.
        maker: The class.
        options: What a caller passed.
        hidden: Words of the class that a caller passes otherwise, and that are not listed.

    Raises:
        InputError: Naming the options that there are.
    """
    words = inspect.signature(maker).parameters
    unknown = [option for option in options if option not in words]
    if unknown and not any(word.kind is word.VAR_KEYWORD for word in words.values()):
        known = [word for word in words if word not in hidden]
        raise InputError(f"{whose} takes no option {', '.join(unknown)}; it takes {', '.join(known) or 'none'}.")


def check_values(maker: type, options: Mapping[str, Any]) -> None:
    """Refuse values of another kind than an option's annotation, or out of the range that its kind has.

    Whole numbers are 1 or more (``num_classes``: 0 or more), also in lists; options named ``..._rate`` 0 or more and
    below 1; other numbers finite and 0 or more; a ``Literal`` is one of its names. An option's own default, and what
    has another annotation, is not looked at.

    Raises:
        InputError: Naming the option, its value and what is expected.
    """
    words = _words(maker)
    for option, value in options.items():
        word = words.get(option)
        if word is None or _same(value, word.default):
            continue
        expected = _expected(option, word.annotation, value)
        if expected:
            raise InputError(f"{option} is {value!r}; expected {expected}.")


def _words(maker: type) -> dict[str, inspect.Parameter]:
    """What a class is made with, and what only a base of it names, to which it hands options on."""
    makers = [base for base in maker.__mro__ if "__init__" in vars(base)]
    found: dict[str, inspect.Parameter] = {}
    for base in reversed(makers):
        found |= inspect.signature(base).parameters
    return found


def _expected(option: str, annotation: Any, value: Any) -> str | None:
    """What is expected of an option whose value is something else; None where the value will do."""
    kind, parts = get_origin(annotation) or annotation, get_args(annotation)
    least = 0 if option == "num_classes" else 1
    rate = option.endswith("_rate")
    if kind is bool and not isinstance(value, bool):
        return "True or False"
    if kind is int and not is_whole(value, least):
        return f"a whole number, {least} or more"
    if kind is float and not _is_number(value, 1 if rate else math.inf):
        return "a number, 0 or more and below 1" if rate else "a finite number, 0 or more"
    if kind in (Sequence, list, tuple) and parts[:1] == (int,) and not _are_whole(value):
        return "a list of whole numbers, each 1 or more"
    if kind is Literal and not any(_same(value, part) for part in parts):
        return f"one of {', '.join(map(str, parts))}"
    return "a name" if kind is str and not isinstance(value, str) else None


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)


def is_whole(value: object, least: int) -> bool:
    """Whether a value is a whole number of Python's, so many or more; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_whole(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(is_whole(one, 1) for one in value)


def _is_number(value: Any, below: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < below
