"""Milliseconds of a layer, learnt from measurements of sums of layers.

A measured network is a sum of its layers, and a measured block a sum of one: both are observations
for the same two models, which can stand on top of each other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from vipnas.arch.image import Arch
from vipnas.latency.gaussian_process import Process
from vipnas.latency.operations import FAMILIES, Operation, describe
from vipnas.models.posenet import Layer, plan

# How far, relative, a layer may be from what the mean model says.
LAYER_SPREAD = 0.3
# Candidates for that of an operation: what it shares with those like it, and what is its own, since
# libraries have kernels for some shapes and not for others.
OPERATION_SPREADS = ((0.3, 0.0), (0.2, 0.2), (0.2, 0.3), (0.1, 0.3), (0.2, 0.5))
# A block does not run as it does among others: how much more a network says than a block.
NETWORK_TRUST = 3.0
# A layer costs something, so that a relative difference means something: in ms.
LEAST_MS = 1e-3
# How strongly a correction is held at none, relative to the measurements.
RIDGE = 1e-3

LayerModel = Callable[[Layer], float]


class Observation(NamedTuple):
    """Layers that were timed together, and the ms that they took."""

    layers: tuple[Layer, ...]
    ms: float


def layers_of(arch: Arch) -> tuple[Layer, ...]:
    """In the order they run, without their names: equal layers are equal wherever they stand."""
    return tuple(layer._replace(name="") for layer in plan(arch))


def predicted_ms(model: LayerModel, layers: Iterable[Layer]) -> float:
    return sum(model(layer) for layer in layers)


class ByAmounts:
    """A layer as its amounts (macs, elements, operations of each kind) times a rate for each.

    Rates are not negative, and those that fit the observations best by relative difference.
    """

    def __init__(self, observations: Sequence[Observation]) -> None:
        names, matrix = _sums(observations, lambda layer: describe(layer).amounts)
        ms = np.array([observation.ms for observation in observations])
        rates = non_negative_least_squares(matrix / ms[:, None], np.ones(len(ms)))
        self.rates: dict[str, float] = dict(zip(names, rates.tolist(), strict=True))

    def __call__(self, layer: Layer) -> float:
        amounts = describe(layer).amounts.items()
        return LEAST_MS + sum(self.rates.get(name, 0.0) * amount for name, amount in amounts)


class Interpolated:
    """Blocks that were timed alone, and what lies between them: another model times exp(g), where g
    is a smooth function of a layer's position: a Gaussian process."""

    def __init__(self, mean: LayerModel, blocks: Sequence[Observation]) -> None:
        self.mean = mean
        layers = [layer for block in blocks for layer in block.layers]
        pairs = zip(blocks, layers, strict=True)
        left_over = np.log([block.ms / mean(layer) for block, layer in pairs])
        self.middle = float(left_over.mean())
        self.process = _over_layers(layers, np.eye(len(layers)), left_over - self.middle)

    def __call__(self, layer: Layer) -> float:
        return self.mean(layer) * math.exp(self.middle + self.process(describe(layer).position))


class Smooth:
    """Another model times 1 + g, where g is a Gaussian process over layers, learnt from sums of
    layers: 1 + g and not exp(g), for then a sum of layers is a sum of values of g."""

    def __init__(self, mean: LayerModel, networks: Sequence[Observation]) -> None:
        self.mean = mean
        layers = list(dict.fromkeys(layer for network in networks for layer in network.layers))
        number = {layer: i for i, layer in enumerate(layers)}
        share = np.zeros((len(networks), len(layers)))
        for row, network in zip(share, networks, strict=True):
            for layer in network.layers:
                row[number[layer]] += mean(layer) / network.ms
        self.process = _over_layers(layers, share, 1.0 - share.sum(axis=1))

    def __call__(self, layer: Layer) -> float:
        return self.mean(layer) * (1.0 + self.process(describe(layer).position))


class ByOperations:
    """A layer as its operations: each its amounts times a rate for each (as in `ByAmounts`), times
    1 + g, where g is a Gaussian process over operations and a part of its own for each.

    Learnt from blocks and networks together. A layer that stands alone also hands its input over
    and starts; that is paid for separately, and no part of a network.
    """

    def __init__(self, blocks: Sequence[Observation], networks: Sequence[Observation]) -> None:
        observations = [*blocks, *networks]
        ms = np.array([observation.ms for observation in observations])
        alone = np.arange(len(ms)) < len(blocks)
        trust = np.where(alone, 1.0, NETWORK_TRUST)
        borders = [
            {"alone.count": 1.0, "alone.elements": float(_input_elements(block.layers[0]))}
            for block in blocks
        ]
        names, matrix = _sums(observations, lambda layer: describe(layer).amounts, borders)
        rates = non_negative_least_squares(matrix * (trust / ms)[:, None], trust)
        self.rates: dict[str, float] = dict(zip(names, rates.tolist(), strict=True))

        layers = [observation.layers for observation in observations]
        found = {operation for row in layers for layer in row for operation in _operations(layer)}
        operations = sorted(found)
        self._number = {operation: i for i, operation in enumerate(operations)}
        share = np.zeros((len(ms), len(operations)))
        for row, observation in zip(share, observations, strict=True):
            for layer in observation.layers:
                for operation in _operations(layer):
                    row[self._number[operation]] += self._mean(operation) / observation.ms
        borders_ms = np.zeros(len(ms))
        borders_ms[: len(blocks)] = [self._rated(border) for border in borders]
        self._process = Process(
            np.array([operation.position for operation in operations]),
            np.array([FAMILIES.index(operation.family) for operation in operations]),
            share,
            1.0 - share.sum(axis=1) - borders_ms / ms,
            1 / trust,
            OPERATION_SPREADS,
        )
        self._known: dict[Operation, float] = {}

    def __call__(self, layer: Layer) -> float:
        return LEAST_MS + sum(self._operation_ms(operation) for operation in _operations(layer))

    def _operation_ms(self, operation: Operation) -> float:
        if operation not in self._known:
            change = self._process(
                np.array(operation.position),
                FAMILIES.index(operation.family),
                self._number.get(operation),
            )
            self._known[operation] = self._mean(operation) * (1.0 + change)
        return self._known[operation]

    def _mean(self, operation: Operation) -> float:
        return self._rated(operation.amounts)

    def _rated(self, amounts: dict[str, float]) -> float:
        return sum(self.rates.get(name, 0.0) * amount for name, amount in amounts.items())


