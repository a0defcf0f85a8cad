"""The training loop of every network here: supernet, retrained network.

What a step does is given; the loop owns the learning rate, the optimiser, the averaged weights and
the checkpoints. Everything that a step depends on is in the checkpoint or a function of the step's
number, so that a run that was killed goes on as if nothing had happened.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vipnas.files import Strict
from vipnas.models.posenet import PoseNet
from vipnas.training.checkpoint import load_checkpoint, load_strictly, save_checkpoint
from vipnas.training.monitor import Monitor

Batch = tuple[Tensor, Tensor]
Backward = Callable[[int, Batch], dict[str, Tensor]]


@dataclass(frozen=True)
class Schedule(Strict):
    """How long, how fast. The learning rate warms up linearly, then falls by a cosine to zero or by
    steps.

    `drop_at` are shares of the run (0..1) at which the rate of schedule `step` falls to a tenth.
    """

    epochs: float
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    decay: Literal["cosine", "step"] = "cosine"
    drop_at: tuple[float, ...] = (170 / 210, 200 / 210)
    weight_decay: float = 0.0
    clip_norm: float | None = None
    average_decay: float = 0.998

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"{name}: found {getattr(self, name)}, allowed are numbers above 0"
                )
        if not 0 <= self.average_decay < 1:
            raise ValueError(f"average_decay: found {self.average_decay}, allowed is 0 to below 1")

    def num_steps(self, num_persons: int) -> int:
        return max(1, round(self.epochs * num_persons / self.batch_size))

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        progress = step / num_steps
        if self.decay == "cosine":
            return self.learning_rate * warm * (1 + math.cos(math.pi * progress)) / 2
        drops = sum(progress >= drop for drop in self.drop_at)
        return float(self.learning_rate * warm * 0.1**drops)


class Training:
    """A network in training: the state that a checkpoint holds, and the steps that change it."""

    def __init__(self, network: PoseNet, schedule: Schedule, num_steps: int) -> None:
        self.network = network
        self.schedule = schedule
        self.num_steps = num_steps
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(network, schedule.weight_decay), lr=schedule.learning_rate
        )
        self.step = 0

    def run(
        self,
        batches: Callable[[int, int], Iterator[Batch]],
        backward: Backward,
        checkpoint: CheckpointFile,
        monitor: Monitor,
    ) -> None:
        """Train from the step where the state stands to the last one.

        `batches(first_step, num_steps)` gives the batches from there on. `backward(step, batch)`
        runs the network and adds up its gradients; what it returns is logged. Raises
        FloatingPointError, naming the step, when a loss or a gradient is not finite; the last
        checkpoint stays.
        """
        self.network.train()
        for batch in batches(self.step, self.num_steps - self.step):
            losses = self._update(backward, batch)
            self.step += 1
            monitor.log(self.step, losses)
            checkpoint.save_when_due(self)
        checkpoint.save(self)

    def _update(self, backward: Backward, batch: Batch) -> dict[str, Tensor]:
        rate = self.schedule.learning_rate_at(self.step, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        losses = backward(self.step, batch)
        limit = self.schedule.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), limit, foreach=True)
        if not torch.isfinite(norm):
            found = {name: float(loss) for name, loss in losses.items()}
            raise FloatingPointError(f"step {self.step}: gradients are not finite; losses {found}")
        self.optimizer.step()
        self._average()
        return losses

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of the weights; quick while there is little to average."""
        decay = min(self.schedule.average_decay, (1 + self.step) / (10 + self.step))
        averaged: list[Tensor] = list(self.averaged.parameters())
        current: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for kept, buffer in zip(self.averaged.buffers(), self.network.buffers(), strict=True):
            kept.copy_(buffer)

    def state(self) -> dict[str, Any]:
        return {
            "arch": self.network.arch.to_json(),
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }

    def load(self, state: dict[str, Any], path: Path) -> None:
        load_strictly(self.network, state["network"], path)
        load_strictly(self.averaged, state["averaged"], path)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


@dataclass
class CheckpointFile:
    """Where the state of a training is kept, and how often it is written.

    `settings` are all that the training depends on; a checkpoint made with others is refused.
    """

    path: Path
    settings: dict[str, Any]
    minutes: float = 2.0

    def __post_init__(self) -> None:
        self._last = time.monotonic()

    def resume(self, training: Training) -> None:
        """Continue from the checkpoint, if there is one."""
        if not self.path.exists():
            return
        state = load_checkpoint(self.path)
        check_settings(json.loads(state["settings"]), self.settings, self.path)
        training.load(state, self.path)

    def save_when_due(self, training: Training) -> None:
        if time.monotonic() - self._last >= self.minutes * 60:
            self.save(training)

    def save(self, training: Training) -> None:
        settings = json.dumps(self.settings, sort_keys=True)
        save_checkpoint(self.path, {**training.state(), "settings": settings})
        self._last = time.monotonic()


def check_settings(found: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    """Raises ValueError naming the first setting in which an unfinished run differs from the one
    asked for."""
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            raise ValueError(
                f"{path}: made with {key} = {json.dumps(found.get(key))}, asked for is"
                f" {json.dumps(wanted.get(key))}; remove the folder or choose another output"
            )


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Convolution weights decay; norms and biases, which have fewer dimensions, do not."""
    decayed = [parameter for parameter in network.parameters() if parameter.dim() == 4]
    others = [parameter for parameter in network.parameters() if parameter.dim() != 4]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
