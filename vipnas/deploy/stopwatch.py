"""How long each part of the work on a source takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Stopwatch:
    """Seconds, by a clock, that were spent on each part of the work."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    clock: Callable[[], float] = perf_counter

    def on(self, part: str) -> Lap:
        """Add the time that the block takes."""
        return Lap(self, part)

    def on_each(self, part: str, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; add the time that each is waited for."""
        iterator = iter(items)
        while True:
            with self.on(part):
                item = next(iterator, None)
            if item is None:
                return
            yield item


class Lap:
    """Adds the time of its block; a class, because generators take longer in a loop of frames."""

    def __init__(self, stopwatch: Stopwatch, part: str) -> None:
        self._stopwatch, self._part = stopwatch, part

    def __enter__(self) -> None:
        self._begin = self._stopwatch.clock()

    def __exit__(self, *error: object) -> None:
        self._stopwatch.seconds[self._part] += self._stopwatch.clock() - self._begin
