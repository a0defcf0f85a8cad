"""The search loop: ask, score, write to the journal, tell. No torch here.

The order of asks and tells does not depend on the workers. First `pending` architectures are asked
for; then every tell, in the order of the asks, is followed by one ask. A result that comes early
waits. So trials depend on the seed and the settings alone, with one worker or twenty.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from vipnas.errors import UserError
from vipnas.quantities import Cost, Objective, costs_among
from vipnas.search.constraints import A, CostOf
from vipnas.search.journal import Journal
from vipnas.search.searchers import Searcher
from vipnas.search.trial import Trial
from vipnas.search.workers import Scored

FAILURES_IN_A_ROW = 10
Submitted = TypeVar("Submitted", bound=Hashable, contravariant=True)


class Workers(Protocol[Submitted]):
    """Scores architectures. Every submitted one is returned once, in any order."""

    def submit(self, number: int, arch: Submitted, floor: float | None = None) -> None:
        """Queue an architecture.

        Args:
            number: The number of its trial.
            arch: The architecture.
            floor: Scores below it may be rough, so that scoring may stop early.
        """

    def next(self) -> Scored:
        """Wait for the next result and return it."""


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
    """Score `num_trials` architectures that the searcher proposes; fewer if it has no new ones.

    Results are written to the journal as they arrive: a kill loses only what was being scored.
    Neither the journal's trials of this method nor what another method scored are scored again.

    Args:
        searcher: Proposes architectures.
        method: The name of the searcher in the journal.
        workers: Score architectures.
        cost_of: Returns the cost of an architecture.
        num_trials: Number of architectures.
        journal: The journal of the search.
        show: Called with every new trial.
        pending: Number of architectures that are proposed before the first score is told.
        stop_early: The objectives of the search, if scoring may stop early below `floor_of`.
        earlier: Methods that ran before, whose scores are taken over with `stop_early`.

    Returns:
        The trials of this method, in the order of their numbers.
    """
    history = _History(searcher, method, cost_of, journal, show, stop_early, earlier)
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
                workers.submit(len(asked), arch, history.floor(arch, trials))
            asked.append(arch)
        if len(trials) == len(asked):
            return trials
        trials.append(history.wait_for(len(trials), asked, workers))
        searcher.tell(asked[trials[-1].number], trials[-1].fitness)
        _check_failures(trials)


def floor_of(cost: Cost, told: Sequence[Trial], objectives: Sequence[Objective]) -> float:
    """Return the best score among those that cost no more by any objective; -inf without any.

    No winner and no front needs a lower score.
    """
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
    """The trials of one method by number, told or not. New ones are written to the journal."""

    def __init__(
        self,
        searcher: Searcher[A],
        method: str,
        cost_of: CostOf[A],
        journal: Journal,
        show: Callable[[Trial], None],
        stop_early: Sequence[Objective] | None,
        earlier: Collection[str],
    ) -> None:
        """With `stop_early`, trial n takes over only trials up to n of the methods `earlier`."""
        self.searcher, self.method, self.cost_of = searcher, method, cost_of
        self.journal, self.show = journal, show
        self.trials = {trial.number: trial for trial in journal.trials if trial.method == method}
        self.stop_early = stop_early
        # Of several trials of one architecture, the one with the lowest number is kept.
        self.of_others = {
            trial.arch: trial
            for trial in sorted(journal.trials, key=lambda trial: -trial.number)
            if trial.method != method
            and not trial.partial
            and (stop_early is None or trial.method in earlier)
        }

    def check_number(self, num_trials: int) -> None:
        """Raise UserError if the journal holds trials beyond `num_trials`."""
        if (held := max(self.trials, default=-1) + 1) > num_trials:
            raise UserError(
                f"{self.journal.path}: num_trials",
                f"{held} or more, as many trials as it holds",
                str(num_trials),
                "choose another --name or --output",
            )

    def holds(self, number: int, arch: A) -> bool:
        """Return whether the score is known: from the journal, or from another method."""
        if number in self.trials:
            if self.trials[number].arch != arch:
                raise UserError(
                    f"{self.journal.path}: {self.method} trial {number}",
                    "the architecture that this search proposes",
                    "another one",
                    "the journal is of another version of vipnas: remove its folder or choose"
                    " another --output",
                )
            return True
        same = self.of_others.get(arch)  # type: ignore[call-overload]
        if same is None or (self.stop_early is not None and same.number > number):
            return False
        self.add(arch, Scored(number, same.score, same.failure, seconds=0.0))
        return True

    def floor(self, arch: A, told: Sequence[Trial]) -> float | None:
        """Return the score below which scoring may stop early; None if it may not."""
        if self.stop_early is None:
            return None
        return floor_of(self.cost_of(arch), told, self.stop_early)

    def wait_for(self, number: int, asked: Sequence[A], workers: Workers[A]) -> Trial:
        """Return a trial, once the workers have scored it."""
        while number not in self.trials:
            scored = workers.next()
            self.add(asked[scored.number], scored)
        return self.trials[number]

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
        found = f"{FAILURES_IN_A_ROW} failures in a row"
        raise UserError("search", "scores", found, f"the last: {last[-1].failure}")
