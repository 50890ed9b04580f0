"""What options may be, on made-up classes with known answers; the networks' own are in test_models.py."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest

import mer_zoo
from mer_zoo.errors import InputError, UnknownNameError
from mer_zoo.options import check_known, check_values


class Base:
    def __init__(self, num_classes: int = 3, pad: int = 0, shift: float = -1.0) -> None: ...


class Maker(Base):
    def __init__(
        self,
        *,
        width: int = 4,
        depths: Sequence[int] = (1, 2),
        sizes: tuple[int, ...] = (3,),
        drop_rate: float = 0.5,
        gain: float = 1.0,
        wide: bool = False,
        kind: Literal["a", "b"] = "a",
        step: Literal[1, 2] = 1,
        title: str = "",
        anything: dict[str, int] | None = None,
        **options: Any,
    ) -> None: ...


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("width", 1),
        ("num_classes", 0),
        ("pad", 0),
        ("shift", -1.0),
        ("depths", [1]),
        ("depths", (3, 2, 1)),
        ("sizes", [7]),
        ("drop_rate", 0),
        ("drop_rate", 0.999),
        ("gain", 0),
        ("gain", 10**9),
        ("wide", True),
        ("kind", "b"),
        ("step", 2),
        ("title", "x"),
        ("anything", 3),
        ("not_its_own", -5),
    ],
)
def test_what_can_be_meant_is_taken(option: str, value: Any) -> None:
    check_values(Maker, {option: value})


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("width", 0, "a whole number, 1 or more"),
        ("width", True, "a whole number, 1 or more"),
        ("width", 2.0, "a whole number, 1 or more"),
        ("width", None, "a whole number, 1 or more"),
        ("num_classes", -1, "a whole number, 0 or more"),
        ("pad", -1, "a whole number, 1 or more"),
        ("shift", -2.0, "a finite number, 0 or more"),
        ("depths", (), "a list of whole numbers, each 1 or more"),
        ("depths", 3, "a list of whole numbers, each 1 or more"),
        ("depths", "12", "a list of whole numbers, each 1 or more"),
        ("depths", (1, 0), "a list of whole numbers, each 1 or more"),
        ("sizes", (1.5,), "a list of whole numbers, each 1 or more"),
        ("drop_rate", 1.0, "a number, 0 or more and below 1"),
        ("drop_rate", True, "a number, 0 or more and below 1"),
        ("drop_rate", -0.1, "a number, 0 or more and below 1"),
        ("gain", math.inf, "a finite number, 0 or more"),
        ("gain", math.nan, "a finite number, 0 or more"),
        ("gain", "1", "a finite number, 0 or more"),
        ("wide", 1, "True or False"),
        ("kind", "c", "one of a, b"),
        ("kind", np.array(["a", "b"]), "one of a, b"),
        ("step", True, "one of 1, 2"),
        ("title", 1, "a name"),
    ],
)
def test_what_cannot_be_meant_is_refused(option: str, value: Any, expected: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"{option} is {value!r}; expected {expected}.")):
        check_values(Maker, {option: value})


def test_unknown_options_are_told_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"^it takes no option pat; it takes num_classes, shift\.$"):
        check_known("it", Base, {"pad": 1, "pat": 2}, hidden={"pad"})
    check_known("it", Maker, {"whatever": 1})


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    odd = {"num_classes": np.int64(4), "grid": np.int32(3), "drop_rate": np.float32(0.25), "shortcuts": np.True_}
    model: Any = mer_zoo.create_model("rcn_a", **cast(Any, odd))
    assert model.drop_rate == 0.25
    mer_zoo.save_pretrained(model, tmp_path / "saved", classes=("a", "b", "c", "d"))
    again: Any = mer_zoo.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True)
    assert (again.num_classes, again.grid) == (4, 3)


def test_of_many_names_sixty_are_listed() -> None:
    with pytest.raises(UnknownNameError) as caught:
        raise UnknownNameError("thing", "xyz", [f"name{i:03}" for i in range(100)])
    assert str(caught.value).endswith("name058, name059 and 40 more.")
