"""How fast single kinds of layers run, beside a product of matrices: what `lat_vipnas` is made of.

    python -m tools.benchmarks.layer_rates [--input-hw H W ...] [--threads N] [--report FILE]

Convolutions and blocks in a row, first layers, ways to double the resolution, and heads, at the
sizes that they have in a network of each input size, in ONNX Runtime and OpenVINO: microseconds
and GFLOP/s at the median, batch 1, float32. The layers of a table take turns with the product.
About a minute for each size and runtime. On one thread the seconds are those that the process
computed, so that a busy machine needs a large --max-spread, and no more.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tools.benchmarks.command import command_line, exit_with, write_report
from tools.benchmarks.gemm_reference import gemm_runs
from tools.benchmarks.layer_kinds import TABLES, Candidate
from vipnas.latency.interleaved import MAX_SPREAD, ROUNDS, Clock, interleaved
from vipnas.latency.measure import Key, key_of_this_machine, pinned, quick_run
from vipnas.latency.profile import retry_if_noisy

RUNTIMES: tuple[str, ...] = ("onnxruntime", "openvino")
IN_A_ROW = 3
PRODUCT_SIDE = 1024


class Rate(NamedTuple):
    """What a candidate took, and the part of the product's rate that it reached."""

    candidate: Candidate
    ms: float
    of_product: float

    def __str__(self) -> str:
        rate = 2 * self.candidate.macs / self.ms / 1e6
        return f"{self.ms * 1e3:.0f}, {rate:.0f}, {self.of_product:.0%}"


def seconds(threads: int) -> Clock:
    """Return the clock of a measurement: of one thread the time that the process computed."""
    return time.process_time if threads == 1 else time.perf_counter


def main() -> int:
    options = _parser().parse_args()
    lines = [command_line(), ""]
    for runtime in options.runtime or RUNTIMES:
        for input_hw in options.input_hw or [(256, 192)]:
            key = key_of_this_machine(runtime, tuple(input_hw), options.threads)
            lines += [f"## {key}", ""]
            for kinds in _chosen_tables(options.table):
                chosen = [
                    one
                    for one in kinds(key.input_hw, options.in_a_row)
                    if one.column.startswith(tuple(options.column or [""]))
                ]
                if chosen:
                    lines += [*_table(chosen, key, options), ""]
                    write_report(options.report, lines)
    print("\n".join(lines))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--input-hw",
        nargs=2,
        type=int,
        action="append",
        metavar=("H", "W"),
        help="of the network, multiples of 32; may be repeated (default: 256 192)",
    )
    parser.add_argument("--table", action="append", help="first words of a table (default: all)")
    parser.add_argument("--column", action="append", help="first words of a column (default: all)")
    parser.add_argument("--in-a-row", type=int, default=IN_A_ROW, help="of a convolution or block")
    add_timing_options(parser)
    return parser


def add_timing_options(parser: argparse.ArgumentParser) -> None:
    """Add where and how layers and subnets are timed, and the report."""
    parser.add_argument("--runtime", action="append", help="default: onnxruntime, openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--max-spread", type=float, default=MAX_SPREAD)
    parser.add_argument("--report", type=Path, help="write all there, as markdown")


def _chosen_tables(names: Sequence[str] | None) -> list[Callable[..., Iterator[Candidate]]]:
    return [kinds for name, kinds in TABLES.items() if name.startswith(tuple(names or [""]))]


def _table(chosen: Sequence[Candidate], key: Key, options: argparse.Namespace) -> Iterator[str]:
    with pinned(key):
        yardsticks = list(gemm_runs(PRODUCT_SIDE, options.threads).values())
        runs = [quick_run(one.module, one.shape_CHW, key) for one in chosen]
        limits = (options.max_spread, options.rounds, seconds(options.threads))
        measure = partial(interleaved, [*yardsticks, *runs], *limits)
        latencies = retry_if_noisy(measure, partial(print, file=sys.stderr))
    product_ms = min(found.median_ms for found in latencies[: len(yardsticks)])
    peak = 2 * PRODUCT_SIDE**3 / product_ms / 1e6
    timed = zip(chosen, latencies[len(yardsticks) :], strict=True)
    rates = [
        Rate(one, found.median_ms, 2 * one.macs / found.median_ms / 1e6 / peak)
        for one, found in timed
    ]
    yield f"{chosen[0].table}; {PRODUCT_SIDE}³ product: {product_ms:.2f} ms, {peak:.0f} GFLOP/s"
    yield ""
    yield from rows(rates)


def rows(rates: Sequence[Rate]) -> Iterator[str]:
    """A markdown table; empty where a row has no candidate in a column."""
    cells = {(rate.candidate.row, rate.candidate.column): str(rate) for rate in rates}
    columns = list(dict.fromkeys(column for _, column in cells))
    yield f"| µs, GFLOP/s, part of the product's | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for row in dict.fromkeys(row for row, _ in cells):
        yield f"| {row} | {' | '.join(cells.get((row, column), '') for column in columns)} |"


if __name__ == "__main__":
    exit_with(main)
