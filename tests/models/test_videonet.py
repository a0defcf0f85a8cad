"""Slice = extracted = reloaded from JSON for clips; T = 0 is the key frame's network; warping and
fusion by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from networks_fixture import randomise_batch_norm
from torch import Tensor
from video_fixture import video_space_of, video_supernet

from vipnas.arch.clip import OPERATIONS, Fusion, Operation, VideoArch
from vipnas.files import parse_json
from vipnas.models.clipnet import FollowUpNet, VideoNet, build_video_net, extract_video
from vipnas.models.fusion import FusionModule, resize
from vipnas.models.posenet import PoseNet
from vipnas.models.propagation import detached, frames_of, propagate, warp_heatmaps
from vipnas.space.image import SearchSpace

IDENTITY = torch.eye(2, 3)


@pytest.fixture(scope="module")
def networks(space: SearchSpace) -> tuple[PoseNet, FollowUpNet]:
    torch.manual_seed(0)
    key_frame, supernet = video_supernet(space)
    for seed, network in enumerate((key_frame, supernet)):
        randomise_batch_norm(network.eval(), seed)
    return key_frame, supernet


def clip_of(arch: VideoArch, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Images (2, F, 3, H, W) and warps: small moves and turns."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, len(arch), 3, *arch.key_frame.input_hw, generator=generator)
    warps = IDENTITY + 0.1 * torch.randn(2, len(arch) - 1, 2, 3, generator=generator)
    return images, warps


def sliced(key_frame: PoseNet, supernet: FollowUpNet, arch: VideoArch) -> Tensor:
    def run(distance: int, images: Tensor, before: Tensor | None) -> Tensor:
        if before is None:
            heatmaps: Tensor = key_frame(images)
        elif (follow_up := arch.follow_ups[distance - 1]) is None:
            heatmaps = before
        else:
            heatmaps = supernet(images, before, follow_up)
        return heatmaps

    return torch.stack(tuple(propagate(run, frames_of(*clip_of(arch)))), dim=1)


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_slice_equals_extracted_equals_reloaded(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet], seed: int
) -> None:
    key_frame, supernet = networks
    arch = video_space_of(space, num_follow_ups=3).sample(random.Random(seed))
    if seed == 1:  # the frame in the middle runs no network
        arch = replace(arch, follow_ups=(arch.follow_ups[0], None, arch.follow_ups[2]))
    images, warps = clip_of(arch)
    expected = sliced(key_frame, supernet, arch)
    extracted = extract_video(key_frame, supernet, arch)
    parsed = parse_json(VideoArch, arch.to_json(), "test")
    reloaded = build_video_net(parsed, initialise=False).eval()
    reloaded.load_state_dict(extracted.state_dict())
    assert expected.std() > 1e-3
    assert extracted.arch == arch
    assert torch.equal(expected, extracted(images, warps))
    assert torch.equal(expected, reloaded(images, warps))
    assert (seed == 1) == torch.equal(expected[:, 2], warp_heatmaps(expected[:, 1], warps[:, 1]))


@torch.no_grad()
def test_every_fusion_changes_the_heatmaps_and_none_does_not(
    tiny_space: SearchSpace,
) -> None:
    torch.manual_seed(0)
    _, supernet = video_supernet(tiny_space)
    randomise_batch_norm(supernet.eval(), seed=0)
    arch = tiny_space.max_arch()
    images, before = torch.randn(1, 3, *arch.input_hw), torch.rand(1, 17, *arch.heatmap_hw)
    for member in video_space_of(tiny_space, 1).fusions:
        follow_up = type(supernet.follow_up)(arch, member)
        with_before = supernet(images, before, follow_up)
        blank = supernet(images, torch.zeros_like(before), follow_up)
        assert torch.equal(with_before, blank) == (member is None)
        if member is None:
            assert torch.equal(blank, supernet.posenet(images))


@torch.no_grad()
def test_a_clip_of_the_key_frame_alone_is_the_network_of_images(tiny_space: SearchSpace) -> None:
    network = PoseNet(tiny_space.min_arch()).eval()
    randomise_batch_norm(network, seed=0)
    video = build_video_net(VideoArch(network.arch, ()))
    video.key_frame.load_state_dict(network.state_dict())
    images = torch.randn(3, 1, 3, *tiny_space.input_hw)
    heatmaps = video.eval()(images, torch.empty(3, 0, 2, 3))
    assert torch.equal(heatmaps, network(images[:, 0])[:, None])


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("heatmap_hw", [(16, 12), (4, 3), (2, 1)])
def test_fusion_by_the_plain_formula(operation: Operation, heatmap_hw: tuple[int, int]) -> None:
    """In the order of its definition: convolution, resize, norm, operation; a concatenation
    is a real one, with a convolution over it that is the identity on the feature's part."""
    torch.manual_seed(0)
    module = FusionModule(operation, 5, 6)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    randomise_batch_norm(module.eval(), seed=0)
    feature, heatmaps = torch.randn(2, 6, 4, 3), torch.randn(2, 5, *heatmap_hw)
    if heatmap_hw == (2, 1):
        feature = feature[..., :2]
    before = resize(torch.conv2d(heatmaps, module.embed.weight), feature.shape[2:])
    before = torch.nn.BatchNorm2d.forward(module.embed_norm, before)
    if operation == "cat":
        assert module.mix is not None
        weight = torch.cat((torch.eye(6)[..., None, None], module.mix.weight), dim=1)
        wanted = torch.conv2d(torch.cat((feature, before.relu()), dim=1), weight)
    else:
        wanted = feature + before if operation == "add" else feature * before.relu()
    torch.testing.assert_close(module(feature, heatmaps), wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fresh_fusion_hardly_changes_the_feature(operation: Operation) -> None:
    torch.manual_seed(0)
    module = FusionModule(operation, 17, 32)
    module.reset_parameters()
    feature = torch.randn(2, 32, 8, 6).relu()
    heatmaps = torch.zeros(2, 17, 8, 6)
    torch.testing.assert_close(module(feature, heatmaps), feature)
    heatmaps[:, :, 4, 3] = 1.0
    changed = (module(feature, heatmaps) - feature).abs()
    assert changed.mean() < 0.1 * feature.mean() and changed[:, :, 4, 3].mean() > 0.1


@torch.no_grad()
def test_heatmaps_before_are_carried_along(tiny_space: SearchSpace) -> None:
    """What a network that fuses gives is a change: each joint's heatmap before, times the joint's
    weight, is added; a fresh network, whose last convolution gives next to nothing, copies."""
    torch.manual_seed(0)
    network = FollowUpNet(tiny_space.min_arch(), [Fusion(2, "add")]).eval()
    images, before = torch.randn(2, 3, *tiny_space.input_hw), torch.rand(2, 17, 16, 12)
    assert (network(images, before) - before).abs().max() < 0.05
    module: Any
    (module,) = network.fusion_modules.values()
    weights = torch.randn(17)
    carried = network(images, before)
    module.carry.weight.copy_(weights[:, None, None, None])
    wanted = carried + (weights - 1)[None, :, None, None] * before
    torch.testing.assert_close(network(images, before), wanted, rtol=1e-4, atol=1e-4)


def test_shrinking_loses_no_peak() -> None:
    heatmaps = torch.zeros(1, 1, 16, 12)
    heatmaps[0, 0, 5, 7] = 1.0
    assert resize(heatmaps, (4, 3)).sum() == pytest.approx(1 / 16)
    assert resize(heatmaps, (4, 3))[0, 0, 1, 1] == pytest.approx(1 / 16)


def test_warp_by_whole_pixels() -> None:
    """This crop lies two pixels to the right of and one above the one before."""
    before = torch.rand(1, 2, 6, 8)
    warp = IDENTITY[None].clone()
    warp[0, 0, 2], warp[0, 1, 2] = 2 * 2 / 8, -1 * 2 / 6
    warped = warp_heatmaps(before, warp)
    torch.testing.assert_close(warped[:, :, 1:, :-2], before[:, :, :-1, 2:])
    assert warped[:, :, 0].abs().max() < 1e-6 and warped[..., -2:].abs().max() < 1e-6
    torch.testing.assert_close(warp_heatmaps(before, IDENTITY[None]), before)


def test_gradients_flow_along_the_clip_only_where_wanted(tiny_space: SearchSpace) -> None:
    torch.manual_seed(0)
    arch = video_space_of(tiny_space, 2).max_arch()
    video: VideoNet = build_video_net(arch)
    images, warps = clip_of(arch)
    start = torch.rand(2, 17, *arch.key_frame.heatmap_hw)
    _, *frames = frames_of(images, warps)

    def attached(distance: int, heatmaps: Tensor) -> Tensor:
        return heatmaps

    for detach, feed in ((True, detached), (False, attached)):
        video.zero_grad()
        *_, last = propagate(video.follow_ups, frames, start, feed)
        last.square().sum().backward()
        first_gradients = [p.grad for p in video.follow_ups[0].parameters()]
        assert all(gradient is None for gradient in first_gradients) == detach
        assert any(p.grad is not None for p in video.follow_ups[1].parameters())


def test_the_same_for_clips_of_other_lengths(space: SearchSpace) -> None:
    arch = video_space_of(space, num_follow_ups=3).sample(random.Random(0))
    network = build_video_net(arch)
    first, second, third = arch.follow_ups
    longer = network.repeated(5)
    assert longer.arch.follow_ups == (first, second, third, first, second)
    assert longer.follow_ups[3] is network.follow_ups[0]
    assert network.repeated(0).arch == VideoArch(arch.key_frame, ())
