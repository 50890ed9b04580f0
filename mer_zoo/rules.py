"""Which epoch is scored: the rules, what each means, and the mark that a leaking one leaves on all that comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from mer_zoo.errors import InputError, LeakError


@dataclass(frozen=True)
class Rule:
    """How the epoch is chosen.

    Attributes:
        meaning: One clause for reports.
        leak: What every table, file and figure says if test clips were used to choose; None if they were not.
    """

    meaning: str
    leak: str | None = None


RULES: Mapping[str, Rule] = {
    "last": Rule("last epoch, the same for every fold; nothing was chosen on test persons"),
    "nested": Rule(
        "epoch, and recipe if there are several, chosen on training persons by an inner split into three groups of "
        "them, then trained anew on all"
    ),
    "test_oracle": Rule(
        "best epoch of each fold by accuracy on its test part, the later of equals, as most published codes choose it",
        leak="chosen on test subjects",
    ),
    "random-clip": Rule(
        "ten copies of each clip (flipped, shifted), split at random into 88.9 % and 11.1 %; best epoch by accuracy on "
        "the smaller part",
        leak="chosen on test subjects, whose other copies were trained on",
    ),
}


def check_rule(selection: str, i_know_this_leaks: bool) -> None:
    """Refuse a rule that does not exist, or one that leaks and was not asked for in so many words.

    Raises:
        InputError: If there is no such rule.
        LeakError: If it leaks and ``i_know_this_leaks`` is not True.
    """
    if not isinstance(selection, str) or selection not in RULES:
        raise InputError(f"selection is {selection!r}; expected one of {', '.join(RULES)}.")
    leak = RULES[selection].leak
    if leak and i_know_this_leaks is not True:
        raise LeakError(
            f"selection {selection!r} is no result: the epoch is {leak}. To show what that does to a score, pass "
            "i_know_this_leaks=True; every table, file and figure will say so."
        )
