"""Grouped convolutions on this machine's CPU: with how many groups, and in which memory order?

    python tools/bench_grouped.py [--space NAME ...] [--full-size] [--repeats N] [--report FILE]

A convolution with groups is also one with fewer groups whose weights off the block diagonal are 0:
more multiply-adds, but in a shape that the library may compute faster; with one group it is dense.
Every grouped layer of a space's largest, smallest and some random archs is timed with its groups
and with two, four or eight of them together, forward and backward, widening of the weight included;
and in the other memory order. The forms take turns; seconds are those that the process computed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vipnas.arch import Arch
from vipnas.memory import keep_freed_memory
from vipnas.models.elastic import ElasticConv2d, ElasticDeconv2d
from vipnas.models.posenet import PoseNet
from vipnas.shipped import find_shipped
from vipnas.space import SearchSpace, read_space

SPACES = ("tiny", "quick", "s_vipnas_res50", "s_vipnas_mbv3")
SMALL_HW = (128, 96)  # of the spaces that are larger, unless --full-size
BATCH_SIZE = 8
NUM_RANDOM = 3
TOGETHER = (1, 2, 4, 8)


class Grouped(NamedTuple):
    """A grouped layer: input (C, H, W), weight as the layer holds it."""

    input_chw: tuple[int, int, int]
    weight_shape: tuple[int, ...]
    groups: int
    stride: int
    transposed: bool

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
    diagonal = torch.eye(together).view(1, together, 1, together, 1, 1, 1)
    return (blocks * diagonal).view(rows, together * columns, *kernel)


def grouped_layers(arch: Arch) -> Iterator[Grouped]:
    """Those of a network that have groups, by running it once."""
    network, found = PoseNet(arch), []

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
        network(torch.zeros(2, 3, *arch.input_hw))
    yield from found


class Form(NamedTuple):
    """So many groups computed as one, in a memory order."""

    together: int
    order: torch.memory_format = torch.channels_last


def timed_forms(layer: Grouped, repeats: int) -> dict[Form, float]:
    """Median seconds of a forward and backward pass in every form."""
    weight = torch.randn(layer.weight_shape).requires_grad_()
    forms = [Form(together) for together in TOGETHER if layer.groups % together == 0]
    seconds: dict[Form, list[float]] = {
        form: [] for form in [*forms, Form(1, torch.contiguous_format)]
    }
    for repeat in range(repeats + 1):
        for form, taken in seconds.items():
            x = torch.randn(BATCH_SIZE, *layer.input_chw).contiguous(memory_format=form.order)
            x.requires_grad_()
            fewer = layer.groups // form.together
            started = time.process_time()
            output = layer.run(x, widened(weight, layer.groups, fewer), fewer)
            output.backward(output.detach())
            if repeat:
                taken.append(time.process_time() - started)
    return {form: median(taken) for form, taken in seconds.items()}


def rows_of(space: SearchSpace, repeats: int) -> Iterator[str]:
    rng = random.Random(0)
    archs = [space.min_arch(), *(space.sample(rng) for _ in range(NUM_RANDOM)), space.max_arch()]
    for layer in dict.fromkeys(layer for arch in archs for layer in grouped_layers(arch)):
        seconds = timed_forms(layer, repeats)
        plain = seconds.pop(Form(1))
        other = seconds.pop(Form(1, torch.contiguous_format))
        together = {form.together: taken / plain for form, taken in seconds.items()}
        shares = (f"{together[count]:.2f}" if count in together else "" for count in TOGETHER[1:])
        each = layer.input_chw[0] // layer.groups
        yield (
            f"| {space.name} | {layer} | {layer.groups} of {each} | {plain * 1e3:.2f} |"
            f" {other / plain:.2f} | {' | '.join(shares)} |"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", action="append", choices=SPACES, help="only this one")
    parser.add_argument("--full-size", action="store_true", help="256 x 192 instead of 128 x 96")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--report", type=Path, help="write the table there too, as markdown")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    lines = [
        "| space | layer | groups | ms in channels_last | share: contiguous | two together | four |"
        " eight |",
        "|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for name in options.space or SPACES:
        space = read_space(find_shipped("search_spaces", name))
        if space.input_hw > SMALL_HW and not options.full_size:
            space = space.with_facts(input_hw=SMALL_HW)
        for row in rows_of(space, options.repeats):
            lines.append(row)
            print(row, flush=True)
    if options.report:
        options.report.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