def _over_layers(layers: Sequence[Layer], weights: np.ndarray, sums: np.ndarray) -> Process:
    points = np.array([describe(layer).position for layer in layers])
    labels, noise = np.zeros(len(layers), dtype=int), np.ones(len(sums))
    return Process(points, labels, weights, sums, noise, ((LAYER_SPREAD, 0.0),))


def _operations(layer: Layer) -> tuple[Operation, ...]:
    return describe(layer).operations


def _input_elements(layer: Layer) -> int:
    return layer.in_channels * layer.in_hw[0] * layer.in_hw[1]


class Corrected:
    """Layers timed alone, as they are inside a network.

    There no border stands around each: what it costs to hand an input over, to change its layout
    and to start is paid once, and operations fuse across layers. So each kind of layer gets a
    factor and an amount per layer, and its input an amount per element, fitted to whole networks.
    """

    def __init__(self, alone: LayerModel, networks: Sequence[Observation]) -> None:
        self.alone = alone
        names, matrix = _sums(networks, self._terms)
        ms = np.array([network.ms for network in networks])
        sums = np.array([predicted_ms(alone, network.layers) for network in networks])
        matrix /= ms[:, None]
        gram = matrix.T @ matrix
        gram[np.diag_indices_from(gram)] *= 1 + RIDGE
        changes = np.linalg.solve(gram, matrix.T @ (1 - sums / ms))
        self.changes: dict[str, float] = dict(zip(names, changes.tolist(), strict=True))

    def __call__(self, layer: Layer) -> float:
        terms = self._terms(layer).items()
        return self.alone(layer) + sum(self.changes.get(name, 0.0) * x for name, x in terms)

    def _terms(self, layer: Layer) -> dict[str, float]:
        kind = layer.kind.__name__
        return {
            f"{kind} ms": self.alone(layer),
            f"{kind} layers": 1.0,
            "elements handed over": float(_input_elements(layer)),
        }


def _sums(
    observations: Sequence[Observation],
    terms: Callable[[Layer], dict[str, float]],
    more: Sequence[dict[str, float]] = (),
) -> tuple[list[str], np.ndarray]:
    """The names of all terms that are anywhere more than 0, and for each observation their sums
    over its layers; `more` are terms of the first observations themselves."""
    rows = []
    for number, observation in enumerate(observations):
        row: Counter[str] = Counter(more[number] if number < len(more) else {})
        for layer in observation.layers:
            row.update(terms(layer))
        rows.append(row)
    names = sorted({name for row in rows for name, amount in row.items() if amount})
    return names, np.array([[row[name] for name in names] for row in rows], dtype=float)


def non_negative_least_squares(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """argmin |matrix x - target| over x >= 0, by Lawson and Hanson's active sets."""
    lengths = np.linalg.norm(matrix, axis=0)
    columns = matrix / lengths
    gram = columns.T @ columns
    gram[np.diag_indices_from(gram)] += 1e-9  # columns may be copies of each other
    aim = columns.T @ target
    x, free = np.zeros(len(aim)), np.zeros(len(aim), dtype=bool)
    for _ in range(10 * len(aim)):
        gradient = np.where(free, -np.inf, aim - gram @ x)
        if gradient.max() <= 1e-9:
            break
        free[gradient.argmax()] = True
        best = _solve_free(gram, aim, free)
        while (best[free] <= 0).any():
            falling = free & (best <= 0)
            x += (x[falling] / (x[falling] - best[falling])).min() * (best - x)
            free &= x > 1e-12
            x[~free] = 0.0
            best = _solve_free(gram, aim, free)
        x = best
    solution: np.ndarray = x / lengths
    return solution


def _solve_free(gram: np.ndarray, aim: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Least squares in the free coordinates, 0 in the others."""
    x = np.zeros(len(aim))
    x[free] = np.linalg.solve(gram[np.ix_(free, free)], aim[free])
    return x
