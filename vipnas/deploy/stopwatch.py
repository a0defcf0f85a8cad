"""How long each part of the work on a source takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Stopwatch:
    """Seconds, by a clock, that were spent on each part of the work."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    clock: Callable[[], float] = perf_counter

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Add the time that the block takes."""
        begin = self.clock()
        try:
            yield
        finally:
            self.seconds[part] += self.clock() - begin

    def on_each(self, part: str, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; add the time that each is waited for."""
        iterator = iter(items)
        while True:
            with self.on(part):
                item = next(iterator, None)
            if item is None:
                return
            yield item
