"""Time training steps: how many, which ones of a supernet, and when they end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from vipnas.data.crops.loader import Batch
from vipnas.training.loop import Backward, Outcome, Training

# Steps of the supernet of which each timed one is chosen.
CANDIDATES_PER_STEP = 6
# Multiples of it are spread evenly between whole numbers, however many there are.
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2

MacsOfStep = Callable[[int], float]


class Effort(NamedTuple):
    """How much is timed.

    Attributes:
        warm_up: Steps before the clock starts.
        steps: Steps that are timed.
        seconds: Steps end after so many seconds; one step is timed at least.
        persons: Validation persons of the score; None for all.
    """

    warm_up: int = 2
    steps: int = 10
    seconds: float = math.inf
    persons: int | None = None


def typical_backward(
    backward: Backward, macs_of_step: MacsOfStep, num_steps: int, effort: Effort
) -> Backward:
    """Return the step of a supernet, at steps that represent the whole training.

    The subnets of a step may cost ten times those of another. Timed steps are spread evenly over
    the MACs of the whole training, however few they are.

    Args:
        backward: The step of the supernet.
        macs_of_step: The MACs of all subnets of a step.
        num_steps: Steps of the training.
        effort: How many steps are timed.
    """
    count = CANDIDATES_PER_STEP * effort.steps
    candidates = [number * max(num_steps, count) // count for number in range(count)]
    candidates.sort(key=macs_of_step)

    def typical(step: int, batch: Batch) -> dict[str, Tensor]:
        quantile = (0.5 + (step - effort.warm_up) * GOLDEN_RATIO) % 1
        return backward(candidates[int(quantile * count)], batch)

    return typical


@dataclass
class Clock:
    """A callback that notes the end of every step, and ends a training in time.

    Attributes:
        effort: How much is timed.
        moments: The start of the training; the end of every step is added.
    """

    effort: Effort
    moments: list[float]

    def after_step(self, training: Training, outcome: Outcome) -> None:
        """Note the end of a step."""
        float(next(iter(outcome.losses.values())))  # waits for a GPU
        self.moments.append(time.perf_counter())
        is_over = self.moments[-1] - self.moments[0] >= self.effort.seconds
        if is_over and training.step > self.effort.warm_up:
            training.stop()

    @property
    def seconds_of_step(self) -> float:
        """The mean of the timed steps."""
        moments = self.moments[self.effort.warm_up :]
        return (moments[-1] - moments[0]) / (len(moments) - 1)
