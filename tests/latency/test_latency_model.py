"""What is learnt of a device that the test makes up, where every layer's truth is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from spaces_fixture import INVERTED_YAML, space_from

from vipnas.arch.image import Arch, DeconvArch, StageArch, StemArch
from vipnas.latency.model import (
    ByAmounts,
    ByOperations,
    Corrected,
    Interpolated,
    LayerModel,
    Observation,
    Smooth,
    layers_of,
    non_negative_least_squares,
    predicted_ms,
)
from vipnas.latency.operations import describe
from vipnas.models.blocks import Deconv, InvertedResidualBlock, ResidualBlock, Stem
from vipnas.models.counting import count_cost
from vipnas.models.posenet import Layer
from vipnas.space.image import SearchSpace

STAGE = StageArch(16, 1, 3, 4, False, 1, 1, "relu")


def amounts(layer: Layer) -> dict[str, float]:
    return describe(layer).amounts


def device_ms(layer: Layer) -> float:
    """A device whose grouped convolutions are slow where channels are few, which no sum of amounts
    says."""
    total = 0.02
    for name, amount in amounts(layer).items():
        if name.endswith(".macs"):
            total += amount / 2e7 * (1 + 0.3 * math.sin(math.log1p(amount) / 2))
        if name.endswith(".elements"):
            total += amount / 4e6
    return total


def alone_ms(layer: Layer) -> float:
    """As a network of its own a layer is slower, and costs a start on top."""
    return 1.2 * device_ms(layer) + 0.05


def observed(archs: list[Arch], ms_of: Callable[[Layer], float]) -> list[Observation]:
    return [Observation(layers_of(a), predicted_ms(ms_of, layers_of(a))) for a in archs]


def error(model: LayerModel, truth: list[Observation]) -> float:
    return float(np.mean([abs(predicted_ms(model, x.layers) / x.ms - 1) for x in truth]))


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    return space_from(INVERTED_YAML, tmp_path_factory.mktemp("spaces"), "inverted")


@pytest.fixture(scope="module")
def archs(inverted: SearchSpace) -> list[Arch]:
    rng = random.Random(0)
    return [inverted.sample(rng) for _ in range(50)]


@pytest.fixture(scope="module")
def blocks(archs: list[Arch]) -> list[Observation]:
    layers = sorted({x for a in archs[:30] for x in layers_of(a)}, key=str)[::2]
    return [Observation((x,), alone_ms(x)) for x in layers]


def test_a_grouped_convolution_is_described_by_hand() -> None:
    found = amounts(Layer("", ResidualBlock, STAGE, 8, (4, 4), True))
    # 1x1 of 8 -> 16, 1x1 of 16 -> 16, projection 8 -> 16; at 16 positions.
    assert found["pointwise.macs"] == (8 * 16 + 16 * 16 + 8 * 16) * 16
    assert found["pointwise.count"] == 3
    # 3x3 in 4 groups of 4 channels: each output sees 4 x 9 weights.
    assert found["spatial 4 per group.macs"] == 16 * 4 * 9 * 16
    assert found["spatial 4 per group.elements"] == 16 * 16 + 16 * 4 * 9 + 16 * 16
    assert not any(name.startswith("depthwise") for name in found)


def test_depthwise_kernels_and_deconvolutions_are_kinds_of_their_own() -> None:
    stage = StageArch(16, 1, 5, 48, False, 3, 1, "relu")
    found = amounts(Layer("", InvertedResidualBlock, stage, 16, (4, 4), True))
    assert found["depthwise 5x5.macs"] == 48 * 25 * 16
    found = amounts(Layer("", Deconv, DeconvArch(8, 4, 2), 16, (4, 4)))
    assert found["deconv 4 per group.macs"] == 16 * 4 * 16 * 16


@pytest.mark.parametrize(("channels", "kind"), [(8, "depthwise"), (16, "1 per group")])
def test_a_deconvolution_of_two_channels_to_one_is_not_depthwise(channels: int, kind: str) -> None:
    deconv = Layer("", Deconv, DeconvArch(width=8, kernel_size=4, groups=8), channels, (8, 8))
    kinds = [one.kind for one in describe(deconv).operations if one.family == "deconv"]
    assert kinds == [f"deconv {kind}"]


def test_batch_norm_is_no_operation_because_it_folds() -> None:
    found = amounts(Layer("", Stem, StemArch(8, 3, "relu", False), 3, (8, 8)))
    # The convolution is `spatial`; the only other operation is the activation, in and out.
    assert found["other.count"] == 1
    assert found["other.elements"] == 2 * 8 * 16


def test_all_macs_of_a_network_are_in_its_description(inverted: SearchSpace) -> None:
    arch = inverted.max_arch()
    total = sum(
        amount
        for layer in layers_of(arch)
        for name, amount in amounts(layer).items()
        if name.endswith(".macs")
    )
    assert total == count_cost(arch).macs


def test_rates_are_the_best_that_are_not_negative() -> None:
    """By the conditions of an optimum: no rate that is free has a slope, none at 0 has a fall."""
    rng = np.random.default_rng(0)
    lengths = 10.0 ** np.arange(-4, 4)  # as amounts are: seconds beside millions of elements
    for _ in range(5):
        matrix, target = rng.standard_normal((30, 8)), rng.standard_normal(30)
        rates = non_negative_least_squares(matrix * lengths, target) * lengths
        slope = matrix.T @ (matrix @ rates - target)
        assert (rates >= 0).all() and (rates == 0).any()
        np.testing.assert_allclose(slope[rates > 0], 0, atol=1e-6)
        assert (slope[rates == 0] > 0).all()


def test_amounts_that_are_copies_share_the_rate() -> None:
    column, target = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])
    rates = non_negative_least_squares(np.stack((column, column), axis=1), target)
    np.testing.assert_allclose(rates, [1.0, 1.0], rtol=1e-6)


def test_amounts_alone_are_enough_where_the_device_is_that_simple(archs: list[Arch]) -> None:
    def simple(layer: Layer) -> float:
        return sum(
            x / (1e6 if name.endswith("macs") else 1e5) for name, x in amounts(layer).items()
        )

    model = ByAmounts(observed(archs[:40], simple))
    assert error(model, observed(archs[40:], simple)) < 0.005


def test_what_amounts_do_not_say_is_learnt_from_networks(archs: list[Arch]) -> None:
    seen, unseen = observed(archs[:40], device_ms), observed(archs[40:], device_ms)
    by_amounts = ByAmounts(seen)
    assert error(Smooth(by_amounts, seen), unseen) < 0.5 * error(by_amounts, unseen)


def test_blocks_that_were_measured_are_given_back(blocks: list[Observation]) -> None:
    mean = ByAmounts(blocks)
    model = Interpolated(mean, blocks)
    assert error(model, blocks) < 0.3 * error(mean, blocks)
    assert error(model, blocks) < 0.02


def test_blocks_are_corrected_to_what_they_cost_inside_a_network(archs: list[Arch]) -> None:
    networks, unseen = observed(archs[:15], device_ms), observed(archs[40:], device_ms)
    assert error(alone_ms, unseen) > 0.2
    assert error(Corrected(alone_ms, networks), unseen) < 0.01


def some_kernels_are_slow(layer: Layer) -> float:
    """Libraries have no fast way for some shapes, and no rule says for which."""
    slow = sum(
        operation.macs / 2e6
        for operation in describe(layer).operations
        if operation.kernel_size > 1 and operation.macs % 5 == 0
    )
    return device_ms(layer) + slow


def test_kernels_that_are_slow_for_no_reason_are_learnt_from_blocks(
    archs: list[Arch], blocks: list[Observation]
) -> None:
    alone = [
        Observation(block.layers, 0.05 + some_kernels_are_slow(block.layers[0])) for block in blocks
    ]
    seen, unseen = (observed(part, some_kernels_are_slow) for part in (archs[:20], archs[40:]))
    by_operations = error(Smooth(ByOperations(alone, seen), seen), unseen)
    assert by_operations < 0.7 * error(Smooth(ByAmounts(seen), seen), unseen)
    # What stands around a block that is timed alone is no part of a network.
    without = ByOperations([block._replace(ms=block.ms - 0.05) for block in alone], seen)
    assert by_operations == pytest.approx(error(Smooth(without, seen), unseen), abs=0.02)


def test_a_layer_described_twice_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Layer("", Stem, StemArch(8, 3, "relu", False), 3, (8, 8))
    before = describe(layer)
    monkeypatch.setattr(torch, "empty", None)
    assert describe(layer) is before
