"""The contract of every searcher, and that each is worth having."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pytest
from errors_fixture import refused
from search_fixture import Separable, members
from spaces_fixture import INVERTED_YAML, space_from

from vipnas.arch.image import Arch
from vipnas.config.search import NSGA2, Evolution, Predictor
from vipnas.models.counting import count_cost
from vipnas.quantities import Constraint
from vipnas.search import constraints, searchers_predictor
from vipnas.search.constraints import FeasibleSpace, NoneFound
from vipnas.search.expected_gain import most_gain
from vipnas.search.pareto import hypervolume, to_minimise
from vipnas.search.searchers import EvolutionSearcher, Origin, RandomSearcher, Searcher
from vipnas.search.searchers_nsga2 import NSGA2Searcher
from vipnas.search.searchers_predictor import PredictorSearcher
from vipnas.space.image import SearchSpace

cost_of = functools.cache(count_cost)
Make = Callable[[FeasibleSpace[Arch], int], Searcher[Arch]]


def random_search(feasible: FeasibleSpace[Arch], seed: int) -> Searcher[Arch]:
    return RandomSearcher(feasible, seed)


def evolution(feasible: FeasibleSpace[Arch], seed: int) -> Searcher[Arch]:
    return EvolutionSearcher(feasible, seed, Evolution(population_size=8))


def regularised(feasible: FeasibleSpace[Arch], seed: int) -> Searcher[Arch]:
    return EvolutionSearcher(feasible, seed, Evolution(population_size=8, survivors="youngest"))


def only_crossover(feasible: FeasibleSpace[Arch], seed: int) -> Searcher[Arch]:
    settings = Evolution(8, 2, crossover_probability=1.0, mutation_probability=0.0)
    return EvolutionSearcher(feasible, seed, settings)


def nsga2(feasible: FeasibleSpace[Arch], seed: int) -> Searcher[Arch]:
    settings = NSGA2(population_size=8, offspring_size=3)
    return NSGA2Searcher(feasible, seed, settings, ("score", "macs"))


def nsga2_of_three(feasible: FeasibleSpace[Arch], seed: int) -> Searcher[Arch]:
    settings = NSGA2(population_size=8, offspring_size=1)
    return NSGA2Searcher(feasible, seed, settings, ("params", "score", "macs"))


def predictor(feasible: FeasibleSpace[Arch], seed: int) -> Searcher[Arch]:
    settings = Predictor(num_initial=8, batch_size=8)
    return PredictorSearcher(feasible, seed, settings, ("score", "macs"))


def predictor_of_ap(feasible: FeasibleSpace[Arch], seed: int) -> Searcher[Arch]:
    settings = Predictor(num_initial=8, batch_size=6, exploration=0.5)
    return PredictorSearcher(feasible, seed, settings, ("score",))


SEARCHERS = [
    random_search,
    evolution,
    regularised,
    only_crossover,
    nsga2,
    nsga2_of_three,
    predictor,
    predictor_of_ap,
]


@pytest.fixture(scope="module", autouse=True)
def short_inner_search() -> Iterator[None]:
    """Small inner searches, and few fits: the contract does not depend on how good they are,
    and with few fits the predictor is the best all the same."""
    inner = NSGA2(population_size=16, tournament_size=2, offspring_size=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searchers_predictor, "INNER", inner)
        patch.setattr(searchers_predictor, "INNER_ROUNDS", 1)
        patch.setattr(searchers_predictor, "TOLD_TO_BATCH", 2)
        yield


@pytest.fixture(scope="module", params=SEARCHERS, ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Make:
    """Every searcher in turn."""
    found: Make = request.param
    return found


@pytest.fixture(scope="module")
def inverted_space(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    return space_from(INVERTED_YAML, tmp_path_factory.mktemp("space"), "inverted")


@pytest.fixture
def large_space(inverted_space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> SearchSpace:
    """Of 1,536 archs, which are too many to be listed at once."""
    monkeypatch.setattr(constraints, "ENUMERABLE", 1000)
    return inverted_space


@pytest.fixture(scope="module")
def feasible(tiny_space: SearchSpace) -> FeasibleSpace[Arch]:
    """About a third of `tiny` keeps to both budgets."""
    budgets = (Constraint("macs", at_most=4e6, at_least=2e6), Constraint("params", at_most=60_000))
    return FeasibleSpace(tiny_space, cost_of, budgets)


def run(
    searcher: Searcher[Arch], objective: Separable, num_trials: int, pending: int = 1
) -> list[Arch]:
    """Ask `pending` archs ahead, as the loop does with that many workers."""
    asked: list[Arch] = []
    told = 0
    while len(asked) < num_trials:
        if len(asked) - told == pending:
            searcher.tell(asked[told], objective(asked[told]))
            told += 1
        arch = searcher.ask()
        if arch is None:
            break
        asked.append(arch)
    for arch in asked[told:]:
        searcher.tell(arch, objective(arch))
    return asked


@pytest.fixture(scope="module")
def asked(make: Make, feasible: FeasibleSpace[Arch]) -> tuple[Searcher[Arch], list[Arch]]:
    """A searcher after 120 trials, and their archs; the global randomness stays as it was."""
    before = random.getstate()
    searcher = make(feasible, 0)
    archs = run(searcher, Separable(feasible.space), 120)
    assert random.getstate() == before
    return searcher, archs


def test_it_keeps_to_the_space_and_to_the_budgets_and_proposes_no_arch_twice(
    asked: tuple[Searcher[Arch], list[Arch]], feasible: FeasibleSpace[Arch]
) -> None:
    archs = asked[1]
    assert len(archs) == len(set(archs)) == 120
    assert isinstance(feasible.space, SearchSpace)
    for arch in archs:
        assert arch in feasible.space
        cost = cost_of(arch)
        assert 2e6 <= cost.macs <= 4e6 and cost.params <= 60_000


@pytest.mark.parametrize("pending", [2, 30])
def test_many_may_be_pending(make: Make, feasible: FeasibleSpace[Arch], pending: int) -> None:
    """More than the first random archs too: told late, nothing is lost and nothing comes twice."""
    objective = Separable(feasible.space)
    first, second = (run(make(feasible, 7), objective, 45, pending) for _ in range(2))
    assert first == second
    assert len(set(first)) == 45 and all(arch in feasible for arch in first)


def test_it_knows_where_each_arch_comes_from(
    make: Make, asked: tuple[Searcher[Arch], list[Arch]]
) -> None:
    searcher, archs = asked
    origins = [searcher.origin(arch) for arch in archs]
    assert origins[:8] == [Origin(0, ())] * 8
    for number, origin in enumerate(origins):
        if origin.parents:
            assert all(parent < number for parent in origin.parents)
            assert origin.generation == 1 + max(origins[p].generation for p in origin.parents)
    if make is not random_search:
        assert max(origin.generation for origin in origins) >= 2


def test_it_is_a_function_of_its_seed_and_told_again_stands_where_it_stood(
    make: Make, feasible: FeasibleSpace[Arch]
) -> None:
    objective = Separable(feasible.space)
    unbroken = run(make(feasible, 3), objective, 40)
    resumed = make(feasible, 3)
    for first, last in ((0, 1), (1, 8), (8, 25), (25, 40)):
        assert run(resumed, objective, last - first) == unbroken[first:last]
    assert not set(unbroken[:8]) & set(run(make(feasible, 4), objective, 8))


def test_of_a_small_space_it_proposes_all_and_then_none(
    make: Make, small_space: SearchSpace
) -> None:
    searcher = make(FeasibleSpace(small_space, cost_of, ()), 0)
    archs = run(searcher, Separable(small_space), 40)
    assert len(archs) == len(set(archs)) == small_space.size == 32
    assert searcher.ask() is None
    assert searcher.ask() is None


def test_where_one_arch_only_is_left_it_ends_after_it(make: Make, large_space: SearchSpace) -> None:
    smallest = large_space.min_arch()
    budget = Constraint("macs", at_most=cost_of(smallest).macs)
    tight = FeasibleSpace(large_space, cost_of, [budget])
    assert run(make(tight, 0), Separable(large_space), 10) == [smallest]


@pytest.fixture(scope="module")
def narrow(inverted_space: SearchSpace) -> tuple[Constraint, set[Arch]]:
    """A budget that a handful of 1,536 archs keeps to, and these."""
    macs = {arch: cost_of(arch).macs for arch in members(inverted_space)}
    least, _, most = sorted(macs.values())[698:701]
    archs = {arch for arch, count in macs.items() if least <= count <= most}
    return Constraint("macs", at_most=most, at_least=least), archs


def test_the_last_members_of_a_small_space_are_found_by_listing(
    make: Make, inverted_space: SearchSpace, narrow: tuple[Constraint, set[Arch]]
) -> None:
    budget, within = narrow
    feasible = FeasibleSpace(inverted_space, cost_of, [budget])
    archs = run(make(feasible, 0), Separable(inverted_space), 100)
    assert len(archs) == len(within) >= 3 and set(archs) == within


def test_budgets_that_hardly_meet_end_the_search_and_keep_what_was_found(
    make: Make, large_space: SearchSpace
) -> None:
    budgets = [Constraint("macs", at_most=590_880, at_least=590_848)]
    narrow = FeasibleSpace(large_space, cost_of, budgets)
    archs = run(make(narrow, 0), Separable(large_space), 100)
    assert 0 < len(archs) < 100
    assert all(590_848 <= cost_of(arch).macs <= 590_880 for arch in archs)


def test_budgets_that_no_arch_meets_are_an_error_and_not_an_empty_search(
    make: Make, large_space: SearchSpace
) -> None:
    budgets = [Constraint("macs", at_most=6_000_000, at_least=5_999_999)]
    nowhere = FeasibleSpace(large_space, cost_of, budgets)
    with pytest.raises(NoneFound, match="macs 5,999,999 to 6,000,000"):
        make(nowhere, 0).ask()


def test_failures_are_told_and_the_search_goes_on(
    make: Make, feasible: FeasibleSpace[Arch]
) -> None:
    searcher = make(feasible, 0)
    archs = []
    for number in range(30):
        arch = searcher.ask()
        assert arch is not None
        searcher.tell(arch, float("-inf") if number % 2 else 0.5)
        archs.append(arch)
    assert len(set(archs)) == 30


def test_where_all_fails_it_goes_on_as_long_as_it_is_asked(
    make: Make, feasible: FeasibleSpace[Arch]
) -> None:
    searcher = make(feasible, 0)
    for _ in range(20):
        arch = searcher.ask()
        assert arch is not None
        searcher.tell(arch, -math.inf)


def test_not_a_number_is_refused(make: Make, feasible: FeasibleSpace[Arch]) -> None:
    searcher = make(feasible, 0)
    arch = searcher.ask()
    assert arch is not None
    with refused("fitness", "a number", "nan"):
        searcher.tell(arch, math.nan)


def test_evolution_begins_with_the_archs_of_random_search(feasible: FeasibleSpace[Arch]) -> None:
    objective = Separable(feasible.space)
    first, second = (run(make(feasible, 5), objective, 9) for make in (random_search, evolution))
    assert first[:8] == second[:8]
    assert first[8] != second[8]


def test_evolution_keeps_the_best_and_forgets_failures(feasible: FeasibleSpace[Arch]) -> None:
    searcher = EvolutionSearcher(feasible, 0, Evolution(population_size=3))
    told = [0.3, float("-inf"), 0.5, 0.1, 0.5, 0.4]
    archs = []
    for fitness in told:
        arch = searcher.ask()
        assert arch is not None
        searcher.tell(arch, fitness)
        archs.append(arch)
    # Of the two with 0.5 the earlier one stays in front.
    assert searcher.population == [archs[2], archs[4], archs[5]]


def test_in_regularised_evolution_the_oldest_dies(feasible: FeasibleSpace[Arch]) -> None:
    searcher = EvolutionSearcher(feasible, 0, Evolution(population_size=3, survivors="youngest"))
    archs = []
    for fitness in [0.9, 0.3, 0.2, 0.1, 0.4]:
        arch = searcher.ask()
        assert arch is not None
        searcher.tell(arch, fitness)
        archs.append(arch)
    # The best of all was told too long ago; the tournament sees the best of the rest first.
    assert searcher.population == [archs[4], archs[2], archs[3]]


def test_evolution_beats_random_search_on_a_separable_objective(
    feasible: FeasibleSpace[Arch],
) -> None:
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


def test_nsga2_keeps_the_front_of_what_it_was_told(feasible: FeasibleSpace[Arch]) -> None:
    settings = NSGA2(population_size=4, offspring_size=4)
    searcher = NSGA2Searcher(feasible, 0, settings, ("score", "macs"))
    archs = run(searcher, Separable(feasible.space), 24)
    objective = Separable(feasible.space)
    points = {
        arch: to_minimise(objective(arch), cost_of(arch), ("score", "macs")) for arch in archs
    }

    def beaten(arch: Arch) -> bool:
        ap, macs = points[arch]
        return any(p[0] <= ap and p[1] <= macs and p != (ap, macs) for p in points.values())

    front = {arch for arch in archs if not beaten(arch)}
    assert len(front) >= 4
    assert set(searcher.population) <= front
    # The two ends have most room.
    assert {min(front, key=points.__getitem__), min(front, key=lambda a: points[a][1])} <= set(
        searcher.population
    )


def test_nsga2_has_a_better_front_than_random_search_and_the_predictor_the_best(
    inverted_space: SearchSpace,
) -> None:
    everywhere = FeasibleSpace(inverted_space, cost_of, ())
    objective = Separable(inverted_space)
    worst = (0.0, cost_of(inverted_space.max_arch()).macs)

    def volume(make: Make, seed: int) -> float:
        archs = run(make(everywhere, seed), objective, 60)
        points = [to_minimise(objective(a), cost_of(a), ("score", "macs")) for a in archs]
        return hypervolume(points, worst)

    drawn, bred, predicted = (
        median(volume(make, seed) for seed in range(3))
        for make in (random_search, nsga2, predictor)
    )
    assert drawn * 1.02 < bred < predicted


@pytest.mark.parametrize(
    ("settings", "expected", "found"),
    [
        ({"population_size": 1}, "a whole number from 2", "1"),
        ({"tournament_size": 0}, "a whole number from 1", "0"),
        ({"mutation_probability": 1.5}, "a number from 0 to 1", "1.5"),
        ({"crossover_probability": float("nan")}, "a number from 0 to 1", "nan"),
    ],
)
def test_impossible_settings_of_evolution_are_refused(
    settings: dict[str, float], expected: str, found: str
) -> None:
    (place,) = settings
    with refused(place, expected, found):
        Evolution(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (lambda: NSGA2(population_size=1), ("population_size", "a whole number from 2", "1")),
        (lambda: NSGA2(offspring_size=0), ("offspring_size", "a whole number from 1", "0")),
        (lambda: NSGA2(mutation_after_crossover=2), ("mutation_after_crossover", "0 to 1", "2")),
        (lambda: Predictor(num_initial=1), ("num_initial", "a whole number from 2", "1")),
        (lambda: Predictor(optimism=math.nan), ("optimism", "a number from 0", "nan")),
        (lambda: Predictor(exploration=-0.1), ("exploration", "a number from 0 to 1", "-0.1")),
    ],
)
def test_impossible_settings_are_refused(
    make: Callable[[], object], fields: tuple[str, ...]
) -> None:
    with refused(*fields):
        make()


def test_what_is_being_scored_counts_with_what_is_expected_of_it(
    feasible: FeasibleSpace[Arch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three asked for after eight told, one a fit: the later fits know of the earlier ones."""
    known = []

    def recorded(*arguments: Any) -> list[int]:
        known.append(len(arguments[3]))
        return most_gain(*arguments)

    monkeypatch.setattr(searchers_predictor, "most_gain", recorded)
    monkeypatch.setattr(searchers_predictor, "TOLD_TO_BATCH", 16)
    searcher = predictor(feasible, 0)
    run(searcher, Separable(feasible.space), 8)
    assert len({searcher.ask() for _ in range(3)}) == 3
    assert known == [8, 9, 10]


def test_the_predictor_begins_with_the_ends_of_the_front(tiny_space: SearchSpace) -> None:
    everywhere = FeasibleSpace(tiny_space, cost_of, ())
    archs = run(predictor(everywhere, 0), Separable(tiny_space), 3)
    assert archs[:2] == [tiny_space.min_arch(), tiny_space.max_arch()]
    ap_only = run(predictor_of_ap(everywhere, 0), Separable(tiny_space), 2)
    assert ap_only == run(random_search(everywhere, 0), Separable(tiny_space), 2)
