"""The training loop of every network: the supernet and retrained networks.

The caller gives the backward pass and the callbacks. The loop has the learning rate, the optimiser
and the averaged weights. A step depends only on the state and on its number, so that a killed run
resumes exactly.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vipnas.config.schedule import Schedule
from vipnas.config.training import Compute
from vipnas.data.crops.loader import Batch
from vipnas.errors import UserError
from vipnas.models.posenet import PoseNet
from vipnas.models.slicing import slices_in_training
from vipnas.training.capture import CapturedBackward
from vipnas.training.checkpoint import held, load_strictly
from vipnas.training.distributed import ALONE, Disagreement, Processes, synchronise_batch_norm
from vipnas.training.failure import Backward as Backward
from vipnas.training.failure import FailureFile, FiniteCheck, NotFinite, Taken, diagnose
from vipnas.training.randomness import checked_random_state, random_state, restore_random_state

STEPS_OF_MEAN_LOSS = 50
STATE_KEYS = ("network", "averaged", "optimizer", "step", "mean_loss", "random")


class Outcome(NamedTuple):
    """The results of a step, on the device: reading them synchronises."""

    losses: dict[str, Tensor]
    gradient_norm: Tensor
    learning_rate: float


class Callback(Protocol):
    """An observer of a training, such as a logger. All it may do to the training is stop it."""

    def after_step(self, training: Training, outcome: Outcome) -> None:
        """Run after a step, which `training.step` already counts."""


class Training:
    """A network in training: the state of a checkpoint, and the steps that change it."""

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
        # Copied before batch norm is synchronised: only one process runs it.
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        if processes.number > 1 and compute.synchronise_batch_norm:
            synchronise_batch_norm(network)
        # Stored, because collecting them in every step is slow.
        self._parameters: list[Tensor] = list(network.parameters())
        self._averaged: list[Tensor] = list(self.averaged.parameters())
        self._buffers = _by_type(network.buffers())
        self._averaged_buffers = _by_type(self.averaged.buffers())
        on_gpu = self.device.type == "cuda"
        self.captures = (
            on_gpu and compute.cuda_graph and not compute.compile and processes.number == 1
        )
        self.fused = True if compute.fused_optimizer else None
        self.optimizer = torch.optim.AdamW(
            parameter_groups(network, schedule.weight_decay),
            lr=schedule.learning_rate,
            fused=self.fused,
        )
        self.finite = FiniteCheck(self.optimizer, deferred=bool(self.fused) and on_gpu)
        self.step = 0
        self.stopped = False
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
        """Train from the step of the state to the last one.

        Args:
            batches: `batches(first_step, num_steps)` yields the batches, with this process's rows.
            backward: `backward(step, batch)` runs the network, accumulates its gradients and
                returns the losses to log, detached.
            callbacks: Run after every step, in order.
            failure: The file for a step that is not finite.
            same_every_step: Whether the operations of `backward` depend on the batch alone, so that
                a GPU may replay them.

        Raises:
            FloatingPointError: If a loss or a gradient is not finite. The weights are not updated.
            Disagreement: If processes are about to do different things.
        """
        self.network.train()
        if self.random_to_restore is not None:  # last: earlier setup may use randomness
            restore_random_state(self.random_to_restore)
        replays = same_every_step and self.captures
        taken = CapturedBackward(self.network, backward) if replays else backward
        try:
            self.processes.agree("the start", f"step {self.step}, weights {self._digest()}")
            with slices_in_training():
                for batch in batches(self.step, self.num_steps - self.step):
                    outcome = self._update(taken, self._on_device(batch))
                    self.step += 1
                    for callback in callbacks:
                        callback.after_step(self, outcome)
                    if self.stopped:
                        break
            self.finite.confirm()
        except NotFinite as error:
            raise self._explained(error, backward, failure) from None
        except Disagreement as error:
            raise error.inside(f"step {self.step}") from None

    def stop(self) -> None:
        """End the training after this step; of several processes, each must be told."""
        self.stopped = True

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
        """Return the gradients and the mean loss of the joint batch.

        Losses are averaged too, and so are the running statistics of batch norm. Without
        synchronised batch norm, those differ between the processes.
        """
        self.processes.agree("what is reduced", f"gradients of step {self.step}")
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self.processes.average([*gradients, *self._buffers[0], *losses.values()])
        return gradients, torch.stack([loss.detach() for loss in losses.values()]).mean()

    @torch.no_grad()
    def _average(self, loss: Tensor) -> None:
        """Update the moving averages of weights and loss; they follow faster at first."""
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
        """Return the error with the diagnosis of its step, which the first process writes."""
        if failure is None:
            return error
        diagnosis = diagnose(self.network, backward, error.taken)
        joint = tuple(self.processes.joint(part) for part in error.taken.batch)
        taken = Taken(error.taken.step, joint)
        if self.processes.is_first:
            failure.save(self.network, taken, diagnosis)
        return FloatingPointError(failure.describe(taken, diagnosis))

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, once it is known to be finite."""
        self.finite.confirm()
        # With it, the checkpoint of an image network can be loaded like other files of weights.
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
        """Load a state.

        Raises:
            UserError: If the state is incomplete, or is that of another network.
        """
        if missing := sorted({*STATE_KEYS} - state.keys()):
            found = f"one without {', '.join(missing)}"
            hint = "it may be of an earlier version; remove it to start again"
            raise UserError(str(path), "the checkpoint of a training", found, hint)
        load_strictly(self.network, state["network"], path)
        load_strictly(self.averaged, state["averaged"], path)
        self.step = held(state, "step", int, path)
        mean_loss = held(state, "mean_loss", Tensor, path)
        if mean_loss.shape != self.mean_loss.shape:
            raise UserError(f"{path}: mean_loss", "one number", str(mean_loss.numel()))
        self.mean_loss.copy_(mean_loss)
        self.random_to_restore = checked_random_state(state["random"], str(path))
        try:
            for group in state["optimizer"]["param_groups"]:
                group["fused"] = self.fused  # it may have been saved on another device
            self.optimizer.load_state_dict(state["optimizer"])
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
            expected = "the state of this training"
            raise UserError(f"{path}: optimizer", expected, str(error)) from None

    def _digest(self) -> str:
        """Return a digest of the weights; empty for a single process."""
        if self.processes.number == 1:
            return ""
        digest = hashlib.sha256()
        for tensor in self.network.state_dict().values():
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _by_type(tensors: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return floating-point tensors and the others, which `foreach` must not mix."""
    kept = list(tensors)
    floating = [tensor for tensor in kept if tensor.is_floating_point()]
    return floating, [tensor for tensor in kept if not tensor.is_floating_point()]


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the groups of the optimiser: weights of convolutions decay, norms and biases do not.

    As in the published recipe, attention's 1 x 1 convolutions decay too: at 0 attention is neutral.
    Its layer norm, whose scale has three dimensions, does not decay.
    """
    decayed = [parameter for parameter in network.parameters() if parameter.dim() == 4]
    others = [parameter for parameter in network.parameters() if parameter.dim() != 4]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
