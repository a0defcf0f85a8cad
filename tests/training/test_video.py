"""Training along clips: what is trained, on what it sees, and that it learns."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from networks_fixture import randomise_batch_norm
from torch import Tensor, nn
from training_fixture import codec_of
from video_fixture import video_space_of, video_supernet

from vipnas.arch.clip import FollowUp, VideoArch
from vipnas.config.clip import Exposure
from vipnas.config.training import Distillation, ProgressiveShrinking, Sampling
from vipnas.data.crops.clip_sizes import resize_warps
from vipnas.data.crops.crops import normalise
from vipnas.data.crops.resizing import resize_crops, resize_points
from vipnas.models.clipnet import (
    FollowUpNet,
    FollowUpNets,
    VideoNet,
    extract_follow_up,
    extract_video,
)
from vipnas.models.counting import mean_cost
from vipnas.models.posenet import PoseNet
from vipnas.models.propagation import propagate, warp_heatmaps
from vipnas.space.image import SearchSpace
from vipnas.training.distributed import Processes
from vipnas.training.losses import distillation_loss, heatmap_loss
from vipnas.training.sampling import SampledSubnet, SubnetSampler
from vipnas.training.step import ClipTask, Task, network_backward, supernet_backward

T = 2


@pytest.fixture(scope="module")
def space(tiny_space: SearchSpace) -> SearchSpace:
    return tiny_space.with_facts((32, 32))


@pytest.fixture(scope="module")
def networks(space: SearchSpace) -> tuple[PoseNet, FollowUpNet]:
    torch.manual_seed(0)
    key_frame, supernet = video_supernet(space)
    for seed, network in enumerate((key_frame, supernet)):
        randomise_batch_norm(network, seed)
    return key_frame.eval(), supernet


def clips(space: SearchSpace, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    height, width = space.input_hw
    images = torch.randint(
        0, 256, (2, T + 1, 3, height, width), dtype=torch.uint8, generator=generator
    )
    keypoints = torch.rand(2, T + 1, 17, 3, generator=generator)
    keypoints *= torch.tensor([width, height, 1.0])
    keypoints[..., 2] = 2.0
    warps = torch.eye(2, 3) + 0.05 * torch.randn(2, T, 2, 3, generator=generator)
    return images, keypoints, warps


def sampler_of(space: SearchSpace, sampling: Sampling) -> SubnetSampler[VideoArch]:
    return SubnetSampler(video_space_of(space, T), "clip-3", 100.0, mean_cost, sampling)


def archs_of(space: SearchSpace, step: int, num_random: int) -> dict[str, list[VideoArch]]:
    archs: dict[str, list[VideoArch]] = {}
    for subnet in sampler_of(space, Sampling("sandwich", num_random))(step):
        archs.setdefault(subnet.kind, []).extend(subnet.candidates)
    return archs


def task_of(
    space: SearchSpace, key_frame: PoseNet, network: nn.Module, exposure: Exposure | None = None
) -> Task[VideoArch]:
    """How a step runs a supernet, or the networks of a clip."""
    networks = list(network) if isinstance(network, FollowUpNets) else [network] * T
    return ClipTask(key_frame, networks, codec_of(space), exposure or Exposure())


def drawn_arch(space: SearchSpace) -> VideoArch:
    return archs_of(space, 0, 1)["random"][0]


def test_a_sandwich_has_both_ends_and_random_clips(space: SearchSpace) -> None:
    archs = archs_of(space, 7, 2)
    assert archs == archs_of(space, 7, 2)
    assert archs != archs_of(space, 8, 2)
    assert [f.arch for f in archs["largest"][0].follow_ups] == [space.max_arch()] * T
    assert [f.arch for f in archs["smallest"][0].follow_ups] == [space.min_arch()] * T
    assert {kind: len(members) for kind, members in archs.items()} == {
        "largest": 1,
        "smallest": 1,
        "random": 2,
    }
    ends = (archs_of(space, step, 0) for step in range(40))
    assert len({f.fusion for a in ends for (arch,) in a.values() for f in arch.follow_ups}) == 10


def test_uniform_sampling_draws_random_clips_alone(space: SearchSpace) -> None:
    subnets = sampler_of(space, Sampling("uniform", 2))(7)
    assert [subnet.kind for subnet in subnets] == ["random", "random"]
    assert [subnet.candidates[0] for subnet in subnets] == archs_of(space, 7, 2)["random"]


def test_clips_are_sampled_near_a_budget_as_images_are(space: SearchSpace) -> None:
    low, high = (mean_cost(arch).macs for arch in ends_of(space))
    between = (low + (high - low) // 3, low + 2 * (high - low) // 3)
    near = sampler_of(space, Sampling("uniform", 1, num_draws=100, macs_between=between))
    found = [mean_cost(near.archs(step)[0]).macs for step in range(20)]
    assert all(between[0] <= macs <= between[1] for macs in found)
    anywhere = sampler_of(space, Sampling("uniform", 1))
    drawn = [mean_cost(anywhere.archs(step)[0]).macs for step in range(20)]
    assert not all(between[0] <= macs <= between[1] for macs in drawn)


def test_clips_shrink_progressively_as_images_do(space: SearchSpace) -> None:
    clips = video_space_of(space, T)
    shrinking = ProgressiveShrinking(0.1, (("width",), ("depth",)), 0.1)
    sampler = SubnetSampler(clips, "clip-3", 100.0, mean_cost, Sampling("sandwich"), shrinking)
    alone = sampler(5)
    assert [subnet.kind for subnet in alone] == ["largest"]
    networks = {f.arch for arch in sampler.archs(12) for f in arch.follow_ups}
    largest = space.max_arch()
    assert {network.stages[0].depth for network in networks} == {largest.stages[0].depth}
    assert len({network.stages[0].width for network in networks}) > 1


def ends_of(space: SearchSpace) -> tuple[VideoArch, VideoArch]:
    clips = video_space_of(space, T)
    return clips.min_arch(), clips.max_arch()


def test_the_loss_of_a_clip_by_hand(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet]
) -> None:
    key_frame, supernet = networks
    arch = drawn_arch(space)
    images, keypoints, warps = batch = clips(space)
    codec = codec_of(space)
    step = network_backward(task_of(space, key_frame, supernet.eval()), arch)
    found = step(0, batch)
    with torch.no_grad():
        before = key_frame(normalise(images[:, 0]))
        for frame in range(1, T + 1):
            warped = warp_heatmaps(before, warps[:, frame - 1])
            member = arch.follow_ups[frame - 1]
            before = supernet(normalise(images[:, frame]), warped, member)
            loss = heatmap_loss(before, *codec.encode(keypoints[:, frame]))
            torch.testing.assert_close(found[f"frame_{frame}"], loss)


def test_each_frame_trains_at_its_own_size(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet]
) -> None:
    """The weights of a supernet, on crops of the largest size, as networks on resized ones."""
    key_frame, supernet = networks
    first, second = drawn_arch(space).follow_ups
    assert first is not None and second is not None
    small = replace(second, arch=replace(second.arch, input_hw=(16, 16)))
    arch = VideoArch(key_frame.arch, (first, small, None))
    images, keypoints, warps = (torch.cat((part, part[:, -1:]), dim=1) for part in clips(space))
    task = ClipTask(key_frame, [supernet.eval()] * 3, codec_of(space), Exposure())
    found = network_backward(task, arch)(0, (images, keypoints, warps))
    codec = codec_of(space).at(small.arch)
    crops = normalise(resize_crops(images[:, 2], (16, 16)))
    points = resize_points(keypoints, (32, 32), (16, 16))
    with torch.no_grad():
        before = supernet(
            normalise(images[:, 1]), key_frame_warped(key_frame, images, warps), first
        )
        moved = resize_warps(warps[:, 1], codec_of(space), codec_of(space), codec)
        warped = warp_heatmaps(before, moved, codec.heatmap_hw)
        before = extract_follow_up(supernet, small)(crops, warped)
        torch.testing.assert_close(
            found["frame_2"], heatmap_loss(before, *codec.encode(points[:, 2]))
        )
        moved = resize_warps(warps[:, 2], codec_of(space), codec, codec)
        carried = heatmap_loss(warp_heatmaps(before, moved), *codec.encode(points[:, 3]))
        torch.testing.assert_close(found["frame_3"], carried)


def key_frame_warped(key_frame: PoseNet, images: Tensor, warps: Tensor) -> Tensor:
    return warp_heatmaps(key_frame(normalise(images[:, 0])), warps[:, 0])


def test_a_frame_without_a_network_has_a_loss_and_no_gradient(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet]
) -> None:
    key_frame, supernet = networks
    images, keypoints, warps = batch = clips(space)
    task = task_of(space, key_frame, supernet.train())
    key = drawn_arch(space).key_frame
    supernet.zero_grad()
    nothing = VideoArch(key, (None,) * T)
    subnets = [SampledSubnet("random", (nothing,))]
    found = supernet_backward(task, lambda step: subnets)(0, batch)
    assert all(parameter.grad is None for parameter in supernet.parameters())
    first = network_backward(task, VideoArch(key, (None, FollowUp(key, None))))(0, batch)
    alone = task_of(space, key_frame, FollowUpNets([None, None]))
    losses = network_backward(alone)(0, batch)
    assert found["random"] == torch.stack(list(losses.values())).mean()
    assert first["frame_1"] == losses["frame_1"] and first["frame_2"] != losses["frame_2"]
    with torch.no_grad():
        warped = warp_heatmaps(key_frame(normalise(images[:, 0])), warps[:, 0])
    wanted = heatmap_loss(warped, *codec_of(space).encode(keypoints[:, 1]))
    torch.testing.assert_close(losses["frame_1"], wanted)
    assert any(parameter.grad is not None for parameter in supernet.parameters())


def test_a_clip_of_no_follow_up_frames_is_an_image(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet]
) -> None:
    """The key frame's network runs through the same `propagate` as a network of images does."""
    key_frame, _ = networks
    images, _, warps = clips(space)
    clip = VideoNet(key_frame, FollowUpNets([]))
    with torch.no_grad():
        found = clip(normalise(images[:, :1].flatten(0, 1)).unflatten(0, (2, 1)), warps[:, :0])
        assert torch.equal(found[:, 0], key_frame(normalise(images[:, 0])))


