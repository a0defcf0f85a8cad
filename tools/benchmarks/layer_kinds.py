"""What `layer_rates` times: the layers of `lat_vipnas`, and others in their place.

Strides are those of the whole network up to a layer: at stride 8 an input of 96 x 96 has maps of
12 x 12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from vipnas.arch.image import DeconvArch, StageArch, StemArch
from vipnas.models.blocks import (
    Deconv,
    HeatmapConv,
    InvertedResidualBlock,
    SimccHead,
    SimccShape,
    Stem,
)
from vipnas.models.counting import segment_cost
from vipnas.models.posenet import Segment

HW = tuple[int, int]
Kind = tuple[int, int | None]  # kernel size and channels per group; None: dense
NUM_KEYPOINTS = 17
CONVOLUTIONS, BLOCKS, FIRST, UPSAMPLINGS, HEADS = (
    "convolutions in a row",
    "blocks in a row, at stride 8",
    "first layers, from the images",
    "upsampling by 2",
    "heads, after a 1x1 convolution",
)
# Channels and stride of the places where convolutions are timed.
PLACES = ((16, 4), (32, 4), (32, 8), (64, 8), (128, 8), (256, 8), (128, 16))
# Channels at stride 8 for the question which widths pay.
WIDTHS = (24, 40, 48, 56, 80, 96)
KINDS_OF_WIDTHS: tuple[Kind, ...] = ((3, None), (1, None), (5, 1))
KINDS: tuple[Kind, ...] = (
    (3, None),
    (1, None),
    (3, 32),
    (5, 32),
    (3, 16),
    (3, 8),
    (3, 1),
    (5, 1),
    (7, 1),
)
BLOCK_WIDTHS = (32, 64, 96)
STEM_WIDTHS, STEM_KERNELS = (8, 16, 24, 32), (3, 5)
FIRST_STAGES = (
    StageArch(16, 1, 3, 1, False, 1, 2, "relu"),
    StageArch(32, 1, 3, 1, False, 1, 2, "relu"),
    StageArch(48, 1, 3, 1, False, 1, 2, "relu"),
    StageArch(32, 1, 5, 1, False, 1, 2, "relu"),
    StageArch(32, 1, 3, 64, False, 2, 2, "relu"),
    StageArch(32, 1, 3, 128, False, 4, 2, "relu"),
)
UPSAMPLED = ((256, 128, 16), (128, 64, 8), (64, 32, 8))  # channels before and after, stride
HEAD_CHANNELS = (64, 96)


class Candidate(NamedTuple):
    """A module to time; `macs` of one image."""

    table: str
    row: str
    column: str
    module: nn.Module
    shape_CHW: tuple[int, int, int]
    macs: int


class Segments(nn.Module):
    """Segments one after the other, at their full size."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        super().__init__()
        layers = [layer for segment in segments for layer in segment.layers()]
        self.layers = nn.ModuleList(layer.build() for layer in layers)
        self.archs = [layer.arch for layer in layers]

    def forward(self, x: Tensor) -> Tensor:
        for layer, arch in zip(self.layers, self.archs, strict=True):
            x = layer(x, arch)
        return x


