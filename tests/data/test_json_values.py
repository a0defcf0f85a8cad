from __future__ import annotations

import math
from typing import Any

import pytest

from vipnas.data.formats.json_values import (
    box,
    flag,
    is_coordinate,
    is_number,
    shown,
    text,
    too_large,
    whole_number,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", '"1"'),
        (1, "1"),
        (None, "null"),
        (True, "true"),
        (float("nan"), "NaN"),
        ([1, "a"], '[1, "a"]'),
        ("a\nb", r'"a\nb"'),
        ("\ud800", r'"\ud800"'),
        (list(range(61)), "a list of 61"),
        ("x" * 99, '"' + "x" * 56 + "..."),
    ],
)
def test_values_are_shown_as_the_file_spells_them(value: Any, expected: str) -> None:
    assert shown(value) == expected
    shown(value).encode()


def test_numbers_are_finite_and_no_strings() -> None:
    assert [value for value in (0, -1, 2.5, 1e300) if not is_number(value)] == []
    others = (True, None, "1", [1], float("nan"), float("inf"), 10**30)
    assert [value for value in others if is_number(value)] == []
    assert is_coordinate(-1e7) and not is_coordinate(1.1e7)


def test_a_number_that_is_too_large_has_the_limit_as_hint() -> None:
    large: tuple[Any, ...] = (10**8, -1e9, 10**400, [1, 2e7, 3, 4])
    for value in large:
        assert too_large(value) == "at most 10000000"
    others: tuple[Any, ...] = (1, 1e7, math.inf, math.nan, "1e9", None, [1, "x"], True, {})
    for value in others:
        assert too_large(value) == ""
    with pytest.raises(ValueError, match=r"a: id: .* whole number, got 1000.* \(at most 922"):
        whole_number({"id": 10**30}, "id", "a")
    with pytest.raises(ValueError, match=r"a: bbox: .*, got \[0, 0, 1e\+300, 1\] \(at most 1000"):
        box({"bbox": [0, 0, 1e300, 1]}, "bbox", "a")


def test_flags_are_0_and_1() -> None:
    given = {"a": 0, "b": 1, "c": False, "d": True, "e": None}
    assert [flag(given, key, "file") for key in "abcdef"] == [0, 1, 0, 1, 0, 0]
    for value in ("0", "false", 2, -1, 1.0, [], {}):
        with pytest.raises(ValueError, match=r"^file: a: expected 0, 1, true or false, got "):
            flag({"a": value}, "a", "file")


def test_strings_have_no_null_characters() -> None:
    with pytest.raises(ValueError, match="a: file_name: expected a string without null characters"):
        text({"file_name": "a\0.jpg"}, "file_name", "a")
    with pytest.raises(ValueError, match="a: file_name: expected a string of whole characters"):
        text({"file_name": "a\ud800.jpg"}, "file_name", "a")
    assert text({"file_name": "ü?😀.jpg"}, "file_name", "a") == "ü?😀.jpg"
