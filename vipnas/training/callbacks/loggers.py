"""Loggers for the numbers and pictures of a training, besides `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vipnas.tables import OpenTable


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


# From the folder of a training and the step that it resumes at. Later steps are logged again.
MakeLogger: TypeAlias = Callable[[Path, int], Logger]

DEFAULT_LOGGER = "tensorboard"
LOGGERS: OpenTable[MakeLogger] = OpenTable("vipnas.loggers", {DEFAULT_LOGGER: TensorBoard})
