"""Turn what pydantic reports about a document into a `UserError`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vipnas.errors import UserError, shown


def user_error(error: ValidationError, kind: Any) -> UserError:
    """Turn the first problem that pydantic found into an error whose place is the keys alone."""
    problems = _of_likeliest_members(
        [(problem, _locate(kind, problem["loc"])) for problem in error.errors(include_url=False)]
    )
    # A misspelt key is both unknown and missing: the unknown one tells what happened.
    unknown = [pair for pair in problems if pair[0]["type"] == "unexpected_keyword_argument"]
    problem, located = (unknown or problems)[0]
    if unknown:
        return _unknown_key(located)
    place, found = _joined(located.place), shown(problem["input"])
    if problem["type"] == "missing":
        return UserError(place, "a value", "none", "the key is required")
    if problem["type"] == "value_error":
        reason = problem["ctx"]["error"]
        if isinstance(reason, UserError):
            return reason.inside(place, ".")
        return UserError(place, "a valid value", found, str(reason))
    if problem["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        return UserError.not_one_of(place, allowed, problem["input"])
    hint = _number_hint(problem["input"], whole=problem["type"].startswith("int"))
    return UserError(place, _allowed(problem), found, hint)


def _unknown_key(located: _Located) -> UserError:
    key, known = str(located.place[-1]), [f.name for f in dataclasses.fields(located.parent)]
    new = getattr(located.parent, "RENAMED", {}).get(key)
    hint = "" if new is None else f"renamed: use {new}"
    return UserError.not_one_of(
        _joined(located.place[:-1]), known, key, hint, expected="one of the keys"
    )


def _joined(keys: Sequence[int | str]) -> str:
    """Join keys as in `stages[0].width`."""
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return place.lstrip(".")


def _allowed(problem: ErrorDetails) -> str:
    """Return what pydantic expected: its message after "should be" or "should have"."""
    expected = problem["msg"].partition(" should ")[2].partition(", not ")[0]
    expected = expected.removeprefix("be ").removeprefix("have ")
    return f"a number {expected}" if problem["type"].startswith(("greater", "less")) else expected


def _number_hint(value: Any, whole: bool) -> str:
    """Say how to write a number that YAML 1.1 reads as a string: no point, or no sign after e."""
    number_format = r"([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)"
    parts = re.fullmatch(number_format, value) if isinstance(value, str) else None
    if parts is None:
        return ""
    number, point, sign, exponent = parts.groups()
    written = f"{number}{point or '.0'}e{sign or '+'}{exponent}"
    if whole and len(exponent) < 3 and float(value).is_integer():
        written = str(int(float(value)))
    return f"YAML reads it as a string: write {written}"


@dataclasses.dataclass(frozen=True)
class _Located:
    """A place in a document.

    Attributes:
        place: Its keys.
        members: Of each union on the way: the place of the union and the member that was tried.
        parent: The type that the last key belongs to.
    """

    place: tuple[int | str, ...]
    members: tuple[tuple[tuple[int | str, ...], str], ...]
    parent: Any


def _locate(kind: Any, keys: Sequence[int | str]) -> _Located:
    """Follow the keys of a validation error, where members of unions count as keys too."""
    place: list[int | str] = []
    members: list[tuple[tuple[int | str, ...], str]] = []
    parent = None
    for key in keys:
        options = [kind]
        if get_origin(kind) in (Union, UnionType):
            options = [option for option in get_args(kind) if option is not NoneType]
        if len(options) > 1:
            members.append((tuple(place), str(key)))
            kind = next((o for o in options if getattr(o, "__name__", None) == key), None)
            continue
        parent = options[0]
        kind = _kind_at(parent, key)
        place.append(key)
    return _Located(tuple(place), tuple(members), parent)


def _kind_at(kind: Any, key: int | str) -> Any:
    """Return the type of a field, a tuple's item or a dict's value; None if unknown."""
    if dataclasses.is_dataclass(kind):
        return get_type_hints(kind).get(str(key))
    arguments = get_args(kind)
    if isinstance(key, int) and ... not in arguments:
        return arguments[key] if key < len(arguments) else None
    return (arguments[0] if isinstance(key, int) else arguments[-1]) if arguments else None


def _of_likeliest_members(
    problems: Sequence[tuple[ErrorDetails, _Located]],
) -> list[tuple[ErrorDetails, _Located]]:
    """Keep, for each union, only the problems of the member that was probably meant.

    That is the member with the fewest problems; a tie goes to the one that fits deepest into the
    document.
    """
    ranks: dict[tuple[tuple[int | str, ...], str], tuple[int, int]] = {}
    for _, found in problems:
        for member in found.members:
            count, depth = ranks.get(member, (0, 0))
            ranks[member] = count + 1, min(depth, -len(found.place))
    likeliest: dict[tuple[int | str, ...], str] = {}
    for place, name in ranks:
        if place not in likeliest or ranks[place, name] < ranks[place, likeliest[place]]:
            likeliest[place] = name
    return [
        (problem, found)
        for problem, found in problems
        if all(likeliest[place] == name for place, name in found.members)
    ]
