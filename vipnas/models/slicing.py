"""The rule that shares weights, and slices of parameters in training."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def gradients_are_windows() -> Iterator[None]:
    """Silence PyTorch's warning about gradients that are windows of the full one, as in `crop`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "grad and param do not obey the gradient layout contract")
        yield


def crop(full: Tensor, shape: tuple[int, ...], groups: int = 1, full_groups: int = 1) -> Tensor:
    """Share weights: leading rows, centred kernel window, block-diagonal columns.

    A convolution with more groups is the one with fewer groups without the weights off the block
    diagonal. Every row keeps the columns of the channels that it reads in the full layer. If the
    groups do not nest like that, a row takes the leading columns.

    The crop of a parameter in training is a leaf. Its gradient is a window of `full.grad`: see
    `_Slices`.

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
        used = _slices_of(full).leaf(shape, groups, full_groups)
    else:
        size, stride, offset = _window(full.shape, full.stride(), shape, groups, full_groups)
        used = full.as_strided(size, stride, full.storage_offset() + offset).contiguous()
    if used.dim() > len(shape):
        used = used.flatten(0, used.dim() - len(shape))
        if used.shape[0] > shape[0]:  # the last group of the full layer is used in part
            used = used[: shape[0]]
    return used


class _Slices:
    """What slices of a parameter share: its gradient, and the windows of it that were used.

    A slice is a leaf of its own, whose gradient is a window of the parameter's. Backward then adds
    to the window only. PyTorch's own slicing creates a gradient of full size for every slice, which
    takes more than half of a step of a small subnet. There are two limits. Hooks on the parameter's
    gradient do not run, so several processes must reduce gradients once per step, after the last
    backward. The gradient must not be removed between forward and backward
    (`check_gradients_are_kept`).

    It outlives a step: to make the windows anew takes a quarter to a third of the time of slicing
    (`experiments/reports/resolution_2026-11-30.md`).
    """

    def __init__(self, full: Tensor) -> None:
        self._weights = full.detach()  # keeps the memory, so that no other tensor gets its address
        self.address = full.data_ptr()
        self._windows: dict[tuple[tuple[int, ...], int, int], tuple[Tensor, Tensor, bool]] = {}
        gradient = full.grad
        if gradient is None:
            gradient = torch.zeros_like(full)
        elif gradient.stride() != full.stride():  # set by a caller: PyTorch uses the parameter's
            gradient = torch.empty_like(full).copy_(gradient)
        self.gradient = full.grad = gradient

    def leaf(self, shape: tuple[int, ...], groups: int, full_groups: int) -> Tensor:
        """Return a dense slice, whose gradient is a window."""
        key = shape, groups, full_groups
        found = self._windows.get(key)
        if found is None:
            weights, gradient = self._weights, self.gradient
            size, stride, offset = _window(weights.shape, weights.stride(), *key)
            used = weights.as_strided(size, stride, weights.storage_offset() + offset)
            window = gradient.as_strided(size, stride, gradient.storage_offset() + offset)
            found = self._windows[key] = used, window, used.is_contiguous()
        used, window, is_dense = found
        leaf = (used.detach() if is_dense else used.contiguous()).requires_grad_()
        leaf.grad = window
        return leaf


def _slices_of(full: Tensor) -> _Slices:
    """Return the slices of a parameter, whose gradient they share is then that of the parameter.

    If the parameter's was removed, as before each step, the last one is filled with zeros, unless
    somebody has kept it.
    """
    slices: _Slices | None = full.__dict__.get("slices")
    if slices is not None and slices.address == full.data_ptr():
        gradient = full.grad
        if gradient is slices.gradient:
            return slices
        if gradient is None and sys.getrefcount(slices.gradient) <= _OWN_REFERENCES:
            full.grad = slices.gradient.zero_()
            return slices
    slices = full.__dict__["slices"] = _Slices(full)
    return slices


def _own_references() -> int:
    """Return the references to a gradient that nobody else holds: PyTorch's versions differ."""
    slices = _Slices(torch.zeros(2, requires_grad=True))
    slices.leaf((1,), 1, 1)
    return sys.getrefcount(slices.gradient)


def _window(
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


_OWN_REFERENCES = _own_references()
