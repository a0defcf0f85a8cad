"""Work in pieces that several processes share: each is made once, by whoever comes first."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Piece(NamedTuple):
    """Something to make: `make` writes `target` when all of `needs` are there."""

    target: Path
    needs: tuple[Path, ...]
    make: Callable[[], object]


def make_all(pieces: Sequence[Piece]) -> list[Path]:
    """Make the first piece that can be made and that no other process is at, until there is none.
    What is still missing, others are at, or it waits for what they make."""
    while True:
        missing = [piece for piece in pieces if not piece.target.exists()]
        for piece in missing:
            if all(need.exists() for need in piece.needs):
                with claimed(piece.target.parent) as is_mine:
                    if is_mine and not piece.target.exists():
                        print(f"--- {piece.target}", flush=True)
                        piece.make()
                        break
        else:
            return [piece.target for piece in missing]


@contextmanager
def claimed(directory: Path) -> Iterator[bool]:
    """Whether nobody else is at work in the folder; nobody else is until this is over."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".claimed").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
