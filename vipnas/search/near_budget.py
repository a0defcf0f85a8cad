"""Measure architectures whose predicted latency is near the budget. No torch here.

A search is a function of its seed and of what it was told. So every answer, a measurement or none,
is kept in a file, and a resumed search takes the same answers in the same order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Generic

from vipnas.errors import UserError
from vipnas.files import Strict, parse, read_json, to_plain, write_atomically
from vipnas.quantities import LATENCY, Constraint, Cost
from vipnas.search.constraints import A, CostOf
from vipnas.search.searchers import Origin, Searcher

# Predictions nearer to a budget than this many mean errors are measured. Of normal errors, 89 % are
# below two means.
UNSURE_ERRORS = 2.0


@dataclass(frozen=True)
class Answer(Strict):
    """What an architecture was found to take; None if it was not measured."""

    genes: tuple[int, ...]
    latency_ms: float | None


class NearBudget(Generic[A]):
    """A cost function that knows what was measured, and decides what is.

    Called, it returns the cost of an architecture, with the measured latency if there is one.

    Args:
        cost_of: Returns the cost, with the predicted latency.
        encode: Returns the genes of an architecture.
        constraints: The budgets.
        error: Mean relative error of predictions.
        share: Share of the time since the start that may go into measurements, 0 to 1.
        measure: Returns milliseconds; None if the machine is too noisy.
        path: The file of the answers.
        now: Returns seconds.

    Raises:
        UserError: If the file is not one of answers.
    """

    def __init__(
        self,
        cost_of: CostOf[A],
        encode: Callable[[A], tuple[int, ...]],
        constraints: Sequence[Constraint],
        error: float,
        share: float,
        measure: Callable[[A], float | None],
        path: Path,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._cost_of, self._encode, self._measure = cost_of, encode, measure
        self._constraints = tuple(constraints)
        self._error, self._share, self._path, self._now = error, share, path, now
        self._start, self._spent = now(), 0.0
        known = read_json(path) if path.exists() else []
        self._answers = list(parse(tuple[Answer, ...], known, str(path)))
        self._asked = 0
        self._measured: dict[A, float] = {}

    def __call__(self, arch: A) -> Cost:
        cost = self._cost_of(arch)
        measured = self._measured.get(arch)
        return cost if measured is None else cost.with_values(**{LATENCY.name: measured})

    def accepts(self, arch: A) -> bool:
        """Whether a proposal keeps to the budgets; near one it is measured if there is time."""
        if arch not in self._measured and self._is_unsure(self._cost_of(arch)):
            latency_ms = self._answer(arch)
            if latency_ms is not None:
                self._measured[arch] = latency_ms
        cost = self(arch)
        return not any(limit.excess(cost) for limit in self._constraints)

    def measuring(self, searchers: Mapping[str, Searcher[A]], but: str) -> dict[str, Searcher[A]]:
        """Return searchers by method, all `but` one of which propose what this accepts."""
        return {
            method: searcher if method == but else Accepted(searcher, self.accepts)
            for method, searcher in searchers.items()
        }

    def _is_unsure(self, cost: Cost) -> bool:
        near = UNSURE_ERRORS * self._error
        return any(
            abs(limit.value(cost) / bound - 1) <= near
            for limit in self._constraints
            if limit.quantity == LATENCY.name
            for bound in limit.bounds.values()
        )

    def _answer(self, arch: A) -> float | None:
        """Return the next answer of the file, or a new one."""
        genes, number = self._encode(arch), self._asked
        self._asked += 1
        if number == len(self._answers):
            self._answers.append(Answer(genes, self._timed(arch)))
            text = json.dumps([to_plain(answer) for answer in self._answers])
            write_atomically(self._path, text + "\n")
        if self._answers[number].genes != genes:
            expected = "the architecture that this search proposes"
            raise UserError(f"{self._path}: {number}", expected, "another one", "remove its folder")
        return self._answers[number].latency_ms

    def _timed(self, arch: A) -> float | None:
        """Measure unless that took more than its share so far."""
        started = self._now()
        if self._spent > self._share * (started - self._start):
            return None
        latency_ms = self._measure(arch)
        self._spent += self._now() - started
        return latency_ms if latency_ms is None else round(latency_ms, 4)


class Accepted(Generic[A]):
    """A searcher that proposes only what is accepted; it is told that other proposals failed."""

    def __init__(self, searcher: Searcher[A], accepts: Callable[[A], bool]) -> None:
        self._searcher, self._accepts = searcher, accepts

    def ask(self) -> A | None:
        arch = self._searcher.ask()
        while arch is not None and not self._accepts(arch):
            self.tell(arch, -math.inf)
            arch = self._searcher.ask()
        return arch

    def tell(self, arch: A, fitness: float) -> None:
        self._searcher.tell(arch, fitness)

    def origin(self, arch: A) -> Origin:
        return self._searcher.origin(arch)
