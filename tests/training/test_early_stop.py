"""Early stopping: after probes in vain, with the best network, and alike after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from errors_fixture import refused
from experiment_fixture import EXPERIMENT, draw_people, write_experiment

from vipnas.arch.io import write_arch
from vipnas.cli.main import main
from vipnas.config.experiment import read_experiment
from vipnas.models.file import read_header, read_network
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space
from vipnas.training.callbacks.keeping import EarlyStop
from vipnas.training.callbacks.probes import Probe, Probes


def test_it_stops_after_so_many_probes_in_vain() -> None:
    stops: list[int] = []
    best = SimpleNamespace(step=20, path=Path("retrain/best.safetensors"))
    early: Any = EarlyStop(best, every_steps=10, patience=2)  # type: ignore[arg-type]
    training: Any = SimpleNamespace(stop=lambda: stops.append(training.step))
    for training.step in range(1, 51):
        early.after_step(training, None)
    assert stops == [40, 50]  # probes at 30 and 40 were no better than that of 20


def test_the_best_network_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """APs of the probes are 0.1, 0.5, 0.2, 0.3: with a patience of 2 it ends after the fourth."""
    aps = iter((0.1, 0.5, 0.2, 0.3))

    def probed(probes: Probes[Any], network: torch.nn.Module) -> Probe:
        return Probe({"network": next(aps)}, torch.zeros(2, 2, 3, dtype=torch.uint8).numpy())

    monkeypatch.setattr(Probes, "__call__", probed)
    schedule = {"epochs": 10, "batch_size": 4, "learning_rate": 1e-3, "average_decay": 0.0}
    retrain = {"init_from": "scratch", "schedule": schedule, "patience": 2}
    document = {**EXPERIMENT, "retrain": retrain}
    path = write_experiment(tmp_path, document)
    data = draw_people(tmp_path / "data")

    arch = read_space(find_shipped("search_spaces", "tiny", ".yaml")).min_arch()
    write_arch(tmp_path / "arch.json", arch)
    arguments = ["retrain", str(path), "--output", str(tmp_path / "run"), "--device", "cpu"]
    arguments += ["--data-root", str(data), "--arch", str(tmp_path / "arch.json")]
    assert main(arguments) == 0
    folder = tmp_path / "run/retrain"
    assert "retrain: stopped: no better score since step" in capsys.readouterr().out
    best = read_header(folder / "best.safetensors").metrics
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    probes = [line["step"] for line in lines if "ap/network" in line]
    assert len(probes) == 4 and best["score"] == 0.5 and best["step"] == probes[1]
    kept, network = (
        read_network(folder / f"{name}.safetensors")[0] for name in ("best", "network")
    )
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, kept.state_dict()[name]), name
    # Killed after the stop, it stops there again: a fifth probe would have no AP.
    before = (folder / "network.safetensors").read_bytes()
    (folder / "done.json").unlink()
    assert main(arguments) == 0
    assert (folder / "network.safetensors").read_bytes() == before


def test_patience_counts_probes(tmp_path: Path) -> None:
    retrain = {**EXPERIMENT["retrain"], "patience": 2}
    document = {**EXPERIMENT, "retrain": retrain, "monitoring": {"probe_epochs": None}}
    path = write_experiment(tmp_path, document)
    with refused(place=f"{path}: monitoring.probe_epochs", found="null"):
        read_experiment(path)
