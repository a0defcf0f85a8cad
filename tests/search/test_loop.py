"""Ask, score, write down, tell; and the same again after a kill at any trial."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from errors_fixture import refused
from search_fixture import Separable, trial, without_seconds

from vipnas.arch.image import Arch
from vipnas.config.search import Evolution
from vipnas.models.counting import count_cost
from vipnas.search.constraints import FeasibleSpace
from vipnas.search.journal import Journal
from vipnas.search.loop import search
from vipnas.search.pareto import pareto_front
from vipnas.search.searchers import EvolutionSearcher, RandomSearcher, Searcher
from vipnas.search.trial import Trial
from vipnas.search.workers import InProcess, Scored
from vipnas.space.image import SearchSpace

Evaluate = Callable[[Arch], float]
NUM_TRIALS = 12


class Killed(BaseException):
    """Like a kill: nobody catches it."""


def searcher_of(method: str, space: SearchSpace) -> Searcher:
    feasible = FeasibleSpace(space, count_cost, ())
    if method == "random":
        return RandomSearcher(feasible, seed=0)
    return EvolutionSearcher(feasible, 0, Evolution(population_size=4))


def run(
    space: SearchSpace,
    path: Path,
    evaluate: Evaluate,
    method: str = "evolution",
    num_trials: int = NUM_TRIALS,
    show: Callable[[Trial], None] = lambda trial: None,
    pending: int = 1,
) -> list[Trial]:
    journal = Journal(path, {})
    searcher = searcher_of(method, space)
    workers = InProcess(lambda: evaluate)
    return search(searcher, method, workers, count_cost, num_trials, journal, show, pending)


def test_every_trial_is_scored_once_written_down_and_shown(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    objective, shown = Separable(tiny_space), list[Trial]()
    path = tmp_path / "trials.jsonl"
    trials = run(tiny_space, path, objective, show=shown.append)
    assert [found.number for found in trials] == list(range(NUM_TRIALS))
    assert [found.arch for found in trials] == objective.calls
    assert shown == trials == Journal(path, {}).trials
    for found in trials:
        assert found.method == "evolution" and found.failure is None and found.seconds >= 0
        assert isinstance(found.arch, Arch) and found.score == objective(found.arch)
        assert found.cost == count_cost(found.arch)


def test_run_again_it_scores_nothing(tiny_space: SearchSpace, tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    first = run(tiny_space, path, Separable(tiny_space))
    before = path.read_bytes()
    idle = Separable(tiny_space)
    assert run(tiny_space, path, idle) == first
    assert idle.calls == []
    assert path.read_bytes() == before


@pytest.mark.parametrize("at", range(NUM_TRIALS))
def test_killed_at_any_trial_it_ends_with_the_same_trials(
    tiny_space: SearchSpace, tmp_path: Path, at: int
) -> None:
    objective = Separable(tiny_space)
    unbroken = run(tiny_space, tmp_path / "unbroken.jsonl", objective)

    def killed_at(arch: Arch) -> float:
        if arch == unbroken[at].arch:
            raise Killed
        return objective(arch)

    path = tmp_path / "trials.jsonl"
    with pytest.raises(Killed):
        run(tiny_space, path, killed_at)
    assert len(Journal(path, {}).trials) == at
    with path.open("ab") as file:
        file.write(b'{"arch": {"fam')  # torn in the middle of a line
    objective.calls.clear()
    resumed = run(tiny_space, path, objective)
    assert without_seconds(resumed) == without_seconds(unbroken)
    assert objective.calls == [found.arch for found in unbroken[at:]]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (
            FloatingPointError("heatmaps are not finite"),
            "FloatingPointError: heatmaps are not fini",
        ),
        (MemoryError(), "MemoryError: "),
    ],
)
def test_a_failure_is_recorded_and_the_search_goes_on(
    tiny_space: SearchSpace, tmp_path: Path, error: Exception, failure: str
) -> None:
    objective = Separable(tiny_space)

    def every_third_fails(arch: Arch) -> float:
        score = objective(arch)
        if len(objective.calls) % 3 == 2:
            raise error
        return score

    path = tmp_path / "trials.jsonl"
    trials = run(tiny_space, path, every_third_fails)
    failed = [found.number for found in trials if found.failure]
    assert failed == [1, 4, 7, 10]
    assert all(trials[number].score is None for number in failed)
    assert all(str(trials[number].failure).startswith(failure) for number in failed)
    assert all(trials[number].fitness == float("-inf") for number in failed)
    assert max(trials, key=lambda found: found.fitness).score is not None
    # Failures are replayed as failures, not tried again.
    idle = Separable(tiny_space)
    assert run(tiny_space, path, idle) == trials
    assert idle.calls == []


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_a_failure(
    tiny_space: SearchSpace, tmp_path: Path, score: float
) -> None:
    path = tmp_path / "trials.jsonl"
    trials = run(tiny_space, path, lambda arch: score, num_trials=3)
    assert [found.score for found in trials] == [None] * 3
    assert trials[0].failure == f"FloatingPointError: the score is {score}"
    assert Journal(path, {}).trials == trials


def test_ten_failures_in_a_row_stop_the_search(tiny_space: SearchSpace, tmp_path: Path) -> None:
    def broken(arch: Arch) -> float:
        raise FloatingPointError("heatmaps are not finite")

    with refused("search", "", "10 failures in a row", "the last: FloatingPointError"):
        run(tiny_space, tmp_path / "trials.jsonl", broken)
    assert len(Journal(tmp_path / "trials.jsonl", {}).trials) == 10


def test_mistakes_of_ours_are_not_called_failures_of_an_arch(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    def broken(arch: Arch) -> float:
        raise TypeError("a mistake")

    with pytest.raises(TypeError):
        run(tiny_space, tmp_path / "trials.jsonl", broken)
    assert Journal(tmp_path / "trials.jsonl", {}).trials == []


def test_what_another_method_scored_is_not_scored_again(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    """The first population of evolution are the first archs of random search."""
    path = tmp_path / "trials.jsonl"
    evolved = run(tiny_space, path, Separable(tiny_space), "evolution")
    objective = Separable(tiny_space)
    drawn = run(tiny_space, path, objective, "random")
    assert [found.number for found in drawn] == list(range(NUM_TRIALS))
    assert drawn[0].arch == evolved[0].arch and drawn[0].score == evolved[0].score
    assert set(objective.calls).isdisjoint(found.arch for found in evolved)
    assert len(objective.calls) == NUM_TRIALS - 4
    assert len(Journal(path, {}).trials) == 2 * NUM_TRIALS


def test_more_trials_can_be_asked_for_later(tiny_space: SearchSpace, tmp_path: Path) -> None:
    objective = Separable(tiny_space)
    path = tmp_path / "trials.jsonl"
    run(tiny_space, path, objective, num_trials=5)
    longer = run(tiny_space, path, objective)
    unbroken = run(tiny_space, tmp_path / "unbroken.jsonl", Separable(tiny_space))
    assert without_seconds(longer) == without_seconds(unbroken)


def test_a_small_space_ends_the_search_early(small_space: SearchSpace, tmp_path: Path) -> None:
    trials = run(small_space, tmp_path / "trials.jsonl", Separable(small_space), num_trials=50)
    assert 30 <= len({found.arch for found in trials}) == len(trials) <= 32


def test_trials_of_other_archs_than_the_searcher_would_try_are_refused(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    path = tmp_path / "trials.jsonl"
    Journal(path, {}).append(trial(0, tiny_space.max_arch(), method="evolution"))
    with refused(f"{path}: evolution trial 0", "that this search proposes", "another one"):
        run(tiny_space, path, Separable(tiny_space))


class Recorded(EvolutionSearcher[Arch]):
    """Writes down its asks and tells, by number."""

    def __init__(self, space: SearchSpace) -> None:
        feasible = FeasibleSpace(space, count_cost, ())
        super().__init__(feasible, 0, Evolution(population_size=4))
        self.calls: list[tuple[str, int]] = []

    def ask(self) -> Arch | None:
        arch = super().ask()
        assert arch is not None
        self.calls.append(("ask", self.numbers[arch]))
        return arch

    def tell(self, arch: Arch, fitness: float) -> None:
        super().tell(arch, fitness)
        self.calls.append(("tell", self.numbers[arch]))


class OutOfOrder(InProcess[Arch]):
    """Workers of which any may be the first to finish."""

    def __init__(self, evaluate: Evaluate, seed: int) -> None:
        super().__init__(lambda: evaluate)
        self.rng = random.Random(seed)

    def next(self) -> Scored:
        self.rng.shuffle(self.queue)
        return super().next()


@pytest.mark.parametrize("pending", [1, 3, 20])
def test_a_tell_comes_before_the_ask_that_is_pending_places_later(
    tiny_space: SearchSpace, tmp_path: Path, pending: int
) -> None:
    expected: list[tuple[str, int]] = [("ask", number) for number in range(min(pending, 12))]
    for number in range(NUM_TRIALS):
        expected.append(("tell", number))
        if number + pending < NUM_TRIALS:
            expected.append(("ask", number + pending))
    for seed in range(3):
        searcher = Recorded(tiny_space)
        journal = Journal(tmp_path / f"{seed}.jsonl", {})
        workers = OutOfOrder(Separable(tiny_space), seed)
        search(
            searcher, "evolution", workers, count_cost, NUM_TRIALS, journal, lambda _: None, pending
        )
        assert searcher.calls == expected


@pytest.mark.parametrize("seed", range(4))
def test_results_that_come_in_any_order_and_a_kill_change_no_trial(
    tiny_space: SearchSpace, tmp_path: Path, seed: int
) -> None:
    objective = Separable(tiny_space)
    unbroken = run(tiny_space, tmp_path / "unbroken.jsonl", objective, pending=4)
    path = tmp_path / "trials.jsonl"
    for stop_after in (2, 5, 100):
        objective.calls.clear()

        def killed(arch: Arch, left: int = stop_after) -> float:
            if len(objective.calls) == left:
                raise Killed
            return objective(arch)

        searcher = searcher_of("evolution", tiny_space)
        journal = Journal(path, {})
        before = len(journal.trials)
        with suppress(Killed):
            workers = OutOfOrder(killed, seed)
            trials = search(
                searcher, "evolution", workers, count_cost, NUM_TRIALS, journal, lambda _: None, 4
            )
        assert len(journal.trials) == before + len(objective.calls)  # nothing scored was lost
    assert without_seconds(trials) == without_seconds(unbroken)
    written = [found.number for found in Journal(path, {}).trials]
    assert sorted(written) == list(range(NUM_TRIALS)) != written


def test_where_an_arch_comes_from_is_written_down(tiny_space: SearchSpace, tmp_path: Path) -> None:
    trials = run(tiny_space, tmp_path / "trials.jsonl", Separable(tiny_space))
    assert any(trial.parents for trial in trials)
    for found in trials:
        assert all(parent < found.number for parent in found.parents)
        generations = [trials[parent].generation for parent in found.parents]
        assert found.generation == max(generations, default=-1) + 1


class Rough(Separable):
    """Scores that may be cut short below the floor."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.floors: dict[Arch, float] = {}

    def above(self, arch: Arch, floor: float) -> tuple[float, bool]:
        self.floors[arch] = floor
        score = self(arch)
        return (score / 2, True) if score < floor else (score, False)


