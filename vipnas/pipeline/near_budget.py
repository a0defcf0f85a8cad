"""Measure the latencies of architectures near the budgets of a search, as they are shipped."""

from __future__ import annotations

from pathlib import Path

from vipnas.arch.image import Arch
from vipnas.errors import UserError
from vipnas.pipeline.level import Level
from vipnas.search.constraints import A, CostOf
from vipnas.search.near_budget import NearBudget
from vipnas.search.ray_cluster import RaySettings
from vipnas.space.image import SearchSpace

FILE = "latencies.json"


def near_budget(
    level: Level[A], cost_of: CostOf[A], directory: Path, ray: RaySettings | None
) -> NearBudget[A] | None:
    """Return what measures near the budgets of a search; None unless its settings ask for it.

    Args:
        level: The level of images; an experiment refuses the setting for clips.
        cost_of: Returns the cost of an architecture, with its predicted latency.
        directory: The folder of the search, for what was measured.
        ray: None unless workers score.

    Raises:
        UserError: Workers score, or the table cannot be used.
    """
    config = level.search_config
    if config.latency is None or not config.latency.measure_share:
        return None
    share, space = config.latency.measure_share, level.space
    if ray is not None:
        hint = "workers would disturb the measurements"
        raise UserError("search.latency.measure_share", "null with Ray", f"{share:g}", hint)
    from vipnas.latency.predictors import open_predictor

    assert isinstance(space, SearchSpace)
    predictor = open_predictor(config.latency, space)

    def measure(arch: A) -> float | None:
        assert isinstance(arch, Arch)
        found = predictor.compare(arch)
        print(f"search: near the budget: {found}")
        return None if found.measured is None else found.measured.median_ms

    error = predictor.choice.errors[predictor.choice.method]
    path = directory / FILE
    return NearBudget(cost_of, level.space.encode, config.constraints, error, share, measure, path)
