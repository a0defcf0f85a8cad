"""How a supernet is searched: searchers, budgets, latency."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt

from vipnas.files import Strict
from vipnas.quantities import (
    DEFAULT_OBJECTIVES,
    QUANTITIES,
    Constraint,
    Objective,
    check_objectives,
    costs_among,
)

PROBABILITIES = ("crossover_probability", "mutation_probability", "mutation_after_crossover")


@dataclass(frozen=True)
class Breeding(Strict):
    """How children come about. The first `population_size` archs are drawn at random; then a parent
    is the best of `tournament_size` random members of the population, and has a partner with
    `crossover_probability`. A mutation redraws each choice with `mutation_probability`, at least
    one always; a crossover is followed by one with `mutation_after_crossover`."""

    population_size: int = 32
    tournament_size: int = 4
    crossover_probability: float = 0.5
    mutation_probability: float = 0.1
    mutation_after_crossover: float = 1.0

    def __post_init__(self) -> None:
        check_count("population_size", self.population_size, least=2)
        check_count("tournament_size", self.tournament_size)
        for name in PROBABILITIES:
            check_share(name, getattr(self, name))


@dataclass(frozen=True)
class Evolution(Breeding):
    """Settings of `EvolutionSearcher`. Of all that were told, the `population_size` that survive
    are the `best`, or the `youngest`: ageing, as in regularised evolution."""

    survivors: Literal["best", "youngest"] = "best"


def check_count(name: str, value: int, least: int = 1) -> None:
    if value < least:
        raise ValueError(f"{name}: found {value}, allowed are whole numbers from {least}")


def check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: found {value}, allowed is 0 to 1")


@dataclass(frozen=True)
class NSGA2(Breeding):
    """Settings of `NSGA2Searcher`, see `Breeding`.

    After every `offspring_size` archs told, the population becomes the best of itself and of them.
    The partner of a crossover is, of `mating_size` candidates, the one nearest on the front.
    """

    population_size: int = 50
    tournament_size: int = 4
    crossover_probability: float = 0.9
    mutation_probability: float = 0.03
    mutation_after_crossover: float = 0.5
    offspring_size: int = 10
    mating_size: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("offspring_size", self.offspring_size)
        check_count("mating_size", self.mating_size)


@dataclass(frozen=True)
class Predictor(Strict):
    """Settings of `PredictorSearcher`: `num_initial` archs, the cheapest and the largest and random
    ones; then `batch_size` archs a fit, by the hypervolume that they are expected to add, and
    fewer while few are told, since each then changes the fit much; a share `exploration` of them is
    drawn at random instead. In a space too large to be listed, those to choose from are found by
    their predicted score plus `optimism` times its deviation."""

    num_initial: int = 16
    batch_size: int = 8
    optimism: float = 1.0
    exploration: float = 0.0

    def __post_init__(self) -> None:
        check_count("num_initial", self.num_initial, least=2)
        check_count("batch_size", self.batch_size)
        if not 0 <= self.optimism < math.inf:
            raise ValueError(f"optimism: found {self.optimism}, allowed is from 0")
        check_share("exploration", self.exploration)


@dataclass(frozen=True)
class LatencyConfig(Strict):
    """Where a search takes milliseconds from.

    Attributes:
        table: A file that `vipnas profile` made. The other settings must be those of the table.
        runtime: A row of the table of runtimes.
        threads: CPU threads.
        batch: Images at a time.
        precision: What the runtime computes in.
        any_device: Accept a table of another device or of another version of the runtime.
    """

    table: str
    runtime: str = "onnxruntime"
    threads: PositiveInt = 1
    batch: PositiveInt = 1
    precision: str = "fp32"
    any_device: bool = False


@dataclass(frozen=True)
class SearchConfig(Strict):
    """How a supernet is searched, and compared with random search.

    Attributes:
        num_trials: The architectures that the searcher scores, and random search too.
        constraints: Hard budgets.
        searcher: `evolution` searches for the highest score within the constraints, `nsga2` and
            `predictor` for the front of all objectives. Packages add others by entry points
            `vipnas.searchers`.
        objectives: `score` and any quantities.
        evolution: Settings of that searcher.
        nsga2: Settings of that searcher.
        predictor: Settings of that searcher.
        searcher_settings: Settings of a searcher that a package added.
        latency: Where milliseconds come from.
        pending: The architectures that are asked for before the first is told: enough to keep as
            many workers busy. Trials depend on it, but not on the number of workers.
        threads: CPU threads of a worker.
        seconds_limit: A worker that needs longer for one architecture is replaced (with --workers).
        early_stop_margin: An architecture is not scored to the end if its score on the first half
            of the persons is lower than that of a cheaper one by more than this. Its trial is
            `partial`. The winner and the front do not change unless an architecture gains more than
            the margin on the second half. Not for clips.
    """

    num_trials: PositiveInt
    constraints: tuple[Constraint, ...] = ()
    searcher: str = "evolution"
    objectives: tuple[Objective, ...] = DEFAULT_OBJECTIVES
    evolution: Evolution = field(default_factory=Evolution)
    nsga2: NSGA2 = field(default_factory=NSGA2)
    predictor: Predictor = field(default_factory=Predictor)
    searcher_settings: dict[str, Any] | None = None
    latency: LatencyConfig | None = None
    pending: PositiveInt = 4
    threads: PositiveInt = 1
    seconds_limit: PositiveFloat | None = None
    early_stop_margin: PositiveFloat | None = None

    def __post_init__(self) -> None:
        check_objectives(self.objectives)
        constrained = (QUANTITIES[constraint.quantity] for constraint in self.constraints)
        for quantity in (*costs_among(self.objectives), *constrained):
            if quantity.section is not None and getattr(self, quantity.section) is None:
                raise ValueError(
                    f"{quantity.name}: expected a section {quantity.section}, got none"
                )