def test_archs_below_cheaper_ones_are_cut_short_and_the_winner_stays(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    rough, path = Rough(tiny_space), tmp_path / "trials.jsonl"

    def searched(method: str, pending: int) -> list[Trial]:
        workers = InProcess[Arch](lambda: rough)
        return search(
            RandomSearcher(FeasibleSpace(tiny_space, count_cost, ()), seed=0),
            method,
            workers,
            count_cost,
            30,
            Journal(path, {}),
            lambda _: None,
            pending,
            stop_early=("score", "macs"),
            earlier=("random",),
        )

    trials = searched("random", pending=3)
    for found in trials:
        told = [other for other in trials if other.number <= found.number - 3]
        floors = [t.fitness for t in told if t.cost.macs <= found.cost.macs]
        assert rough.floors[found.arch] == max(floors, default=float("-inf"))
    assert 5 < sum(found.partial for found in trials) < 25
    archs = {found.number: found.arch for found in trials}
    scores = {n: rough(arch) for n, arch in archs.items() if isinstance(arch, Arch)}
    assert max(trials, key=lambda found: found.fitness).score == max(scores.values())
    # The fronts of the whole scores and of those written down are the same.
    whole = [replace(found, score=scores[found.number], partial=False) for found in trials]
    assert pareto_front(whole) == pareto_front(trials)
    # A later method takes over what was scored to the end, and only that.
    rough.calls.clear()
    again = searched("again", pending=3)
    assert rough.calls == [found.arch for found in trials if found.partial]
    assert [found.score for found in again] == [found.score for found in trials]
