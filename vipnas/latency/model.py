"""Models of the milliseconds of a layer, learnt from measured sums of layers.

A measured network is a sum of its layers, and a measured block a sum of one. Both are observations
for the same models, which can be stacked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from vipnas.arch.image import Arch
from vipnas.latency.gaussian_process import GaussianProcess
from vipnas.latency.operations import FAMILIES, Operation, describe
from vipnas.models.posenet import Layer, plan

# The relative standard deviation of a layer from the mean model.
LAYER_SPREAD = 0.3
# Candidates for that of an operation: of the part shared with similar ones, and of its own part.
# Libraries have kernels for some shapes and not for others.
OPERATION_SPREADS = ((0.3, 0.0), (0.2, 0.2), (0.2, 0.3), (0.1, 0.3), (0.2, 0.5))
# The weight of a network relative to a block, which does not run as it does inside a network.
NETWORK_TRUST = 3.0
# The least milliseconds of a layer, so that relative differences stay finite.
LEAST_MS = 1e-3
# How strongly rates are held at none, relative to the measurements: of equal ones, all get a part.
COPIES_APART = 1e-9
# How strongly a correction is held at none, relative to the measurements.
RIDGE = 1e-3

LayerModel = Callable[[Layer], float]


class Observation(NamedTuple):
    """Layers that were timed together, and their milliseconds."""

    layers: tuple[Layer, ...]
    ms: float


def layers_of(arch: Arch) -> tuple[Layer, ...]:
    """Return the layers in the order they run, without names, so that equal ones compare equal."""
    return tuple(layer._replace(name="") for layer in plan(arch))


def predicted_ms(model: LayerModel, layers: Iterable[Layer]) -> float:
    """Return the predicted milliseconds of layers that run one after the other."""
    return sum(model(layer) for layer in layers)


class ByAmounts:
    """Linear in a layer's amounts: MACs, elements and operations of each kind.

    Rates are non-negative and minimise the squared relative error.
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
    """Another model times exp(g), where g is a Gaussian process over layers, learnt from blocks."""

    def __init__(self, mean: LayerModel, blocks: Sequence[Observation]) -> None:
        self.mean = mean
        layers = [layer for block in blocks for layer in block.layers]
        pairs = zip(blocks, layers, strict=True)
        residuals = np.log([block.ms / mean(layer) for block, layer in pairs])
        self.mean_residual = float(residuals.mean())
        self.process = _over_layers(layers, np.eye(len(layers)), residuals - self.mean_residual)

    def __call__(self, layer: Layer) -> float:
        return self.mean(layer) * math.exp(
            self.mean_residual + self.process(describe(layer).position)
        )


class Smooth:
    """Another model times 1 + g, where g is a Gaussian process over layers, learnt from networks.

    1 + g and not exp(g), because a sum of layers is then linear in g.
    """

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
    """The sum over a layer's operations: linear in amounts, as `ByAmounts`, times 1 + g.

    g is a Gaussian process over operations with an independent part for each. It is learnt from
    blocks and networks together. The overhead of a block, its start and its input, has rates of its
    own and is no part of a network.
    """

    def __init__(self, blocks: Sequence[Observation], networks: Sequence[Observation]) -> None:
        observations = [*blocks, *networks]
        ms = np.array([observation.ms for observation in observations])
        alone = np.arange(len(ms)) < len(blocks)
        trust = np.where(alone, 1.0, NETWORK_TRUST)
        overheads = [
            {"alone.count": 1.0, "alone.elements": float(_input_elements(block.layers[0]))}
            for block in blocks
        ]
        names, matrix = _sums(observations, lambda layer: describe(layer).amounts, overheads)
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
        overheads_ms = np.zeros(len(ms))
        overheads_ms[: len(blocks)] = [self._rated(overhead) for overhead in overheads]
        self._process = GaussianProcess(
            np.array([operation.position for operation in operations]),
            np.array([FAMILIES.index(operation.family) for operation in operations]),
            share,
            1.0 - share.sum(axis=1) - overheads_ms / ms,
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


def _over_layers(layers: Sequence[Layer], weights: np.ndarray, sums: np.ndarray) -> GaussianProcess:
    points = np.array([describe(layer).position for layer in layers])
    labels, noise = np.zeros(len(layers), dtype=int), np.ones(len(sums))
    return GaussianProcess(points, labels, weights, sums, noise, ((LAYER_SPREAD, 0.0),))


def _operations(layer: Layer) -> tuple[Operation, ...]:
    return describe(layer).operations


def _input_elements(layer: Layer) -> int:
    return layer.in_channels * layer.in_hw[0] * layer.in_hw[1]


class Corrected:
    """A model of blocks, corrected for layers inside a network.

    Inside a network, starting and passing the input costs less, and operations fuse across layers.
    So each kind of layer gets a factor and a constant, and its input a constant per element, fitted
    to whole networks.
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
    """Return the names of all terms that are not always 0, and their sums for each observation.

    `more` are additional terms of the first observations.
    """
    rows = []
    for number, observation in enumerate(observations):
        row: Counter[str] = Counter(more[number] if number < len(more) else {})
        for layer in observation.layers:
            row.update(terms(layer))
        rows.append(row)
    names = sorted({name for row in rows for name, amount in row.items() if amount})
    return names, np.array([[row[name] for name in names] for row in rows], dtype=float)


def non_negative_least_squares(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the x >= 0 with the least |matrix x - target|.

    Columns are scaled to one length, as amounts differ by powers of ten, and held apart where one
    is a copy of another.
    """
    lengths = np.linalg.norm(matrix, axis=0)
    columns = np.vstack((matrix / lengths, np.sqrt(COPIES_APART) * np.eye(len(lengths))))
    solution: np.ndarray = nnls(columns, np.append(target, np.zeros(len(lengths))))[0] / lengths
    return solution
