"""How fast single kinds of layers run, beside a product of matrices: what `lat_vipnas` is made of.

    python -m tools.benchmarks.layer_rates [--threads N] [--report FILE]

Three equal convolutions in a row, each with bias and ReLU, and ways to double the resolution, in
ONNX Runtime and OpenVINO: GFLOP/s at the median, batch 1, float32. All of a runtime take turns with
the product. About a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import nn

from tools.benchmarks.command import exit_with, write_report
from tools.benchmarks.gemm_reference import gemm_runs
from vipnas.latency.interleaved import MAX_SPREAD, interleaved
from vipnas.latency.measure import key_of_this_machine, pinned, quick_run
from vipnas.latency.profile import retry_if_noisy

RUNTIMES: tuple[str, ...] = ("onnxruntime", "openvino")
IN_A_ROW = 3
PRODUCT_SIDE = 1024
# Channels and height and width where such layers stand in a network of 256 x 192.
PLACES = ((64, 32, 24), (128, 16, 12), (256, 16, 12), (256, 8, 6), (512, 8, 6))
# Kernel size and channels per group; None: dense.
CONVOLUTIONS = (
    (3, None),
    (1, None),
    (3, 32),
    (5, 32),
    (7, 32),
    (3, 16),
    (5, 16),
    (3, 8),
    (5, 8),
    (3, 1),
    (5, 1),
    (7, 1),
)
UPSAMPLED = ((256, 128, 16, 12), (128, 64, 32, 24))  # channels before and after, height, width


class Candidate(NamedTuple):
    """A module to time; `macs` of one image."""

    row: str
    column: str
    module: nn.Module
    shape_CHW: tuple[int, int, int]
    macs: int


def main() -> int:
    options = _parser().parse_args()
    candidates = [*_convolutions(), *_upsamplings()]
    lines = []
    for runtime in RUNTIMES:
        key = key_of_this_machine(runtime, (256, 192), options.threads)
        lines += [f"## {key}", ""]
        with pinned(key):
            yardsticks = list(gemm_runs(PRODUCT_SIDE, options.threads).values())
            runs = [quick_run(found.module, found.shape_CHW, key) for found in candidates]
            measure = partial(interleaved, [*yardsticks, *runs], options.max_spread)
            latencies = retry_if_noisy(measure, partial(print, file=sys.stderr))
        product_ms = min(found.median_ms for found in latencies[: len(yardsticks)])
        peak = 2 * PRODUCT_SIDE**3 / product_ms / 1e6
        lines += [f"{PRODUCT_SIDE}³ product: {product_ms:.2f} ms, {peak:.0f} GFLOP/s", ""]
        measured = [found.median_ms for found in latencies[len(yardsticks) :]]
        lines += [*_tables(candidates, measured, peak), ""]
    print("\n".join(lines))
    write_report(options.report, lines)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-spread", type=float, default=MAX_SPREAD)
    parser.add_argument("--report", type=Path, help="write all there, as markdown")
    return parser


def _convolutions() -> Iterator[Candidate]:
    for kernel_size, per_group in CONVOLUTIONS:
        grouping = {None: "dense", 1: "depthwise"}.get(per_group, f"{per_group} per group")
        for channels, height, width in PLACES:
            columns = per_group or channels
            layers: list[nn.Module] = []
            for _ in range(IN_A_ROW):
                convolution = nn.Conv2d(
                    channels,
                    channels,
                    kernel_size,
                    padding=kernel_size // 2,
                    groups=channels // columns,
                )
                layers += [convolution, nn.ReLU()]
            macs = IN_A_ROW * channels * columns * kernel_size**2 * height * width
            yield Candidate(
                f"{kernel_size}x{kernel_size} {grouping}",
                f"{channels} at {height} x {width}",
                nn.Sequential(*layers),
                (channels, height, width),
                macs,
            )


def _upsamplings() -> Iterator[Candidate]:
    for before, after, height, width in UPSAMPLED:
        area, dense = height * width, before * after * height * width
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
                [
                    nn.Conv2d(before, after, 1),
                    nn.Upsample(scale_factor=2),
                    nn.Conv2d(after, after, 3, padding=1, groups=after),
                ],
                dense + 9 * after * 4 * area,
            ),
        }
        for name, (layers, macs) in ways.items():
            column = f"{before} to {after} at {height} x {width}"
            module = nn.Sequential(*layers, nn.ReLU())
            yield Candidate(name, column, module, (before, height, width), macs)


def _tables(candidates: list[Candidate], measured: list[float], peak: float) -> Iterator[str]:
    """Rates of convolutions and milliseconds of ways to double the resolution."""
    found = {
        (one.row, one.column): (ms, 2 * one.macs / ms / 1e6)
        for one, ms in zip(candidates, measured, strict=True)
    }
    for title, part in (
        ("GFLOP/s, and part of the product's", list(_convolutions())),
        ("ms, and GFLOP/s", list(_upsamplings())),
    ):
        columns = list(dict.fromkeys(one.column for one in part))
        yield f"| {title} | {' | '.join(columns)} |"
        yield "|---" * (len(columns) + 1) + "|"
        for row in dict.fromkeys(one.row for one in part):
            cells = []
            for column in columns:
                ms, rate = found[row, column]
                of_peak = f"{rate:.0f}, {rate / peak:.0%}"
                cells.append(of_peak if title.startswith("GFLOP") else f"{ms:.2f}, {rate:.0f}")
            yield f"| {row} | {' | '.join(cells)} |"
        yield ""


if __name__ == "__main__":
    exit_with(main)