class Averaged(nn.Module):
    """A module, its output averaged over the image.

    Returning all of it would convert OpenVINO's layout, which does not happen inside a network.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.module(x), 1)


def _at(input_hw: HW, stride: int) -> HW:
    return input_hw[0] // stride, input_hw[1] // stride


def _convolutions(input_hw: HW, in_a_row: int) -> Iterator[Candidate]:
    places = [(*place, KINDS) for place in PLACES]
    places += [(width, 8, KINDS_OF_WIDTHS) for width in WIDTHS]
    for channels, stride, kinds in places:
        height, width = _at(input_hw, stride)
        for kernel_size, per_group in kinds:
            columns = per_group or channels
            if per_group and per_group >= channels:
                continue  # dense, or more than there are
            layers: list[nn.Module] = []
            for _ in range(in_a_row):
                groups, padding = channels // columns, kernel_size // 2
                convolution = nn.Conv2d(
                    channels, channels, kernel_size, padding=padding, groups=groups
                )
                layers += [convolution, nn.ReLU()]
            yield Candidate(
                CONVOLUTIONS,
                f"{kernel_size}x{kernel_size} {_grouping(per_group)}",
                f"{channels} at {height} x {width}",
                Averaged(nn.Sequential(*layers)),
                (channels, height, width),
                in_a_row * channels * columns * kernel_size**2 * height * width,
            )


def _grouping(per_group: int | None) -> str:
    return {None: "dense", 1: "depthwise"}.get(per_group, f"{per_group} per group")


def _blocks(input_hw: HW, in_a_row: int) -> Iterator[Candidate]:
    in_hw = _at(input_hw, 8)
    for width in BLOCK_WIDTHS:
        for name, arch in _block_archs(width, in_a_row):
            segment = Segment("stage", InvertedResidualBlock, arch, width, in_hw)
            yield _candidate(BLOCKS, name, f"{width} wide", [segment])


def _block_archs(width: int, depth: int) -> Iterator[tuple[str, StageArch]]:
    for kernel_size in (3, 5):
        for groups in (1, 2):
            name = f"{kernel_size}x{kernel_size}, {'dense' if groups == 1 else '2 groups'}, 1x1"
            yield name, StageArch(width, depth, kernel_size, groups, False, 1, 1, "relu")
    expanded = [(32, 3, 2), (32, 5, 2), (32, 3, 3), (16, 3, 2)]
    expanded += [(1, 3, 2), (1, 3, 3), (1, 3, 4), (1, 3, 6)]
    expanded += [(1, 5, 2), (1, 5, 3), (1, 5, 4), (1, 7, 3), (1, 7, 4)]
    for per_group, kernel_size, ratio in expanded:
        groups = width * ratio // per_group
        name = f"expansion {ratio}, {kernel_size}x{kernel_size} {_grouping(per_group)}"
        arch = StageArch(width, depth, kernel_size, groups, False, ratio, 1, "relu")
        yield name, arch
        if (per_group, kernel_size) in ((32, 3), (1, 5)) and ratio < 4:
            yield f"{name}, attention", replace(arch, attention=True)
        if (per_group, kernel_size, ratio) == (1, 5, 3):
            yield f"{name}, hardswish", replace(arch, activation="hardswish")


def _first_layers(input_hw: HW, _: int) -> Iterator[Candidate]:
    half_hw = _at(input_hw, 2)
    for width in STEM_WIDTHS:
        for kernel_size in STEM_KERNELS:
            name = f"stem {width} wide, {kernel_size}x{kernel_size}"
            arch = StemArch(width, kernel_size, "relu", False)
            stem = Segment("stem", Stem, arch, 3, input_hw)
            yield _candidate(FIRST, name, "alone", [stem])
            if kernel_size > 3 or width not in (16, 32):
                continue
            for stage in FIRST_STAGES:
                kind = "dense" if stage.groups == 1 else f"expansion {stage.expand_ratio}"
                column = f"to {stage.width}, {stage.kernel_size}x{stage.kernel_size} {kind}"
                first = Segment("stage1", InvertedResidualBlock, stage, width, half_hw)
                yield _candidate(FIRST, name, column, [stem, first])


def _upsamplings(input_hw: HW, _: int) -> Iterator[Candidate]:
    for before, after, stride in UPSAMPLED:
        height, width = _at(input_hw, stride)
        area, dense = height * width, before * after * height * width
        depthwise = nn.Conv2d(after, after, 3, padding=1, groups=after)
        ways: dict[str, tuple[list[nn.Module], int]] = {
            "deconvolution, kernel 4, dense": (
                [nn.ConvTranspose2d(before, after, 4, 2, 1)],
                16 * dense,
            ),
            "deconvolution, kernel 4, 16 groups": (
                [nn.ConvTranspose2d(before, after, 4, 2, 1, groups=16)],
                dense,
            ),
            "deconvolution, kernel 2, dense": (
                [nn.ConvTranspose2d(before, after, 2, 2)],
                4 * dense,
            ),
            "1x1, pixel shuffle": (
                [nn.Conv2d(before, 4 * after, 1), nn.PixelShuffle(2)],
                4 * dense,
            ),
            "1x1, nearest neighbour, depthwise 3x3": (
                [nn.Conv2d(before, after, 1), nn.Upsample(scale_factor=2), depthwise],
                dense + 9 * after * 4 * area,
            ),
        }
        for name, (layers, macs) in ways.items():
            column = f"{before} to {after} at {height} x {width}"
            module = Averaged(nn.Sequential(*layers, nn.ReLU()))
            yield Candidate(UPSAMPLINGS, name, column, module, (before, height, width), macs)


def _heads(input_hw: HW, _: int) -> Iterator[Candidate]:
    in_hw = _at(input_hw, 8)
    twice_hw = (2 * in_hw[0], 2 * in_hw[1])
    for channels in HEAD_CHANNELS:
        column = f"{channels} channels"
        before = Segment("before", HeatmapConv, channels, channels, in_hw)
        yield _candidate(HEADS, "none", column, [before])
        yield _candidate(
            HEADS,
            "heatmaps at stride 8",
            column,
            [before, Segment("heatmaps", HeatmapConv, NUM_KEYPOINTS, channels, in_hw)],
            averaged=False,
        )
        for width in (16, 32, 64, 96):
            for kernel_size, groups in ((2, 1), (2, 2), (4, 1), (4, 2)):
                arch = DeconvArch(width, kernel_size, groups)
                deconv = Segment("deconv1", Deconv, arch, channels, in_hw)
                maps = Segment("heatmaps", HeatmapConv, NUM_KEYPOINTS, width, twice_hw)
                name = f"deconvolution {width} wide, kernel {kernel_size}, {groups} groups"
                yield _candidate(HEADS, name, column, [before, deconv, maps], averaged=False)
        shape = SimccShape(NUM_KEYPOINTS, 1, in_hw, (2 * input_hw[1], 2 * input_hw[0]))
        simcc = Segment("simcc", SimccHead, shape, channels, in_hw)
        yield _candidate(HEADS, "SimCC", column, [before, simcc], averaged=False)


def _candidate(
    table: str, row: str, column: str, segments: Sequence[Segment], averaged: bool = True
) -> Candidate:
    module: nn.Module = Segments(segments)
    macs = sum(segment_cost(segment).macs for segment in segments)
    shape = (segments[0].in_channels, *segments[0].in_hw)
    return Candidate(table, row, column, Averaged(module) if averaged else module, shape, macs)


# What is timed at an input size, by table. Convolutions and blocks stand so many in a row.
TABLES: dict[str, Callable[[HW, int], Iterator[Candidate]]] = {
    CONVOLUTIONS: _convolutions,
    BLOCKS: _blocks,
    FIRST: _first_layers,
    UPSAMPLINGS: _upsamplings,
    HEADS: _heads,
}
