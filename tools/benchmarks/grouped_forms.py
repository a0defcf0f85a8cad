"""Grouped layers of networks, and the forms in which they may be computed, for benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vipnas.arch.image import Arch
from vipnas.models.elastic import ElasticConv2d, ElasticDeconv2d
from vipnas.models.posenet import PoseNet

TOGETHER = {"two": 2, "four": 4, "eight": 8}


class Grouped(NamedTuple):
    """A grouped layer: input (C, H, W), weight as the layer holds it."""

    input_chw: tuple[int, int, int]
    weight_shape: tuple[int, ...]
    groups: int
    stride: int
    transposed: bool

    @property
    def channels_a_group(self) -> int:
        return self.input_chw[0] // self.groups

    def __str__(self) -> str:
        channels, height, width = self.input_chw
        kernel, kind = self.weight_shape[-1], "deconv" if self.transposed else "conv"
        return f"{kind} {kernel}x{kernel}, {channels} x {height} x {width}, stride {self.stride}"

    def run(self, x: Tensor, weight: Tensor, groups: int) -> Tensor:
        kernel = weight.shape[-1]
        if self.transposed:
            return F.conv_transpose2d(x, weight, None, 2, kernel // 2 - 1, 0, groups)
        return F.conv2d(x, weight, None, self.stride, kernel // 2, 1, groups)


def widened(weight: Tensor, groups: int, fewer: int) -> Tensor:
    """The weight of the same layer with `fewer` groups: zeros off the block diagonal."""
    if groups == fewer:
        return weight
    together = groups // fewer
    rows, columns, *kernel = weight.shape
    blocks = weight.view(fewer, together, rows // groups, 1, columns, *kernel)
    diagonal = torch.eye(together, dtype=weight.dtype, device=weight.device)
    diagonal = diagonal.view(1, together, 1, together, 1, 1, 1)
    return (blocks * diagonal).view(rows, together * columns, *kernel)


def grouped_layers(arch: Arch) -> Iterator[Grouped]:
    """Those of a network that have groups, by running it once."""
    network, found = PoseNet(arch).eval(), []

    def hook(layer: torch.nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(layer, (ElasticConv2d, ElasticDeconv2d))
        if layer.groups > 1:
            channels, height, width = inputs[0].shape[1:]
            transposed = isinstance(layer, ElasticDeconv2d)
            stride = 2 if isinstance(layer, ElasticDeconv2d) else layer.stride
            shape = (channels, height, width)
            found.append(Grouped(shape, layer.weight.shape, layer.groups, stride, transposed))

    for layer in network.modules():
        if isinstance(layer, (ElasticConv2d, ElasticDeconv2d)):
            layer.register_forward_hook(hook)
    with torch.no_grad():
        network(torch.zeros(1, 3, *arch.input_hw))
    yield from found


class Form(NamedTuple):
    """So many groups computed as one; the memory order of input and output, and that of computing
    in between."""

    together: int = 1
    given: torch.memory_format = torch.channels_last
    computed: torch.memory_format = torch.channels_last

    def one_pass(self, layer: Grouped, weight: Tensor, x: Tensor) -> None:
        """Forward and backward, in the number format of `x`, as autocast does."""
        weight.grad = x.grad = None
        fewer = layer.groups // self.together
        wide = widened(weight.to(x.dtype), layer.groups, fewer)
        output = layer.run(x.contiguous(memory_format=self.computed), wide, fewer)
        output = output.contiguous(memory_format=self.given)
        output.backward(output.detach())


def forms_of(layer: Grouped, with_dense: bool) -> dict[str, Form]:
    forms = {
        "own": Form(),
        "contiguous": Form(1, torch.contiguous_format, torch.contiguous_format),
        "turned": Form(1, torch.channels_last, torch.contiguous_format),
    }
    forms |= {name: Form(count) for name, count in TOGETHER.items() if layer.groups % count == 0}
    return forms | ({"dense": Form(layer.groups)} if with_dense else {})
