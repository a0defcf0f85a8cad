"""What `layer_rates` and `subnet_rates` compute from what they measure, by hand."""

from __future__ import annotations

import pytest
from tool_fixture import tool
from torch import nn

from vipnas.models.counting import count_cost
from vipnas.space.image import SearchSpace

layer_kinds, layer_rates, subnet_rates = (
    tool(f"benchmarks.{name}") for name in ("layer_kinds", "layer_rates", "subnet_rates")
)


def test_layers_have_the_size_and_the_macs_of_their_place() -> None:
    found = {(one.row, one.column): one for one in layer_kinds.candidates((96, 64), in_a_row=2)}
    dense = found["3x3 dense", "64 at 12 x 8"]
    assert (dense.shape_CHW, dense.macs) == ((64, 12, 8), 2 * 64 * 64 * 9 * 96)
    block = found["expansion 3, 5x5 depthwise", "32 wide"]
    assert block.macs == 2 * 96 * (32 * 96 + 96 * 25 + 96 * 32)
    stem = found["stem 16 wide, 3x3", "to 32, 5x5 dense"]
    stage = 24 * 16 * (16 * 32 * 25 + 32 * 32)
    assert (stem.shape_CHW, stem.macs) == ((3, 96, 64), 48 * 32 * 27 * 16 + stage)
    head = found["deconvolution 32 wide, kernel 2, 2 groups", "64 channels"]
    assert head.macs == 96 * (64 * 64 + 64 * 16 * 4) + 4 * 96 * 32 * 17
    simcc = found["SimCC", "64 channels"]
    assert simcc.macs == 96 * (64 * 64 + 64 * 17) + 17 * 96 * (128 + 192)


def test_a_cell_has_microseconds_rate_and_part() -> None:
    found = [
        layer_kinds.Candidate("t", row, column, nn.Identity(), (1, 1, 1), 1_000_000)
        for row, column in (("a", "x"), ("b", "y"))
    ]
    rates = [layer_rates.Rate(one, 0.05, 0.4) for one in found]
    assert list(layer_rates.rows(rates))[2:] == ["| a | 50, 40, 40% |  |", "| b |  | 50, 40, 40% |"]


def test_subnets_are_drawn_by_their_macs(
    tiny_space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    low, high = 300_000, 600_000
    archs = subnet_rates.drawn(tiny_space, 5, low, high, seed=0)
    assert len(set(archs)) == 5
    assert all(low <= count_cost(arch).macs <= high for arch in archs)
    assert archs == subnet_rates.drawn(tiny_space, 5, low, high, seed=0)
    monkeypatch.setattr(subnet_rates, "DRAWS", 10)
    with pytest.raises(ValueError, match="tiny: expected 5 subnets of 0 to 1 MACs, got 0"):
        subnet_rates.drawn(tiny_space, 5, 0, 1, seed=0)


def test_rates_of_subnets_by_hand(tiny_space: SearchSpace) -> None:
    arch = tiny_space.min_arch()
    mmacs = count_cost(arch).macs / 1e6
    found = [subnet_rates.Measured(arch, ms) for ms in (mmacs / 10, mmacs / 30)]
    *_, line = subnet_rates.rows(["tiny"], [found], peak=100)
    assert line.startswith("| tiny | 2 | ")
    assert line.endswith(" | 20.0 | 20%, 40%, 60% |")