def test_gradients_add_up_over_the_archs_and_the_key_frame_gets_none(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet]
) -> None:
    key_frame, supernet = networks
    supernet.train()
    batch = clips(space)
    archs = [arch for members in archs_of(space, 0, 1).values() for arch in members]
    before = {name: tensor.clone() for name, tensor in key_frame.state_dict().items()}

    def gradients(wanted: list[int]) -> dict[str, Tensor]:
        twin = copy.deepcopy(supernet)
        subnets = [SampledSubnet("random", (archs[number],)) for number in wanted]
        supernet_backward(task_of(space, key_frame, twin), lambda step: subnets)(0, batch)
        return {n: p.grad for n, p in twin.named_parameters() if p.grad is not None}

    alone = [gradients([number]) for number in range(3)]
    together = gradients([0, 1, 2])
    for name, gradient in together.items():
        parts = [part[name] for part in alone if name in part]
        torch.testing.assert_close(gradient, torch.stack(parts).sum(0), rtol=1e-3, atol=1e-6)
    assert all(torch.equal(before[n], t) for n, t in key_frame.state_dict().items())
    assert all(p.grad is None for p in key_frame.parameters())


def test_smaller_clips_learn_from_the_largest_as_smaller_networks_of_images_do(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet]
) -> None:
    key_frame, supernet = networks
    task = task_of(space, key_frame, supernet.train())
    largest, random_one = (archs_of(space, 0, 1)[kind][0] for kind in ("largest", "random"))
    subnets = [SampledSubnet("largest", (largest,)), SampledSubnet("random", (random_one,))]
    twin = copy.deepcopy(supernet)
    found = supernet_backward(task, lambda step: subnets, Distillation("mse"))(0, clips(space))
    prepared = task.prepare(0, clips(space))(None)

    def heatmaps(arch: VideoArch) -> list[Tensor]:
        run = task_of(space, key_frame, twin).run_of(arch)
        return list(propagate(run, prepared.frames, prepared.before))

    teacher, student = heatmaps(largest), heatmaps(random_one)
    wanted = torch.stack([distillation_loss(*pair) for pair in zip(student, teacher, strict=True)])
    torch.testing.assert_close(found["random"], wanted.mean().detach())


