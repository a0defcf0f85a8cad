"""What networks of a space reach of the machine's peak, and the largest in the peak's time."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tools.benchmarks.gemm_reference import gemm_runs
from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch
from vipnas.latency.interleaved import Latency, interleaved
from vipnas.latency.measure import pinned, quick_run
from vipnas.latency.predictors import Predictor
from vipnas.latency.profile import retry_if_noisy
from vipnas.models.counting import count_cost
from vipnas.models.posenet import PoseNet
from vipnas.shipped import shipped_files
from vipnas.space.image import SearchSpace

PRODUCT_SIDE = 1024
PRODUCT_FLOPS = 2 * PRODUCT_SIDE**3
NUM_DRAWN = 6
CLIMBS, CLIMB_STEPS = 3, 1000
ROUNDS = 10


class NamedArch(NamedTuple):
    """An architecture, and what it is called in the table."""

    name: str
    arch: Arch


@dataclass(frozen=True)
class Peak:
    """Members of a space, some found by its predictor, beside a product of matrices."""

    space: SearchSpace
    predictor: Predictor
    max_spread: float
    rounds: int = ROUNDS
    climb_steps: int = CLIMB_STEPS

    def reached(self) -> list[str]:
        """Members taking turns with the matrix product: rates, and the largest at its time."""
        with pinned(self.predictor.key):
            by_library = gemm_runs(PRODUCT_SIDE, self.predictor.key.threads)
            yardsticks = list(by_library.values())
            product_ms = min(found.median_ms for found in self._measured(yardsticks))
            members = [*self._notable(), *self._largest_within(product_ms)]
            shape = (3, *self.predictor.key.input_hw)
            runs = [
                quick_run(PoseNet(member.arch), shape, self.predictor.key) for member in members
            ]
            measured = self._measured([*yardsticks, *runs])
        latencies = measured[len(yardsticks) :]
        rates = {
            name: PRODUCT_FLOPS / found.median_ms / 1e6
            for name, found in zip(by_library, measured, strict=False)
        }
        peak = max(rates.values())
        listed = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
        lines = [
            f"One {PRODUCT_SIDE}³ product: {PRODUCT_FLOPS / peak / 1e6:.2f} ms by the fastest"
            f" (GFLOP/s: {listed}), taking turns with:",
            "",
            "| member | MMACs | M parameters | predicted ms | measured ms | spread | of the peak |",
            "|---|---|---|---|---|---|---|",
        ]
        for member, latency in zip(members, latencies, strict=True):
            cost = count_cost(member.arch)
            rate = 2 * cost.macs * self.predictor.key.batch / latency.median_ms / 1e6
            lines.append(
                f"| {member.name} | {cost.macs / 1e6:.0f} | {cost.params / 1e6:.2f} |"
                f" {self.predictor(member.arch):.1f} | {latency.median_ms:.1f} |"
                f" {latency.spread:.1%} | {rate / peak:.0%} |"
            )
        return lines

    def _measured(self, runs: Sequence[Callable[[], None]]) -> list[Latency]:
        return retry_if_noisy(lambda: interleaved(runs, self.max_spread, self.rounds), progress)

    def _notable(self) -> Iterator[NamedArch]:
        yield NamedArch("smallest", self.space.min_arch())
        yield NamedArch("largest", self.space.max_arch())
        for name, path in shipped_files("search_spaces").items():
            if path.suffix == ".json" and (arch := read_arch(path)) in self.space:
                yield NamedArch(name, arch)

        def rate(arch: Arch) -> float:
            return count_cost(arch).macs / self.predictor(arch)

        rng = random.Random(0)
        drawn = [self.space.sample(rng) for _ in range(NUM_DRAWN)]
        for arch in sorted(drawn, key=rate):
            yield NamedArch("random", arch)
        yield NamedArch("best rate", self._climb(rate, rng))

    def _largest_within(self, budget_ms: float) -> Iterator[NamedArch]:
        rng = random.Random(1)
        for quantity in ("macs", "params"):

            def size_within(arch: Arch, quantity: str = quantity) -> float:
                over = self.predictor(arch) - budget_ms
                size: int = getattr(count_cost(arch), quantity)
                return -over if over > 0 else float(size)

            arch = self._climb(size_within, rng)
            met = self.predictor(arch) <= budget_ms
            name = f"most {quantity} in {budget_ms:.1f} ms" if met else "fastest; none is in budget"
            yield NamedArch(name, arch)

    def _climb(self, goal: Callable[[Arch], float], rng: random.Random) -> Arch:
        """The best of several climbs, each from a small member, by random changes that do not
        harm."""
        found = []
        for _ in range(CLIMBS):
            arch = self.space.min_arch()
            height = goal(arch)
            for _ in range(self.climb_steps):
                changed = self.space.mutate(arch, 0.05, rng)
                if (reached := goal(changed)) >= height:
                    arch, height = changed, reached
            found.append(arch)
        return max(found, key=goal)


def progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
