"""Elastic layers, which can run smaller than they were built.

Every call gives a layer its size; a layer has no state for it. The number of input channels is that
of the input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vipnas.errors import UserError
from vipnas.models.slicing import crop

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
