"""The released networks cost what they cost, to the unit, and are members of the shipped spaces."""

from __future__ import annotations

import pytest

from vipnas.arch.io import read_arch
from vipnas.models.counting import count_cost
from vipnas.quantities import Cost
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space

GOLDEN = {
    "s_vipnas_res50": Cost(macs=1_464_409_440, params=7_286_772),
    "s_vipnas_mbv3": Cost(macs=734_151_936, params=5_895_725),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_released_network_costs_exactly_this(name: str) -> None:
    arch = read_arch(find_shipped("search_spaces", f"published/{name}"))
    assert (arch.input_hw, arch.num_keypoints) == ((256, 192), 17)
    assert count_cost(arch) == GOLDEN[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_released_network_is_a_member_of_its_space_only(name: str) -> None:
    arch = read_arch(find_shipped("search_spaces", f"published/{name}"))
    spaces = [read_space(find_shipped("search_spaces", known)) for known in GOLDEN]
    assert [space.name for space in spaces if arch in space] == [name]