def test_the_noise_of_a_joint_batch_is_shared_among_processes(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet]
) -> None:
    key_frame, supernet = networks
    exposure = Exposure(teacher_forcing_steps=1, teacher_forcing_noise_px=2.0)
    alone = task_of(space, key_frame, supernet, exposure)
    assert isinstance(alone, ClipTask)
    clip = clips(space)
    expected = alone.prepare(0, clip)(None).feed(1, torch.empty(0))
    for rank in range(2):
        processes = Processes(rank, 2)
        share = processes.share(2)
        part = replace(alone, processes=processes).prepare(0, tuple(one[share] for one in clip))(
            None
        )
        assert torch.equal(part.feed(1, torch.empty(0)), expected[share])


def test_teacher_forcing_feeds_the_labels_in_the_first_steps(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet]
) -> None:
    key_frame, supernet = networks
    arch = drawn_arch(space)
    codec, batch = codec_of(space), clips(space)
    seen: list[Tensor] = []

    def run(images: Tensor, before: Tensor, follow_up: FollowUp) -> Tensor:
        seen.append(before)
        heatmaps: Tensor = supernet(images, before, follow_up)
        return heatmaps

    exposure = Exposure(teacher_forcing_steps=1, teacher_forcing_noise_px=0.0)
    task = ClipTask(key_frame, [run] * T, codec, exposure)
    for step in (0, 1):
        network_backward(task, arch)(step, batch)
    _, keypoints, warps = batch
    labels, _ = codec.encode(keypoints[:, 1])
    torch.testing.assert_close(seen[1], warp_heatmaps(labels, warps[:, 1]))
    assert not torch.allclose(seen[3], seen[1])
    noisy = replace(task, exposure=replace(exposure, teacher_forcing_noise_px=3.0))
    network_backward(noisy, arch)(0, batch)
    assert not torch.allclose(seen[5], seen[1])


@pytest.mark.parametrize("found", [False, True])
def test_it_learns(space: SearchSpace, networks: tuple[PoseNet, FollowUpNet], found: bool) -> None:
    key_frame, supernet = networks
    trained = copy.deepcopy(supernet).train()
    batch = clips(space)
    if found:
        network: nn.Module = extract_video(key_frame, trained, drawn_arch(space)).follow_ups.train()
        backward = network_backward(task_of(space, key_frame, network))
    else:
        network = trained
        sampler = sampler_of(space, Sampling("sandwich", 1))
        backward = supernet_backward(task_of(space, key_frame, trained), lambda step: sampler(0))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    history = []
    for number in range(12):
        optimizer.zero_grad()
        losses = backward(number, batch)
        optimizer.step()
        history.append(float(sum(losses.values())))
    assert history[-1] < 0.5 * history[0]
