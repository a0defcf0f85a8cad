"""`vipnas profile` and `vipnas cost --latency` on the machine of the tests, noisy or not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from networks_fixture import of_one_stage

from vipnas.arch.io import write_arch
from vipnas.cli.main import main
from vipnas.config.search import LatencyConfig
from vipnas.latency import cores, interleaved, profile
from vipnas.latency.predictors import open_predictor
from vipnas.latency.table import read_table
from vipnas.search.journal import read_journal
from vipnas.space.image import SearchSpace

pytestmark = pytest.mark.usefixtures("onnx_operators")

NO_LIMIT = ["--max-spread", "1000"]


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long is measured is no matter of the command."""
    monkeypatch.setattr(interleaved, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(interleaved, "MIN_SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(cores, "time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(profile, "ARCHS_SAMPLED", 100)


@pytest.mark.timeout(60)  # about 1 s where nothing else runs
def test_a_profile_is_made_and_read_by_a_search(
    tmp_path: Path, tiny_space: SearchSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.json"
    amount = ["--num-archs", "5", "--num-blocks", "3"]
    assert main(["profile", "tiny", *amount, *NO_LIMIT, "--output", str(path)]) == 0
    printed = capsys.readouterr().out
    table = read_table(path)
    assert table.choice is not None
    assert f"by {table.choice.method}" in printed
    assert (len(table.archs), len(table.blocks)) == (5, 3)
    assert all(timing.latency.median_ms > 0 for timing in (*table.archs, *table.blocks))
    assert open_predictor(LatencyConfig(table=str(path)), tiny_space)(tiny_space.max_arch()) > 0

    other_amount = ["--num-archs", "7", "--num-blocks", "3"]
    assert main(["profile", "tiny", *other_amount, "--output", str(path)]) == 1
    error = capsys.readouterr().err
    assert "num_archs: expected 7, got 5" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "runtime", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow), "torch"]
)
def test_cost_measures_latency_where_asked(
    runtime: str, tmp_path: Path, tiny_space: SearchSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(runtime)
    path = tmp_path / "arch.json"
    write_arch(path, of_one_stage(tiny_space.min_arch()))
    command = ["cost", str(path), "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["latency_ms"] is None
    assert main([*command, "--latency", "--runtime", runtime, *NO_LIMIT]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["latency_ms"] == found["latency"]["median_ms"] > 0
    assert (found["key"]["runtime"], found["key"]["threads"]) == (runtime, 1)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_search_measures_proposals_near_its_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, run = tmp_path / "table.json", tmp_path / "run"
    amount = ["--num-archs", "5", "--num-blocks", "3"]
    assert main(["profile", "tiny", *amount, *NO_LIMIT, "--output", str(table)]) == 0
    budget = max(timing.latency.median_ms for timing in read_table(table).archs)
    search = {
        "num_trials": 3,
        "evolution": {"population_size": 2},
        "constraints": [{"quantity": "latency_ms", "at_most": budget}],
        "latency": {"table": str(table), "measure_share": 1.0},
    }
    path = write_experiment(draw_people(tmp_path), {**EXPERIMENT, "search": search})
    for command in ("train-supernet", "search", "search"):
        options = ["--output", str(run), "--data-root", str(tmp_path), "--device", "cpu"]
        assert main([command, str(path), *options]) == 0, capsys.readouterr().err
    assert "search: near the budget: predicted" in capsys.readouterr().out
    answers = json.loads((run / "search" / "latencies.json").read_text())
    assert len(answers[0]["genes"]) > 10
    for trial in read_journal(run / "search" / "trials.jsonl")[1]:
        assert trial.method == "reference" or trial.cost.value("latency_ms") <= budget
