"""Options that a caller passes on by name: whether there is such a one, and whether its value can be meant."""

import inspect
import math
from collections.abc import Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin

from mer_zoo.errors import InputError


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
    """Refuse values that no class can be made with, by how it or a base of it annotates them.

    Whole numbers are 1 or more (``num_classes``: 0 or more), rates 0 or more and below 1, other numbers 0 or more.

    Raises:
        InputError: Naming the option, its value and what is expected.
    """
    annotations = _annotations(maker)
    for option, value in options.items():
        expected = _expected(option, annotations.get(option), value)
        if expected:
            raise InputError(f"{option} is {value!r}; expected {expected}.")


def _annotations(maker: type) -> dict[str, Any]:
    """Of each option, those that only a base names included."""
    makers = [base for base in reversed(maker.__mro__) if "__init__" in vars(base)]
    return {word: p.annotation for base in makers for word, p in inspect.signature(base).parameters.items()}


def _expected(option: str, annotation: Any, value: Any) -> str | None:
    """What is expected of an option whose value is something else; None where the value will do."""
    kind = get_origin(annotation) or annotation
    if kind is bool and not isinstance(value, bool):
        return "True or False"
    if kind is int and not _is_whole(value, least := 0 if option == "num_classes" else 1):
        return f"a whole number, {least} or more"
    if kind is float and not _is_number(value, below := 1 if option.endswith("_rate") else math.inf):
        return "a number, 0 or more" + (" and below 1" if below == 1 else "")
    if kind is Sequence and not (isinstance(value, list | tuple) and value and all(_is_whole(v, 1) for v in value)):
        return "a list of whole numbers, each 1 or more"
    if kind is Literal and value not in get_args(annotation):
        return f"one of {', '.join(get_args(annotation))}"
    return "a name" if kind is str and not isinstance(value, str) else None


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _is_number(value: Any, below: float) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < below
