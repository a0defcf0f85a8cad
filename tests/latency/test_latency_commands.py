"""`vipnas profile` and `vipnas cost --latency` on the machine of the tests, noisy or not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from networks_fixture import of_one_stage

from vipnas.arch.io import write_arch
from vipnas.cli.main import main
from vipnas.config.search import LatencyConfig
from vipnas.latency import cores, interleaved, profile
from vipnas.latency.predictors import open_predictor
from vipnas.latency.table import read_table
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
