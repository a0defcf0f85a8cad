"""Time training steps, to choose the number of threads and to detect a slow machine."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch
from torch import nn

from vipnas.threads import Moment, Timed, likely_cause, time_threads
from vipnas.training.loop import Outcome, Training
from vipnas.training.randomness import random_state, restore_random_state

log = logging.getLogger(__name__)

TIMED_STEPS, TIMED_SECONDS = 5, 3.0  # whichever is reached first
SLOW = 3.0
WINDOW = 20  # steps, whose median one long step (a probe, a checkpoint) does not move


@contextmanager
def undone(network: nn.Module) -> Iterator[None]:
    """Leave the network, its gradients and the random state as they were before."""
    state = random_state()
    buffers = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, before in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(before)
        network.zero_grad(set_to_none=True)
        restore_random_state(state)


def time_step(step: Callable[[], object], most: int) -> Timed:
    """Time a step with the numbers of threads up to `most`.

    Each number has one warm-up step. A number that is far too slow is timed once only: next to busy
    processes it may be a hundred times as slow. PyTorch's number of threads is restored.
    """
    before, quickest = torch.get_num_threads(), math.inf

    def seconds_of(threads: int) -> float:
        nonlocal quickest
        torch.set_num_threads(threads)
        step()
        seconds = [_seconds(step)]
        is_hopeless = seconds[0] >= SLOW * quickest
        while len(seconds) < TIMED_STEPS and sum(seconds) < TIMED_SECONDS and not is_hopeless:
            seconds.append(_seconds(step))
        quickest = min(quickest, median(seconds))
        return median(seconds)

    try:
        return time_threads(seconds_of, most)
    finally:
        torch.set_num_threads(before)


def _seconds(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


class SlowSteps:
    """Warn once when steps take three times as long as before, until they are fast again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.usual: float | None = None
        self.has_warned = False
        self._begin(Moment.now())

    def _begin(self, now: Moment) -> None:
        self.window = now
        self.last = now.wall
        self.seconds: list[float] = []

    def after_step(self, training: Training, outcome: Outcome) -> None:
        """Compare the median of the last steps with the smallest one so far."""
        wall = time.monotonic()
        self.seconds.append(wall - self.last)
        self.last = wall
        if len(self.seconds) < WINDOW:
            return
        now, seconds = Moment.now(), median(self.seconds)
        if self.usual is not None and seconds >= SLOW * self.usual and not self.has_warned:
            log.warning(
                "%s: step %d: steps take %.3g s, %.1f times as long as before: %s",
                self.name,
                training.step,
                seconds,
                seconds / self.usual,
                likely_cause(now.since(self.window)),
            )
        self.has_warned = self.usual is not None and seconds >= SLOW * self.usual
        self.usual = seconds if self.usual is None else min(self.usual, seconds)
        self._begin(now)
