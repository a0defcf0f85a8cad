"""The tools that compare supernets: coefficients by hand, archs drawn, a journal that goes on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from tool_fixture import ROOT, tool

from vipnas.config.schedule import Schedule
from vipnas.config.training import SupernetConfig
from vipnas.files import parse, read_yaml
from vipnas.models import elastic
from vipnas.models.counting import count_cost
from vipnas.models.elastic import ElasticConv2d
from vipnas.models.slicing import crop
from vipnas.quantities import Cost
from vipnas.space.image import SearchSpace


@pytest.fixture(scope="module")
def ranking() -> Any:
    return tool("benchmarks.rank_correlation")


@pytest.fixture(scope="module")
def bench() -> Any:
    return tool("benchmarks.ranking_bench")


@pytest.fixture(scope="module")
def statistics() -> Any:
    return tool("benchmarks.ranking_report")


def numbers(*values: float) -> Any:
    return np.array(values, float)


def test_coefficients_by_hand(statistics: Any) -> None:
    truth = numbers(1, 2, 3, 4)
    # Of six pairs one is the wrong way round: (5 - 1) / 6; squared rank differences 0, 1, 1, 0.
    swapped = numbers(10, 30, 20, 40)
    assert statistics.kendall(swapped, truth) == pytest.approx(4 / 6)
    assert statistics.spearman(swapped, truth) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert statistics.kendall(-truth, truth) == statistics.spearman(-truth, truth) == -1
    # A tie: five pairs are right, one is not counted; tau-b divides by the root of 5 * 6.
    assert statistics.kendall(numbers(1, 2, 2, 3), truth) == pytest.approx(5 / 30**0.5)
    for coefficient in (statistics.kendall, statistics.spearman):
        assert coefficient(numbers(7, 7, 7, 7), truth) == 0


def test_intervals_hold_the_value_and_shrink_with_more_archs(
    statistics: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 100)
    rng = np.random.default_rng(3)
    widths = []
    for count in (12, 120):
        truth = rng.normal(size=count)
        found = statistics.agreement(statistics.kendall, truth + rng.normal(size=count), truth)
        assert found.low <= found.value <= found.high
        widths.append(found.high - found.low)
        perfect = statistics.agreement(statistics.kendall, truth, truth)
        assert perfect == pytest.approx((1, 1, 1))
        nothing = statistics.advantage(statistics.kendall, truth, 2 * truth, truth)
        assert nothing == (0, 0, 0)
    assert widths[1] < widths[0] / 2


def test_a_set_trained_twice_is_ranked_by_its_mean_too(
    statistics: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 20)
    costs = [Cost(macs, 10 * macs) for macs in (1, 2, 3, 4, 5)]
    alone = numbers(0.1, 0.2, 0.5, 0.3, 0.2)
    again = {0: 0.2, 2: 0.1, 3: 0.5, 4: 0.6}  # of those spread over MACs one, of the band all
    found = statistics.Ranking(costs, 2, alone, again, {"net": numbers(0, 1, 0.3, 0.4, 0.5)})
    assert found.mean_of_seeds(range(2)) is None
    assert found.mean_of_seeds(range(2, 5))[2:] == pytest.approx([0.3, 0.4, 0.4])
    document = found.document()
    assert document["Spread over MACs"]["predictors_of_mean"] is None
    rows = document["Within the band"]["predictors_of_mean"]
    # Two pairs are right, one is tied in the mean of AP.
    assert rows[-1]["tau"].value == pytest.approx(2 / 6**0.5)
    assert "## Within the band, mean of two seeds" in statistics.text_of(document, found)


def test_what_can_be_reached_is_what_the_noise_of_one_training_leaves(statistics: Any) -> None:
    rng = np.random.default_rng(0)
    known = rng.normal(0, 0.3, 3000)
    trained = known + rng.normal(0, 0.2, 3000)
    reachable = statistics.reachable_tau(0.2**2, trained.var())
    assert reachable == pytest.approx(statistics.kendall(known, trained), abs=0.02)
    assert statistics.reachable_tau(0.0, 0.04) == pytest.approx(1)
    assert statistics.reachable_tau(0.04, 0.0) == statistics.reachable_tau(0.05, 0.04) == 0


def test_archs_are_spread_over_the_costs(ranking: Any, tiny_space: SearchSpace) -> None:
    archs = ranking.spread_archs(tiny_space, 12, random.Random(0))
    assert archs == ranking.spread_archs(tiny_space, 12, random.Random(0))
    assert len(set(archs)) == 12
    lowest, highest = (
        count_cost(arch).macs for arch in (tiny_space.min_arch(), tiny_space.max_arch())
    )
    for number, arch in enumerate(archs):
        middle = lowest + (highest - lowest) * (number + 0.5) / 12
        assert abs(count_cost(arch).macs - middle) < (highest - lowest) / 12


def test_archs_of_the_band_cost_the_same(
    ranking: Any, tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    archs = ranking.band_archs(tiny_space, 20, 0.1, random.Random(0))
    costs = [count_cost(arch).macs for arch in archs]
    assert len(set(archs)) == 20 and max(costs) <= 1.106 * min(costs)
    monkeypatch.setattr(ranking, "MOST_DRAWS", 50)
    with pytest.raises(ValueError, match=r"of 99 archs within 0% of .* --band-width"):
        ranking.band_archs(tiny_space, 99, 1e-6, random.Random(0))


def test_leading_columns_replace_the_block_diagonal_inside_only(bench: Any) -> None:
    layer, small = ElasticConv2d(8, 8, groups=1), ElasticConv2d(8, 8, groups=2)
    layer.reset_parameters()
    small.inherit(layer)
    diagonal = small.weight.detach().clone()
    with bench.sharing("leading"):
        small.inherit(layer)
    assert small.weight.equal(layer.weight[:, :4])
    assert not small.weight.equal(diagonal)
    with bench.sharing("block_diagonal"):
        small.inherit(layer)
    assert small.weight.equal(diagonal)
    assert vars(elastic)["crop"] is crop


def test_the_supernets_to_compare_are_read_and_their_opening_fits_any_run() -> None:
    compare = tool("benchmarks.compare_supernets")
    path = ROOT / "experiments" / "ranking" / "supernets.yaml"
    variants: dict[str, Any] = parse(dict[str, compare.Variant], read_yaml(path), str(path))  # type: ignore[name-defined]
    base = SupernetConfig(Schedule(epochs=1, batch_size=16, learning_rate=1e-3))
    for variant in variants.values():
        assert variant.config(base, 0.3).schedule.epochs == 0.3
    progressive = variants["progressive"].config(base, 10.0).progressive_shrinking
    assert progressive.open_at(1.9, {"depth", "kernel_size"}) == frozenset()
    assert progressive.open_at(3.1, {"depth", "width"}) == {"depth"}
    assert progressive.all_open_epoch == pytest.approx(5.0)


def test_another_seed_is_that_of_training_and_not_of_the_people(bench: Any, tmp_path: Path) -> None:
    data = draw_people(tmp_path / "data")
    place = bench.Place(write_experiment(tmp_path, EXPERIMENT), tmp_path / "run", data)
    other = place.open(seed=1)
    own = other.people
    assert (own.config.seed, other.config.seed) == (0, 1)
    assert (own.training_crops.seed, other.training_crops.seed) == (0, 1)
    assert other.training_crops.persons is own.training_crops.persons is own.train_data.persons
    assert other.val_data is own.val_data
    assert other.test_data is own.test_data
    assert torch.equal(other.calibration_images, own.calibration_images)


@pytest.mark.slow
def test_supernets_are_trained_and_ranked_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    data = draw_people(tmp_path / "data")
    experiment = write_experiment(tmp_path, {**EXPERIMENT, "monitoring": {"probe_epochs": None}})
    supernets = tmp_path / "supernets.yaml"
    supernets.write_text(yaml.safe_dump({"plain": {}, "leading": {"sharing": "leading"}}))
    output, common = tmp_path / "run", ["--data-root", str(data), "--workers", "1"]
    common += ["--output", str(tmp_path / "run")]
    run("compare_supernets", str(experiment), str(supernets), "--seconds", "2", *common)
    command = ("rank_correlation", str(experiment), "--num-archs", "3", "--repeat-seeds", "2")
    run(*command, *common)

    journal = output / "measurements.jsonl"
    lines = journal.read_text().splitlines()
    assert len(lines) == 1 + 3 + 2 + 2 * 3
    report = (output / "ranking.md").read_text()
    assert "| plain |" in report and "| leading |" in report
    found = json.loads((output / "ranking.json").read_text())
    # Cut as by a kill: the last but one measurement, and the rest of a line.
    journal.write_text("\n".join(lines[:3]) + "\n" + lines[3][:40])
    run(*command, *common)
    again = journal.read_text().splitlines()
    assert again[:3] == lines[:3]
    assert sorted(map(untimed, again[1:])) == sorted(map(untimed, lines[1:]))
    assert json.loads((output / "ranking.json").read_text()) == found


def untimed(line: str) -> str:
    return json.dumps({key: value for key, value in json.loads(line).items() if key != "seconds"})


def run(name: str, *arguments: str) -> None:
    command = [sys.executable, "-m", f"tools.benchmarks.{name}", *arguments]
    subprocess.run(command, check=True, cwd=ROOT, timeout=600)
