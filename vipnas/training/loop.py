"""The training loop of every network here: supernet, retrained network.

What a step does is given, and so is who looks on; the loop owns the learning rate, the optimiser
and the averaged weights. Everything that a step depends on is in the state or a function of the
step's number, so that a run that was killed goes on as if nothing had happened.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vipnas.config.training import Compute, Schedule
from vipnas.models.elastic import gradients_are_windows
from vipnas.models.posenet import PoseNet
from vipnas.training.capture import CapturedBackward
from vipnas.training.checkpoint import held, load_strictly
from vipnas.training.distributed import ALONE, Disagreement, Processes, synchronise_batch_norm
from vipnas.training.failure import Backward as Backward
from vipnas.training.failure import Batch as Batch
from vipnas.training.failure import FailureFile, FiniteCheck, NotFinite, Taken, diagnose
from vipnas.training.randomness import checked_random_state, random_state, restore_random_state

STEPS_OF_MEAN_LOSS = 50
STATE_KEYS = ("network", "averaged", "optimizer", "step", "mean_loss", "random")


class Outcome(NamedTuple):
    """What a step gave, on the device: nothing waits for it until it is read."""

    losses: dict[str, Tensor]
    gradient_norm: Tensor
    learning_rate: float


class Callback(Protocol):
    """Looks on: logs, keeps checkpoints, draws. It must not change what is trained."""

    def after_step(self, training: Training, outcome: Outcome) -> None:
        """`training.step` counts the step that was just taken."""


class Training:
    """A network in training: the state that a checkpoint holds, and the steps that change it."""

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        num_steps: int,
        compute: Compute | None = None,
        processes: Processes = ALONE,
    ) -> None:
        compute = compute or Compute()
        self.network = network
        self.schedule = schedule
        self.num_steps = num_steps
        self.processes = processes
        self.device = next(network.parameters()).device
        # A copy from before batch norm is synchronised: it is run by one process alone.
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        if processes.number > 1 and compute.synchronise_batch_norm:
            synchronise_batch_norm(network)
        # Kept, since looking for them in every step takes longer than what is done with them.
        self._parameters: list[Tensor] = list(network.parameters())
        self._averaged: list[Tensor] = list(self.averaged.parameters())
        self._buffers = _by_type(network.buffers())
        self._averaged_buffers = _by_type(self.averaged.buffers())
        on_gpu = self.device.type == "cuda"
        self.captures = (
            on_gpu and compute.cuda_graph and not compute.compile and processes.number == 1
        )
        self.fused = True if compute.fused_optimizer and on_gpu else None
        self.optimizer = torch.optim.AdamW(
            parameter_groups(network, schedule.weight_decay),
            lr=schedule.learning_rate,
            fused=self.fused,
        )
        self.finite = FiniteCheck(self.optimizer, deferred=bool(self.fused))
        self.step = 0
        self.random_to_restore: dict[str, Any] | None = None
        self.mean_loss = torch.zeros((), device=self.device)

    def run(
        self,
        batches: Callable[[int, int], Iterator[Batch]],
        backward: Backward,
        callbacks: Sequence[Callback] = (),
        failure: FailureFile | None = None,
        same_every_step: bool = False,
    ) -> None:
        """Train from the step where the state stands to the last one.

        `batches(first_step, num_steps)` gives the batches from there on: the rows of this process.
        `backward(step, batch)` runs the network and adds up its gradients; the losses it returns,
        without gradients of their own, are logged; `same_every_step` says that what it does depends
        on the batch alone, so that a GPU may replay it. Raises FloatingPointError when a loss or a
        gradient is not finite, before the weights see it; `failure` then holds the step.
        """
        self.network.train()
        if self.random_to_restore is not None:  # last of all: whatever is made before may draw
            restore_random_state(self.random_to_restore)
        replays = same_every_step and self.captures
        taken = CapturedBackward(self.network, backward) if replays else backward
        try:
            self.processes.agree("the start", f"step {self.step}, weights {self._digest()}")
            with gradients_are_windows():
                for batch in batches(self.step, self.num_steps - self.step):
                    outcome = self._update(taken, self._on_device(batch))
                    self.step += 1
                    for callback in callbacks:
                        callback.after_step(self, outcome)
            self.finite.confirm()
        except NotFinite as error:
            raise self._explained(error, backward, failure) from None
        except Disagreement as error:
            raise Disagreement(f"step {self.step}: {error}") from None

    def _update(self, backward: Backward, batch: Batch) -> Outcome:
        rate = self.schedule.learning_rate_at(self.step, self.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        losses = backward(self.step, batch)
        gradients, loss = self._reduce(losses)
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        if self.schedule.clip_norm is not None:
            limit = self.schedule.clip_norm
            nn.utils.clip_grads_with_norm_(self._parameters, limit, norm, foreach=True)
        self.finite.look(Taken(self.step, batch), norm + loss)
        self.optimizer.step()
        self._average(loss)
        return Outcome(losses, norm, rate)

    def _reduce(self, losses: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        """The gradients and the mean loss of the joint batch. In step with them go the losses and
        the running statistics of batch norm, which are of each process's own rows where batch norm
        is not synchronised."""
        self.processes.agree("what is reduced", f"gradients of step {self.step}")
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self.processes.average([*gradients, *self._buffers[0], *losses.values()])
        return gradients, torch.stack([loss.detach() for loss in losses.values()]).mean()

    @torch.no_grad()
    def _average(self, loss: Tensor) -> None:
        """Exponential moving averages of the weights and of the loss; quick while there is little
        to average."""
        decay = min(self.schedule.average_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self._averaged, self._parameters, 1 - decay)
        for averaged, buffers in zip(self._averaged_buffers, self._buffers, strict=True):
            if buffers:
                torch._foreach_copy_(averaged, buffers)
        self.mean_loss.lerp_(
            loss.to(self.mean_loss.dtype), 1 / min(self.step + 1, STEPS_OF_MEAN_LOSS)
        )

    def _on_device(self, batch: Batch) -> Batch:
        return tuple(part.to(self.device, non_blocking=True) for part in batch)

    def _explained(
        self, error: NotFinite, backward: Backward, failure: FailureFile | None
    ) -> FloatingPointError:
        """The error with all that can be found out about its step; the first process writes it."""
        if failure is None:
            return error
        diagnosis = diagnose(self.network, backward, error.taken)
        joint = tuple(self.processes.joint(part) for part in error.taken.batch)
        taken = Taken(error.taken.step, joint)
        if self.processes.is_first:
            failure.save(self.network, taken, diagnosis)
        return FloatingPointError(failure.describe(taken, diagnosis))

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on; waits until it is known to be good."""
        self.finite.confirm()
        # So that the checkpoint of a network of images is a file of weights like any other.
        network = self.network
        arch = {"arch": network.arch.to_json()} if isinstance(network, PoseNet) else {}
        return {
            **arch,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "mean_loss": self.mean_loss,
            "random": random_state(),
        }

    def load(self, state: dict[str, Any], path: Path) -> None:
        """Raises ValueError for a state that is not whole, or not of this network."""
        if missing := sorted({*STATE_KEYS} - state.keys()):
            raise ValueError(
                f"{path}: {', '.join(missing)} missing: not the checkpoint of a training, or that"
                " of an earlier version; remove it to start anew"
            )
        load_strictly(self.network, state["network"], path)
        load_strictly(self.averaged, state["averaged"], path)
        self.step = held(state, "step", int, path)
        mean_loss = held(state, "mean_loss", Tensor, path)
        if mean_loss.shape != self.mean_loss.shape:
            raise ValueError(f"{path}: mean_loss: expected one number, got {mean_loss.numel()}")
        self.mean_loss.copy_(mean_loss)
        self.random_to_restore = checked_random_state(state["random"], str(path))
        try:
            for group in state["optimizer"]["param_groups"]:
                group["fused"] = self.fused  # it may have been saved on another device
            self.optimizer.load_state_dict(state["optimizer"])
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"{path}: optimizer: not the state of this training: {error}"
            ) from None

    def _digest(self) -> str:
        """Of the weights; only where there is somebody to compare it with."""
        if self.processes.number == 1:
            return ""
        digest = hashlib.sha256()
        for tensor in self.network.state_dict().values():
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _by_type(tensors: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Those of floating point, and the others: copied as one only with their own kind."""
    kept = list(tensors)
    floating = [tensor for tensor in kept if tensor.is_floating_point()]
    return floating, [tensor for tensor in kept if not tensor.is_floating_point()]


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The weights of convolutions decay; norms, with their scales, and biases do not.

    Those of attention's 1 x 1 convolutions decay too: they are matrices like the others, as in the
    published recipe, and at 0 attention is neutral (adds nothing, or gates every channel alike).
    Its scale per channel is that of its layer norm, of three dimensions, which does not decay.
    """
    decayed = [parameter for parameter in network.parameters() if parameter.dim() == 4]
    others = [parameter for parameter in network.parameters() if parameter.dim() != 4]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
