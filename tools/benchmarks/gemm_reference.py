"""The reference for rates: a product of square float32 matrices, by every library at hand."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from vipnas.runtimes import torch_eager
from vipnas.runtimes.runtime import RunSettings, Session
from vipnas.runtimes.table import RUNTIMES


class _Gemm(nn.Module):
    """A product with a constant matrix, which runtimes may repack as they do weights."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.right = nn.Parameter(torch.randn(side, side), requires_grad=False)

    def forward(self, left: Tensor) -> Tensor:
        return torch.matmul(left, self.right)


def gemm_runs(side: int, threads: int) -> dict[str, Callable[[], None]]:
    """Return a run of one side x side x side product for PyTorch and each installed library.

    No library is the fastest everywhere, so the machine's limit is the fastest of all. PyTorch's
    threads are a setting of the process. Call it inside `pinned`.
    """
    gemm, left = _Gemm(side), torch.randn(side, side)
    out = torch.empty(side, side)

    def by_torch() -> None:
        torch.mm(left, gemm.right, out=out)

    runs: dict[str, Callable[[], None]] = {torch_eager.NAME: by_torch}
    for runtime in RUNTIMES.values():
        if runtime.packages and all(find_spec(name) for name in runtime.packages):
            session = runtime.load(gemm, {"left": left}, RunSettings(threads))
            runs[runtime.name] = _run(session, left)
    return runs


def _run(session: Session, left: Tensor) -> Callable[[], None]:
    def run() -> None:
        session({"left": left.numpy()})

    return run
