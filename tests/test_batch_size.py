"""`batch_size: auto`, `precision: auto`: what is chosen, and that a run keeps it. Without a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from errors_fixture import refused
from experiment_fixture import EXPERIMENT

from vipnas.config.experiment import ExperimentConfig
from vipnas.config.schedule import Schedule
from vipnas.config.training import Compute
from vipnas.files import parse
from vipnas.pipeline import batch_size
from vipnas.pipeline.batch_size import largest_batch_size, with_batch_size
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.precision import keep_precision
from vipnas.training.distributed import Processes

AUTO = Schedule(epochs=1, batch_size="auto", learning_rate=1e-3)


@pytest.mark.parametrize(
    ("most_bytes", "runs_out_at", "expected"),
    [(6400, 512, 64), (6399, 512, 32), (1e9, 512, 256), (1e9, 128, 64), (10, 512, 8), (1e9, 8, 8)],
)
def test_the_largest_power_of_two_that_fits(
    most_bytes: float, runs_out_at: int, expected: int
) -> None:
    """A step of n crops needs 100 n bytes."""

    def bytes_of_step(count: int) -> int | None:
        return None if count >= runs_out_at else 100 * count

    assert largest_batch_size(bytes_of_step, most_bytes, most=256) == expected


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    config = parse(ExperimentConfig, EXPERIMENT, "test")
    return Experiment(config, tmp_path, tmp_path, torch.device("cpu"))


def test_a_cpu_has_a_plain_default_and_a_run_keeps_its_number(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = tmp_path / "retrain"
    assert with_batch_size(experiment, AUTO, stage).batch == 16
    assert "retrain: batch size 16, the one for a CPU" in capsys.readouterr().out
    (stage / "batch_size.json").write_text("48\n")  # another machine had chosen
    assert with_batch_size(experiment, AUTO, stage) == replace(AUTO, batch_size=48)
    assert capsys.readouterr().out == ""
    given = replace(AUTO, batch_size=3)
    assert with_batch_size(experiment, given, stage) == given


def test_a_gpu_has_what_its_free_memory_holds(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10_000, 99_999))
    monkeypatch.setattr(batch_size, "bytes_of_step", lambda _: lambda count: 100 * count)
    on_gpu = replace(experiment, device=torch.device("cuda"))
    # 7,000 bytes are for a step.
    assert with_batch_size(on_gpu, AUTO, tmp_path / "supernet").batch == 64


def test_what_has_no_batch_size_is_refused(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "batch_size.json").write_text('"many"')
    with refused(place=str(tmp_path / "batch_size.json")):
        with_batch_size(experiment, AUTO, tmp_path)
    with refused(place="batch_size", found="auto"):
        AUTO.num_steps(10)
    several = replace(experiment, processes=Processes(0, 2))
    with refused(place="batch_size"):
        with_batch_size(several, AUTO, tmp_path)
    with refused(place="batch_size"):
        Schedule(epochs=1, batch_size=0, learning_rate=1e-3)


def test_a_run_keeps_its_precision_on_another_machine(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    on_gpu = replace(experiment, device=torch.device("cuda"))
    assert (experiment.compute.precision, on_gpu.compute.precision) == ("float32", "bfloat16")
    keep_precision(on_gpu.compute, tmp_path)
    assert experiment.compute == on_gpu.compute
    keep_precision(Compute(precision="float32"), tmp_path)  # too late
    assert experiment.compute.precision == "bfloat16"
    named = replace(experiment, config=replace(experiment.config, compute=Compute("float32")))
    assert named.compute.precision == "float32"
    (tmp_path / "precision.json").write_text("16")
    with refused(place=str(tmp_path / "precision.json"), expected="float32 or bfloat16"):
        experiment.compute  # noqa: B018 (raises)
