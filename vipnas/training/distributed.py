"""Several processes that train one network, each on its own images.

Process r of N takes the rows r, r + N, ... of every batch and trains the same architectures on
them. Gradients are averaged once per step, in one message, after the last backward pass. DDP is not
used: the gradient of a slice is added in place, where DDP's hooks do not see it (`crop`).

With `SynchronisedBatchNorm2d`, N processes compute the same as one process with the joint batch, up
to the order of sums. Without it, each process normalises by its own rows ("ghost" batch norm). The
running statistics are then averaged with the gradients.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from vipnas.errors import UserError
from vipnas.models.elastic import ElasticBatchNorm2d
from vipnas.models.slicing import crop


class Disagreement(UserError):
    """Processes that must do the same are about to do different things."""


@dataclass(frozen=True)
class Processes:
    """The processes that train together, seen from one of them.

    All processes must call the methods that communicate, in the same order. A single process does
    not communicate.

    Attributes:
        rank: The number of this process, from 0.
        number: The number of processes.
    """

    rank: int = 0
    number: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes checkpoints, logs and results."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """Return the rows of a batch for this process.

        Raises:
            UserError: If the processes would not get equal numbers of rows.
        """
        if batch_size % self.number:
            expected = f"a multiple of the {self.number} processes"
            raise UserError("batch_size", expected, str(batch_size))
        return slice(self.rank, None, self.number)

    def agree(self, what: str, value: object) -> None:
        """Raise Disagreement, in every process, unless all have the same value (by its `repr`).

        The hashes are exchanged on the CPU, so that the GPU does not synchronise.
        """
        if self.number == 1:
            return
        own = hashlib.sha256(repr(value).encode()).hexdigest()[:12]
        hashes_N = torch.zeros(self.number, dtype=torch.int64)
        hashes_N[self.rank] = int(own, 16)
        distributed.all_reduce(hashes_N)
        if len(set(hashes_N.tolist())) > 1:
            found = ", ".join(f"{rank}: {h:012x}" for rank, h in enumerate(hashes_N.tolist()))
            raise Disagreement(what, "the same in all processes", f"the hashes {found}")

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their means over the processes, in one message."""
        if self.number == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.number
        parts = flat.split([tensor.numel() for tensor in tensors])
        means = [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
        torch._foreach_copy_(list(tensors), means)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes."""
        own = values.clone()
        self.average([own])
        return own

    def from_first(self, value: float) -> float:
        """Return the number that the first process has."""
        if self.number == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        distributed.broadcast(shared, src=0)
        return float(shared)

    def joint(self, rows: Tensor) -> Tensor:
        """Return the joint batch, in its order, from the rows of all processes."""
        if self.number == 1:
            return rows
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(self.number)]
        distributed.all_gather(parts, rows)
        return torch.stack(parts, dim=1).flatten(0, 1)

    @contextmanager
    def first_then_others(self) -> Iterator[None]:
        """A context that the first process runs alone, and the others after it."""
        if self.number > 1 and not self.is_first:
            distributed.barrier()
        yield
        if self.number > 1 and self.is_first:
            distributed.barrier()


ALONE = Processes()


def number_of_processes() -> int:
    """Return the number of processes that torchrun started, including this one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def device_name(wanted: str | None) -> str:
    """Return the device, by default a GPU if available; each process has its own GPU."""
    name = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    own = os.environ.get("LOCAL_RANK")
    return name if name != "cuda" or own is None else f"cuda:{own}"


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """A context that joins the process group of torchrun, if there is one."""
    if number_of_processes() == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


class SynchronisedBatchNorm2d(ElasticBatchNorm2d):
    """Elastic batch norm whose statistics in training are those of the joint batch.

    Each layer sends one small message in forward and one in backward. PyTorch's SyncBatchNorm runs
    on GPUs only, and at one width.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        channels = x.shape[1]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        variance_C, mean_C = torch.var_mean(wide, (0, 2, 3), correction=0)
        # In double precision the difference of squares is exact to float32.
        moments = torch.stack((mean_C, mean_C.square() + variance_C)).double()
        mean_C, square_C = _MeanOverProcesses.apply(moments)  # type: ignore[no-untyped-call]
        variance_C = (square_C - mean_C.square()).clamp(min=0)
        if channels == self.num_features:
            self._follow(mean_C, variance_C, x.numel() // channels)
        scale_C = crop(self.weight, (channels,)) * (variance_C + self.eps).rsqrt().to(wide.dtype)
        shifted = wide - mean_C.to(wide.dtype)[:, None, None]
        bias_C = crop(self.bias, (channels,))
        normalised: Tensor = shifted * scale_C[:, None, None] + bias_C[:, None, None]
        return normalised.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean_C: Tensor, variance_C: Tensor, own_count: int) -> None:
        """Update the running statistics as PyTorch does."""
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        count = own_count * distributed.get_world_size()
        self.num_batches_tracked += 1
        unbiased_C = variance_C * (count / max(count - 1, 1))
        self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased_C.to(self.running_var.dtype), self.momentum)


class _MeanOverProcesses(torch.autograd.Function):
    """The mean over the processes; its gradient is the mean of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _mean(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _mean(gradient)


def _mean(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    mean: Tensor = total / distributed.get_world_size()
    return mean


def synchronise_batch_norm(network: nn.Module) -> None:
    """Replace every batch norm of a network by a synchronised one with the same tensors."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is ElasticBatchNorm2d:
                twin = SynchronisedBatchNorm2d(child.num_features, child.eps, child.momentum)
                twin.to(child.weight.device, child.weight.dtype)
                twin.load_state_dict(child.state_dict())
                setattr(module, name, twin.train(child.training))
