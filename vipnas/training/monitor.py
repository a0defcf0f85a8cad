"""Progress of a training: a bar or plain lines, and TensorBoard."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

SECONDS_BETWEEN_LINES = 15.0
STEPS_BETWEEN_SCALARS = 20


class Monitor:
    """Shows how far a run is and what its losses are. On a terminal a bar, in a log file plain
    lines."""

    def __init__(self, title: str, directory: Path, first_step: int, num_steps: int) -> None:
        # Imported here because TensorBoard takes seconds to start, and most commands do without.
        from torch.utils.tensorboard import SummaryWriter

        self.title = title
        self.num_steps = num_steps
        self.writer = SummaryWriter(directory / "tensorboard", purge_step=first_step)
        self.started, self.first_step = time.monotonic(), first_step
        self.last_line = self.started
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        self.bar = Progress(*columns, disable=not sys.stderr.isatty())
        self.task = self.bar.add_task(title, total=num_steps, completed=first_step, losses="")

    def __enter__(self) -> Monitor:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()
        self.writer.close()

    def log(self, step: int, losses: dict[str, Tensor]) -> None:
        """Called after every step. Losses are read, which waits for a GPU, only when they are
        shown."""
        due = time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES or step == self.num_steps
        if step % STEPS_BETWEEN_SCALARS and not due:
            self.bar.advance(self.task)
            return
        values = {name: float(loss) for name, loss in losses.items()}
        for name, value in values.items():
            self.writer.add_scalar(f"loss/{name}", value, step)
        text = ", ".join(f"{name} {value:.2e}" for name, value in values.items())
        self.bar.update(self.task, completed=step, losses=text)
        if due and self.bar.disable:
            self.last_line = time.monotonic()
            rate = (step - self.first_step) / max(self.last_line - self.started, 1e-9)
            left = (self.num_steps - step) / max(rate, 1e-9)
            print(
                f"{self.title}: step {step}/{self.num_steps}, {rate:.1f} steps/s,"
                f" {left:.0f} s left, {text}",
                flush=True,
            )
