"""Grouped convolutions computed as dense ones, where a GPU is quicker with that.

A convolution with groups is the dense one whose weights off the block diagonal are 0. On a GPU the
library's kernels for a few wide groups take several times as long as those for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# Of one H200 in bfloat16 and channels_last (`experiments/reports/supernet_step_2026-11-26.md`):
# narrower groups have kernels of their own, more of them are too much arithmetic when dense, and
# wider ones are quick by themselves.
CHANNELS_A_GROUP = (4, 48)
MOST_GROUPS = 32

_chosen = False


@contextmanager
def dense_where_quicker() -> Iterator[None]:
    """In here layers choose by `is_quicker_dense`; elsewhere they keep their groups.

    For steps that are recorded: spreading the weights is work for the host, which is what others
    wait for.
    """
    global _chosen
    before, _chosen = _chosen, True
    try:
        yield
    finally:
        _chosen = before


def is_quicker_dense(weight: Tensor, groups: int, transposed: bool) -> bool:
    """By what was measured; deconvolutions always."""
    rows, columns = weight.shape[:2]
    channels = rows // groups if transposed else columns
    low, high = CHANNELS_A_GROUP
    return transposed or (groups <= MOST_GROUPS and low <= channels <= high)


def computed_form(
    x: Tensor, weight: Tensor, groups: int, transposed: bool = False
) -> tuple[Tensor, int]:
    """The weight and the groups with which a layer computes what it would with its own."""
    if groups == 1 or not _chosen or not _is_measured(x):
        return weight, groups
    if not is_quicker_dense(weight, groups, transposed):
        return weight, groups
    spread: Tensor = Spread.apply(weight.to(x.dtype), groups)  # type: ignore[no-untyped-call]
    return spread, 1


def _is_measured(x: Tensor) -> bool:
    return x.is_cuda and x.dtype == torch.bfloat16


class Spread(torch.autograd.Function):
    """Put the groups of a weight on the diagonal of a dense one."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, groups: int) -> Tensor:
        rows, columns, *kernel = weight.shape
        ctx.groups = groups
        dense = weight.new_zeros(rows, groups * columns, *kernel)
        _diagonal(dense, groups).copy_(weight.view(groups, rows // groups, columns, *kernel))
        return dense

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _diagonal(gradient, ctx.groups).flatten(0, 1), None


def _diagonal(dense: Tensor, groups: int) -> Tensor:
    """Of a dense weight, in any memory order, the view (groups, rows of one, columns of one, k, k)
    of what its groups use."""
    rows, columns = dense.shape[0] // groups, dense.shape[1] // groups
    row, column, *kernel = dense.stride()
    size = (groups, rows, columns, *dense.shape[2:])
    stride = (rows * row + columns * column, row, column, *kernel)
    return dense.as_strided(size, stride, dense.storage_offset())
