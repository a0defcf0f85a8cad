"""Loggers for the numbers and pictures of a training, besides `metrics.jsonl`."""

from __future__ import annotations

import importlib
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vipnas.errors import UserError
from vipnas.files import write_atomically
from vipnas.tables import OpenTable

# The project, or experiment, of the services that group runs.
PROJECT = "vipnas"


class Logger(Protocol):
    """The contract of every logger. Steps count from 1 and never go back."""

    def log_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log numbers by name, such as `loss/heatmaps`."""

    def log_picture(self, step: int, name: str, picture_HW3: NDArray[np.uint8]) -> None:
        """Log an RGB picture."""

    def close(self) -> None:
        """Flush and close; called once at the end, also after an error."""


class TensorBoard:
    """Event files in the folder `tensorboard` of a training."""

    def __init__(self, directory: Path, step: int) -> None:
        # TensorBoard takes seconds to import, and most commands do not need it.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(directory / "tensorboard", purge_step=step + 1)

    def log_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log each number as a scalar."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_picture(self, step: int, name: str, picture_HW3: NDArray[np.uint8]) -> None:
        """Log an image."""
        self._writer.add_image(name, picture_HW3, step, dataformats="HWC")

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, resumed with the training (extra `wandb`).

    `WANDB_MODE=offline` keeps it in the folder of the training; `WANDB_PROJECT` renames the
    project.
    """

    def __init__(self, directory: Path, _: int) -> None:
        self._wandb = _package("wandb")
        self._run = self._wandb.init(
            project=None if _is_set("WANDB_PROJECT") else PROJECT,
            dir=directory,
            name=_name(directory),
            id=_run_id(directory / "wandb_id.txt"),
            resume="allow",
        )

    def log_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log all numbers of a step."""
        self._run.log(dict(numbers), step=step)

    def log_picture(self, step: int, name: str, picture_HW3: NDArray[np.uint8]) -> None:
        """Log an image."""
        self._run.log({name: self._wandb.Image(picture_HW3)}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MLflow:
    """A run of MLflow, resumed with the training (extra `mlflow`).

    `MLFLOW_TRACKING_URI` names the server; without it MLflow chooses a place in the working
    directory.
    """

    def __init__(self, directory: Path, _: int) -> None:
        self._client = _package("mlflow").MlflowClient()
        path = directory / "mlflow_run_id.txt"
        if path.exists():
            self._id = path.read_text(encoding="utf-8").strip()
            return
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found else self._client.create_experiment(PROJECT)
        self._id = self._client.create_run(experiment, run_name=_name(directory)).info.run_id
        write_atomically(path, self._id + "\n")

    def log_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log each number as a metric."""
        for name, value in numbers.items():
            self._client.log_metric(self._id, name, value, step=step)

    def log_picture(self, step: int, name: str, picture_HW3: NDArray[np.uint8]) -> None:
        """Log an image as an artifact."""
        self._client.log_image(self._id, picture_HW3, f"{name}_{step:09d}.png")

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._id)


class Trackio:
    """A run of trackio, resumed with the training (extra `trackio`)."""

    def __init__(self, directory: Path, _: int) -> None:
        self._trackio = _package("trackio")
        self._run = self._trackio.init(
            project=PROJECT,
            name=f"{_name(directory)}-{_run_id(directory / 'trackio_id.txt')}",
            resume="allow",
        )

    def log_numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log all numbers of a step."""
        self._run.log(dict(numbers), step=step)

    def log_picture(self, step: int, name: str, picture_HW3: NDArray[np.uint8]) -> None:
        """Log an image."""
        self._run.log({name: self._trackio.Image(picture_HW3)}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def _package(name: str) -> Any:
    """Import a logger's package; raise UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        hint = f"pip install 'vipnas[{name}]'"
        raise UserError(f"logger {name}", f"the package {name}", "none", hint) from None


def _is_set(variable: str) -> bool:
    return bool(os.environ.get(variable))


def _name(directory: Path) -> str:
    """Return the name of a run: the folder of the experiment, and the stage."""
    return "/".join(directory.resolve().parts[-2:])


def _run_id(path: Path) -> str:
    """Return the identity of a run, which a resumed training finds again."""
    if not path.exists():
        write_atomically(path, uuid.uuid4().hex[:12] + "\n")
    return path.read_text(encoding="utf-8").strip()


# From the folder of a training and the step that it resumes at. Later steps are logged again.
MakeLogger: TypeAlias = Callable[[Path, int], Logger]

DEFAULT_LOGGER = "tensorboard"
LOGGERS: OpenTable[MakeLogger] = OpenTable(
    "vipnas.loggers",
    {
        DEFAULT_LOGGER: TensorBoard,
        "wandb": WeightsAndBiases,
        "mlflow": MLflow,
        "trackio": Trackio,
    },
)
