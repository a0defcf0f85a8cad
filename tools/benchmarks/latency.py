"""How well latency is predicted, and what the networks of each space reach of the machine's peak.

    python -m tools.benchmarks.latency [--space NAME ...] [--runtime NAME ...] [--report FILE] \
        [--quick]

For every space and runtime: a latency table (`vipnas profile`, in --tables, which resumes); 60
architectures drawn uniformly that are not in it, a third of them measured again, minutes later;
then subnets of the space, interleaved with a 1024 x 1024 x 1024 float32 product by each installed
library. The fastest product is the peak. The machine must be quiet, or measurements are refused.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np

from tools.benchmarks.command import command_line, write_report
from tools.benchmarks.latency_peak import CLIMB_STEPS, ROUNDS, Peak, progress
from tools.benchmarks.ranking_report import kendall
from vipnas.files import digest
from vipnas.latency.interleaved import MAX_SPREAD
from vipnas.latency.measure import Key, key_of_this_machine
from vipnas.latency.predictors import Predictor
from vipnas.latency.profile import Profile, profile_space
from vipnas.latency.table import Table
from vipnas.models.counting import count_cost
from vipnas.shipped import find_shipped, shipped_files
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space

SPACES = ("s_vipnas_res50", "s_vipnas_mbv3", "lat_vipnas")
RUNTIMES: tuple[str, ...] = ("onnxruntime", "openvino")
QUICK_CLIMB_STEPS = 50
MEASURED_AGAIN = 3  # one of so many
# Another than those of the architectures after which the predictor was bettered (seeds 1 and 2).
HELD_OUT_SEED = 3
ALLOWED_ERROR, ALLOWED_TAU = 0.05, 0.9


def main() -> int:
    options = _parser().parse_args()
    quick = options.quick
    amount = Profile(
        num_archs=15 if quick else Profile.num_archs,
        num_blocks=60 if quick else options.blocks,
        max_spread=options.max_spread,
    )
    num_held_out = 10 if quick else 60
    names = options.space or [name for name in SPACES if name in shipped_files("search_spaces")]
    report = _Report(options.report)
    report.add(f"# Latency: measured against predicted, {date.today()}", "")
    report.add(command_line(), "")
    failures = 0
    for runtime in options.runtime or RUNTIMES:
        for name in names:
            space = read_space(find_shipped("search_spaces", name))
            if quick:
                space = space.with_facts(input_hw=(128, 96))
            key = key_of_this_machine(runtime, space.input_hw, options.threads)
            started = time.monotonic()
            bench = _Bench(space, key, options.tables, amount, num_held_out)
            report.add(f"## {name}, {key}", "")
            error, tau, lines = bench.prediction()
            report.add(*lines, "")
            climb_steps = QUICK_CLIMB_STEPS if quick else CLIMB_STEPS
            peak = Peak(space, bench.predictor, options.max_spread, options.rounds, climb_steps)
            report.add(*peak.reached(), "")
            report.add(f"{(time.monotonic() - started) / 60:.1f} minutes.", "")
            failures += error > ALLOWED_ERROR or tau < ALLOWED_TAU
    return int(failures > 0 and not quick)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", action="append", help="default: the three at 256 x 192")
    parser.add_argument("--runtime", action="append", help="default: onnxruntime, openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tables", type=Path, default=Path("latency"), help="folder of the tables")
    parser.add_argument("--max-spread", type=float, default=MAX_SPREAD)
    parser.add_argument("--blocks", type=int, default=Profile.num_blocks, help="single layers")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of members beside the product")
    parser.add_argument("--report", type=Path, help="write all there, as markdown")
    parser.add_argument("--quick", action="store_true", help="few archs at 128 x 96: a proof only")
    return parser


class _Report:
    """Prints, and keeps the file up to date, so that a kill leaves what was done."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines: list[str] = []

    def add(self, *lines: str) -> None:
        self.lines += lines
        print("\n".join(lines), flush=True)
        write_report(self.path, self.lines)


