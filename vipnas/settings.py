"""What a result depends on, as plain values, and what differs between two such documents.

Files are in it by a digest of their content, so that a corrected label counts and a moved file does
not. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from vipnas.errors import UserError
from vipnas.files import digest, first_difference

DIGEST = "sha256:"
OTHER_FOLDER = "remove the folder or choose another --output"


def content_digest(path: Path) -> str:
    """Return a short fingerprint of a file's content; a process reads an unchanged file once."""
    status = path.stat()
    return _digest_of_file(path.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _digest_of_file(path: Path, size_bytes: int, modified_ns: int) -> str:
    return DIGEST + digest(path)


def plain_digest(value: Any) -> str:
    """Return a short fingerprint of plain values."""
    return DIGEST + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def listing_digest(paths: Iterable[tuple[str, Path]]) -> str:
    """Return a short fingerprint of files by their names and sizes, without reading them."""
    return plain_digest([(name, path.stat().st_size) for name, path in paths])


def check_settings(
    found: dict[str, Any], wanted: dict[str, Any], path: Path, hint: str = OTHER_FOLDER
) -> None:
    """Raise UserError for the first setting in which `path` differs from what is wanted now."""
    if (difference := first_setting(found, wanted, path)) is not None:
        raise UserError(f"{path}: {difference.place}", difference.before, difference.now, hint)


class Difference(NamedTuple):
    """A setting that differs: its place, its value before and now, as shown."""

    place: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.place}: expected {self.before}, got {self.now}"


def first_setting(found: dict[str, Any], wanted: dict[str, Any], path: Path) -> Difference | None:
    """Return what differs first from the settings found in `path`; None for equal settings."""
    difference = first_difference(found, wanted)
    if difference is None:
        return None
    place, before, now = difference
    if all(str(value).startswith(DIGEST) for value in (before, now)):
        modified = time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
        return Difference(place.replace(".", " "), "no change", f"changed since {modified}")
    return Difference(place, _short(before), _short(now))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
