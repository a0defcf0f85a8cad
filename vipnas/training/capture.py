"""A training step with the same operations every time, captured once as a CUDA graph.

A step of a small network is host-bound: launching its kernels takes longer than running them. A
graph is one launch (`experiments/reports/supernet_step_2026-11-26.md`).
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from vipnas.data.crops.loader import Batch
from vipnas.models.grouped import DensifyGroupedConvs
from vipnas.training.failure import Backward

# Before the capture, libraries must have chosen their algorithms, which may synchronise.
WARM_UP_PASSES = 3


class CapturedBackward:
    """A backward pass of a network, captured in its first call and replayed in every call.

    Its operations must depend on the batch only, not on the step, and the shape of the batch is
    fixed. Gradients are those of the batch alone, as after `zero_grad(set_to_none=True)`. Buffers
    change as without a capture.

    Args:
        network: The network.
        backward: The backward pass to capture.
        dense: Whether grouped convolutions may be computed as dense ones.
    """

    def __init__(self, network: nn.Module, backward: Backward, dense: bool = True) -> None:
        self._network = network
        self._backward = backward
        self._forms = DensifyGroupedConvs if dense else nullcontext
        self._parameters = list(network.parameters())
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, step: int, batch: Batch) -> dict[str, Tensor]:
        if self._graph is None:
            with self._forms():
                self._graph = self._record(step, batch)
        for kept, given in zip(self._batch, batch, strict=True):
            kept.copy_(given)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return {name: loss.clone() for name, loss in self._losses.items()}

    def _record(self, step: int, batch: Batch) -> torch.cuda.CUDAGraph:
        self._batch = tuple(part.clone() for part in batch)
        buffers = [buffer.clone() for buffer in self._network.buffers()]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_PASSES):
                self._network.zero_grad(set_to_none=True)
                self._backward(step, self._batch)
        torch.cuda.current_stream().wait_stream(aside)
        self._network.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        # Other threads may run: one of them pins the memory of the next batches.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._losses = self._backward(step, self._batch)
        self._gradients = [parameter.grad for parameter in self._parameters]
        for buffer, before in zip(self._network.buffers(), buffers, strict=True):
            buffer.copy_(before)
        return graph
