"""Grouped convolutions computed as dense ones, where that is faster on a GPU.

A grouped convolution is a dense one whose weights off the block diagonal are 0. On a GPU, the
library's kernels for a few wide groups take several times as long as those for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# Measured on one H200 in bfloat16 and channels_last
# (`experiments/reports/supernet_step_2026-11-26.md`).
CHANNELS_A_GROUP = (4, 48)
MAX_GROUPS = 32


class DensifyGroupedConvs(TorchFunctionMode):
    """A context that computes grouped convolutions as dense ones where `is_faster_dense`.

    It applies to calls with the keyword argument `groups`. As with autocast, layers are unchanged.
    Use it for captured steps only: other steps are host-bound, and spreading the weights adds host
    work.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        groups = kwargs.get("groups", 1)
        if groups > 1 and func in (F.conv2d, F.conv_transpose2d):
            x, weight, *others = args
            if _is_measured(x) and is_faster_dense(weight, groups, func is F.conv_transpose2d):
                dense = Spread.apply(weight.to(x.dtype), groups)  # type: ignore[no-untyped-call]
                return func(x, dense, *others, **{**kwargs, "groups": 1})
        return func(*args, **kwargs)


def is_faster_dense(weight: Tensor, groups: int, transposed: bool) -> bool:
    """Whether the dense form is faster, by measurements; True for all deconvolutions."""
    rows, columns = weight.shape[:2]
    channels = rows // groups if transposed else columns
    low, high = CHANNELS_A_GROUP
    return transposed or (groups <= MAX_GROUPS and low <= channels <= high)


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
    """Return the block diagonal of a dense weight, in any memory order, as a view.

    Its shape is (groups, rows of a group, columns of a group, k, k).
    """
    rows, columns = dense.shape[0] // groups, dense.shape[1] // groups
    row, column, *kernel = dense.stride()
    size = (groups, rows, columns, *dense.shape[2:])
    stride = (rows * row + columns * column, row, column, *kernel)
    return dense.as_strided(size, stride, dense.storage_offset())
