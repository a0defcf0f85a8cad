"""What `layer_rates` and `subnet_rates` compute from what they measure, by hand."""

from __future__ import annotations

from typing import Any

import pytest
from tool_fixture import tool
from torch import nn

from vipnas.models.counting import count_cost
from vipnas.space.image import SearchSpace

layer_kinds, layer_rates, subnet_rates = (
    tool(f"benchmarks.{name}") for name in ("layer_kinds", "layer_rates", "subnet_rates")
)


def candidate(table: str, row: str, column: str) -> Any:
    """The first such one, at 96 x 64, two in a row."""
    found = layer_kinds.TABLES[table]((96, 64), 2)
    return next(one for one in found if (one.row, one.column) == (row, column))


def test_layers_have_the_size_and_the_macs_of_their_place() -> None:
    dense = candidate(layer_kinds.CONVOLUTIONS, "3x3 dense", "32 at 24 x 16")
    assert (dense.shape_CHW, dense.macs) == ((32, 24, 16), 2 * 32 * 32 * 9 * 24 * 16)
    block = candidate(layer_kinds.BLOCKS, "expansion 2, 3x3 32 per group", "32 wide")
    assert block.macs == 2 * 96 * (32 * 64 + 64 * 32 * 9 + 64 * 32)
    stem = candidate(layer_kinds.FIRST, "stem 16 wide, 3x3", "to 32, 5x5 dense")
    stage = 24 * 16 * (16 * 32 * 25 + 32 * 32)
    assert (stem.shape_CHW, stem.macs) == ((3, 96, 64), 48 * 32 * 27 * 16 + stage)
    head = candidate(layer_kinds.HEADS, "deconvolution 16 wide, kernel 2, 2 groups", "64 channels")
    assert head.macs == 96 * (64 * 64 + 64 * 8 * 4) + 4 * 96 * 16 * 17
    simcc = candidate(layer_kinds.HEADS, "SimCC", "64 channels")
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
    some = subnet_rates.drawn(tiny_space, 3, 0, 10**9, seed=0)
    low, middle, high = sorted(count_cost(arch).macs for arch in some)
    assert low < middle < high
    found = subnet_rates.drawn(tiny_space, 1, middle, middle, seed=0)
    assert [count_cost(arch).macs for arch in found] == [middle] and found[0] in some
    monkeypatch.setattr(subnet_rates, "DRAWS", 3)
    with pytest.raises(ValueError, match="tiny: expected 2 subnets of .* MACs, got 1 in 3 draws"):
        subnet_rates.drawn(tiny_space, 2, middle, middle, seed=0)


def test_rates_of_subnets_by_hand(tiny_space: SearchSpace) -> None:
    arch = tiny_space.min_arch()
    mmacs = count_cost(arch).macs / 1e6
    found = [subnet_rates.Measured(arch, ms) for ms in (mmacs / 10, mmacs / 30)]
    *_, line = subnet_rates.rows(["tiny"], [found], peak=100)
    assert line.startswith("| tiny | 2 | ")
    assert line.endswith(" | 20.0 | 20%, 40%, 60% |")
