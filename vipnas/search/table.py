"""The table of search methods: the settings and the factory of each. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vipnas.config.search import NSGA2, Breeding, Evolution, Predictor, SearchConfig
from vipnas.errors import UserError
from vipnas.files import parse
from vipnas.quantities import Objective
from vipnas.search.constraints import A, FeasibleSpace
from vipnas.search.searchers import EvolutionSearcher, Searcher
from vipnas.search.searchers_nsga2 import NSGA2Searcher
from vipnas.search.searchers_predictor import PredictorSearcher
from vipnas.tables import OpenTable


@dataclass(frozen=True)
class SearchMethod:
    """A row of `SEARCHERS`.

    Attributes:
        settings: A dataclass based on `vipnas.files.Strict`.
        make: Makes the searcher from a feasible space, a seed, settings and objectives.
        finds_front: Whether it searches for the front of all objectives, not for one best.
        num_random: Returns, of its settings, how many random architectures it proposes first.
    """

    settings: type[Any]
    make: Callable[[FeasibleSpace[Any], int, Any, Sequence[Objective]], Searcher[Any]]
    finds_front: bool = True
    num_random: Callable[[Any], int] = lambda _: 0


def _evolution(
    feasible: FeasibleSpace[A], seed: int, settings: Evolution, _: Sequence[Objective]
) -> Searcher[A]:
    return EvolutionSearcher(feasible, seed, settings)


def _population_size(settings: Breeding) -> int:
    return settings.population_size


def _num_initial(settings: Predictor) -> int:
    return settings.num_initial


# Each has a section of its name in `SearchConfig`.
OWN = {
    "evolution": SearchMethod(Evolution, _evolution, False, _population_size),
    "nsga2": SearchMethod(NSGA2, NSGA2Searcher, num_random=_population_size),
    "predictor": SearchMethod(Predictor, PredictorSearcher, num_random=_num_initial),
}
SEARCHERS: OpenTable[SearchMethod] = OpenTable("vipnas.searchers", OWN)


def make_searcher(config: SearchConfig, feasible: FeasibleSpace[A], seed: int) -> Searcher[A]:
    """Return the searcher that the experiment names, with its settings."""
    method = SEARCHERS.named(config.searcher, "search.searcher")
    settings = searcher_settings(config, "search")
    return method.make(feasible, seed, settings, config.objectives)


def num_shared(config: SearchConfig) -> int:
    """Return how many architectures random search and the references propose again, at most.

    All start from one seed, and a score is computed once. Those that are proposed before the last
    random one is told are random too.
    """
    method = SEARCHERS.named(config.searcher, "search.searcher")
    return method.num_random(searcher_settings(config, "search")) + config.pending - 1


def searcher_settings(config: SearchConfig, place: str) -> Any:
    """Return the settings of the searcher that the experiment names.

    Those of vipnas have a section of their own; `searcher_settings` has those of others.

    Raises:
        UserError: If the searcher is unknown, or its settings are wrong.
    """
    method = SEARCHERS.named(config.searcher, f"{place}.searcher")
    if config.searcher not in OWN:
        where = f"{place}.searcher_settings"
        return parse(method.settings, config.searcher_settings or {}, where)
    if config.searcher_settings is not None:
        expected = f"none with the searcher {config.searcher}"
        hint = f"give them in {place}.{config.searcher}"
        raise UserError(f"{place}.searcher_settings", expected, "settings", hint)
    return getattr(config, config.searcher)
