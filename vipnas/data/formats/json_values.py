"""Checked access to values in JSON files.

Every check raises a UserError for a value that is not as expected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from vipnas.errors import UserError

# Larger than any image, and small enough that squares of it fit into float32.
MAX_PIXELS = 10_000_000
MAX_WHOLE_NUMBER = 2**63 - 1  # what NumPy and the evaluators can hold

_NOTHING = object()
_MAX_CHARACTERS = 60


def unexpected(place: str, expected: str, found: Any, hint: str = "") -> UserError:
    """Return the error for a value that is not as expected."""
    return UserError(place, expected, shown(found), hint)


def too_large(found: Any, limit: int = MAX_PIXELS) -> str:
    """Return a hint for a number, or a list of numbers, of which one exceeds the limit."""
    values = found if isinstance(found, list) else [found]
    numbers = [v for v in values if type(v) is int or (type(v) is float and math.isfinite(v))]
    return f"at most {limit}" if any(abs(one) > limit for one in numbers) else ""


def shown(value: Any) -> str:
    """Return a value in JSON, where "1" and 1 differ, cut to 60 characters."""
    if value is _NOTHING:
        return "nothing"
    if isinstance(value, (list, dict)) and len(value) > _MAX_CHARACTERS:
        return f"a list of {len(value)}" if isinstance(value, list) else "an object"
    # Half of a surrogate pair cannot be printed.
    text = json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; `true` and `"1"` are not."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= MAX_WHOLE_NUMBER
    return isinstance(value, float) and value - value == 0  # NaN and infinity give NaN


def is_coordinate(value: Any) -> bool:
    """Whether a value can be a coordinate in an image, in pixels."""
    return is_number(value) and abs(value) <= MAX_PIXELS


def json_object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise unexpected(place, "an object", value)
    return value


def json_list(entry: Mapping[str, Any], key: str, place: str) -> list[Any]:
    value = entry.get(key, _NOTHING)
    if not isinstance(value, list):
        raise unexpected(f"{place}: {key}", "a list", value)
    return value


def text(entry: Mapping[str, Any], key: str, place: str) -> str:
    """Return a string that is not empty and could be the name of a file."""
    value = entry.get(key, _NOTHING)
    if not isinstance(value, str) or not value:
        raise unexpected(f"{place}: {key}", "a string", value)
    if "\0" in value:
        raise unexpected(f"{place}: {key}", "a string without null characters", value)
    if value != value.encode(errors="replace").decode():  # half of a surrogate pair
        raise unexpected(f"{place}: {key}", "a string of whole characters", value)
    return value


def whole_number(entry: Mapping[str, Any], key: str, place: str) -> int:
    value = entry.get(key, _NOTHING)
    if not isinstance(value, int) or not is_number(value):
        hint = too_large(value, MAX_WHOLE_NUMBER)
        raise unexpected(f"{place}: {key}", "a whole number", value, hint)
    return value


def number(entry: Mapping[str, Any], key: str, place: str) -> float:
    """Return a finite number; integers stay integers."""
    value = entry.get(key, _NOTHING)
    if not is_number(value):
        hint = too_large(value, MAX_WHOLE_NUMBER)
        raise unexpected(f"{place}: {key}", "a finite number", value, hint)
    found: float = value
    return found


def flag(entry: Mapping[str, Any], key: str, place: str) -> int:
    """Return 0 or 1; a missing key and null count as 0."""
    value = entry.get(key)
    if value is None:
        return 0
    if not isinstance(value, int) or value not in (0, 1):
        raise unexpected(f"{place}: {key}", "0, 1, true or false", value)
    return int(value)


def box(entry: Mapping[str, Any], key: str, place: str) -> list[float]:
    """Return x, y, width and height in pixels."""
    value = entry.get(key, _NOTHING)
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_coordinate, value)):
        expected = "four finite numbers x, y, width, height in pixels"
        raise unexpected(f"{place}: {key}", expected, value, too_large(value))
    return value
