"""Strict reading, and writes that are whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from errors_fixture import refused
from filelock import FileLock, Timeout
from pydantic import Field

from vipnas.errors import UserError
from vipnas.files import (
    Strict,
    did_you_mean,
    errors_name,
    first_difference,
    locked,
    parse,
    read_json,
    read_text,
    read_yaml,
    to_plain,
    write_atomically,
)


@dataclass(frozen=True)
class Inner(Strict):
    width: int
    ratio: float = 0.5

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UserError("width", "a whole number from 1", str(self.width))
        if self.width > 1000:
            raise ValueError("wider than any network")


@dataclass(frozen=True)
class Outer(Strict):
    name: str
    inner: Inner
    parts: tuple[Inner, ...] = ()
    extra: Inner | None = None


IN_ITSELF: list[Any] = []
IN_ITSELF.append(IN_ITSELF)
GOOD: dict[Any, Any] = {"name": "a", "inner": {"width": 3}}


def with_ratio(ratio: float) -> dict[str, Any]:
    return {**GOOD, "inner": {"width": 3, "ratio": ratio}}


@pytest.mark.parametrize("name", [".", "..", "folder"])
def test_a_folder_is_no_file_to_write(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    with refused(name, "a file to write", "a folder"):
        write_atomically(Path(name), "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_plain_values_become_the_dataclass_and_back() -> None:
    raw = {**GOOD, "parts": [{"width": 1, "ratio": 2}], "extra": None}
    outer = parse(Outer, raw, "file")
    assert outer == Outer("a", Inner(3), (Inner(1, 2.0),))
    assert parse(Outer, to_plain(outer), "file") == outer


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (None, ("file", "an object", "None")),
        ([1], ("file", "an object", "[1]")),
        ({**GOOD, "nam": "b"}, ("file", "one of the keys extra, inner", "'nam'", "'name'?")),
        ({"nmae": "a", "inner": {"width": 3}}, ("file", "the keys", "'nmae'", "mean 'name'?")),
        ({**GOOD, 3: "b"}, ("file", "one of the keys extra, inner, name, parts", "'3'")),
        ({"inner": {"width": 3}}, ("file: name", "a value", "none", "required")),
        ({**GOOD, "inner": {"widht": 3}}, ("file: inner", "ratio, width", "'widht'", "'width'?")),
        ({**GOOD, "extra": {"width": 1, "rato": 1}}, ("file: extra", "ratio", "'rato'", "'ratio'")),
        ({**GOOD, "parts": [{"width": 1}, {"w": 1}]}, ("file: parts[1]", "the keys ratio", "'w'")),
        ({**GOOD, "inner": {"width": "3"}}, ("file: inner.width", "a valid integer", "'3'")),
        ({**GOOD, "inner": {"width": 3.5}}, ("file: inner.width", "a valid integer", "3.5")),
        ({**GOOD, "inner": {"width": True}}, ("file: inner.width", "a valid integer", "True")),
        ({**GOOD, "inner": {"width": 0}}, ("file: inner.width", "a whole number from 1", "0")),
        ({**GOOD, "inner": {"width": 1001}}, ("file: inner", "", "{'width': 1001}", "wider than")),
        ({**GOOD, "name": ["x" * 200]}, ("file: name", "a valid string", "['xxxx")),
        ({**GOOD, "name": {1, 2}}, ("file", "plain values", "'dict'", "set is not JSON")),
        ({**GOOD, "name": IN_ITSELF}, ("file", "plain values", "'dict'", "Circular reference")),
        (with_ratio(float("nan")), ("file: inner.ratio", "a finite number", "nan")),
        (with_ratio(float("inf")), ("file: inner.ratio", "a finite number", "inf")),
    ],
)
def test_what_does_not_fit_is_one_line(raw: Any, fields: tuple[str, ...]) -> None:
    with refused(*fields):
        parse(Outer, raw, "file")
    with pytest.raises(UserError) as error:
        parse(Outer, raw, "file")
    assert len(str(error.value)) < 200


@dataclass(frozen=True)
class Other(Strict):
    """What stands beside `Inner` in a union."""

    depth: int
    inner: Inner | None = None


@dataclass(frozen=True)
class Either(Strict):
    part: Inner | Other
    parts: tuple[Inner | Other, ...] = ()
    size: int | tuple[int, int] = 1
    named: dict[str, Inner] | None = None


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        ({"part": {"width": 3, "rato": 1}}, ("file: part", "ratio, width", "'rato'", "'ratio'?")),
        ({"part": {"depth": 3, "dpth": 1}}, ("file: part", "depth, inner", "'dpth'", "'depth'?")),
        ({"part": {"depth": 3, "inner": {"width": 1, "w": 2}}}, ("file: part.inner", "", "'w'")),
        ({"part": {"depth": "3"}}, ("file: part.depth", "a valid integer", "'3'")),
        (
            {"part": {"depth": 3}, "parts": [{"width": 1}, {"width": 1, "x": 2}]},
            ("file: parts[1]", "the keys", "'x'"),
        ),
        ({"part": 3}, ("file: part", "an object", "3")),
        ({"part": {"depth": 3}, "size": "4"}, ("file: size", "a valid integer", "'4'")),
        ({"part": {"depth": 3}, "size": [1, 2.5]}, ("file: size[1]", "a valid integer", "2.5")),
        (
            {"part": {"depth": 3}, "named": {"a": {"w": 1, "width": 2}}},
            ("file: named.a", "the keys", "'w'"),
        ),
    ],
)
def test_a_fault_inside_a_union_is_that_of_the_member_that_was_meant(
    raw: Any, fields: tuple[str, ...]
) -> None:
    with refused(*fields):
        parse(Either, raw, "file")


@dataclass(frozen=True)
class Ranges(Strict):
    RENAMED: ClassVar = {"shade": "colour"}

    colour: Literal["red", "green"] = "red"
    sides: tuple[int, int] = (1, 2)
    share: Annotated[float, Field(ge=0, lt=1)] = 0.5


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        ({"colour": "gren"}, ("file: colour", "one of green, red", "'gren'", "mean 'green'?")),
        ({"sides": [1, 2, 3]}, ("file: sides", "at most 2 items", "[1, 2, 3]")),
        ({"share": 1}, ("file: share", "a number less than 1", "1")),
        ({"share": -0.1}, ("file: share", "a number greater than or equal to 0", "-0.1")),
        ({"shade": "red"}, ("file", "one of the keys colour", "'shade'", "renamed: use colour")),
    ],
)
def test_what_is_allowed_is_said(raw: Any, fields: tuple[str, ...]) -> None:
    with refused(*fields):
        parse(Ranges, raw, "file")


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("ratio: 5.0e6", "write 5.0e+6"),
        ("ratio: 5e6", "write 5.0e+6"),
        ("ratio: -1e-3", "write -1.0e-3"),
        ("ratio: 5.0e+6", None),
        ("width: 5e3", "write 5000"),
    ],
)
def test_a_number_that_yaml_reads_as_a_string_is_shown_as_it_must_be_written(
    tmp_path: Path, written: str, hint: str | None
) -> None:
    path = tmp_path / "inner.yaml"
    path.write_text(f"{'width: 1' if 'ratio' in written else 'ratio: 1.0'}\n{written}\n")
    if hint is None:
        assert parse(Inner, read_yaml(path), "file") == Inner(1, 5e6)
        return
    with pytest.raises(UserError) as error:
        parse(Inner, read_yaml(path), "file")
    assert error.value.hint == f"YAML reads it as a string: {hint}"


def test_a_date_in_yaml_is_a_string_with_a_place(tmp_path: Path) -> None:
    path = tmp_path / "inner.yaml"
    path.write_text("width: 2026-11-29\n")
    with refused("file: width", "a valid integer", "'2026-11-29'"):
        parse(Inner, read_yaml(path), "file")


def test_kinds_that_are_no_dataclasses_are_as_strict() -> None:
    assert parse(tuple[int, int], [3, 4], "file") == (3, 4)
    for raw in ([3, 4.5], [3, "4"], [True, 4], [3], [3, 4, 5], 3):
        with pytest.raises(UserError, match="^file"):
            parse(tuple[int, int], raw, "file")


def test_the_nearest_word_is_offered_only_where_one_is_near() -> None:
    assert did_you_mean("widht", ["width", "depth"]) == (
        "did you mean 'width'? known: depth, width"
    )
    assert did_you_mean("xyz", ["width", "depth"]) == "known: depth, width"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a: [", "while parsing"),
        (b"a: 1\n\tb: 2", "while scanning"),
        (b"a: {c: 1}\nb:\n  c: 1\n  d: 2\n  c: 3", "line 5: key 'c' is on line 3 already"),
        (b"a: {c: 1, 'c': 2}", "line 1: key 'c' is on line 1 already"),
        (b"!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        (b"a: !!int x", "invalid literal for int"),
        (b"a: !!timestamp x", "'NoneType' object"),
        (b"a: " + b"9" * 5000, "Exceeds the limit"),
        (b"[" * 1000, "nested too deeply"),
    ],
)
def test_yaml_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(content)
    with refused(str(path), "valid YAML", "a syntax error", reason):
        read_yaml(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with refused(str(path), "UTF-8 text"):
        read_yaml(path)


def test_json_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    for read in (read_text, read_json, read_yaml):
        with refused(str(path), "a file", "no such file"):
            read(path)
        with refused(str(tmp_path), "a file", "a folder"):
            read(tmp_path)
    for content in (b'{"a": ', b'"\xff"', b"", b"9" * 5000, b"[" * 200_000):
        path.write_bytes(content)
        with refused(str(path), "valid JSON", "a syntax error"):
            read_json(path)
    path.write_text("[1]", encoding="utf-8-sig")  # as some editors begin their files
    assert read_json(path) == [1]


@pytest.mark.parametrize(
    ("found", "wanted", "difference"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2], "c": None}}, None),  # an option that came later
        ({"a": {"b": 1, "c": None}}, {"a": {"b": 1}}, None),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3, "b": 1}}, ("a.c", 2, 3)),
        ({"a": {"b": 1}}, {"a": None}, ("a", {"b": 1}, None)),
        ({"b": 0, "a": [1]}, {"b": None, "a": [2]}, ("a[0]", 1, 2)),
        ({"b": 0}, {}, ("b", 0, None)),  # nothing and none are not the same
    ],
)
def test_the_first_difference_of_two_documents(found: Any, wanted: Any, difference: Any) -> None:
    assert first_difference(found, wanted) == difference
    turned = None if difference is None else (difference[0], difference[2], difference[1])
    assert first_difference(wanted, found) == turned


def test_yaml_has_no_null_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text('seed: 0\nspace: "a\\0"\n')
    with pytest.raises(UserError, match="line 2: a null character"):
        read_yaml(path)


def test_a_file_is_written_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    write_atomically(path, "äé\n")
    assert path.read_bytes() == "äé\n".encode()
    write_atomically(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    """A device such as /dev/null would otherwise be replaced by a file."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(path, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert path.is_fifo()