class _Bench:
    """One space in one runtime: its table, and architectures that are not in it."""

    def __init__(
        self, space: SearchSpace, key: Key, tables: Path, amount: Profile, num_held_out: int
    ) -> None:
        self.space, self.key = space, key
        height, width = key.input_hw
        prefix = f"bench_{space.name}_{key.runtime}_{key.threads}t_{height}x{width}"
        path = tables / f"{prefix}.json"
        self.table = profile_space(space, key, path, amount, progress)
        self.predictor = Predictor(self.table, digest(path))
        # Drawn as random search draws, and so hardly ever one of the table. The same seed draws the
        # same architectures first.
        self.held_out = [
            profile_space(
                space,
                key,
                tables / f"{prefix}_heldout{turn}.json",
                Profile(number, 0, seed=HELD_OUT_SEED, evenly=0.0, max_spread=amount.max_spread),
                progress,
            )
            for turn, number in ((1, num_held_out), (2, num_held_out // MEASURED_AGAIN))
        ]

    def prediction(self) -> tuple[float, float, list[str]]:
        """Mean absolute error, Kendall's tau, and the lines of the report."""
        known = {timing.arch for timing in self.table.archs}
        first, second = self.held_out
        numbers = [i for i, timing in enumerate(first.archs) if timing.arch not in known]
        archs = [first.archs[i].arch for i in numbers]
        measured = self._steady(first)[numbers]
        again = self._steady(second)
        once = self._steady(first)[: len(again)]
        raw = np.array([first.archs[i].latency.median_ms for i in numbers])
        predicted = np.array([self.predictor(arch) for arch in archs])
        line = self._line_through_macs()
        by_macs = np.array([line(count_cost(arch).macs) for arch in archs])
        spread = np.median([first.archs[i].latency.spread for i in numbers])
        low, high = measured.min(), measured.max()
        rows = {
            "predicted": (predicted, measured),
            "a line through MACs": (by_macs, measured),
            f"{len(again)} of them measured again, minutes later": (again, once),
        }
        choice = self.predictor.choice
        tried = ", ".join(f"{name} {error:.1%}" for name, error in choice.errors.items())
        lines = [
            f"{len(archs)} held-out archs, {low:.1f} to {high:.1f} ms; spread of one measurement"
            f" {spread:.1%} (median). Table of {len(self.table.archs)} archs and"
            f" {len(self.table.blocks)} blocks; error by cross-validation in it: {tried}; chosen:"
            f" **{choice.method}**. {self._rate():,.0f} predictions a second, parts known.",
            "",
            "| | mean absolute error | Kendall tau |",
            "|---|---|---|",
            *(
                f"| {name} | {_error(*pair):.1%} | {kendall(*pair):.3f} |"
                for name, pair in rows.items()
            ),
            f"| predicted, drift of the machine not corrected | {_error(predicted, raw):.1%} |"
            f" {kendall(predicted, raw):.3f} |",
        ]
        return _error(predicted, measured), kendall(predicted, measured), lines

    def _steady(self, other: Table) -> np.ndarray:
        """Times of another table at the speed that the machine had for the first one."""
        scale = self.table.anchor_ms / other.anchor_ms
        return np.array([other.drift_corrected_ms(timing) * scale for timing in other.archs])

    def _line_through_macs(self) -> Callable[[int], float]:
        """The line a + b MACs that fits the table best by relative difference."""
        ms = np.array([self.table.drift_corrected_ms(timing) for timing in self.table.archs])
        macs = [count_cost(timing.arch).macs for timing in self.table.archs]
        matrix = np.stack([np.ones(len(ms)), np.array(macs, dtype=float)], axis=1)
        start, per_mac = np.linalg.lstsq(matrix / ms[:, None], np.ones(len(ms)), rcond=None)[0]
        return lambda macs: float(start + per_mac * macs)

    def _rate(self, number: int = 5000) -> float:
        rng = random.Random(2)
        archs = [self.space.sample(rng) for _ in range(200)]
        for arch in archs:
            self.predictor(arch)
        started = time.perf_counter()
        for i in range(number):
            self.predictor(archs[i % len(archs)])
        return number / (time.perf_counter() - started)


def _error(predicted: np.ndarray, measured: np.ndarray) -> float:
    return float(np.abs(predicted / measured - 1).mean())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:  # too noisy, mostly; the same command resumes
        sys.exit(f"bench_latency: {error}")
