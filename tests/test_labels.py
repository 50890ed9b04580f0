"""Cells of action units and emotions, as coders write them, in the words of this library."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_zoo.datasets._labels import BASIC, EMOTIONS, SPELLINGS, normal_emotion, parse_aus, read_unit
from mer_zoo.errors import InputError
from mer_zoo.types import INTENSITIES, SIDES, ActionUnit

UNITS = [
    ("12", "12", ""),
    ("4+7 ", "4 7", ""),
    ("AU6+AU12", "6 12", ""),
    ("R12+L15", "R12 L15", ""),
    ("A14C", "A14C", ""),
    ("l14a + b25", "L14A B25", ""),
    ("12?", "12?", ""),
    ("R12 or R15", "R12? R15?", ""),
    ("(R6 or R12)+R15", "R6? R12? R15", ""),
    ("ref(12)+4", "12? 4", ""),
    ("4+ref(5)", "4 5?", ""),
    ("12/14", "12? 14?", ""),
    ("B12/T10", "B12? T10?", ""),
    ("1A+2B", "1A 2B", ""),
    ("14\uff0c17", "14 17", ""),
    ("\uff081\u3001\uff12\uff09", "1 2", ""),
    ("1;2&4,5", "1 2 4 5", ""),
    ("1 2  4", "1 2 4", ""),
    ("4+4", "4", ""),
    ("", "", ""),
    ("?", "", ""),
    ("/", "", ""),
    ("0", "", ""),
    ("none", "", ""),
    ("4+x", "4", "x"),
    ("smile", "", "smile"),
    ("123", "", "123"),
    ("12F", "", "12F"),
    ("Q12+4", "4", "Q12"),
    ("(((4", "4", ""),
    (")4+7(", "4 7", ""),
]


@pytest.mark.parametrize(("cell", "units", "unread"), UNITS)
def test_action_units_are_read(cell: str, units: str, unread: str) -> None:
    found, left = parse_aus(cell)
    assert (" ".join(map(str, found)), " ".join(left)) == (units, unread)


codes = st.builds(ActionUnit, st.integers(1, 99), st.sampled_from(SIDES), st.sampled_from(INTENSITIES), st.booleans())


@given(codes)
def test_a_code_is_the_unit_that_it_is_of(unit: ActionUnit) -> None:
    assert read_unit(str(unit)) == unit
    assert read_unit(f"AU{unit}".lower().replace("au", "au")) == unit
    assert parse_aus(str(unit)) == ((unit,), ())


@given(st.lists(codes, unique_by=str, max_size=6))
def test_joined_codes_are_their_units(units: list[ActionUnit]) -> None:
    for joint in ("+", " + ", ", ", "\uff0c"):
        assert parse_aus(joint.join(map(str, units))) == (tuple(units), ())


@given(st.text())
def test_any_text_gives_units_and_words(text: str) -> None:
    units, unread = parse_aus(text)
    assert len(set(units)) == len(units)
    assert not {u for u in unread if not u or u.isspace()}
    assert normal_emotion(normal_emotion(text)) == normal_emotion(text)


@pytest.mark.parametrize("code", ["", "L", "0", "00", "100", "12F", "1 2", "12??", "+4", "AU", "-4", "4.0"])
def test_what_is_no_code_is_refused(code: str) -> None:
    with pytest.raises(InputError, match=r"expected (such as 4, L12|1 to 99)"):
        read_unit(code)


def test_emotions_have_one_spelling() -> None:
    for written, word in SPELLINGS.items():
        for spelling in (written, written.title(), f" {written.upper()}\n", word, word.capitalize()):
            assert normal_emotion(spelling) == word
        assert word in EMOTIONS
        assert written not in EMOTIONS
    assert all(normal_emotion(word) == word for word in EMOTIONS)
    assert {"happiness", "surprise"} < BASIC < EMOTIONS
    assert normal_emotion("Happy / Sad") == "happy sad"
    assert normal_emotion("") == ""
