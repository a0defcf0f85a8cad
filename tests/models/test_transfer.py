"""Weights from another network: by hand, against `extract` and `insert`, by names of joints."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from errors_fixture import refused
from networks_fixture import randomise_batch_norm
from spaces_fixture import INVERTED_YAML, space_from
from torch import Tensor

from vipnas.models.posenet import PoseNet, extract, insert
from vipnas.models.transfer import _fill, transfer
from vipnas.space.image import SearchSpace

JOINTS = tuple(f"joint_{number}" for number in range(17))


@pytest.fixture(scope="module", params=["residual", "inverted"])
def space(
    request: pytest.FixtureRequest,
    tiny_space: SearchSpace,
    tmp_path_factory: pytest.TempPathFactory,
) -> SearchSpace:
    """A small space of each family."""
    if request.param == "residual":
        return tiny_space
    return space_from(INVERTED_YAML, tmp_path_factory.mktemp("spaces"), "inverted")


def trained(space: SearchSpace, seed: int = 0) -> PoseNet:
    torch.manual_seed(seed)
    network = PoseNet(space.max_arch()).eval()
    randomise_batch_norm(network, seed)
    return network


def assert_equal(one: PoseNet, other: PoseNet) -> None:
    state = other.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


def numbered(*shape: int) -> Tensor:
    return torch.arange(1.0, 1 + torch.Size(shape).numel()).view(shape)


def test_a_smaller_kernel_is_the_centre_and_a_larger_one_keeps_its_rim() -> None:
    large, small = numbered(1, 1, 3, 3), torch.zeros(1, 1, 1, 1)
    _fill(small, large)
    assert small.item() == 5
    _fill(large, torch.full((1, 1, 1, 1), -1.0))
    assert large.flatten().tolist() == [1, 2, 3, 4, -1, 6, 7, 8, 9]


def test_more_rows_and_fewer_columns_share_the_leading_ones() -> None:
    target = torch.zeros(3, 1, 1, 1)
    _fill(target, numbered(2, 2, 1, 1))  # rows [1, 2] and [3, 4]
    assert target.flatten().tolist() == [1, 3, 0]


def test_more_groups_are_the_block_diagonal_also_of_fewer_rows() -> None:
    dense = numbered(4, 4, 1, 1)  # rows 1..4, 5..8, 9..12, 13..16
    grouped = torch.zeros(4, 2, 1, 1)
    _fill(grouped, dense, groups=2)
    assert grouped.flatten(1).tolist() == [[1, 2], [5, 6], [11, 12], [15, 16]]
    wide = torch.zeros(6, 2, 1, 1)  # three groups, of which the source has two
    _fill(wide, dense, groups=3)
    assert wide.flatten(1).tolist() == [[1, 2], [5, 6], [11, 12], [15, 16], [0, 0], [0, 0]]
    back = torch.zeros(4, 4, 1, 1)
    _fill(back, grouped, source_groups=2)
    assert torch.equal(back != 0, torch.block_diag(*[torch.ones(2, 2)] * 2)[..., None, None] != 0)


def test_a_supernet_from_itself_is_bit_equal(space: SearchSpace) -> None:
    source, target = trained(space), PoseNet(space.max_arch())
    report = transfer(source, target, JOINTS, JOINTS)
    assert_equal(source, target)
    assert not (report.resized or report.missing or report.unused or report.missing_joints)
    assert set(report.taken) == source.state_dict().keys()


@pytest.mark.parametrize("seed", range(2))
def test_subnets_are_taken_as_extracted_and_put_back_as_inserted(
    space: SearchSpace, seed: int
) -> None:
    supernet, arch = trained(space), space.sample(random.Random(seed))
    network = PoseNet(arch)
    report = transfer(supernet, network, JOINTS, JOINTS)
    assert_equal(extract(supernet, arch), network)
    assert not report.missing
    torch.manual_seed(seed)
    expected, found = PoseNet(space.max_arch()), PoseNet(space.max_arch())
    found.load_state_dict(expected.state_dict())
    insert(network, expected)
    report = transfer(network, found, JOINTS, JOINTS)
    assert_equal(expected, found)
    names = {*report.taken, *report.resized, *report.missing}
    assert names == found.state_dict().keys() and not report.unused


@torch.no_grad()
def test_known_joints_have_equal_outputs_in_another_order(tiny_space: SearchSpace) -> None:
    source = trained(tiny_space)
    names = ("new_joint", *reversed(JOINTS[3:]))
    target = PoseNet(replace(tiny_space.max_arch(), num_keypoints=len(names))).eval()
    randomise_batch_norm(target, seed=1)
    before = target.get_submodule("layers.heatmaps.conv").state_dict()["weight"][0].clone()
    report = transfer(source, target, JOINTS, names)
    images = torch.randn(2, 3, *tiny_space.input_hw)
    assert torch.equal(target(images)[:, 1:], source(images).flip(1)[:, : len(names) - 1])
    after = target.get_submodule("layers.heatmaps.conv").state_dict()["weight"][0]
    assert torch.equal(before, after)
    assert report.missing_joints == ["new_joint"]
    assert report.unused_joints == list(JOINTS[:3])
    assert "new joints new_joint" in str(report)


def test_deeper_and_shallower_networks_name_what_is_left(tiny_space: SearchSpace) -> None:
    deep, shallow = (PoseNet(arch) for arch in (tiny_space.max_arch(), tiny_space.min_arch()))
    assert all("_block" in name for name in transfer(shallow, deep, JOINTS, JOINTS).missing)
    assert all("_block" in name for name in transfer(deep, shallow, JOINTS, JOINTS).unused)


def test_another_family_is_refused(tiny_space: SearchSpace, tmp_path: Path) -> None:
    inverted = space_from(INVERTED_YAML, tmp_path, "inverted")
    source, target = PoseNet(inverted.min_arch()), PoseNet(tiny_space.min_arch())
    with refused("arch.family", "residual", "inverted_residual"):
        transfer(source, target, JOINTS, JOINTS)
