"""Score architectures in this process. No torch here."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias

from vipnas.search.constraints import A

Evaluate: TypeAlias = Callable[[A], float]
# Called once in each worker; returns the function that scores.
MakeEvaluate: TypeAlias = Callable[[], Evaluate[A]]

# Failures of the architecture itself: not finite, out of memory. They are recorded, because another
# attempt would fail too. Every other exception is a bug and stops the search.
FAILURES = (FloatingPointError, MemoryError)


@dataclass(frozen=True)
class Scored:
    """The result of scoring one architecture: a finite score, or a failure. See `Trial`."""

    number: int
    score: float | None
    failure: str | None
    seconds: float
    worker: str | None = None
    retried: str | None = None
    partial: bool = False


def scored(evaluate: Evaluate[A], number: int, arch: A, floor: float | None) -> Scored:
    """Score an architecture in this process.

    With a floor, `evaluate.above(arch, floor)` is called: it may stop early if the architecture
    will not reach the floor, and returns the score and whether it stopped.
    """
    started = time.monotonic()
    partial = False
    score: float | None = None
    failure: str | None = None
    try:
        if floor is None:
            score = evaluate(arch)
        else:
            stoppable: Any = evaluate
            score, partial = stoppable.above(arch, floor)
        if not math.isfinite(score):
            raise FloatingPointError(f"the score is {score}")
    except FAILURES as error:
        score, failure = None, f"{type(error).__name__}: {error}"
    return Scored(number, score, failure, time.monotonic() - started, partial=partial)


class InProcess(Generic[A]):
    """Score one architecture after the other in this process, in the order of submission."""

    def __init__(self, make_evaluate: MakeEvaluate[A]) -> None:
        self.make_evaluate = make_evaluate
        self.evaluate: Evaluate[A] | None = None
        self.queue: deque[tuple[int, A, float | None]] = deque()

    def submit(self, number: int, arch: A, floor: float | None = None) -> None:
        self.queue.append((number, arch, floor))

    def next(self) -> Scored:
        # Made when first needed: a search that is done already needs no crops.
        if self.evaluate is None:
            self.evaluate = self.make_evaluate()
        return scored(self.evaluate, *self.queue.popleft())
