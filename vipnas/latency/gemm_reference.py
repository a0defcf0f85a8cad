"""The yardstick of rates: a product of square matrices in float32, by every library at hand."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from vipnas.config.search import RuntimeName
from vipnas.runtimes.runtime import EXTRA_OF, Session, open_session, to_onnx_quickly


class _Product(nn.Module):
    """By a constant matrix, which runtimes may arrange beforehand as they do with weights."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.right = nn.Parameter(torch.randn(side, side), requires_grad=False)

    def forward(self, left: Tensor) -> Tensor:
        return torch.matmul(left, self.right)


def products(side: int, threads: int) -> dict[RuntimeName, Callable[[], None]]:
    """By runtime, those that are installed: a run of one side x side x side product.

    All of them, since none is the machine's limit everywhere: on AMD processors PyTorch's takes
    twice as long as ONNX Runtime's. PyTorch's threads are its own setting. Call it inside `pinned`.
    """
    product, left = _Product(side), torch.randn(side, side)
    model = to_onnx_quickly(product, left)
    out = torch.empty(side, side)

    def by_torch() -> None:
        torch.mm(left, product.right, out=out)

    def by(session: Session) -> Callable[[], None]:
        def run() -> None:
            session(left.numpy())

        return run

    runs: dict[RuntimeName, Callable[[], None]] = {"torch": by_torch}
    for name in EXTRA_OF:
        if find_spec(name):
            runs[name] = by(open_session(model, name, threads))
    return runs
