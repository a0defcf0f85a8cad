"""The space made for milliseconds keeps to what its head says of it."""

from __future__ import annotations

import random

import pytest

from vipnas.arch.image import Arch
from vipnas.models.counting import count_cost
from vipnas.shipped import find_shipped
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space


@pytest.fixture(scope="module")
def lat_vipnas() -> SearchSpace:
    return read_space(find_shipped("search_spaces", "lat_vipnas"))


def channels_per_group(arch: Arch) -> list[int]:
    """Of every k x k convolution and deconvolution, by what it writes."""
    stages = [stage.middle_width // stage.groups for stage in arch.stages]
    return stages + [deconv.width // deconv.groups for deconv in arch.head]


def test_its_size_and_its_ends_are_as_written(lat_vipnas: SearchSpace) -> None:
    assert lat_vipnas.size == pytest.approx(1.1e8, rel=0.05)
    assert count_cost(lat_vipnas.min_arch()).macs == pytest.approx(74e6, rel=0.01)
    assert count_cost(lat_vipnas.max_arch()).macs == pytest.approx(2.6e9, rel=0.01)


def test_members_have_only_what_runtimes_run_well(lat_vipnas: SearchSpace) -> None:
    rng = random.Random(0)
    for _ in range(200):
        arch = lat_vipnas.sample(rng)
        assert all(count == 1 or count >= 16 for count in channels_per_group(arch))
        widths = [arch.stem.width, *(s.width for s in arch.stages), *(h.width for h in arch.head)]
        assert all(width % 16 == 0 for width in widths)
        assert not any(stage.attention for stage in arch.stages[:2])  # where images are large


def test_nothing_is_smaller_than_an_eighth(lat_vipnas: SearchSpace) -> None:
    arch = lat_vipnas.max_arch()
    assert arch.total_stride == 8
    assert arch.heatmap_hw == (64, 48)
