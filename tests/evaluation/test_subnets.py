"""The one door from a supernet to a subnet."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from model_fixture import skeleton_of
from networks_fixture import randomise_batch_norm

from vipnas.arch.clip import FollowUp, Fusion, VideoArch
from vipnas.arch.image import Arch
from vipnas.evaluation.evaluator import calibrate_bn
from vipnas.evaluation.subnets import take_clip, take_subnet
from vipnas.models.clipnet import FollowUpNet, FollowUpNets
from vipnas.models.posenet import PoseNet, extract
from vipnas.space.clip import VideoSpace
from vipnas.space.image import SearchSpace


@pytest.fixture(scope="module")
def supernet(tiny_space: SearchSpace) -> PoseNet:
    torch.manual_seed(0)
    network = PoseNet(tiny_space.max_arch()).eval()
    randomise_batch_norm(network, seed=0)
    return network


def stage(arch: Arch, number: int = 0, **changes: object) -> Arch:
    stages = list(arch.stages)
    stages[number] = replace(stages[number], **changes)  # type: ignore[arg-type]
    return replace(arch, stages=tuple(stages))


# Each was sliced out of a supernet without a word: what comes out is no member of it.
STRANGERS: dict[str, tuple[Callable[[Arch], Arch], str]] = {
    "joints": (lambda a: replace(a, num_keypoints=13), "num_keypoints: expected 17, got 13"),
    "input": (
        lambda a: replace(a, input_hw=(32, 32)),
        r"input_hw: expected \(64, 48\), got \(32, 32\)",
    ),
    "activation": (
        lambda a: stage(a, activation="hardswish"),
        r"stages\[0\].activation: expected one of \['relu'\], got 'hardswish'",
    ),
    "kernel": (
        lambda a: stage(a, 1, kernel_size=1),
        r"stages\[1\].kernel_size: expected one of \[3, 5, 7\], got 1",
    ),
    "width": (
        lambda a: stage(a, 0, width=23, groups=1),
        r"stages\[0\].width: expected one of \[8, 16\], got 23",
    ),
    "stride": (
        lambda a: replace(stage(a, 1, stride=1), input_hw=(64, 48)),
        r"stages\[1\].stride: expected one of \[2\], got 1",
    ),
    "stage": (
        lambda a: replace(a, stages=a.stages[:1]),
        "stages and head: expected 2 stages and 1 deconvolutions, got 1 and 1",
    ),
    "deconvolution": (
        lambda a: replace(a, head=()),
        "stages and head: expected 2 stages and 1 deconvolutions, got 2 and 0",
    ),
    "stem": (
        lambda a: replace(a, stem=replace(a.stem, max_pool=True)),
        r"stem.max_pool: expected one of \[False\], got True",
    ),
}


@pytest.mark.parametrize(("change", "message"), STRANGERS.values(), ids=STRANGERS)
def test_what_the_space_does_not_offer_is_named(
    tiny_space: SearchSpace, supernet: PoseNet, change: Callable[[Arch], Arch], message: str
) -> None:
    arch = change(tiny_space.min_arch())
    for images in (None, torch.zeros(2, 3, *tiny_space.input_hw, dtype=torch.uint8)):
        with pytest.raises(
            ValueError, match=rf"^file: {message} \(not in the space tiny\)$"
        ) as error:
            take_subnet(supernet, tiny_space, arch, images, 2, "file")
        assert "\n" not in str(error.value)


def test_all_fields_that_are_not_offered_are_named(
    tiny_space: SearchSpace, supernet: PoseNet
) -> None:
    arch = replace(stage(tiny_space.min_arch(), width=9, groups=1, kernel_size=9), num_keypoints=3)
    with pytest.raises(ValueError) as error:
        take_subnet(supernet, tiny_space, arch, None, 2, "file")
    also = "also: stages[0].width 9; stages[0].kernel_size 9"
    assert str(error.value) == (
        f"file: num_keypoints: expected 17, got 3 (not in the space tiny; {also})"
    )


@pytest.mark.parametrize("which", ["largest", "smallest", "random"])
def test_statistics_are_those_of_the_crops(
    tiny_space: SearchSpace, supernet: PoseNet, which: str
) -> None:
    """The largest is treated like any other: the supernet's statistics are those of no subnet."""
    arch = {
        "largest": tiny_space.max_arch(),
        "smallest": tiny_space.min_arch(),
        "random": tiny_space.sample(random.Random(0)),
    }[which]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, *arch.input_hw), dtype=torch.uint8, generator=generator)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    subnet = take_subnet(supernet, tiny_space, arch, images, 2, "file")
    wanted = extract(supernet, arch).eval()
    inherited = {name: tensor.clone() for name, tensor in wanted.state_dict().items()}
    calibrate_bn(wanted, images, 2)
    found = subnet.state_dict()
    assert all(torch.equal(found[name], t) for name, t in wanted.state_dict().items())
    means = [name for name in found if name.endswith("running_mean")]
    assert all(not torch.equal(found[name], inherited[name]) for name in means)
    assert not subnet.training
    assert all(torch.equal(before[name], t) for name, t in supernet.state_dict().items())


def test_the_start_of_a_training_keeps_the_weights(
    tiny_space: SearchSpace, supernet: PoseNet
) -> None:
    arch = tiny_space.min_arch()
    subnet = take_subnet(supernet, tiny_space, arch, None, 2, "file")
    wanted = extract(supernet, arch).state_dict()
    assert all(torch.equal(wanted[name], t) for name, t in subnet.state_dict().items())


def test_the_networks_of_a_clip_come_by_the_same_door(small_space: SearchSpace) -> None:
    small, large = small_space.min_arch(), small_space.max_arch()
    space = VideoSpace(small, small_space, (None, Fusion(1, "add")), num_follow_ups=1)
    supernet = FollowUpNet(large, [Fusion(1, "add")])
    arch = VideoArch(small, (FollowUp(small, Fusion(1, "add")),))
    calibrated: list[FollowUpNets] = []
    networks = take_clip(supernet, space, arch, calibrated.append, "file")
    assert networks.archs == arch.follow_ups and calibrated == [networks]
    stranger = replace(arch, follow_ups=(FollowUp(small, Fusion(2, "add")),))
    with pytest.raises(
        ValueError, match=r"file: follow_ups\[0\].fusion: expected one of none, add"
    ):
        take_clip(supernet, space, stranger, None, "file")


def test_joints_are_compared_by_name_and_order() -> None:
    skeleton = skeleton_of(3)
    skeleton.check_joints(replace(skeleton, name="other"), "file")
    for joints, message in (
        (
            ("joint_0", "joint_2", "joint_1"),
            r"joints\[1\]: expected joint_2, .*, got joint_1",
        ),
        (("joint_0", "joint_1", "tail"), r"joints\[2\]: expected tail, .*, got joint_2"),
    ):
        with pytest.raises(ValueError, match=f"file: {message}"):
            skeleton.check_joints(replace(skeleton, joints=joints), "file")
    with pytest.raises(ValueError, match=r"joints\[3\]: expected joint_3, .* got no more joints"):
        skeleton.check_joints(skeleton_of(4), "file")
