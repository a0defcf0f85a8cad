"""Networks in float16 with float32 inputs and outputs."""

from __future__ import annotations

import copy

from torch import Tensor, nn


class HalfInside(nn.Module):
    """A copy of a module in float16. Inputs and outputs keep their types."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).half()

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run the module; floating-point inputs are cast."""
        halves = (x.half() if x.is_floating_point() else x for x in inputs)
        out: Tensor = self.module(*halves)
        return out.float()
