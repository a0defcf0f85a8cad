"""The spaces made for milliseconds keep to what their heads say of them."""

from __future__ import annotations

import random

import pytest

from vipnas.arch.image import Arch
from vipnas.models.counting import count_cost
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space


@pytest.fixture(scope="module", params=["lat_vipnas", "lat_vipnas_2"])
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return read_space(find_shipped("search_spaces", request.param))


def channels_per_group(arch: Arch) -> list[int]:
    """Of every k x k convolution and deconvolution, by what it writes."""
    stages = [stage.middle_width // stage.groups for stage in arch.stages]
    return stages + [deconv.width // deconv.groups for deconv in arch.head]


@pytest.mark.parametrize(
    ("name", "size", "smallest", "largest"),
    [("lat_vipnas", 1.1e8, 74e6, 2.6e9), ("lat_vipnas_2", 1.2e7, 6.4e6, 832e6)],
)
def test_its_size_and_its_ends_are_as_written(
    name: str, size: float, smallest: float, largest: float
) -> None:
    found = read_space(find_shipped("search_spaces", name))
    assert found.size == pytest.approx(size, rel=0.05)
    assert count_cost(found.min_arch()).macs == pytest.approx(smallest, rel=0.01)
    assert count_cost(found.max_arch()).macs == pytest.approx(largest, rel=0.01)


def test_members_have_only_what_runtimes_run_well(space: SearchSpace) -> None:
    rng = random.Random(0)
    for _ in range(200):
        arch = space.sample(rng)
        assert all(count == 1 or count >= 16 for count in channels_per_group(arch))
        widths = [arch.stem.width, *(s.width for s in arch.stages), *(h.width for h in arch.head)]
        assert all(width % 16 == 0 for width in widths)
        assert not any(stage.attention for stage in arch.stages[:2])  # where images are large


def test_nothing_is_smaller_than_an_eighth(space: SearchSpace) -> None:
    arch = space.max_arch()
    assert arch.total_stride == 8
    assert arch.heatmap_hw == tuple(side // 4 for side in arch.input_hw)


def test_the_second_edition_takes_sizes_of_both_shapes() -> None:
    second = read_space(find_shipped("search_spaces", "lat_vipnas_2"))
    assert all(height == width for height, width in second.inputs_hw)
    upright = second.with_facts(input_hw=((128, 96), (192, 144), (256, 192)))
    assert upright.size == second.size * 3 / 4
