"""Predicted latency of archs that were never measured, from a table of those that were.

`blocks` sums layers that were timed alone, corrected on whole networks; `regression` learns from
whole networks only; `blocks and regression` learns what the sums leave over; `operations` learns
milliseconds of single operations from both at once, and then what their sums leave over. Which one
a table uses is decided by cross-validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from vipnas.arch.image import Arch
from vipnas.config.search import LatencyConfig
from vipnas.files import digest
from vipnas.latency.interleaved import Latency
from vipnas.latency.measure import Key, key_of_this_machine, measure_arch
from vipnas.latency.model import (
    LEAST_MS,
    ByAmounts,
    ByOperations,
    Corrected,
    Interpolated,
    LayerModel,
    Observation,
    Smooth,
    layers_of,
    predicted_ms,
)
from vipnas.latency.table import Choice, Table, Timing, check_table, read_table
from vipnas.models.posenet import Segment, segments
from vipnas.quantities import Cost
from vipnas.search.constraints import CostOf
from vipnas.space.image import SearchSpace

FOLDS = 5
# How much slower or faster than usual, relative, the machine may be while what counts is measured.
MAX_SLOWER = 0.25
METHODS = ("blocks", "regression", "blocks and regression", "operations")


AnyTiming = TypeVar("AnyTiming", bound=Timing)


class Measurements(NamedTuple):
    """What a table predicts from, at the machine's median speed."""

    networks: list[Observation]
    blocks: list[Observation]


@dataclass(frozen=True)
class Comparison:
    """A prediction beside the truth, which is None where `why_not` says why."""

    predicted_ms: float
    measured: Latency | None = None
    why_not: str | None = None

    def __str__(self) -> str:
        known = f"predicted {self.predicted_ms:.2f} ms"
        if self.measured is None:
            return f"{known}, not measured: {self.why_not}"
        return (
            f"{known}, measured {self.measured},"
            f" {self.predicted_ms / self.measured.median_ms - 1:+.1%}"
        )


class Predictor:
    """Milliseconds of any arch of the table's space: `predictor(arch)`. `fingerprint` changes with
    the table."""

    def __init__(self, table: Table, fingerprint: str) -> None:
        if table.choice is None:
            raise ValueError(
                f"found {len(table.archs)} of {table.num_archs} archs and {len(table.blocks)} of"
                f" {table.num_blocks} blocks: not complete; the same `vipnas profile` goes on"
            )
        self.key = table.key
        self.choice = table.choice
        self.fingerprint = fingerprint
        networks, blocks = measurements(table)
        self._model = fit(self.choice.method, networks, blocks)
        self._known: dict[Segment, float] = {}

    def __call__(self, arch: Arch) -> float:
        total = 0.0
        for segment in segments(arch):
            ms = self._known.get(segment)
            if ms is None:
                layers = (layer._replace(name="") for layer in segment.layers())
                ms = self._known[segment] = predicted_ms(self._model, layers)
            total += ms
        # Whatever a fit says of a network far outside of all that was measured.
        return max(LEAST_MS, total)

    def __str__(self) -> str:
        errors = ", ".join(f"{name} {error:.1%}" for name, error in self.choice.errors.items())
        return f"{self.key}; by {self.choice.method} (error on archs not fitted to: {errors})"

    def compare(self, arch: Arch) -> Comparison:
        """What is predicted, and what is measured now or why it is not."""
        predicted_ms = self(arch)
        try:
            return Comparison(predicted_ms, self._measure(arch))
        except ValueError as error:
            return Comparison(predicted_ms, why_not=str(error))

    def _measure(self, arch: Arch) -> Latency:
        key = key_like(self.key)
        for field in fields(Key):
            here, there = getattr(key, field.name), getattr(self.key, field.name)
            if here != there:
                raise ValueError(f"{field.name} here is {here!r}, there {there!r}")
        return measure_arch(arch, key)


def key_like(key: Key) -> Key:
    """The same settings on this machine."""
    return key_of_this_machine(
        key.runtime, key.input_hw, key.threads, key.batch, key.precision, key.accelerator
    )


def open_predictor(config: LatencyConfig, space: SearchSpace) -> Predictor:
    """The predictor of a finished table. Raises ValueError in one line where it is of anything else
    than what is asked for: device, runtime and version, threads, batch, precision, space, input
    size."""
    path = Path(config.table)
    table = read_table(path)
    check_table(path, table, _wanted(config, table.key, space), space, config.any_device)
    try:
        return Predictor(table, digest(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _wanted(config: LatencyConfig, key: Key, space: SearchSpace) -> Key:
    """The key that a table must have; the device and the version of this machine, unless any will
    do."""
    asked = replace(
        key,
        runtime=config.runtime,
        threads=config.threads,
        batch=config.batch,
        precision=config.precision,
        input_hw=space.input_hw,
    )
    return asked if config.any_device else key_like(asked)


def with_latency(count_cost: CostOf[Arch], predictor: Predictor) -> CostOf[Arch]:
    """Costs with milliseconds, to 4 digits after the point: equal on all machines."""

    def cost_of(arch: Arch) -> Cost:
        return count_cost(arch).with_values(latency_ms=round(predictor(arch), 4))

    return cost_of


def measurements(table: Table) -> Measurements:
    """Of batches in which the machine had its usual speed: what slows it down by a quarter slows
    some networks more than others, and the anchor cannot put that right."""
    return Measurements(
        [
            Observation(layers_of(timing.arch), table.drift_corrected_ms(timing))
            for timing in _undisturbed(table.archs)
        ],
        [
            Observation((table.layer_of(timing),), table.drift_corrected_ms(timing))
            for timing in _undisturbed(table.blocks)
        ],
    )


def _undisturbed(timings: Sequence[AnyTiming]) -> list[AnyTiming]:
    """Those whose anchor is near the middle one, which there always is."""
    anchors_ms = sorted(timing.anchor_ms for timing in timings)
    return [
        timing
        for timing in timings
        if abs(timing.anchor_ms / anchors_ms[len(anchors_ms) // 2] - 1) <= MAX_SLOWER
    ]


def fit(method: str, networks: Sequence[Observation], blocks: Sequence[Observation]) -> LayerModel:
    """One of METHODS; the regression does without blocks."""
    if method == "regression":
        return Smooth(ByAmounts(networks), networks)
    if method == "operations":
        return Smooth(ByOperations(blocks, networks), networks)
    summed = Corrected(Interpolated(ByAmounts(blocks), blocks), networks)
    return summed if method == "blocks" else Smooth(summed, networks)


def cross_validate(table: Table) -> Choice:
    """Each method fitted to four fifths of the networks and tried on the rest, five times over."""
    networks, blocks = measurements(table)
    methods = METHODS if blocks else ("regression",)
    errors: dict[str, list[float]] = {method: [] for method in methods}
    for fold in range(FOLDS):
        kept = [network for i, network in enumerate(networks) if i % FOLDS != fold]
        for method, found in errors.items():
            model = fit(method, kept, blocks)
            found += [
                abs(predicted_ms(model, network.layers) / network.ms - 1)
                for network in networks[fold::FOLDS]
            ]
    means = {method: float(np.mean(found)) for method, found in errors.items()}
    return Choice(min(means, key=lambda method: means[method]), means)
