"""Elastic layers, which can run smaller than they were built, and the rule that shares weights.

Every call gives a layer its size; a layer has no state for it. The number of input channels is that
of the input.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vipnas.errors import UserError


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
    trained = full.is_leaf and full.requires_grad and torch.is_grad_enabled()
    use = _leaf if trained else _copy
    if len(shape) == 1:  # norms and biases, two of three slices: the fastest way
        return use(full, shape, full.stride(), 0)
    used = use(full, *_window(full.shape, full.stride(), shape, groups, full_groups))
    if used.dim() > len(shape):
        used = used.flatten(0, used.dim() - len(shape))
        if used.shape[0] > shape[0]:  # the last group of the full layer is used in part
            used = used[: shape[0]]
    return used


def _copy(full: Tensor, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Tensor:
    """Return a window by its size, strides and offset: a copy unless it is already dense."""
    return full.as_strided(size, stride, full.storage_offset() + offset).contiguous()


def _leaf(full: Tensor, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Tensor:
    """Return a window of a parameter; its gradient is that window of the parameter's gradient.

    Backward then adds to the window only. PyTorch's own slicing creates a gradient of full size for
    every slice, which takes more than half of a step of a small subnet. There are two limits. Hooks
    on the parameter's gradient do not run, so several processes must reduce gradients once per
    step, after the last backward. The gradient must not be removed between forward and backward
    (`check_gradients_are_kept`).
    """
    gradient = full.grad
    if gradient is None:
        gradient = full.grad = torch.zeros_like(full)
    elif gradient.stride() != full.stride():  # set by a caller: PyTorch uses the parameter's
        gradient = full.grad = torch.empty_like(full).copy_(gradient)
    used = _copy(full.detach(), size, stride, offset).requires_grad_()
    used.grad = gradient.as_strided(size, stride, gradient.storage_offset() + offset)
    return used


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

    The result is not cached: a lookup is slower, because the entries are never in the processor's
    cache.
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


# With fewer input channels in channels_last, oneDNN's backward of a 1x1 convolution with a stride
# writes past its buffers and crashes the process. Without the stride it does not.
ONEDNN_BLOCK = 8


def not_sliceable(name: str, full: Tensor, cropped: Tensor) -> UserError:
    """Return the error of a tensor that is too small to slice another one from."""
    return UserError(name, f"a tensor of at least {tuple(cropped.shape)}", str(tuple(full.shape)))


class ElasticLayer(nn.Module):
    """A layer that owns tensors; `groups` says how the rows of its weight are grouped."""

    groups: int = 1

    def own_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the parameters and buffers of this layer itself, by name."""
        yield from self.named_parameters(recurse=False)
        yield from self.named_buffers(recurse=False)

    @torch.no_grad()
    def inherit(self, full: nn.Module) -> None:
        """Copy the weights that a larger layer would use at this size.

        Raises:
            UserError: If that layer is smaller.
        """
        assert isinstance(full, ElasticLayer)
        for name, tensor in self.own_tensors():
            source = getattr(full, name)
            if any(have < need for have, need in zip(source.shape, tensor.shape, strict=True)):
                raise not_sliceable(name, source, tensor)
            tensor.copy_(crop(source, tensor.shape, self.groups, full.groups))


class ElasticConv2d(ElasticLayer):
    """Convolution with `kernel_size // 2` padding.

    Its weight is uninitialised until `reset_parameters`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.groups = groups
        shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def reset_parameters(self) -> None:
        """Initialise by fan-in without a bias, that is before a norm, else by N(0, 0.001).

        Heatmaps and attention have a bias, and start near 0.
        """
        if self.bias is None:
            _by_fan_in(self.weight, self.weight[0].numel())
        else:
            nn.init.normal_(self.weight, std=0.001)

    def forward(
        self, x: Tensor, out_channels: int, kernel_size: int = 1, groups: int = 1
    ) -> Tensor:
        shape = (out_channels, x.shape[1] // groups, kernel_size, kernel_size)
        weight = crop(self.weight, shape, groups, self.groups)
        bias = None if self.bias is None else crop(self.bias, (out_channels,))
        stride = self.stride
        if self.training and kernel_size == 1 and x.shape[1] < ONEDNN_BLOCK:
            x, stride = x[:, :, ::stride, ::stride], 1
        return F.conv2d(x, weight, bias, stride, kernel_size // 2, groups=groups)


class ElasticDeconv2d(ElasticLayer):
    """Transposed convolution that doubles the resolution, without a bias.

    The kernel is 4 (padding 1) or 2 (padding 0). Both cover the same output pixels, so that the
    small one is the centre of the large one. The rows of the weight are the input channels, as
    PyTorch stores it.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        shape = (in_channels, out_channels // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))

    def reset_parameters(self) -> None:
        """Initialise by fan-in: a quarter of the kernel contributes to an output pixel."""
        _by_fan_in(self.weight, self.weight[:, 0].numel() / self.groups / 4)

    def forward(self, x: Tensor, out_channels: int, kernel_size: int, groups: int) -> Tensor:
        shape = (x.shape[1], out_channels // groups, kernel_size, kernel_size)
        weight = crop(self.weight, shape, groups, self.groups)
        return F.conv_transpose2d(x, weight, None, 2, kernel_size // 2 - 1, groups=groups)


class ElasticBatchNorm2d(ElasticLayer, nn.BatchNorm2d):
    """Batch norm over the leading channels.

    At full width it is PyTorch's own. In training, a narrower slice normalises by its batch. It
    does not update the running statistics: a mix over subnets would fit none of them.
    `calibrate_bn` measures them for one subnet.
    """

    def forward(self, x: Tensor) -> Tensor:
        channels = (x.shape[1],)
        if channels == (self.num_features,):
            return nn.BatchNorm2d.forward(self, x)
        weight, bias = crop(self.weight, channels), crop(self.bias, channels)
        if self.training:
            return F.batch_norm(x, None, None, weight, bias, True, 0.0, self.eps)
        assert self.running_mean is not None and self.running_var is not None
        mean, variance = crop(self.running_mean, channels), crop(self.running_var, channels)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, self.eps)


class ElasticLayerNorm(ElasticLayer):
    """Layer norm over all channels of a (B, C, 1, 1) tensor, with a scale and shift per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        shape = (x.shape[1], 1, 1)
        return F.layer_norm(x, shape, crop(self.weight, shape), crop(self.bias, shape))


def _by_fan_in(weight: Tensor, fan_in: float) -> None:
    """Sample from a normal distribution of 0.3 times the deviation of He et al. (ICCV 2015).

    A norm follows, so the scale only sets how fast a weight changes direction. The published
    N(0, 0.001) is too small and He's own deviation too large for the same learning rates
    (`experiments/reports/accuracy_latency_2026-11-26.md`).
    """
    nn.init.normal_(weight, std=0.3 * math.sqrt(2 / fan_in))
