"""A training step whose work is always the same, recorded once as a CUDA graph.

Of a small network a GPU computes a step in a third of the time that the host takes to ask for it,
kernel by kernel. A graph is asked for at once (`experiments/reports/supernet_step_2026-11-26.md`).
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from vipnas.models.grouped import DensifyGroupedConvs
from vipnas.training.failure import Backward, Batch

# Before a graph is recorded the libraries must have chosen their ways, which may wait for the GPU.
WARM_UP_PASSES = 3


class CapturedBackward:
    """A backward pass of a network, recorded in its first call and replayed in all.

    What it does must not depend on the step's number, only on the batch, of fixed shape. Gradients
    are those of the batch alone, as after `zero_grad(set_to_none=True)`; buffers change as if it
    had not been recorded. `dense`: grouped convolutions may be computed as dense ones.
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
        # Other threads may go on: one of them pins the memory of the next batches.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._losses = self._backward(step, self._batch)
        self._gradients = [parameter.grad for parameter in self._parameters]
        for buffer, before in zip(self._network.buffers(), buffers, strict=True):
            buffer.copy_(before)
        return graph
