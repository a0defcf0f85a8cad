"""Tables of rows by name that other packages add to, by entry points."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import TypeVar

from vipnas.errors import UserError, nearest

Row = TypeVar("Row")


class OpenTable(Mapping[str, Row]):
    """The rows of vipnas, then those of installed packages.

    A package adds a row by an entry point in `group`: its name is the row's name, its object the
    row. Names are listed without importing any package; a row is imported when it is taken.
    """

    def __init__(self, group: str, own: Mapping[str, Row]) -> None:
        self.group = group
        self._own = dict(own)

    def __getitem__(self, name: str) -> Row:
        return self._own[name] if name in self._own else self._load(self._added()[name])

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._added()

    def __iter__(self) -> Iterator[str]:
        return iter((*self._own, *self._added()))

    def __len__(self) -> int:
        return len(self._own) + len(self._added())

    def named(self, name: str, place: str) -> Row:
        """Return a row; raise UserError with the known names if there is none."""
        if name not in self._own:
            check_known(name, self, place)
        return self[name]

    def _added(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for entry in _entry_points(self.group, tuple(sys.path)):
            if entry.name in self._own:
                raise UserError(_place(entry), "a new name", "one of vipnas")
            if entry.name in found:
                raise UserError(_place(entry), "a new name", f"that of {_place(found[entry.name])}")
            found[entry.name] = entry
        return found

    def _load(self, entry: EntryPoint) -> Row:
        try:
            row: Row = entry.load()
        except Exception as error:  # a package may fail in any way
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(_place(entry), f"{entry.value} to be importable", reason) from error
        return row


@cache
def _entry_points(group: str, _: tuple[str, ...]) -> EntryPoints:
    """Look once for each search path: that reads a file of every installed package."""
    return entry_points(group=group)


def check_known(name: str, known: Iterable[str], place: str) -> None:
    """Raise UserError unless the name is a known one."""
    names = list(known)
    if name not in names:
        raise unknown_name(name, names, place)


def unknown_name(name: str, known: Sequence[str], place: str) -> UserError:
    """Return the error for a name that is not a known one; the known ones keep their order."""
    return UserError(place, f"one of {', '.join(known)}", repr(name), nearest(name, known))


def _place(entry: EntryPoint) -> str:
    package = "" if entry.dist is None else f" of {entry.dist.name}"
    return f"entry point {entry.group}: {entry.name}{package}"
