"""Files in and out: strict reading of YAML and JSON into dataclasses, and writes that are whole or
not at all."""

from __future__ import annotations

import dataclasses
import difflib
import fcntl
import hashlib
import json
import os
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

T = TypeVar("T")


class Strict:
    """Base of every dataclass that is read from a file: unknown keys and converted types are
    errors."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write aside, fsync, rename: a reader sees the old file or the new one, after a kill or a full
    disk too."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name for ever, so that what a kill left behind is overwritten by the next write.
    aside = path.with_name(f".{path.name}.partial")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make a rename in the directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Whoever else asks for the same folder, in this process or another, waits until this is over.
    A process that is killed gives it back."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


class _UniqueKeyLoader(yaml.SafeLoader):
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
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error


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
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None
    return parsed


def parse_json(kind: type[T], text: str, where: str) -> T:
    """`parse` of a JSON text; raises ValueError in one line for what is none."""
    try:
        return parse(kind, json.loads(text), where)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON: {error}") from None


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
    problems = error.errors(include_url=False)
    # A misspelt key is both unknown and missing: the unknown one tells what happened.
    unknown = [problem for problem in problems if problem["type"] == "unexpected_keyword_argument"]
    problem = (unknown or problems)[0]
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in problem["loc"])
    prefix = f"{where}: {place.lstrip('.')}" if place else where
    if unknown:
        known = _keys_at(kind, problem["loc"][:-1])
        return f"{prefix}: unknown key; {did_you_mean(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"{prefix}: missing; it must be given"
    if problem["type"] == "value_error":
        return f"{prefix}: {problem['ctx']['error']}"
    allowed = problem["msg"].removeprefix("Input ")
    return f"{prefix}: found {_short(problem['input'])}, which {allowed}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys_at(kind: Any, place: tuple[int | str, ...]) -> list[str]:
    """Field names of the dataclass that stands at `place` below `kind`."""
    for key in place:
        kind = _dataclass_in(kind)
        if isinstance(key, str) and dataclasses.is_dataclass(kind):
            kind = get_type_hints(kind)[key]
    return [field.name for field in dataclasses.fields(_dataclass_in(kind))]


def _dataclass_in(annotation: Any) -> Any:
    """The dataclass inside `X | None` or `tuple[X, ...]`; a dataclass as it is."""
    while not dataclasses.is_dataclass(annotation) and get_args(annotation):
        inner = [part for part in get_args(annotation) if part not in (type(None), ..., str)]
        annotation = inner[0] if inner else None
    return annotation
