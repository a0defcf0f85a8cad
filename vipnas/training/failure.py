"""Stop a training if a loss or a gradient is not finite, before the weights are updated.

The step is diagnosed and written to a file, from which `vipnas replay` computes it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vipnas.arch.clip import FollowUp
from vipnas.arch.image import Arch
from vipnas.data.crops.loader import Batch
from vipnas.models.clipnet import FollowUpNet
from vipnas.models.posenet import PoseNet
from vipnas.models.slicing import slices_in_training
from vipnas.training.checkpoint import save_checkpoint

Backward = Callable[[int, Batch], dict[str, Tensor]]


class Taken(NamedTuple):
    """The number of a step, and its batch."""

    step: int
    batch: Batch


class NotFinite(FloatingPointError):
    """Losses or gradients of a step are not finite; the weights are those before the step."""

    def __init__(self, taken: Taken) -> None:
        super().__init__(f"step {taken.step}: losses or gradients are not finite")
        self.taken = taken


class FiniteCheck:
    """Stop a training at the first step that is not finite, before its weights are updated.

    On a CPU the check is immediate. On a GPU it would synchronise in every step, so there it is
    deferred by one step. A fused optimiser does not update the weights from the first bad step on.

    Args:
        optimizer: The optimiser; a fused one if `deferred`.
        deferred: Whether the host reads the result one step later.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, deferred: bool) -> None:
        self._optimizer = optimizer
        self._deferred = deferred
        self._bad: Tensor | None = None
        self._unread: tuple[Taken, Tensor, torch.cuda.Event | None] | None = None

    def look(self, taken: Taken, total: Tensor) -> None:
        """Check a step before the optimiser's step; `total` is finite if all its values are."""
        bad = ~torch.isfinite(total)
        if not self._deferred:
            if bad:
                raise NotFinite(taken)
            return
        self._bad = bad if self._bad is None else self._bad | bad
        # A gradient scaler sets it too: the optimiser skips the update while it is 1.
        self._optimizer.found_inf = self._bad.float()  # type: ignore[attr-defined]
        read = self._bad.to("cpu", non_blocking=True)
        # Blocking, so that waiting leaves the core to the workers that load batches.
        event = torch.cuda.Event(blocking=True) if total.is_cuda else None
        if event is not None:
            event.record()
        unread, self._unread = self._unread, (taken, read, event)
        _raise_if_bad(unread)

    def confirm(self) -> None:
        """Wait until all steps so far are known to be finite."""
        _raise_if_bad(self._unread)


def _raise_if_bad(unread: tuple[Taken, Tensor, torch.cuda.Event | None] | None) -> None:
    if unread is None:
        return
    taken, bad, event = unread
    if event is not None:
        event.synchronize()
    if bad:
        raise NotFinite(taken)


@dataclass(frozen=True)
class Diagnosis:
    """The results of a step, and which of them are not finite.

    Attributes:
        losses: The losses by name.
        archs: The architectures, in the order they ran.
        bad_arch: The number of the first one whose heatmaps are not finite, from 0.
        bad_gradient: The first parameter whose gradient is not finite.
    """

    losses: dict[str, float]
    archs: tuple[Arch | FollowUp, ...]
    bad_arch: int | None
    bad_gradient: str | None

    @property
    def is_finite(self) -> bool:
        losses = all(map(math.isfinite, self.losses.values()))
        return losses and self.bad_arch is None and self.bad_gradient is None

    def __str__(self) -> str:
        losses = ", ".join(f"{name} {loss:.3g}" for name, loss in self.losses.items())
        if self.bad_arch is None:
            where = f"heatmaps of all {len(self.archs)} architectures are finite"
        else:
            arch = arch_hash(self.archs[self.bad_arch])
            where = f"heatmaps of architecture {self.bad_arch + 1} of {len(self.archs)}"
            where += f" ({arch}) are not"
        return f"losses: {losses}; {where}; first bad gradient: {self.bad_gradient or 'none'}"


def arch_hash(arch: Arch | FollowUp) -> str:
    """Return a short name of an architecture: 8 hex digits of a digest of its JSON."""
    return sha256(arch.to_json().encode()).hexdigest()[:8]


def diagnose(network: nn.Module, backward: Backward, taken: Taken) -> Diagnosis:
    """Compute a step again and diagnose it; no gradients are left."""
    ran: list[tuple[Arch | FollowUp, bool]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], heatmaps: Tensor) -> None:
        own = module.follow_up if isinstance(module, FollowUpNet) else module.arch
        told = inputs[-1] if isinstance(inputs[-1], (Arch, FollowUp)) else own
        assert isinstance(told, (Arch, FollowUp))
        ran.append((told, bool(torch.isfinite(heatmaps).all())))

    networks = [m for m in network.modules() if isinstance(m, (PoseNet, FollowUpNet))]
    network.zero_grad(set_to_none=True)
    with ExitStack() as hooks:
        hooks.enter_context(slices_in_training())
        for module in networks:
            hooks.enter_context(module.register_forward_hook(note))
        losses = {name: float(loss) for name, loss in backward(*taken).items()}
    bad_gradients = (
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
    )
    diagnosis = Diagnosis(
        losses,
        tuple(arch for arch, _ in ran),
        next((number for number, (_, finite) in enumerate(ran) if not finite), None),
        next(bad_gradients, None),
    )
    network.zero_grad(set_to_none=True)
    return diagnosis


@dataclass(frozen=True)
class FailureFile:
    """The file of a failed step.

    Attributes:
        path: The file.
        about: The settings from which the backward pass can be built.
    """

    path: Path
    about: dict[str, Any]

    def save(self, network: nn.Module, taken: Taken, diagnosis: Diagnosis) -> None:
        content = {
            "network": network.state_dict(),
            "step": taken.step,
            "batch": [part.contiguous() for part in taken.batch],
            "archs": [arch.to_json() for arch in diagnosis.archs],
            "losses": diagnosis.losses,
            **self.about,
        }
        save_checkpoint(self.path, content)

    def describe(self, taken: Taken, diagnosis: Diagnosis) -> str:
        """Return one line with the step, its diagnosis, its batch and the command to replay it."""
        images, keypoints = taken.batch[:2]
        bad_rows = (~torch.isfinite(keypoints)).flatten(1).any(1).nonzero().flatten().tolist()
        rows = f", keypoints of rows {bad_rows} not finite" if bad_rows else ""
        return (
            f"step {taken.step}: losses or gradients are not finite: {diagnosis};"
            f" batch of step {taken.step}: {len(images)} images{rows};"
            f" see it again: vipnas replay {self.path}"
        )
