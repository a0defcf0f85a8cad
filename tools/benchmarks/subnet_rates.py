"""What subnets of spaces, drawn at random, reach of the machine's peak at each input size.

    python -m tools.benchmarks.subnet_rates SPACE [SPACE ...] [--input-hw H W ...] \
        [--macs-between LOW HIGH] [--subnets N] [--report FILE]

The subnets of all spaces take turns with a 1024 x 1024 x 1024 float32 product by each installed
library, one input size and runtime at a time. The fastest product is the peak. The same seed draws
the same subnets. Seconds are those of `layer_rates`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import mean, median
from typing import NamedTuple

from tools.benchmarks.command import command_line, exit_with, write_report
from tools.benchmarks.gemm_reference import gemm_runs
from tools.benchmarks.latency_peak import PRODUCT_FLOPS, PRODUCT_SIDE
from tools.benchmarks.layer_rates import RUNTIMES, add_timing_options, seconds
from vipnas.arch.image import Arch
from vipnas.latency.interleaved import interleaved
from vipnas.latency.measure import Key, key_of_this_machine, pinned, quick_run
from vipnas.latency.profile import retry_if_noisy
from vipnas.models.counting import count_cost
from vipnas.models.posenet import PoseNet
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space

DRAWS = 100_000


class Measured(NamedTuple):
    """A subnet and its milliseconds."""

    arch: Arch
    ms: float

    @property
    def macs(self) -> int:
        return count_cost(self.arch).macs

    @property
    def mmacs_per_ms(self) -> float:
        return self.macs / self.ms / 1e6


def main() -> int:
    options = _parser().parse_args()
    spaces = [read_space(find_shipped("search_spaces", name)) for name in options.spaces]
    sizes = [tuple(size) for size in options.input_hw or spaces[0].inputs_hw]
    lines = [command_line(), ""]
    for runtime in options.runtime or RUNTIMES:
        for input_hw in sizes:
            key = key_of_this_machine(runtime, input_hw, options.threads)
            lines += [*_compared(spaces, key, options), ""]
            write_report(options.report, lines)
    print("\n".join(lines))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spaces", nargs="+", metavar="SPACE")
    parser.add_argument(
        "--input-hw",
        nargs=2,
        type=int,
        action="append",
        metavar=("H", "W"),
        help="may be repeated (default: the sizes of the first space)",
    )
    parser.add_argument(
        "--macs-between",
        nargs=2,
        type=int,
        default=(0, sys.maxsize),
        metavar=("LOW", "HIGH"),
        help="of the subnets (default: any)",
    )
    parser.add_argument("--subnets", type=int, default=8, help="of each space (default: 8)")
    parser.add_argument("--seed", type=int, default=0)
    add_timing_options(parser)
    return parser


def drawn(space: SearchSpace, number: int, low: int, high: int, seed: int) -> list[Arch]:
    """Return distinct subnets with `low` to `high` MACs, drawn uniformly.

    Raises:
        ValueError: If there are not so many among the draws.
    """
    rng = random.Random(seed)
    found: dict[Arch, None] = {}
    for _ in range(DRAWS):
        arch = space.sample(rng)
        if low <= count_cost(arch).macs <= high:
            found[arch] = None
        if len(found) == number:
            return list(found)
    wanted = f"{number} subnets of {low:,} to {high:,} MACs"
    raise ValueError(f"{space.name}: expected {wanted}, got {len(found)} in {DRAWS:,} draws")


def _compared(
    spaces: Sequence[SearchSpace], key: Key, options: argparse.Namespace
) -> Iterator[str]:
    low, high = options.macs_between
    of_space = [
        drawn(space.with_facts(input_hw=key.input_hw), options.subnets, low, high, options.seed)
        for space in spaces
    ]
    archs = [arch for found in of_space for arch in found]
    with pinned(key):
        products = list(gemm_runs(PRODUCT_SIDE, key.threads).values())
        runs = [quick_run(PoseNet(arch), (3, *arch.input_hw), key) for arch in archs]
        limits = (options.max_spread, options.rounds, seconds(options.threads))
        measure = partial(interleaved, [*products, *runs], *limits)
        latencies = retry_if_noisy(measure, partial(print, file=sys.stderr))
    product_ms = min(found.median_ms for found in latencies[: len(products)])
    peak = PRODUCT_FLOPS / product_ms / 1e6
    remaining = iter(latencies[len(products) :])
    measured = [[Measured(arch, next(remaining).median_ms) for arch in found] for found in of_space]
    yield f"{key}; {PRODUCT_SIDE}³ product: {product_ms:.2f} ms, {peak:.0f} GFLOP/s"
    yield ""
    yield from rows([space.name for space in spaces], measured, peak)


def rows(names: Sequence[str], measured: Sequence[Sequence[Measured]], peak: float) -> list[str]:
    """A markdown table; `peak` in GFLOP/s. Means are of the rates of the subnets."""
    columns = "subnets | MMACs | ms | MMACs/ms | of the product's: least, mean, most"
    lines = [f"| space | {columns} |", "|---|---|---|---|---|---|"]
    for name, found in zip(names, measured, strict=True):
        macs, ms = [one.macs / 1e6 for one in found], [one.ms for one in found]
        rates = [one.mmacs_per_ms for one in found]
        parts = [2 * rate / peak for rate in rates]
        lines.append(
            f"| {name} | {len(found)} | {min(macs):.0f} to {max(macs):.0f}, median"
            f" {median(macs):.0f} | {min(ms):.2f} to {max(ms):.2f}, median {median(ms):.2f} |"
            f" {mean(rates):.1f} | {min(parts):.0%}, {mean(parts):.0%}, {max(parts):.0%} |"
        )
    return lines


if __name__ == "__main__":
    exit_with(main)
