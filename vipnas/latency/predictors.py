"""Predict the latency of architectures from a table of measurements.

There are four methods, and cross-validation chooses the one of a table:

- `blocks` sums layers that were timed alone, with a correction learnt on whole networks.
- `regression` learns from whole networks only.
- `blocks and regression` learns the residuals of the first by the second.
- `operations` learns milliseconds of single operations from both, and then the residuals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple, TypeVar, get_args

import numpy as np

from vipnas.arch.image import Arch
from vipnas.config.search import LatencyConfig
from vipnas.errors import UserError
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
from vipnas.latency.table import Choice, Method, Table, Timing, check_table, read_table
from vipnas.models.posenet import Segment, segments
from vipnas.quantities import Cost
from vipnas.search.constraints import CostOf
from vipnas.space.image import SearchSpace

FOLDS = 5
# Measurements are ignored if the machine was slower or faster than usual by more than this.
MAX_SPEED_CHANGE = 0.25
METHODS: tuple[Method, ...] = get_args(Method)


AnyTiming = TypeVar("AnyTiming", bound=Timing)


class Measurements(NamedTuple):
    """The drift-corrected observations that a table predicts from."""

    networks: list[Observation]
    blocks: list[Observation]


@dataclass(frozen=True)
class Comparison:
    """A predicted and a measured latency.

    Attributes:
        predicted_ms: The prediction.
        measured: The measurement; None where there is none.
        why_not: Why there is no measurement.
    """

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
    """Predicts the milliseconds of any architecture of the table's space.

    Args:
        table: A complete table.
        fingerprint: Changes with the table's content.

    Raises:
        UserError: If the table is incomplete.
    """

    def __init__(self, table: Table, fingerprint: str) -> None:
        if table.choice is None:
            found = (
                f"{len(table.archs)} of {table.num_archs} architectures and"
                f" {len(table.blocks)} of {table.num_blocks} blocks"
            )
            raise UserError("", "a complete table", found, "the same `vipnas profile` resumes")
        self.key = table.key
        self.choice = table.choice
        self.fingerprint = fingerprint
        networks, blocks = measurements(table)
        self._model = fit(self.choice.method, networks, blocks)
        self._known: dict[Segment, float] = {}

    def __call__(self, arch: Arch) -> float:
        # A fit may extrapolate below zero.
        return max(LEAST_MS, sum(self.segment_ms(arch).values()))

    def segment_ms(self, arch: Arch) -> dict[str, float]:
        """Return the predicted milliseconds of each segment of a network, by its name."""
        return {segment.name: self._segment_ms(segment) for segment in segments(arch)}

    def _segment_ms(self, segment: Segment) -> float:
        ms = self._known.get(segment)
        if ms is None:
            layers = (layer._replace(name="") for layer in segment.layers())
            ms = self._known[segment] = predicted_ms(self._model, layers)
        return ms

    def __str__(self) -> str:
        errors = ", ".join(f"{name} {error:.1%}" for name, error in self.choice.errors.items())
        return f"{self.key}; by {self.choice.method} (cross-validation error: {errors})"

    def compare(self, arch: Arch) -> Comparison:
        """Measure an architecture as it is shipped, next to its prediction."""
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
                raise UserError(field.name, repr(there), repr(here))
        return measure_arch(arch, replace(key, input_hw=arch.input_hw))


def key_like(key: Key) -> Key:
    """Return the key with the same settings on this machine."""
    return key_of_this_machine(
        key.runtime, key.input_hw, key.threads, key.batch, key.precision, key.accelerator
    )


def open_predictor(config: LatencyConfig, space: SearchSpace) -> Predictor:
    """Open the predictor of a complete table.

    Raises:
        UserError: If the table is of another device, runtime, version, threads, batch, precision,
            space or input size than the one wanted.
    """
    path = Path(config.table)
    table = read_table(path)
    check_table(path, table, _wanted(config, table.key, space), space, config.any_device)
    try:
        return Predictor(table, digest(path))
    except UserError as error:
        raise error.inside(str(path)) from None
    except ValueError as error:  # such as numpy's, for a singular matrix
        raise UserError(str(path), "measurements to fit", str(error)) from None


def _wanted(config: LatencyConfig, key: Key, space: SearchSpace) -> Key:
    """Return the key that a table must have; with `any_device`, of the table's own device."""
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
    """Return a cost function with milliseconds, rounded to 4 decimals to be equal everywhere."""

    def cost_of(arch: Arch) -> Cost:
        return count_cost(arch).with_values(latency_ms=round(predictor(arch), 4))

    return cost_of


def measurements(table: Table) -> Measurements:
    """Return the observations of a table that were made at the machine's usual speed.

    A large slowdown affects some networks more than others, which the anchor cannot correct.
    """
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
    """Return those whose anchor is near its median."""
    anchors_ms = sorted(timing.anchor_ms for timing in timings)
    return [
        timing
        for timing in timings
        if abs(timing.anchor_ms / anchors_ms[len(anchors_ms) // 2] - 1) <= MAX_SPEED_CHANGE
    ]


def fit(
    method: Method, networks: Sequence[Observation], blocks: Sequence[Observation]
) -> LayerModel:
    """Return the model of a method, fitted; the regression does without blocks."""
    if method == "regression":
        return Smooth(ByAmounts(networks), networks)
    if method == "operations":
        return Smooth(ByOperations(blocks, networks), networks)
    summed = Corrected(Interpolated(ByAmounts(blocks), blocks), networks)
    return summed if method == "blocks" else Smooth(summed, networks)


def cross_validate(table: Table) -> Choice:
    """Return the method with the smallest error under five-fold cross-validation over networks."""
    networks, blocks = measurements(table)
    methods: tuple[Method, ...] = METHODS if blocks else ("regression",)
    errors: dict[Method, list[float]] = {method: [] for method in methods}
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
