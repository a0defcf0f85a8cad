"""Files: strict reading of YAML and JSON into dataclasses, and atomic writes."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import yaml
from filelock import FileLock
from pydantic import ConfigDict, TypeAdapter, ValidationError

from vipnas.errors import UserError, nearest, shown
from vipnas.validation import user_error

T = TypeVar("T")

# What PyYAML's constructors raise for a value that is not of its tag: `!!int x`, `!!timestamp x`.
OF_EXPLICIT_TAGS = (ValueError, TypeError, AttributeError, LookupError)


class Strict:
    """Base of every dataclass that is read from a file.

    Unknown keys, values of another type and numbers that are not finite are errors.

    Attributes:
        RENAMED: Old key to new key. `parse` refuses an old key with a hint that names the new one.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {}
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a temporary file, fsync, rename.

    A reader sees the old file or the new one, also after a kill or on a full disk. What is no
    regular file, such as `/dev/null` or a pipe, is written to directly.

    Raises:
        UserError: If the path is that of a folder.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.is_dir():
        raise UserError(str(path), "a file to write", "a folder")
    if path.exists() and not path.is_file():
        with errors_name(path):
            path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Always the same name, so that the next write replaces what a kill left behind.
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
    """Add the path to every OSError raised inside that has no file name, such as a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def sync_directory(directory: Path) -> None:
    """Make a rename in the directory survive a power cut."""
    # Windows cannot open a directory.
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a folder; every other thread and process that asks for it waits.

    The lock of a killed process is released. The file `.vipnas.lock` stays in the folder.
    """
    with FileLock(directory / ".vipnas.lock"):
        yield


def digest(path: Path) -> str:
    """Return the first 16 hex digits of the SHA-256 of a file's content.

    Raises:
        UserError: If the file does not exist.
    """
    check_is_file(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def read_text(path: Path) -> str:
    """Return the content of a UTF-8 file, without the byte order mark that Windows writes.

    Raises:
        UserError: If the file does not exist or is not UTF-8.
    """
    check_is_file(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(str(path), "UTF-8 text", "other bytes", str(error)) from error


def check_is_file(path: Path, expected: str = "a file", place: str | None = None) -> None:
    """Raise UserError unless the path is that of a file; its place is by default the path."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise UserError(place or str(path), expected, found)


def read_yaml(path: Path) -> Any:
    """Return the plain values of a YAML file.

    The safe loader refuses tags that would build objects. A key that is given twice is refused too;
    YAML itself would silently keep the last one.

    Raises:
        UserError: If the file does not exist or is not valid YAML.
    """
    text = read_text(path)
    try:
        return _UniqueKeyLoader(text).get_single_data()
    except RecursionError:
        reason = "nested too deeply"
    except (yaml.YAMLError, *OF_EXPLICIT_TAGS) as error:
        reason = " ".join(str(error).split())
    raise UserError(str(path), "valid YAML", "a syntax error", reason)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuse keys that are given twice. Dates stay strings because no setting is a date.

    So do keys, such as `on`, which YAML 1.1 takes for a boolean.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_scalar(self, node: Any) -> Any:
        """Refuse null characters, which no name of a file can have."""
        value = super().construct_scalar(node)
        if isinstance(value, str) and "\0" in value:
            raise yaml.MarkedYAMLError(f"line {node.start_mark.line + 1}: a null character")
        return value

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.tag.endswith(":bool"):
                    key.tag = self.DEFAULT_SCALAR_TAG
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in lines:
                    what = f"line {line}: key {key.value!r} is on line {lines[name]} already"
                    raise yaml.MarkedYAMLError(what)
                lines[name] = line
        return node


def read_json(path: Path) -> Any:
    """Return the plain values of a JSON file.

    Raises:
        UserError: If the file does not exist or is not valid JSON.
    """
    check_is_file(path)
    return _from_json(path.read_bytes(), str(path))


def _from_json(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:  # also for a wrong encoding and for endless digits
        reason = str(error)
    raise UserError(where, "valid JSON", "a syntax error", reason)


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, kind))


def parse(kind: type[T], raw: Any, where: str) -> T:
    """Build a value of type `kind`, such as a dataclass, from plain values.

    Nothing is converted: a string is no number, but a whole number may be given for a float.

    Args:
        kind: The type to build.
        raw: Dicts, lists and scalars, as YAML and JSON hold them.
        where: The name of the document, for errors.

    Raises:
        UserError: If a key is unknown or missing, or a value is not allowed. Its place is `where`
            and the keys.
    """
    try:
        # JSON, because a list may be given for a tuple in it, even in strict mode.
        parsed: T = _adapter(cast(Hashable, kind)).validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise user_error(error, kind).inside(where) from None
    except (TypeError, ValueError, RecursionError) as error:  # such as bytes, or a list in itself
        raise UserError(where, "plain values", shown(type(raw).__name__), str(error)) from None
    return parsed


def parse_json(kind: type[T], text: str, where: str) -> T:
    """Parse a JSON string with `parse`, which has the same arguments and errors."""
    return parse(kind, _from_json(text, where), where)


def to_plain(value: Any, defaults: bool = True) -> Any:
    """Return a dataclass as dicts, lists and scalars that JSON can hold.

    Args:
        value: The dataclass.
        defaults: Keep the fields that have their default value.
    """
    adapter = _adapter(cast(Hashable, type(value)))
    return adapter.dump_python(value, mode="json", exclude_defaults=not defaults)


def first_difference(found: Any, wanted: Any, place: str = "") -> tuple[str, Any, Any] | None:
    """Return the first place at which two documents differ, and the value of each there.

    A missing key equals null: an option that was added later, and is off, does not invalidate
    earlier runs.

    Returns:
        The keys, as in `stages[0].width`, the value in `found`, the value in `wanted`; None if
        equal.
    """
    if found == wanted:
        return None
    parts: list[tuple[str, Any, Any]]
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(found.keys() | wanted.keys())
        parts = [(f"{place}.{key}".lstrip("."), found.get(key), wanted.get(key)) for key in keys]
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        items = enumerate(zip(found, wanted, strict=True))
        parts = [(f"{place}[{index}]", *pair) for index, pair in items]
    else:
        return place, found, wanted
    differences = (first_difference(one, other, inside) for inside, one, other in parts)
    return next((one for one in differences if one is not None), None)


def check_version(found: Any, known: int, where: object) -> None:
    """Raise UserError unless a file's format has a known version: this one or an earlier one.

    What came after an earlier version has a default, which says what files without it mean.
    """
    place = f"{where}: version"
    if type(found) is not int or found < 1:
        raise UserError(place, "a whole number from 1", shown(found))
    if found > known:
        raise UserError(place, f"{known} or lower", shown(found), "update vipnas to read it")


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """Return a hint with the nearest known name, and the list of known names."""
    known = sorted(known)
    return f"{nearest(found, known)} known: {', '.join(known)}".lstrip()
