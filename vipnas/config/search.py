"""Settings of a search: searchers, budgets, latency."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt

from vipnas.config.limits import Threads
from vipnas.errors import UserError
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
    """How an evolutionary searcher breeds new architectures.

    Attributes:
        population_size: Size of the population. As many random architectures come first.
        tournament_size: A parent is the best of this many random members of the population.
        crossover_probability: Probability that a child has two parents.
        mutation_probability: Probability that a mutation resamples a choice; at least one changes.
        mutation_after_crossover: Probability that a child of two parents is mutated too.
    """

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
    """Settings of `EvolutionSearcher`; see `Breeding` for the others.

    Attributes:
        survivors: The population is the `best` architectures so far, or the `youngest`, as in
            regularized evolution.
    """

    survivors: Literal["best", "youngest"] = "best"


def check_count(name: str, value: int, least: int = 1) -> None:
    if value < least:
        raise UserError(name, f"a whole number from {least}", str(value))


def check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(name, "a number from 0 to 1", str(value))


@dataclass(frozen=True)
class NSGA2(Breeding):
    """Settings of `NSGA2Searcher`; see `Breeding` for the others.

    Attributes:
        offspring_size: The population is renewed after this many scored architectures.
        mating_size: The partner in a crossover is the one of this many candidates that is nearest
            to the parent in the objectives.
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
    """Settings of `PredictorSearcher`.

    Attributes:
        num_initial: Number of architectures before the first fit: the smallest, the largest and
            random ones.
        batch_size: Most architectures per fit. They are chosen by expected hypervolume improvement.
            Early batches are smaller, as each score still changes the fit much.
        optimism: In spaces that are too large to list, candidates are searched by their predicted
            score plus this many standard deviations.
        exploration: Fraction of random architectures, 0 to 1.
    """

    num_initial: int = 16
    batch_size: int = 8
    optimism: float = 1.0
    exploration: float = 0.0

    def __post_init__(self) -> None:
        check_count("num_initial", self.num_initial, least=2)
        check_count("batch_size", self.batch_size)
        if not 0 <= self.optimism < math.inf:
            raise UserError("optimism", "a number from 0", str(self.optimism))
        check_share("exploration", self.exploration)


@dataclass(frozen=True)
class LatencyConfig(Strict):
    """Where a search gets latencies from.

    The other settings must be those that the table was measured with.

    Attributes:
        table: A file that `vipnas profile` wrote.
        runtime: The runtime.
        threads: Number of threads.
        batch: Number of images per batch.
        precision: Precision of the network.
        any_device: Accept a table of another device or runtime version.
        measure_share: Measure proposals whose predicted latency is within twice the error of the
            table from a budget. This takes up to this share of the time of the search, 0 to 1; null
            measures none. What is measured outside of the budget is not scored. Not for clips or
            with Ray.
    """

    table: str
    runtime: str = "onnxruntime"
    threads: Threads = 1
    batch: PositiveInt = 1
    precision: str = "fp32"
    any_device: bool = False
    measure_share: float | None = None

    def __post_init__(self) -> None:
        if self.measure_share is not None:
            check_share("measure_share", self.measure_share)
        if self.measure_share and self.any_device:
            hint = "here, another device would be measured"
            raise UserError(
                "measure_share", "null with any_device", f"{self.measure_share:g}", hint
            )


@dataclass(frozen=True)
class SearchConfig(Strict):
    """How a supernet is searched.

    Attributes:
        num_trials: Number of architectures that the searcher scores. Random search scores as many
            for comparison.
        constraints: Hard budgets; every architecture that is scored keeps to all of them.
        searcher: `evolution` maximises the score. `nsga2` and `predictor` search for the front of
            all objectives.
        objectives: What spans the front.
        evolution: Settings of that searcher.
        nsga2: Settings of that searcher.
        predictor: Settings of that searcher.
        searcher_settings: Settings of a searcher that a package adds.
        latency: Where latencies come from; required if latency_ms is an objective or a constraint.
        pending: Number of architectures that are proposed before the first score is known. It
            bounds the number of busy workers. Trials depend on it, but not on the number of
            workers.
        threads: Threads per worker.
        seconds_limit: With workers: a worker that takes longer for one architecture is replaced.
        early_stop_margin: Stop scoring an architecture after half of the persons if one that costs
            no more scored higher by more than this. The trial is then marked as partial. Winner and
            front stay the same unless a score rises by more than the margin in the second half.
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
    threads: Threads = 1
    seconds_limit: PositiveFloat | None = None
    early_stop_margin: PositiveFloat | None = None

    def __post_init__(self) -> None:
        check_objectives(self.objectives)
        constrained = (QUANTITIES[constraint.quantity] for constraint in self.constraints)
        for quantity in (*costs_among(self.objectives), *constrained):
            if quantity.section is not None and getattr(self, quantity.section) is None:
                hint = f"{quantity.name} is a constraint or an objective"
                raise UserError(quantity.section, "a mapping", "none", hint)
