"""Training along clips: what is trained, on what it sees, and that it learns."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from errors_fixture import refused
from networks_fixture import randomise_batch_norm
from torch import Tensor, nn
from training_fixture import codec_of
from video_fixture import video_space_of, video_supernet

from vipnas.arch.clip import VideoArch
from vipnas.config.clip import ClipSampling, Exposure
from vipnas.data.crops.crops import normalise
from vipnas.models.clipnet import FollowUpNet, extract_video, warp_heatmaps
from vipnas.models.posenet import PoseNet
from vipnas.space.image import SearchSpace
from vipnas.training.clip_step import (
    ClipStep,
    clip_archs_of_step,
    slices_of,
    video_retrain_backward,
    video_supernet_backward,
)
from vipnas.training.losses import heatmap_loss

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


def archs_of(space: SearchSpace, step: int, num_random: int) -> dict[str, list[VideoArch]]:
    return clip_archs_of_step(
        video_space_of(space, T), 3, ClipSampling("sandwich", num_random), step
    )


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
    archs = clip_archs_of_step(video_space_of(space, T), 3, ClipSampling("uniform", 2), 7)
    assert archs == {"random": archs_of(space, 7, 2)["random"]}
    with refused("num_random", "a whole number from 1", "0", "uniform"):
        ClipSampling("uniform", 0)


def test_the_loss_of_a_clip_by_hand(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet]
) -> None:
    key_frame, supernet = networks
    arch = drawn_arch(space)
    images, keypoints, warps = batch = clips(space)
    codec = codec_of(space)
    step = ClipStep(key_frame, codec, Exposure())
    found = step.losses([slices_of(supernet.eval(), arch)], batch, 0)
    with torch.no_grad():
        before = key_frame(normalise(images[:, 0]))
        for frame in range(1, T + 1):
            warped = warp_heatmaps(before, warps[:, frame - 1])
            member = arch.follow_ups[frame - 1]
            before = supernet(normalise(images[:, frame]), warped, member)
            loss = heatmap_loss(before, *codec.encode(keypoints[:, frame]))
            torch.testing.assert_close(found[0, frame - 1], loss)


def test_gradients_add_up_over_the_archs_and_the_key_frame_gets_none(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet]
) -> None:
    key_frame, supernet = networks
    supernet.train()
    batch = clips(space)
    archs = [arch for members in archs_of(space, 0, 1).values() for arch in members]
    step = ClipStep(key_frame, codec_of(space), Exposure())
    before = {name: tensor.clone() for name, tensor in key_frame.state_dict().items()}

    def gradients(wanted: list[int]) -> dict[str, Tensor]:
        twin = copy.deepcopy(supernet)
        chosen = [archs[number] for number in wanted]
        step.losses([slices_of(twin, arch) for arch in chosen], batch, 0)
        return {n: p.grad for n, p in twin.named_parameters() if p.grad is not None}

    alone = [gradients([number]) for number in range(3)]
    together = gradients([0, 1, 2])
    for name, gradient in together.items():
        parts = [part[name] for part in alone if name in part]
        torch.testing.assert_close(gradient, torch.stack(parts).sum(0), rtol=1e-3, atol=1e-6)
    assert all(torch.equal(before[n], t) for n, t in key_frame.state_dict().items())
    assert all(p.grad is None for p in key_frame.parameters())


def test_in_the_first_steps_labels_take_the_place_of_heatmaps(
    space: SearchSpace, networks: tuple[PoseNet, FollowUpNet]
) -> None:
    key_frame, supernet = networks
    arch = drawn_arch(space)
    codec, batch = codec_of(space), clips(space)
    exposure = Exposure(teacher_forcing_steps=1, teacher_forcing_noise_px=0.0)
    step = ClipStep(key_frame, codec, exposure)
    seen: list[Tensor] = []

    def run(number: int, images: Tensor, before: Tensor) -> Tensor:
        seen.append(before)
        heatmaps: Tensor = supernet(images, before, arch.follow_ups[number])
        return heatmaps

    step.losses([run], batch, 0)
    step.losses([run], batch, 1)
    _, keypoints, warps = batch
    labels, _ = codec.encode(keypoints[:, 1])
    torch.testing.assert_close(seen[1], warp_heatmaps(labels, warps[:, 1]))
    assert not torch.allclose(seen[3], seen[1])
    noisy = replace(step, exposure=replace(exposure, teacher_forcing_noise_px=3.0))
    noisy.losses([run], batch, 0)
    assert not torch.allclose(seen[5], seen[1])


@pytest.mark.parametrize("found", [False, True])
def test_it_learns(space: SearchSpace, networks: tuple[PoseNet, FollowUpNet], found: bool) -> None:
    key_frame, supernet = networks
    trained = copy.deepcopy(supernet).train()
    batch = clips(space)
    step = ClipStep(key_frame, codec_of(space), Exposure())
    if found:
        arch = drawn_arch(space)
        networks_of_arch = extract_video(key_frame, trained, arch).follow_ups.train()
        network: nn.Module = networks_of_arch
        backward = video_retrain_backward(step, networks_of_arch)
    else:
        network = trained
        backward = video_supernet_backward(step, trained, lambda number: archs_of(space, 0, 1))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    history = []
    for number in range(12):
        optimizer.zero_grad()
        losses = backward(number, batch)
        optimizer.step()
        history.append(float(sum(losses.values())))
    assert history[-1] < 0.5 * history[0]
