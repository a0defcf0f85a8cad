"""The search: ask, score, write down, tell. No torch here.

The order of asks and tells is fixed, whoever scores and however quickly: the first `pending` archs
are asked for, then each tell, in the order of the asks, is followed by one ask. A result that comes
early waits. So the trials are a function of the seed and the settings, on one worker or on twenty.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from vipnas.quantities import Cost, Objective, costs_among
from vipnas.search.constraints import A, CostOf
from vipnas.search.journal import Journal
from vipnas.search.searchers import Searcher
from vipnas.search.trial import Trial
from vipnas.search.workers import Scored

FAILURES_IN_A_ROW = 10
Submitted = TypeVar("Submitted", bound=Hashable, contravariant=True)


class Workers(Protocol[Submitted]):
    """Who scores archs: each that is submitted comes back once, in any order."""

    def submit(self, number: int, arch: Submitted, floor: float | None = None) -> None:
        """Queue an arch under the number of its trial; below the `floor` a rough score will do."""

    def next(self) -> Scored:
        """Wait for the next result."""


def search(
    searcher: Searcher[A],
    method: str,
    workers: Workers[A],
    cost_of: CostOf[A],
    num_trials: int,
    journal: Journal,
    show: Callable[[Trial], None],
    pending: int = 1,
    stop_early: Sequence[Objective] | None = None,
    earlier: Collection[str] = (),
) -> list[Trial]:
    """Score `num_trials` archs that the searcher asks for; fewer if it finds no more new ones.

    Trials of this `method` that the journal holds are told again instead of scored; an arch that
    another method scored is not scored twice. A result is written down when it comes in, so that
    a kill loses what was being scored and nothing else. With `stop_early`, the objectives of the
    search, an arch need not be scored to the end where it falls below the best score told of archs
    that cost no more (`floor_of`): then neither it nor any front needs it.

    A search of more trials begins with those of a search of fewer, so that a journal may grow.
    Scores that may be cut short depend on what was scored before: then trial n takes over only
    trials up to n of the `earlier` methods.

    Raises ValueError where the journal holds more trials of the method than are asked for.
    """
    earlier_only = None if stop_early is None else earlier
    history = _History(searcher, method, cost_of, journal, show, earlier_only)
    history.check_number(num_trials)
    asked: list[A] = []
    trials: list[Trial] = []
    while True:
        while len(asked) < min(num_trials, len(trials) + pending):
            arch = searcher.ask()
            if arch is None:
                num_trials = len(asked)
                break
            if not history.holds(len(asked), arch):
                floor = None if stop_early is None else floor_of(cost_of(arch), trials, stop_early)
                workers.submit(len(asked), arch, floor)
            asked.append(arch)
        if len(trials) == len(asked):
            return trials
        while len(trials) not in history.trials:
            scored = workers.next()
            history.add(asked[scored.number], scored)
        trial = history.trials[len(trials)]
        searcher.tell(asked[trial.number], trial.fitness)
        trials.append(trial)
        _check_failures(trials)


def floor_of(cost: Cost, told: Sequence[Trial], objectives: Sequence[Objective]) -> float:
    """The best score among those that cost no more by any objective; -inf where there is none."""
    costs = [quantity.name for quantity in costs_among(objectives)]
    return max(
        (
            trial.fitness
            for trial in told
            if all(trial.cost.value(name) <= cost.value(name) for name in costs)
        ),
        default=float("-inf"),
    )


class _History(Generic[A]):
    """The trials of one method by number, told or not, and in the journal."""

    def __init__(
        self,
        searcher: Searcher[A],
        method: str,
        cost_of: CostOf[A],
        journal: Journal,
        show: Callable[[Trial], None],
        earlier: Collection[str] | None = None,
    ) -> None:
        """With `earlier`, trial n takes over only trials up to n of these methods."""
        self.searcher, self.method, self.cost_of = searcher, method, cost_of
        self.journal, self.show = journal, show
        self.trials = {trial.number: trial for trial in journal.trials if trial.method == method}
        self.up_to_own_number = earlier is not None
        # Of several trials of one arch the one with the lowest number is kept.
        self.of_others = {
            trial.arch: trial
            for trial in sorted(journal.trials, key=lambda trial: -trial.number)
            if trial.method != method
            and not trial.partial
            and (earlier is None or trial.method in earlier)
        }

    def check_number(self, num_trials: int) -> None:
        """Raise ValueError where the journal holds trials beyond `num_trials`."""
        if (held := max(self.trials, default=-1) + 1) > num_trials:
            raise ValueError(
                f"{self.journal.path}: num_trials: expected {held} or more, as many trials as it"
                f" holds, got {num_trials} (choose another --name or --output)"
            )

    def holds(self, number: int, arch: A) -> bool:
        """Whether the arch needs no scoring: it is in the journal, or another method scored it."""
        if number in self.trials:
            if self.trials[number].arch != arch:
                raise ValueError(
                    f"{self.journal.path}: {self.method} trial {number} is not the arch that this"
                    " search would try; the journal was made by another version: remove the folder"
                    " or choose another output"
                )
            return True
        same = self.of_others.get(arch)  # type: ignore[call-overload]
        if same is None or (self.up_to_own_number and same.number > number):
            return False
        self.add(arch, Scored(number, same.score, same.failure, seconds=0.0))
        return True

    def add(self, arch: A, scored: Scored) -> None:
        origin = self.searcher.origin(arch)
        trial = Trial(
            number=scored.number,
            method=self.method,
            arch=arch,  # type: ignore[arg-type]
            score=scored.score,
            cost=self.cost_of(arch),
            seconds=round(scored.seconds, 3),
            failure=scored.failure,
            generation=origin.generation,
            parents=origin.parents,
            worker=scored.worker,
            retried=scored.retried,
            partial=scored.partial,
        )
        self.journal.append(trial)
        self.trials[trial.number] = trial
        self.show(trial)


def _check_failures(trials: list[Trial]) -> None:
    last = trials[-FAILURES_IN_A_ROW:]
    if len(last) == FAILURES_IN_A_ROW and all(trial.failure for trial in last):
        raise ValueError(
            f"{FAILURES_IN_A_ROW} evaluations in a row failed; the last: {last[-1].failure}"
        )
