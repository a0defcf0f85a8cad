"""The comparison of a model's formats and precisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from errors_fixture import refused
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import save_network
from networks_fixture import of_one_stage

from vipnas.cli.main import main
from vipnas.deploy import benchmark as module
from vipnas.deploy.benchmark import Row, forms_here, table
from vipnas.deploy.export import Form
from vipnas.latency.interleaved import Latency
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace

TWO_MS = Latency(2.0, 0.05, 24)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No test waits for a quiet machine: every run takes 2 ms. Returns how many ran in turn."""
    counts: list[int] = []

    def measured(runs: Sequence[Callable[[], object]], *_: object) -> list[Latency]:
        for run in runs:
            run()
        counts.append(len(runs))
        return [TWO_MS] * len(runs)

    monkeypatch.setattr(module, "interleaved", measured)
    return counts


def test_every_form_is_written_run_and_listed(
    tiny_space: SearchSpace,
    tmp_path: Path,
    timed: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    network = PoseNet(of_one_stage(tiny_space.min_arch()))
    model = save_network(tmp_path / "network.safetensors", network)
    output = tmp_path / "out.json"
    arguments = ["benchmark", str(model), "--format", "torch", "--precision", "fp32"]
    assert main([*arguments, "--threads", "1", "2", "-o", str(output)]) == 0
    rows = json.loads(output.read_text())["rows"]
    assert [(row["format"], row["precision"], row["threads"]) for row in rows] == [
        ("torch", "fp32", 1),
        ("torch", "fp32", 2),
    ]
    assert timed == [1, 1]  # only files with as many threads are timed in turn
    assert all(row["fps"] == 500.0 and row["ap"] is None for row in rows)
    assert rows[0]["kilobytes"] > 10
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2 + len(rows)


def test_crops_and_scores_are_of_the_size_and_the_joints_of_the_model(
    tiny_space: SearchSpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[tuple[int, ...]] = []

    def measured(network: PoseNet, *arguments: Any) -> list[Row]:
        _, _, _, crops, score, *_ = arguments
        seen.append(tuple(crops.shape[2:]))
        assert -1 <= score(network) <= 1
        return []

    monkeypatch.setattr(module, "benchmark", measured)
    sizes = [[32, 24], [64, 48]]
    draw_people(tmp_path)
    experiment = write_experiment(tmp_path, {**EXPERIMENT, "input_hw": sizes})
    network = PoseNet(tiny_space.with_facts(input_hw=(32, 24)).min_arch())
    model = save_network(tmp_path / "network.safetensors", network)
    places = ["--experiment", str(experiment), "--data-root", str(tmp_path)]
    assert main(["benchmark", str(model), *places, "--format", "torch", "--json"]) == 0
    assert seen == [(32, 24)]
    write_experiment(tmp_path, {**EXPERIMENT, "input_hw": sizes, "sigma_px": 3.0})
    assert main(["benchmark", str(model), *places, "--format", "torch"]) == 1
    assert "network.safetensors: sigma_px: expected the experiment's 3.0" in capsys.readouterr().err


def test_the_table_has_ap_where_it_was_measured() -> None:
    rows = [Row("onnx", "int8", 1, 123.4, TWO_MS, ap) for ap in (0.5, None)]
    assert list(table(rows[:1]))[0].endswith("| AP |")
    assert list(table(rows[:1]))[2] == "| onnx | int8 | 1 | 123 | 2.00 | 5.0% | 500 | 0.5000 |"
    assert list(table(rows[1:]))[2] == "| onnx | int8 | 1 | 123 | 2.00 | 5.0% | 500 |"


def test_int8_needs_crops_and_unknown_names_are_refused() -> None:
    said: list[str] = []
    assert Form("onnx", "int8") not in forms_here(["onnx"], None, False, said.append)
    assert said == ["onnx int8 is left out: it is calibrated on crops of --experiment"]
    assert Form("onnx", "int8") in forms_here(["onnx"], None, True, said.append)
    with refused(place="--precision int8", found="none"):
        forms_here(["onnx"], ["int8"], False)
    with refused(place="--format", found="'onx'"):
        forms_here(["onx"], None, False)
    with refused(place="--precision", found="'fp8'"):
        forms_here(None, ["fp8"], False)
    with refused(place="--format, --precision", found="torch in int8"):
        forms_here(["torch"], ["int8"], True)
