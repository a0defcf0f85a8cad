"""Layers that can run smaller than they were built, and the one rule for which of their weights
that uses.

A layer is told on each call how large to be; nothing is set on it beforehand. Input channels are
read off the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Up to so many elements PyTorch's own gradient of a slice, of full size, is the quicker one.
SMALL = 1 << 15


def crop(full: Tensor, shape: Sequence[int], groups: int = 1, full_groups: int = 1) -> Tensor:
    """Share weights: leading rows, centred kernel window, block-diagonal columns.

    Dimension 0 counts rows (the channels that are cut into groups), dimension 1 the columns of one
    group, the rest is the kernel. A convolution with more groups is the one with fewer groups where
    the weights off the block diagonal are left out: every row keeps the columns of the very
    channels that it reads in the full layer. Where the groups do not nest like that (a row would
    need columns that the full one has not), it takes the leading columns.
    """
    if tuple(full.shape) == tuple(shape) and groups == full_groups:
        return full
    if full.is_leaf and full.requires_grad and torch.is_grad_enabled():
        if full.dim() == 1:
            return full[: shape[0]]
        if full.numel() <= SMALL:
            return _read(full, shape, groups, full_groups)
        cropped: Tensor = _CropOfParameter.apply(full, shape, groups, full_groups)  # type: ignore[no-untyped-call]
        return cropped
    return _read(full, shape, groups, full_groups)


class _CropOfParameter(torch.autograd.Function):
    """`crop` whose backward adds to the gradient of the parameter, in place and only what is used.

    Slicing as PyTorch differentiates it makes a gradient of full size, zeros and all, for every
    slice: of a small member that costs more than half as much as the rest of its step. The
    gradient goes to `full.grad` directly, so hooks that wait for it do not see it:
    processes must reduce gradients once per step, after the last backward pass.
    """

    @staticmethod
    def forward(ctx: Any, full: Tensor, shape: Sequence[int], groups: int, full_groups: int) -> Any:
        ctx.full, ctx.place = full, (shape, groups, full_groups)
        return _read(full, shape, groups, full_groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, None]:
        if ctx.full.grad is None:
            ctx.full.grad = torch.zeros_like(ctx.full)
        used = _view(ctx.full.grad, *ctx.place)
        if used.dim() > gradient.dim():  # the block diagonal: up to whole groups
            missing = used.shape[:3].numel() - gradient.shape[0]
            padding = (0, 0) * (gradient.dim() - 1) + (0, missing)
            gradient = (F.pad(gradient, padding) if missing else gradient).reshape(used.shape)
        used.add_(gradient)
        return None, None, None, None


def _read(full: Tensor, shape: Sequence[int], groups: int, full_groups: int) -> Tensor:
    used = _view(full, shape, groups, full_groups)
    if used.dim() > full.dim():
        used = used.flatten(0, 2)[: shape[0]]
    return used.contiguous()


def _view(full: Tensor, shape: Sequence[int], groups: int, full_groups: int) -> Tensor:
    """What `crop` uses, as a view. Of a block diagonal the rows are (full group, block, row), up to
    a whole number of the full layer's groups."""
    rows, columns = shape[0], shape[1] if len(shape) > 1 else 1
    window = tuple(
        slice((large - small) // 2, (large + small) // 2)
        for large, small in zip(full.shape[2:], shape[2:], strict=True)
    )
    full_columns = full.shape[1] if full.dim() > 1 else 1
    full_rows_per_group = full.shape[0] // full_groups
    blocks = full_columns // columns
    nested = full_columns % columns == 0 and full_rows_per_group == blocks * (rows // groups)
    # Of full groups no more than one: its first block is that of the leading columns.
    if blocks == 1 or not nested or groups == full_groups == 1:
        return full[(slice(rows), slice(columns), *window)[: full.dim()]]
    padded = -(-rows // full_rows_per_group) * full_rows_per_group
    tiles = full[(slice(padded), slice(None), *window)]
    tiles = tiles.unflatten(1, (blocks, columns)).unflatten(0, (-1, blocks, rows // groups))
    # Block b of a group reads the columns of block b.
    diagonal: Tensor = tiles.diagonal(dim1=1, dim2=3).movedim(-1, 1)
    return diagonal


class ElasticLayer(nn.Module):
    """A layer that owns tensors; `groups` says how the rows of its weight are grouped."""

    groups: int = 1

    def own_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and buffers of this layer itself, by name."""
        yield from self.named_parameters(recurse=False)
        yield from self.named_buffers(recurse=False)

    @torch.no_grad()
    def inherit(self, full: nn.Module) -> None:
        """Copy from a larger layer exactly the weights that it would use at this size.

        Raises ValueError if that layer is not larger.
        """
        assert isinstance(full, ElasticLayer)
        for name, tensor in self.own_tensors():
            source = getattr(full, name)
            if any(have < need for have, need in zip(source.shape, tensor.shape, strict=True)):
                raise ValueError(f"{name}: {tuple(source.shape)} holds no {tuple(tensor.shape)}")
            tensor.copy_(crop(source, tensor.shape, self.groups, full.groups))


class ElasticConv2d(ElasticLayer):
    """Convolution with `kernel_size // 2` padding. Its weight holds no values until
    `reset_parameters`."""

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
        """N(0, 0.001), as published."""
        nn.init.normal_(self.weight, std=0.001)

    def forward(
        self, x: Tensor, out_channels: int, kernel_size: int = 1, groups: int = 1
    ) -> Tensor:
        shape = (out_channels, x.shape[1] // groups, kernel_size, kernel_size)
        weight = crop(self.weight, shape, groups, self.groups)
        bias = None if self.bias is None else crop(self.bias, (out_channels,))
        return F.conv2d(x, weight, bias, self.stride, kernel_size // 2, 1, groups)


class ElasticDeconv2d(ElasticLayer):
    """Transposed convolution that doubles the resolution: kernel 4 (padding 1) or 2 (padding 0), no
    bias.

    Both kernels cover the same output pixels, so that the small one is the centre of the large one.
    The weight's rows are the input channels, as PyTorch stores it.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        shape = (in_channels, out_channels // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))

    def reset_parameters(self) -> None:
        """N(0, 0.001), as published."""
        nn.init.normal_(self.weight, std=0.001)

    def forward(self, x: Tensor, out_channels: int, kernel_size: int, groups: int) -> Tensor:
        shape = (x.shape[1], out_channels // groups, kernel_size, kernel_size)
        weight = crop(self.weight, shape, groups, self.groups)
        return F.conv_transpose2d(x, weight, None, 2, kernel_size // 2 - 1, 0, groups)


class ElasticBatchNorm2d(ElasticLayer, nn.BatchNorm2d):
    """Batch norm over the leading channels.

    At full width it is PyTorch's own. A narrower slice normalises by its batch while training and
    leaves the running statistics alone: mixed over many subnets they would be those of none.
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
