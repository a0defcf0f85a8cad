"""The schedule of a training: its length, batch size and learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vipnas.config.limits import AT_MOST
from vipnas.errors import UserError
from vipnas.files import Strict


@dataclass(frozen=True, kw_only=True)
class Schedule(Strict):
    """Length, batch size and learning rate of a training.

    Specify exactly one of `epochs` and `hours`.

    Attributes:
        epochs: Number of epochs.
        hours: Time of the training on this machine, validation included. When it starts, its steps
            are timed, and the number of epochs is chosen and kept.
        batch_size: Batch size of all processes together. `auto` takes the largest power of two that
            the memory of a GPU holds, and 16 on a CPU; for images, and one process.
        learning_rate: Highest learning rate, after the warmup.
        warmup_steps: Number of steps of linear warmup.
        decay: `cosine` falls to zero; `step` falls to a tenth at every `drop_at`.
        drop_at: Fractions of the run, 0 to 1.
        weight_decay: Weight decay of the optimizer.
        clip_norm: Largest norm of the gradient of all weights; null does not clip.
        average_decay: Decay of the exponential moving average of the weights. The averaged weights
            are what is scored and saved.
    """

    epochs: float | None = None
    hours: float | None = None
    batch_size: int | Literal["auto"]
    learning_rate: float
    warmup_steps: int = 100
    decay: Literal["cosine", "step"] = "cosine"
    drop_at: tuple[float, ...] = (170 / 210, 200 / 210)
    weight_decay: float = 0.0
    clip_norm: float | None = None
    average_decay: float = 0.998

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.hours is None):
            found = "none" if self.epochs is None else "both"
            raise UserError("epochs and hours", "exactly one of them", found)
        for name in ("epochs", "hours", "batch_size", "learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value not in (None, "auto") and not 0 < value < math.inf:
                raise UserError(name, "a number above 0", str(value))
        for name, limit in AT_MOST.items():
            value = getattr(self, name)
            if value != "auto" and value > limit:
                raise UserError(name, f"a number of at most {limit}", str(value))
        for name in ("warmup_steps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(name, "a number from 0", str(getattr(self, name)))
        if not all(0 <= share <= 1 for share in self.drop_at):
            raise UserError("drop_at", "numbers from 0 to 1", str(list(self.drop_at)))
        if not 0 <= self.average_decay < 1:
            raise UserError("average_decay", "a number from 0 to below 1", str(self.average_decay))

    @property
    def num_epochs(self) -> float:
        """The number of epochs; raises UserError for hours, which a training replaces."""
        if self.epochs is None:
            raise UserError("epochs", "a number", "none", "they are chosen from the hours")
        return self.epochs

    @property
    def batch(self) -> int:
        """The batch size as a number; raises UserError for `auto`, which levels replace."""
        if self.batch_size == "auto":
            raise UserError("batch_size", "a number for clips, and for several processes", "auto")
        return self.batch_size

    def num_steps(self, num_persons: int) -> int:
        """Return the number of steps of the whole training."""
        return self.num_steps_of(self.num_epochs, num_persons)

    def num_steps_of(self, epochs: float, num_persons: int) -> int:
        """Return the number of steps of so many epochs, at least 1."""
        return max(1, round(epochs * num_persons / self.batch))

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        progress = step / num_steps
        if self.decay == "cosine":
            return self.learning_rate * warm * (1 + math.cos(math.pi * progress)) / 2
        drops = sum(progress >= drop for drop in self.drop_at)
        return float(self.learning_rate * warm * 0.1**drops)
