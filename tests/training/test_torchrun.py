"""The commands under torchrun: one process killed, the same command goes on, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import load_network

from vipnas.arch.io import write_arch
from vipnas.cli.main import main
from vipnas.space.image import SearchSpace
from vipnas.training.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent


pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("torchrun")
    draw_people(directory / "data")
    schedule = {"epochs": 20, "batch_size": 4, "learning_rate": 1e-3}
    document = {
        **EXPERIMENT,
        "supernet": {**EXPERIMENT["supernet"], "schedule": schedule},
        "retrain": {**EXPERIMENT["retrain"], "init_from": "scratch"},
        "monitoring": {"probe_epochs": 10.0, "probe_persons": 4},
        "checkpoint_minutes": 0.01,
    }
    write_experiment(directory, document)
    return directory


def start(command: str, directory: Path, output: str, *more: str) -> subprocess.Popen[str]:
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vipnas"]
    places = ["--output", str(directory / output), "--data-root", str(directory / "data")]
    experiment = str(directory / "experiment.yaml")
    return subprocess.Popen(
        [sys.executable, "-m", *torchrun, command, experiment, *places, "--device", "cpu", *more],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate()
    assert process.returncode == 0, error
    return out


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun has started, as /proc knows them."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children]


def test_one_process_killed_leaves_a_whole_checkpoint_and_the_command_goes_on(
    directory: Path,
) -> None:
    said = finish(start("train-supernet", directory, "unbroken"))
    assert said.count("supernet: trained") == 1  # by the first process alone
    broken = start("train-supernet", directory, "broken")
    checkpoint = directory / "broken" / "supernet" / "checkpoint.pt"
    while not checkpoint.exists():
        assert broken.poll() is None
        time.sleep(0.05)
    os.kill(workers_of(broken)[1], signal.SIGKILL)
    broken.communicate()
    assert broken.returncode != 0
    assert 0 < load_checkpoint(checkpoint)["step"] < 60
    finish(start("train-supernet", directory, "broken"))
    for name in ("supernet.safetensors", "best.safetensors"):
        one, other = (
            load_network(directory / run / "supernet" / name).state_dict()
            for run in ("unbroken", "broken")
        )
        assert all(torch.equal(one[key], other[key]) for key in one)
    lines = (directory / "broken" / "supernet" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps)) and steps[-1] == load_checkpoint(checkpoint)["step"]


def test_retrain_measures_once(directory: Path, tiny_space: SearchSpace) -> None:
    write_arch(directory / "arch.json", tiny_space.min_arch())
    said = finish(start("retrain", directory, "run", "--arch", str(directory / "arch.json")))
    assert said.count("on the test set") == 1
    assert (
        load_network(directory / "run" / "retrain" / "network.safetensors").arch
        == tiny_space.min_arch()
    )
    assert (directory / "run" / "retrain" / "metrics.json").exists()


def test_what_cannot_be_shared_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["search", str(directory / "experiment.yaml")]) == 1
    assert "WORLD_SIZE: expected 1 process, got 2 processes" in capsys.readouterr().err
