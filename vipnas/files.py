"""Files in and out: strict reading of YAML and JSON into dataclasses, and writes that are whole or
not at all."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import os
import re
import sys
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml
from filelock import FileLock
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

T = TypeVar("T")

# What PyYAML's constructors raise for a value that is not of its tag: `!!int x`, `!!timestamp x`.
OF_EXPLICIT_TAGS = (ValueError, TypeError, AttributeError, LookupError)


class Strict:
    """Base of every dataclass that is read from a file: unknown keys, converted types and numbers
    that are not finite are errors."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write aside, fsync, rename: a reader sees the old file or the new one, after a kill or a full
    disk too."""
    data = content.encode() if isinstance(content, str) else content
    if path.is_dir():
        raise ValueError(f"{path}: expected a file to write, got a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name for ever, so that what a kill left behind is overwritten by the next write.
    aside = path.with_name(f".{path.name}.partial")
    with errors_name(path):
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        sync_directory(path.parent)


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Name the file in each OSError raised inside that names none, as of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def sync_directory(directory: Path) -> None:
    """Make a rename in the directory survive a power cut; Windows cannot open a directory."""
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Whoever else asks for the same folder, in this process or another, waits until this is over.

    A process that is killed gives it back. The file `.vipnas.lock` stays in the folder.
    """
    with FileLock(directory / ".vipnas.lock"):
        yield


def digest(path: Path) -> str:
    """A short fingerprint of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def read_text(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error})") from error


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file; tags that would build objects are refused by the safe loader, as
    are keys given twice, of which YAML would keep the last without a word."""
    try:
        loader = _UniqueKeyLoader(read_text(path))
        return loader.get_single_data()
    except RecursionError:
        raise ValueError(f"{path}: not valid YAML: nested too deeply") from None
    except (yaml.YAMLError, *OF_EXPLICIT_TAGS) as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses keys that are given twice. Dates stay strings: no setting is a date."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in lines:
                    what = f"line {line}: key {key.value!r} was given on line {lines[name]} already"
                    raise yaml.MarkedYAMLError(what)
                lines[name] = line
        return node


def read_json(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    return _from_json(path.read_bytes(), str(path))


def _from_json(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{where}: not valid JSON: nested too deeply") from None
    except ValueError as error:  # of the encoding and of endless digits, too
        raise ValueError(f"{where}: not valid JSON: {error}") from None


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, kind))


def parse(kind: type[T], raw: Any, where: str) -> T:
    """Build the dataclass `kind` from plain values, strictly: no unknown key, no missing one, no
    conversion.

    Raises ValueError with one line: `where`, the place in the document, what was found, what is
    allowed.
    """
    try:
        # By way of JSON, where a list may stand for a tuple even in strict mode.
        parsed: T = _adapter(cast(Hashable, kind)).validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise ValueError(_one_line(error, kind, where)) from None
    except (TypeError, ValueError, RecursionError) as error:  # no JSON: bytes, a list in itself
        raise ValueError(f"{where}: {error}") from None
    return parsed


def parse_json(kind: type[T], text: str, where: str) -> T:
    """`parse` of a JSON text; raises ValueError in one line for what is none."""
    return parse(kind, _from_json(text, where), where)


def to_plain(value: Any, defaults: bool = True) -> Any:
    """Dicts, lists and scalars of a dataclass, as they go into JSON; without `defaults`, only the
    fields that differ from theirs."""
    adapter = _adapter(cast(Hashable, type(value)))
    return adapter.dump_python(value, mode="json", exclude_defaults=not defaults)


def first_difference(found: Any, wanted: Any, place: str = "") -> tuple[str, Any, Any] | None:
    """The first place, by its keys, at which two documents differ, and what each has there.

    What is null is as what is not there, so that an option that came later, and is off, does not
    disown what was made before it.
    """
    if found == wanted:
        return None
    if not (isinstance(found, dict) and isinstance(wanted, dict)):
        return place, found, wanted
    pairs = (
        first_difference(found.get(key), wanted.get(key), f"{place}.{key}".lstrip("."))
        for key in sorted(found.keys() | wanted.keys())
    )
    return next((pair for pair in pairs if pair is not None), None)


def check_version(found: Any, known: int, where: object) -> None:
    """Raise ValueError unless a file's format is of a known version: this one or an earlier one.

    What came after an earlier version has a default, which says what files without it mean.
    """
    if type(found) is not int or found < 1:
        raise ValueError(f"{where}: version: expected a whole number from 1, got {found!r}")
    if found > known:
        raise ValueError(
            f"{where}: version: expected {known} or lower, got {found} (update vipnas to read it)"
        )


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """The nearest known word and the list of them, for the end of an error line."""
    known = sorted(known)
    near = difflib.get_close_matches(found, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(known)}"


def _one_line(error: ValidationError, kind: Any, where: str) -> str:
    problems = _of_likeliest_members(
        [(problem, _locate(kind, problem["loc"])) for problem in error.errors(include_url=False)]
    )
    # A misspelt key is both unknown and missing: the unknown one tells what happened.
    unknown = [pair for pair in problems if pair[0]["type"] == "unexpected_keyword_argument"]
    problem, found = (unknown or problems)[0]
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in found.place)
    prefix = f"{where}: {place.lstrip('.')}" if place else where
    if unknown:
        known = [field.name for field in dataclasses.fields(found.parent)]
        return f"{prefix}: unknown key; {did_you_mean(str(found.place[-1]), known)}"
    if problem["type"] == "missing":
        return f"{prefix}: missing; it must be given"
    if problem["type"] == "value_error":
        return f"{prefix}: {problem['ctx']['error']}"
    allowed = problem["msg"].removeprefix("Input ")
    hint = _number_hint(problem["input"], whole=problem["type"].startswith("int"))
    return f"{prefix}: found {_short(problem['input'])}, which {allowed}{hint}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _number_hint(value: Any, whole: bool) -> str:
    """How to write a number that YAML 1.1 reads as a string: no point, or no sign after the e."""
    parts = (
        re.fullmatch(r"([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)", value)
        if isinstance(value, str)
        else None
    )
    if parts is None:
        return ""
    number, point, sign, exponent = parts.groups()
    written = f"{number}{point or '.0'}e{sign or '+'}{exponent}"
    if whole and len(exponent) < 3 and float(value).is_integer():
        written = str(int(float(value)))
    return f" (YAML reads it as a string: write {written})"


@dataclasses.dataclass(frozen=True)
class _Located:
    """A place in a document: its keys, the members chosen of unions on the way (each with the place
    of its union), and the type around the last key."""

    place: tuple[int | str, ...]
    members: tuple[tuple[tuple[int | str, ...], str], ...]
    parent: Any


def _locate(kind: Any, keys: Sequence[int | str]) -> _Located:
    """Follow the keys of a validation error, which name the member of a union as if it were one."""
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
    """The type of a dataclass's field, a tuple's item or a dict's value; None where unknown."""
    if dataclasses.is_dataclass(kind):
        return get_type_hints(kind).get(str(key))
    arguments = get_args(kind)
    if isinstance(key, int) and ... not in arguments:
        return arguments[key] if key < len(arguments) else None
    return (arguments[0] if isinstance(key, int) else arguments[-1]) if arguments else None


def _of_likeliest_members(
    problems: Sequence[tuple[ErrorDetails, _Located]],
) -> list[tuple[ErrorDetails, _Located]]:
    """Of each union only the problems of the member that was meant: the one with the fewest, and of
    equals the one that fits furthest into the document."""
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
