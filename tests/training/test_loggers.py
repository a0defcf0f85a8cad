"""Loggers: the default one writes what TensorBoard reads; services are told the same."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from errors_fixture import refused
from training_fixture import supernet_of

from vipnas.config.experiment import read_experiment
from vipnas.config.monitoring import Monitoring
from vipnas.config.schedule import Schedule
from vipnas.pipeline.names import check_names
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.training.callbacks.loggers import DEFAULT_LOGGER, LOGGERS
from vipnas.training.callbacks.monitor import Monitor
from vipnas.training.loop import Outcome, Training

CI = read_experiment(find_shipped("experiments", "ci", ".yaml"))


def test_the_default_logger_writes_event_files(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = LOGGERS[DEFAULT_LOGGER](tmp_path, 0)
    logger.log_numbers(20, {"loss/heatmaps": 0.5, "learning_rate": 1e-3})
    logger.log_picture(20, "heatmaps", np.zeros((4, 6, 3), np.uint8))
    logger.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss/heatmaps")] == [(20, 0.5)]
    (picture,) = events.Images("heatmaps")
    assert (picture.step, picture.height, picture.width) == (20, 4, 6)


def test_an_unknown_logger_is_named() -> None:
    with refused(place="loggers", expected="one of tensorboard, wandb", found="'tensorbord'"):
        LOGGERS.named("tensorbord", "loggers")
    with refused(place="x.yaml: monitoring.loggers", found="'tensorbord'"):
        check_names(replace(CI, monitoring=Monitoring(loggers=("tensorbord",))), "x.yaml")


class Service:
    """Stands in for the package of a service: writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.runs: list[str] = []

    def module(self, name: str) -> types.ModuleType:
        module = types.ModuleType(name)
        members: dict[str, object] = {"init": self.init, "Image": lambda picture: picture.shape}
        if name == "mlflow":
            members = {"MlflowClient": lambda: self}
        for member, value in members.items():
            setattr(module, member, value)
        return module

    def init(self, **settings: Any) -> Service:
        self.runs.append(settings.get("id", settings["name"]))
        assert settings["resume"] == "allow"
        return self

    def log(self, values: Mapping[str, Any], step: int) -> None:
        self.told += [(step, name, value) for name, value in values.items()]

    def finish(self) -> None:
        self.told.append(("end",))

    def get_experiment_by_name(self, _: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return name

    def create_run(self, experiment: str, run_name: str) -> Any:
        self.runs.append(f"{experiment}/{run_name}")
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"id {len(self.runs)}"))

    def log_metric(self, run: str, name: str, value: float, step: int) -> None:
        self.runs.append(run)
        self.told.append((step, name, value))

    def log_image(self, _: str, picture: Any, file: str) -> None:
        assert file.endswith("_000000020.png")
        self.told.append((20, file.rpartition("_")[0], picture.shape))

    def set_terminated(self, _: str) -> None:
        self.told.append(("end",))


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_every_service_is_told_the_same_and_a_resumed_training_continues_its_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, name, service.module(name))
    for _ in range(2):
        logger = LOGGERS[name](tmp_path, 0)
        logger.log_numbers(20, {"loss": 0.5, "rate": 1e-3})
        logger.log_picture(20, "heatmaps", np.zeros((4, 6, 3), np.uint8))
        logger.close()
    once = [(20, "loss", 0.5), (20, "rate", 1e-3), (20, "heatmaps", (4, 6, 3)), ("end",)]
    assert service.told == 2 * once
    assert len(set(service.runs) - {f"vipnas/{'/'.join(tmp_path.parts[-2:])}"}) == 1


def test_a_service_that_is_not_installed_says_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with refused(place="logger wandb", hint="pip install 'vipnas[wandb]'"):
        LOGGERS["wandb"](tmp_path, 0)


def test_a_service_that_fails_is_left_out_and_the_training_goes_on(
    tiny_space: SearchSpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service()
    service.log = lambda *_, **__: 1 / 0  # type: ignore[method-assign, assignment]
    monkeypatch.setitem(sys.modules, "wandb", service.module("wandb"))
    schedule = Schedule(epochs=1, batch_size=2, learning_rate=1e-3, warmup_steps=3)
    training = Training(supernet_of(tiny_space), schedule, num_steps=1)
    outcome = Outcome({"random": torch.tensor(0.5)}, torch.tensor(1.0), 1e-3)
    training.step = 1
    with Monitor(tmp_path, training, loggers=("wandb", DEFAULT_LOGGER)) as monitor:
        monitor.after_step(training, outcome)
        assert list(monitor.loggers) == [DEFAULT_LOGGER]
    assert "logger wandb: left out from here on: ZeroDivisionError" in caplog.text
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss/random"] == 0.5
