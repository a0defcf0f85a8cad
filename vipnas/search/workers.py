"""Scoring in this process, and what a score is, for workers elsewhere too. No torch here."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias

from vipnas.search.constraints import A

Evaluate: TypeAlias = Callable[[A], float]
# Makes, once in each worker and where it will be used, the function that scores.
MakeEvaluate: TypeAlias = Callable[[], Evaluate[A]]

# Failures that are the arch's own: not finite, out of memory. They are recorded at once, since a
# second try would end the same. Everything else is a mistake of ours and stops the search.
FAILURES = (FloatingPointError, MemoryError)


@dataclass(frozen=True)
class Scored:
    """What came of scoring the arch of trial `number`: a finite score, or a failure with its
    reason. `retried` says why a first attempt was lost, where this is of a second; `partial`, that
    the score is of a part of the people only."""

    number: int
    score: float | None
    failure: str | None
    seconds: float
    worker: str | None = None
    retried: str | None = None
    partial: bool = False


def scored(evaluate: Evaluate[A], number: int, arch: A, floor: float | None) -> Scored:
    """Score an arch here and now.

    With a floor by `evaluate.above(arch, floor)`, which may give up early on an arch that will not
    reach it, and says with the score whether it did.
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
    """Scores one arch after the other in this process, the oldest first."""

    def __init__(self, make_evaluate: MakeEvaluate[A]) -> None:
        self.make_evaluate = make_evaluate
        self.evaluate: Evaluate[A] | None = None
        self.queue: deque[tuple[int, A, float | None]] = deque()

    def submit(self, number: int, arch: A, floor: float | None = None) -> None:
        self.queue.append((number, arch, floor))

    def next(self) -> Scored:
        # Made when first needed: a search that is finished already makes no crops.
        if self.evaluate is None:
            self.evaluate = self.make_evaluate()
        return scored(self.evaluate, *self.queue.popleft())
