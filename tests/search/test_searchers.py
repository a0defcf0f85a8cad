"""The contract of every searcher, and that evolution is worth having."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median

import pytest
from search_fixture import Separable

from vipnas.arch import Arch
from vipnas.cost import count_cost
from vipnas.search.constraints import Constraint, FeasibleSpace, NoneFound
from vipnas.search.searchers import Evolution, EvolutionSearcher, RandomSearcher, Searcher
from vipnas.space import SearchSpace

Make = Callable[[FeasibleSpace, int], Searcher]


def random_search(feasible: FeasibleSpace, seed: int) -> Searcher:
    return RandomSearcher(feasible, seed)


def evolution(feasible: FeasibleSpace, seed: int) -> Searcher:
    return EvolutionSearcher(feasible, seed, Evolution(population_size=8))


def only_crossover(feasible: FeasibleSpace, seed: int) -> Searcher:
    settings = Evolution(8, 2, crossover_probability=1.0, mutation_probability=0.0)
    return EvolutionSearcher(feasible, seed, settings)


SEARCHERS = [random_search, evolution, only_crossover]
every_searcher = pytest.mark.parametrize("make", SEARCHERS, ids=lambda make: make.__name__)


@pytest.fixture(scope="module")
def feasible(tiny_space: SearchSpace) -> FeasibleSpace:
    """About a third of `tiny` keeps to both budgets."""
    budgets = (Constraint("macs", at_most=4e6, at_least=2e6), Constraint("params", at_most=60_000))
    return FeasibleSpace(tiny_space, count_cost, budgets)


def run(searcher: Searcher, objective: Separable, num_trials: int) -> list[Arch]:
    asked = []
    for _ in range(num_trials):
        arch = searcher.ask()
        if arch is None:
            break
        searcher.tell(arch, objective(arch))
        asked.append(arch)
    return asked


@every_searcher
def test_it_keeps_to_the_space_and_to_the_budgets(make: Make, feasible: FeasibleSpace) -> None:
    archs = run(make(feasible, 0), Separable(feasible.space), 60)
    assert len(archs) == 60
    for arch in archs:
        assert arch in feasible.space
        cost = count_cost(arch)
        assert 2e6 <= cost.macs <= 4e6 and cost.params <= 60_000


@every_searcher
def test_it_never_proposes_an_arch_twice(make: Make, feasible: FeasibleSpace) -> None:
    archs = run(make(feasible, 0), Separable(feasible.space), 120)
    assert len(set(archs)) == 120


@every_searcher
def test_it_is_a_function_of_its_seed(make: Make, feasible: FeasibleSpace) -> None:
    objective = Separable(feasible.space)
    first, second, other = (run(make(feasible, seed), objective, 40) for seed in (7, 7, 8))
    assert first == second
    assert not set(first[:8]) & set(other[:8])


@every_searcher
def test_it_does_not_touch_the_global_randomness(make: Make, feasible: FeasibleSpace) -> None:
    before = random.getstate()
    run(make(feasible, 0), Separable(feasible.space), 20)
    assert random.getstate() == before


@every_searcher
@pytest.mark.parametrize("told", [0, 1, 7, 8, 9, 25])
def test_told_again_it_stands_where_it_stood(
    make: Make, feasible: FeasibleSpace, told: int
) -> None:
    objective = Separable(feasible.space)
    unbroken = run(make(feasible, 3), objective, 40)
    resumed = make(feasible, 3)
    assert run(resumed, objective, told) == unbroken[:told]
    assert run(resumed, objective, 40 - told) == unbroken[told:]


@every_searcher
def test_of_a_small_space_it_proposes_all_and_then_none(
    make: Make, small_space: SearchSpace
) -> None:
    searcher = make(FeasibleSpace(small_space, count_cost, ()), 0)
    archs = run(searcher, Separable(small_space), 40)
    assert len(archs) == len(set(archs)) == small_space.size == 32
    assert searcher.ask() is None
    assert searcher.ask() is None


@every_searcher
def test_where_one_arch_only_is_left_it_ends_after_it(make: Make, tiny_space: SearchSpace) -> None:
    smallest = count_cost(tiny_space.min_arch())
    tight = FeasibleSpace(tiny_space, count_cost, [Constraint("macs", at_most=smallest.macs)])
    assert run(make(tight, 0), Separable(tiny_space), 10) == [tiny_space.min_arch()]


@every_searcher
def test_budgets_that_hardly_meet_end_the_search_and_keep_what_was_found(
    make: Make, tiny_space: SearchSpace
) -> None:
    budgets = [Constraint("macs", at_most=4_746_906, at_least=4_744_533)]
    narrow = FeasibleSpace(tiny_space, count_cost, budgets)
    archs = run(make(narrow, 0), Separable(tiny_space), 100)
    assert 0 < len(archs) < 100
    assert all(4_744_533 <= count_cost(arch).macs <= 4_746_906 for arch in archs)


@every_searcher
def test_budgets_that_no_arch_meets_are_an_error_and_not_an_empty_search(
    make: Make, tiny_space: SearchSpace
) -> None:
    budgets = [Constraint("macs", at_most=6_000_000, at_least=5_999_999)]
    nowhere = FeasibleSpace(tiny_space, count_cost, budgets)
    with pytest.raises(NoneFound, match="macs 5,999,999 to 6,000,000"):
        make(nowhere, 0).ask()


@every_searcher
def test_failures_are_told_and_the_search_goes_on(make: Make, feasible: FeasibleSpace) -> None:
    searcher = make(feasible, 0)
    archs = []
    for number in range(30):
        arch = searcher.ask()
        assert arch is not None
        searcher.tell(arch, float("-inf") if number % 2 else 0.5)
        archs.append(arch)
    assert len(set(archs)) == 30


def test_evolution_begins_with_the_archs_of_random_search(feasible: FeasibleSpace) -> None:
    objective = Separable(feasible.space)
    first, second = (run(make(feasible, 5), objective, 9) for make in (random_search, evolution))
    assert first[:8] == second[:8]
    assert first[8] != second[8]


def test_evolution_keeps_the_best_and_forgets_failures(feasible: FeasibleSpace) -> None:
    searcher = EvolutionSearcher(feasible, 0, Evolution(population_size=3))
    told = [0.3, float("-inf"), 0.5, 0.1, 0.5, 0.4]
    archs = []
    for fitness in told:
        arch = searcher.ask()
        assert arch is not None
        searcher.tell(arch, fitness)
        archs.append(arch)
    # Of the two with 0.5 the earlier one stays in front.
    assert searcher.population == [(0.5, archs[2]), (0.5, archs[4]), (0.4, archs[5])]


def test_evolution_beats_random_search_on_a_separable_objective(feasible: FeasibleSpace) -> None:
    """By the median over ten seeds, and never by luck of the draw: not one seed is worse."""
    objective = Separable(feasible.space)
    best = {
        make.__name__: [
            max(objective(arch) for arch in run(make(feasible, seed), objective, 100))
            for seed in range(10)
        ]
        for make in (random_search, evolution)
    }
    assert median(best["evolution"]) > median(best["random_search"]) + 0.02
    pairs = zip(best["evolution"], best["random_search"], strict=True)
    assert all(evolved >= drawn for evolved, drawn in pairs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population_size": 1}, "population_size and tournament_size: found 1 and 4, allowed are"),
        ({"tournament_size": 0}, "found 32 and 0, allowed are numbers from 2 and from 1"),
        ({"mutation_probability": 1.5}, "mutation_probability: found 1.5, allowed is 0 to 1"),
        ({"crossover_probability": float("nan")}, "crossover_probability: found nan, allowed"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evolution(**settings)  # type: ignore[arg-type]