class FullDisk(io.RawIOBase):
    """Takes three bytes, then there is no room."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> FullDisk:
        return self

    def write(self, data: Any) -> int:
        with open(self.path, "wb") as file:
            file.write(data[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_in_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda path, mode: FullDisk(path))


def fail_in_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)


def fail_in_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, target: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "replace", full)


@pytest.mark.parametrize("fail", [fail_in_write, fail_in_sync, fail_in_rename])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Any, old: bytes | None
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patched:
        fail(patched)
        with pytest.raises(OSError, match="file'") as error:
            write_atomically(path, "longer than before")
    assert (error.value.errno, error.value.filename) in (
        (errno.ENOSPC, str(path)),
        (errno.EIO, str(path)),
    )
    assert (path.read_bytes() if path.exists() else None) == old
    assert len(list(tmp_path.iterdir())) == (0 if old is None else 1)
    write_atomically(path, "new")
    assert path.read_text() == "new"


def test_an_error_of_the_system_names_its_file(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="'metrics.jsonl'") as error,
        errors_name(Path("metrics.jsonl")),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert error.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError, match="'another'"), errors_name(tmp_path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "another")


def test_one_at_a_time_in_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path):
        for other in (
            lambda: FileLock(tmp_path / ".vipnas.lock", timeout=0),
            lambda: locked(tmp_path),
        ):
            done = threading.Event()

            def wait(make: Any = other, done: threading.Event = done) -> None:
                with suppress(Timeout), make():
                    done.set()

            thread = threading.Thread(target=wait, daemon=True)
            thread.start()
            assert not done.wait(0.1)
    assert done.wait(30)  # the second one waited
    thread.join()


def test_the_content_is_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut could leave the name with nothing behind it."""
    events = []
    sync, rename = os.fsync, Path.replace

    def noting_sync(descriptor: int) -> None:
        events.append("sync")
        sync(descriptor)

    def noting_rename(path: Path, target: Path) -> Path:
        events.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noting_sync)
    monkeypatch.setattr(Path, "replace", noting_rename)
    write_atomically(tmp_path / "file", "content")
    assert events == ["sync", "rename", "sync"]
