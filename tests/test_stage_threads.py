"""The number of threads of a training: chosen, recorded, kept, and without influence by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment_fixture import EXPERIMENT, draw_people, write_experiment
from model_fixture import load_network

from vipnas.arch.io import write_arch
from vipnas.cli.main import main
from vipnas.models.file import read_header
from vipnas.pipeline import work
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space
from vipnas.threads import Timed
from vipnas.training.checkpoint import load_checkpoint
from vipnas.training.loop import Training

pytestmark = pytest.mark.usefixtures("brief_plan")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an arch beside the images."""
    root = draw_people(tmp_path_factory.mktemp("threads"))
    space = read_space(find_shipped("search_spaces", "tiny"))
    write_arch(root / "arch.json", space.min_arch())
    return root


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """That are said to be there, but not used: beside other processes this would take minutes."""
    number = 1

    def set_number(threads: int) -> None:
        nonlocal number
        number = threads

    monkeypatch.setattr("torch.set_num_threads", set_number)
    monkeypatch.setattr("torch.get_num_threads", lambda: number)
    monkeypatch.setattr(work, "most_threads", lambda environment: 2)


def retrain(data: Path, directory: Path, code: int = 0, **compute: Any) -> Path:
    """Run the command, with a checkpoint after every step; the folder that it writes to."""
    directory.mkdir(exist_ok=True)
    document = {
        **EXPERIMENT,
        "retrain": {"schedule": EXPERIMENT["retrain"]["schedule"]},
        "monitoring": {"probe_epochs": None},
        "checkpoint_minutes": 1e-9,
        "compute": compute,
    }
    experiment = str(write_experiment(directory, document))
    places = ["--output", str(directory / "run"), "--data-root", str(data), "--device", "cpu"]
    assert main(["retrain", experiment, *places, "--arch", str(data / "arch.json")]) == code
    return directory / "run" / "retrain"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_network(run / "network.safetensors").state_dict()


def test_timing_changes_nothing_and_the_choice_is_recorded(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = retrain(data, tmp_path / "given", threads=1)
    assert "retrain: 1 thread (compute.threads)\n" in capsys.readouterr().out
    monkeypatch.setattr(Timed, "choice", 1)  # whatever this machine prefers just now
    chosen = retrain(data, tmp_path / "chosen")
    assert "retrain: 1 thread (a step takes " in capsys.readouterr().out
    first, second = weights(given), weights(chosen)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for run in (given, chosen):
        assert load_checkpoint(run / "checkpoint.pt")["threads"] == 1
        assert read_header(run / "network.safetensors").provenance.threads == 1
        assert json.loads((run / "metrics.json").read_text())["threads"] == 1


def test_a_resumed_training_keeps_its_threads(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it may use fewer by then, too, which is a warning."""
    update = Training._update

    def killed(self: Training, *arguments: Any) -> Any:
        if self.step == 1:
            raise KeyboardInterrupt
        return update(self, *arguments)

    monkeypatch.setattr(Timed, "choice", 2)
    monkeypatch.setattr(Training, "_update", killed)
    run = retrain(data, tmp_path, code=130)
    assert load_checkpoint(run / "checkpoint.pt")["threads"] == 2
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(Training, "_update", update)
    monkeypatch.setattr(Timed, "choice", 1)
    monkeypatch.setattr(work, "most_threads", lambda environment: 1)
    capsys.readouterr()
    torch.set_num_threads(1)
    retrain(data, tmp_path)
    said = capsys.readouterr()
    assert "retrain: 2 threads (as before it was interrupted)\n" in said.out
    assert read_header(run / "network.safetensors").provenance.threads == 2


def test_another_number_is_another_training(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    retrain(data, tmp_path, threads=1)
    capsys.readouterr()
    retrain(data, tmp_path, code=1, threads=2)
    error = capsys.readouterr().err
    assert "compute.threads: expected 1, got 2" in error or "compute: expected" in error
    retrain(data, tmp_path / "none", code=1, threads=0)
    assert "compute.threads" in capsys.readouterr().err
