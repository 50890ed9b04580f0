"""What coders write in a sheet -> action units and emotions in the words of this library."""

import re
import unicodedata
from dataclasses import replace

from mer_zoo.errors import InputError
from mer_zoo.types import ActionUnit

CODE = re.compile(r"(?:AU)?([LRATB]?)(\d{1,2})([A-E]?)(\?)?", re.IGNORECASE)
PLUS = "+,、;&"
DOUBT = re.compile(r"/|\bor\b|\bref\b|\)\s*\?", re.IGNORECASE)
NO_CODES = frozenset({"or", "ref", "and", "k"})  # 4DME writes (k) behind a unit
NOTHING = frozenset({"", "?", "/", "-", "0", "none", "nan"})
BASIC = frozenset({"happiness", "sadness", "surprise", "disgust", "fear", "anger", "contempt"})
EMOTIONS = BASIC | {"repression", "tense", "others", "positive", "negative"}
SPELLINGS = {
    "angry": "anger",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "other": "others",
    "repressed": "repression",
    "sad": "sadness",
    "surprised": "surprise",
    "tension": "tense",
}


def parse_aus(text: str) -> tuple[tuple[ActionUnit, ...], tuple[str, ...]]:
    """Action units as FACS coders write them, and what could not be read.

    Units are joined by ``+``, a comma of any script or a blank. A unit is a number with a side before it (one of
    ``LRATB``), an intensity behind it (``A`` to ``E``) and perhaps a question mark: ``R12+L4C?``. Units joined by
    ``or`` or a slash, and those in ``ref(...)`` or ``(...)?``, are uncertain, all of them. ``?`` alone says that
    nothing is known.

    >>> [str(unit) for unit in parse_aus("(R6 or R12)+R15")[0]]
    ['R6?', 'R12?', 'R15']
    """
    units: list[ActionUnit] = []
    unread: list[str] = []
    for term in _terms(_tidied(text)):
        doubtful = bool(DOUBT.search(term))
        for word in re.split(rf"[\s()/{PLUS}]+", term):
            found = CODE.fullmatch(word)
            if found and int(found[2]):
                unit = replace(read_unit(word), uncertain=doubtful or bool(found[4]))
                units += [] if unit in units else [unit]
            elif word.lower() not in NOTHING | NO_CODES:
                unread.append(word)
    return tuple(units), tuple(unread)


def _tidied(text: str) -> str:
    """Chinese commas and brackets as ours, ``AU 12`` and ``R 12`` in one word, ``12.0`` without its nought."""
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"\b(AU|[LRATB])\s+(?=\d)", r"\1", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=\d)\.0+(?!\d)", "", text)
    return re.sub(r"(?<=\d)or(?=[a-z]?\d)", " or ", text, flags=re.IGNORECASE)


def read_unit(code: str) -> ActionUnit:
    """One action unit from its code, as ``str`` of it gives: ``L12``.

    Raises:
        InputError: If the text is no such code.
    """
    found = CODE.fullmatch(code)
    if not found:
        raise InputError(f"{code!r} is no action unit; expected such as 4, L12 or R12C?.")
    return ActionUnit(int(found[2]), found[1].upper(), found[3].upper(), bool(found[4]))


def _terms(text: str) -> list[str]:
    """What is joined by plus signs outside of brackets."""
    terms, depth = [""], 0
    for letter in text:
        depth = max(0, depth + (letter == "(") - (letter == ")"))
        if letter in PLUS and not depth:
            terms.append("")
        else:
            terms[-1] += letter
    return terms


def normal_emotion(text: str) -> str:
    """An owners' label in lower case, blanks single, and in one spelling: ``Happy`` -> ``happiness``."""
    word = " ".join(text.lower().replace("/", " ").split())
    return SPELLINGS.get(word, word)
