"""The rule that shares weights, and slices of parameters in training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

import torch
from torch import Tensor

Key: TypeAlias = tuple[tuple[int, ...], int, int]
# A window of weights, the same window of their gradient, and whether the first is dense.
Windows: TypeAlias = tuple[Tensor, Tensor, bool]


@contextmanager
def slices_in_training() -> Iterator[None]:
    """Inside, gradients and windows of slices outlive a step: see `_SliceCache`.

    A gradient that was set to None is then filled with zeros and used again. Copy it to keep it
    beyond a step. PyTorch's warning about gradients that are windows is silenced.
    """
    before = _CACHES.set({})
    try:
        with warnings.catch_warnings():
            layout = "grad and param do not obey the gradient layout contract"
            warnings.filterwarnings("ignore", layout)
            yield
    finally:
        _CACHES.reset(before)


def crop(full: Tensor, shape: tuple[int, ...], groups: int = 1, full_groups: int = 1) -> Tensor:
    """Share weights: leading rows, centred kernel window, block-diagonal columns.

    A convolution with more groups is the one with fewer groups without the weights off the block
    diagonal. Every row keeps the columns of the channels that it reads in the full layer. If the
    groups do not nest like that, a row takes the leading columns.

    The crop of a parameter in training is a leaf. Its gradient is a window of `full.grad`: see
    `_leaf`.

    Args:
        full: The tensor of the full layer. Dimension 0 are the rows, the channels that are split
            into groups. Dimension 1 are the columns of one group, the rest is the kernel.
        shape: The shape of the crop.
        groups: The groups of the crop.
        full_groups: The groups of the full layer.
    """
    if full.shape == shape and groups == full_groups:
        return full
    if full.is_leaf and full.requires_grad and torch.is_grad_enabled():
        used = _leaf(full, shape, groups, full_groups)
    else:
        size, stride, offset = _layout(full.shape, full.stride(), shape, groups, full_groups)
        used = full.as_strided(size, stride, full.storage_offset() + offset).contiguous()
    if used.dim() > len(shape):
        used = used.flatten(0, used.dim() - len(shape))
        if used.shape[0] > shape[0]:  # the last group of the full layer is used in part
            used = used[: shape[0]]
    return used


def _leaf(full: Tensor, shape: tuple[int, ...], groups: int, full_groups: int) -> Tensor:
    """Return a slice of a parameter; its gradient is a window of the parameter's gradient.

    Backward then adds to the window only. PyTorch's own slicing creates a gradient of full size for
    every slice, which takes more than half of a step of a small subnet. There are two limits. Hooks
    on the parameter's gradient do not run, so several processes must reduce gradients once per
    step, after the last backward. The gradient must not be cleared between forward and backward
    (`check_gradients_are_kept`).
    """
    key = shape, groups, full_groups
    cache = _cache_of(full)
    if cache is None:
        used, gradient, is_dense = _windows(full.detach(), _own_gradient(full), key)
    else:
        used, gradient, is_dense = cache.windows.get(key) or cache.add(key)
    leaf = (used.detach() if is_dense else used.contiguous()).requires_grad_()
    leaf.grad = gradient
    return leaf


def _windows(weights: Tensor, gradient: Tensor, key: Key) -> Windows:
    """Return a window of weights and the same of their gradient, and whether it is dense."""
    size, stride, offset = _layout(weights.shape, weights.stride(), *key)
    used = weights.as_strided(size, stride, weights.storage_offset() + offset)
    window = gradient.as_strided(size, stride, gradient.storage_offset() + offset)
    return used, window, used.is_contiguous()


def _own_gradient(full: Tensor) -> Tensor:
    """Return the gradient of a parameter, in the same order in memory; zeros if it has none."""
    gradient = full.grad
    if gradient is None:
        gradient = full.grad = torch.zeros_like(full)
    elif gradient.stride() != full.stride():  # set by a caller: PyTorch uses the parameter's
        gradient = full.grad = torch.empty_like(full).copy_(gradient)
    return gradient


class _SliceCache:
    """A gradient that a slice was the first to need, and the windows that slices have used.

    Making the windows takes half of the time of a slice
    (`experiments/reports/resolution_2026-11-30.md`).
    """

    def __init__(self, full: Tensor) -> None:
        self.weights = full.detach()
        self.gradient = torch.empty_like(full)
        self.windows: dict[Key, Windows] = {}

    def add(self, key: Key) -> Windows:
        windows = self.windows[key] = _windows(self.weights, self.gradient, key)
        return windows


_CACHES: ContextVar[dict[int, _SliceCache] | None] = ContextVar("_CACHES", default=None)


def _cache_of(full: Tensor) -> _SliceCache | None:
    """Return the cache of a parameter, whose gradient is then the parameter's.

    There is none outside of `slices_in_training`, or if the parameter has another gradient, as
    after a run of full size.
    """
    caches = _CACHES.get()
    if caches is None:
        return None
    gradient, cache = full.grad, caches.get(id(full))
    if cache is None or not cache.weights.is_set_to(full):
        if gradient is not None:
            return None
        cache = caches[id(full)] = _SliceCache(full)
    if gradient is None:
        full.grad = cache.gradient.zero_()
    elif gradient is not cache.gradient:
        return None
    return cache


def _layout(
    full_shape: tuple[int, ...],
    full_stride: tuple[int, ...],
    shape: tuple[int, ...],
    groups: int,
    full_groups: int,
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Return size, strides and offset of the window that `crop` uses, as one view.

    The rows of a block diagonal are two dimensions: block and row. If several groups of the full
    layer are used, they are three: group of the full layer, block and row, up to a whole number of
    groups.
    """
    if len(shape) == 1:  # norms and biases, two of three slices
        return shape, full_stride, 0
    size, stride, offset = shape, full_stride, 0
    if full_shape[-1] != shape[-1]:
        kernel = zip(full_shape[2:], shape[2:], full_stride[2:], strict=True)
        offset = sum((large - small) // 2 * step for large, small, step in kernel)
    # With a single full group, the first block is that of the leading columns.
    if groups > 1 or full_groups > 1:
        full_rows, full_columns = full_shape[0] // full_groups, full_shape[1]
        rows, columns = shape[0] // groups, shape[1]
        blocks = full_columns // columns
        if blocks > 1 and full_columns % columns == 0 and full_rows == blocks * rows:
            row, column = full_stride[:2]
            # Block b of a group reads the columns of block b.
            size = (groups, rows, *shape[1:])
            stride = (rows * row + columns * column, *full_stride)
            if groups > blocks:
                used_groups = -(-shape[0] // full_rows)
                size, stride = (used_groups, blocks, *size[1:]), (full_rows * row, *stride)
    return size, stride, offset


def check_gradients_are_kept(output: Tensor, parameter: Tensor) -> None:
    """Make a later backward from `output` raise RuntimeError if gradients of slices would be lost.

    They are lost if `parameter.grad`, an example of the network's gradients, has since been set to
    None or replaced. They are also lost if backward has to be differentiable itself.
    """
    if not parameter.is_leaf:  # a substitute for the parameter, without a gradient
        return
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    kept = parameter.grad

    def check(gradient: Tensor) -> None:
        if parameter.grad is not kept:
            raise RuntimeError(
                "the gradients of the network were set to None or replaced between the forward and"
                " the backward pass of a slice, which adds to those of the forward pass: clear"
                " them before the forward pass"
            )
        if torch.is_grad_enabled():
            raise RuntimeError("backward through a slice cannot create a graph: extract it first")

    output.register_hook(check)
