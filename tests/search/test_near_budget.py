"""Latencies near a budget are measured in a share of the time, and again answered on resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from errors_fixture import refused
from search_fixture import Separable

from vipnas.arch.image import Arch
from vipnas.config.search import LatencyConfig
from vipnas.models.counting import count_cost
from vipnas.quantities import Constraint, Cost
from vipnas.search.constraints import FeasibleSpace
from vipnas.search.journal import Journal
from vipnas.search.loop import search
from vipnas.search.near_budget import NearBudget
from vipnas.search.searchers import RandomSearcher
from vipnas.search.trial import Trial
from vipnas.search.workers import InProcess
from vipnas.space.image import SearchSpace

BUDGET = Constraint("latency_ms", 10.0)


def predicted(arch: Arch) -> Cost:
    """Milliseconds that follow the MACs, 4 to 20."""
    cost = count_cost(arch)
    return cost.with_values(latency_ms=4 + cost.macs / 400_000)


class Bench:
    """Every other network takes a fifth more than predicted; a measurement takes 2 seconds."""

    def __init__(self, space: SearchSpace, path: Path, share: float) -> None:
        self.seconds, self.calls = 0.0, list[Arch]()
        self.near = NearBudget(
            predicted, space.encode, [BUDGET], 0.1, share, self.measure, path, lambda: self.seconds
        )

    def measure(self, arch: Arch) -> float:
        self.seconds += 2
        self.calls.append(arch)
        return predicted(arch).value("latency_ms") * (1.2 if len(self.calls) % 2 else 1.0)

    def run(self, space: SearchSpace, path: Path, num_trials: int) -> list[Trial]:
        objective = Separable(space)

        def score(arch: Arch) -> float:
            self.seconds += 10
            return objective(arch)

        searcher = RandomSearcher(FeasibleSpace(space, self.near, [BUDGET]), 0)
        return search(
            self.near.measuring({"random": searcher}, "reference")["random"],
            "random",
            InProcess(lambda: score),
            self.near,
            num_trials,
            Journal(path, {}),
            lambda trial: None,
        )


def test_a_search_measures_what_is_near_and_resumes_by_the_same_answers(
    tiny_space: SearchSpace, tmp_path: Path
) -> None:
    bench = Bench(tiny_space, tmp_path / "latencies.json", share=0.1)
    trials = bench.run(tiny_space, tmp_path / "trials.jsonl", 16)
    assert len(trials) == 16 and bench.calls
    for trial in trials:
        assert isinstance(trial.arch, Arch)
        found, guess = trial.cost.value("latency_ms"), predicted(trial.arch).value("latency_ms")
        assert found <= 10
        assert found == pytest.approx(guess) or trial.arch in bench.calls
    # Near is within two mean errors of a tenth. Some were measured above the budget: no trials.
    assert all(8 <= predicted(arch).value("latency_ms") <= 12 for arch in bench.calls)
    scored = {trial.arch for trial in trials}
    assert any(arch not in scored for arch in bench.calls)
    # The last measurement began within the share.
    assert 2 * len(bench.calls) - 2 <= 0.1 * bench.seconds
    answers = json.loads((tmp_path / "latencies.json").read_text())
    assert sum(answer["latency_ms"] is not None for answer in answers) == len(bench.calls)

    again = Bench(tiny_space, tmp_path / "latencies.json", share=0.1)
    assert again.run(tiny_space, tmp_path / "trials.jsonl", 16) == trials
    assert again.calls == [] and again.seconds == 0

    answers[0]["genes"][0] += 1
    (tmp_path / "latencies.json").write_text(json.dumps(answers))
    with refused(f"{tmp_path / 'latencies.json'}: 0", "the architecture that this search proposes"):
        Bench(tiny_space, tmp_path / "latencies.json", 0.1).run(
            tiny_space, tmp_path / "trials.jsonl", 16
        )


def test_its_share_of_the_time_is_checked() -> None:
    with refused("measure_share", "0 to 1", "1.5"):
        LatencyConfig("table.json", measure_share=1.5)
    with refused("measure_share", "null with any_device", "0.1"):
        LatencyConfig("table.json", any_device=True, measure_share=0.1)
