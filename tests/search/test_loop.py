"""Ask, score, write down, tell; and the same again after a kill at any trial."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from search_fixture import Separable, trial, without_seconds

from vipnas.arch import Arch
from vipnas.cost import count_cost
from vipnas.results import Trial
from vipnas.search.constraints import FeasibleSpace
from vipnas.search.journal import Journal
from vipnas.search.loop import search
from vipnas.search.searchers import Evolution, EvolutionSearcher, RandomSearcher, Searcher
from vipnas.space import SearchSpace

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
) -> list[Trial]:
    journal = Journal(path, {})
    searcher = searcher_of(method, space)
    return search(searcher, method, evaluate, count_cost, num_trials, journal, show)


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
        assert found.score == objective(found.arch)
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

    with pytest.raises(ValueError, match="10 evaluations in a row failed; the last: Floating"):
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
    with pytest.raises(ValueError, match="evolution trial 0 is not the arch that this search"):
        run(tiny_space, path, Separable(tiny_space))
