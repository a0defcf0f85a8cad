"""The range of MACs that a supernet is trained for, from the budget of its search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from experiment_fixture import EXPERIMENT, write_experiment

from vipnas.models.counting import count_cost
from vipnas.pipeline.budget_range import budget_range
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.supernet import subnet_sampler
from vipnas.quantities import Cost


def level_of(directory: Path, budgets: list[dict[str, Any]], **sampling: Any) -> ImageLevel:
    search = {**EXPERIMENT["search"], "constraints": budgets}
    if any(budget["quantity"] == "latency_ms" for budget in budgets):
        search["latency"] = {"table": "table.json"}
    supernet = {**EXPERIMENT["supernet"], "sampling": {"strategy": "uniform", **sampling}}
    document = {**EXPERIMENT, "search": search, "supernet": supernet}
    path = write_experiment(directory, document)
    return ImageLevel(Experiment.open(path, directory, directory, torch.device("cpu")))


def macs(at_most: float, **more: float) -> dict[str, Any]:
    return {"quantity": "macs", "at_most": at_most, **more}


@pytest.mark.parametrize(
    ("budgets", "expected"),
    [
        ([macs(6_000_000)], (4_800_000, 6_600_000)),
        ([macs(6_000_000, at_least=5_500_000)], (5_500_000, 6_600_000)),
        ([macs(6_000_000), macs(4_000_000)], (3_200_000, 4_400_000)),
        ([{"quantity": "params", "at_most": 100_000}], None),
        ([macs(100_000_000)], None),  # all keep to it
        ([macs(10)], None),  # none does, as the search will say
        ([], None),
    ],
)
def test_the_range_is_near_the_tightest_budget(
    tmp_path: Path, budgets: list[dict[str, Any]], expected: tuple[int, int] | None
) -> None:
    found = budget_range(level_of(tmp_path, budgets))
    assert (found and found.macs) == expected


def test_random_subnets_of_a_step_keep_to_it(tmp_path: Path) -> None:
    level = level_of(tmp_path, [macs(6_000_000)], num_draws=300)
    sampler = subnet_sampler(level, num_persons=10)
    drawn = [count_cost(arch).macs for step in range(10) for arch in sampler.archs(step)]
    assert all(4_800_000 <= found <= 6_600_000 for found in drawn)


def test_a_given_range_and_the_whole_space_stay(tmp_path: Path) -> None:
    for given in ([5_000_000, 5_500_000], "all"):
        level = level_of(tmp_path, [macs(6_000_000)], macs_between=given)
        assert budget_range(level) is None
    sampler = subnet_sampler(level, num_persons=10)
    drawn = [count_cost(arch).macs for step in range(40) for arch in sampler.archs(step)]
    assert min(drawn) < 4_800_000  # most of the space is below the budget


def test_milliseconds_become_macs_through_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def costs(level: ImageLevel) -> Any:
        def cost_of(arch: Any) -> Cost:
            cost = count_cost(arch)
            return cost.with_values(latency_ms=2 + cost.macs / 1e6)

        return cost_of, {}

    monkeypatch.setattr(ImageLevel, "cost_of", costs)
    found = budget_range(level_of(tmp_path, [{"quantity": "latency_ms", "at_most": 6.0}]))
    assert found is not None
    low, high = found.macs
    assert 2.8e6 <= low < 3.0e6 and 4.4e6 < high <= 4.6e6
    assert str(found).startswith(f"random subnets of {low / 1e6:,.1f} to {high / 1e6:,.1f} MMACs")
    assert "latency_ms 0.000 to 6.000" in str(found)
