"""A step of the supernet: gradients add up, and none flows through the teacher."""

from __future__ import annotations

import math
import random
from typing import Literal

import pytest
import torch
from errors_fixture import refused
from torch import Tensor
from training_fixture import batch_of, codec_of, sampler_of, supernet_of

from vipnas.config.training import Distillation
from vipnas.data.crops.crops import normalise
from vipnas.models.posenet import PoseNet, extract
from vipnas.space.image import SearchSpace
from vipnas.training.losses import distillation_loss, heatmap_loss, softmax_divergence, student_loss
from vipnas.training.sampling import SampledSubnet
from vipnas.training.step import ImageTask, choose, network_backward, supernet_backward


def gradients(network: PoseNet) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in network.named_parameters()
    }


def test_the_losses_by_hand() -> None:
    heatmaps = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # 1 image, 2 joints, 1 x 2 pixels
    targets = torch.zeros_like(heatmaps)
    assert heatmap_loss(heatmaps, targets, torch.tensor([[1.0, 1.0]])) == 30 / 4
    assert heatmap_loss(heatmaps, targets, torch.tensor([[1.0, 0.0]])) == 5 / 4
    assert distillation_loss(heatmaps, torch.ones_like(heatmaps)) == (0 + 1 + 4 + 9) / 4


@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_no_gradient_flows_through_the_teacher(loss: Literal["mse", "kl"]) -> None:
    student, teacher = (torch.rand(1, 1, 2, 2, requires_grad=True) for _ in range(2))
    lesson = Distillation(loss, label_weight=1.0)
    targets, weights = torch.rand(1, 1, 2, 2), torch.ones(1, 1)
    student_loss(lesson, 0, student, teacher, targets, weights).backward()
    assert student.grad is not None and bool(student.grad.abs().sum() > 0)
    assert teacher.grad is None


def test_kl_is_zero_for_equal_softmax_only() -> None:
    generator = torch.Generator().manual_seed(0)
    teacher = torch.rand(2, 3, 4, 5, generator=generator)
    weights = torch.ones(2, 3)
    assert softmax_divergence(teacher, teacher, weights, 0.1) == 0
    # A softmax does not see the level of a map, so neither does this.
    level = torch.rand(2, 3, 1, 1, generator=generator)
    assert softmax_divergence(teacher + level, teacher, weights, 0.1) < 1e-7
    moved = teacher.clone()
    moved[1, 2, 3, 4] += 0.05
    assert softmax_divergence(moved, teacher, weights, 0.1) > 1e-6
    weights[1, 2] = 0  # nothing of a joint that is not labelled
    assert softmax_divergence(moved, teacher, weights, 0.1) == 0


def test_kl_by_hand() -> None:
    """Two pixels: softmax (3/4, 1/4) of the teacher, (1/2, 1/2) of the student, temperature 2."""
    teacher = torch.tensor([[[[2 * math.log(3.0), 0.0]], [[0.0, 0.0]]]])
    student = torch.zeros(1, 2, 1, 2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    found = softmax_divergence(student, teacher, torch.ones(1, 2), 2.0)
    assert float(found) == pytest.approx(expected / 2 * 2**2)  # mean of two joints, squared T


def test_students_go_over_from_the_labels_to_the_teacher() -> None:
    at_once = Distillation("mse")
    mixed = Distillation("mse", weight=0.5, label_weight=0.2, warmup_steps=4)
    assert Distillation().shares(0) == Distillation().shares(9) == (0, 1)
    assert [at_once.shares(step) for step in (0, 9)] == [(1, 0), (1, 0)]
    shares = [mixed.shares(step) for step in (0, 1, 4, 9)]
    assert shares == [(0, 1), (0.125, pytest.approx(0.8)), (0.5, 0.2), (0.5, 0.2)]
    heatmaps, teacher, targets = (torch.rand(1, 2, 3, 4) for _ in range(3))
    weights = torch.tensor([[1.0, 0.0]])
    to_labels = heatmap_loss(heatmaps, targets, weights)
    to_teacher = distillation_loss(heatmaps, teacher)
    for step, (teacher_share, label_share) in zip((0, 1, 9), (*shares[:2], shares[3]), strict=True):
        expected = teacher_share * to_teacher + label_share * to_labels
        found = student_loss(mixed, step, heatmaps, teacher, targets, weights)
        torch.testing.assert_close(found, expected)
    with refused("weight and label_weight", "one of them above 0", "0 and 0"):
        Distillation("mse", weight=0)


def test_unlabelled_joints_add_nothing_to_the_gradient() -> None:
    heatmaps = torch.ones(1, 2, 1, 2, requires_grad=True)
    heatmap_loss(heatmaps, torch.zeros(1, 2, 1, 2), torch.tensor([[1.0, 0.0]])).backward()
    assert heatmaps.grad is not None
    assert heatmaps.grad.tolist() == [[[[0.5, 0.5]], [[0.0, 0.0]]]]


@pytest.mark.parametrize("loss_name", ["labels", "mse"])
def test_the_step_is_the_sum_of_separate_backward_passes(
    tiny_space: SearchSpace, loss_name: Literal["labels", "mse"]
) -> None:
    codec, batch = codec_of(tiny_space), batch_of(tiny_space, 3)
    supernet = supernet_of(tiny_space).train()
    sampler = sampler_of(tiny_space, num_random=2, seed=4)
    shown = supernet_backward(ImageTask(supernet, codec), sampler, Distillation(loss_name))(
        3, batch
    )
    found = gradients(supernet)

    images = normalise(batch[0])
    targets, weights = codec.encode(batch[1])
    largest, *others = sampler.archs(3)
    losses, expected = [], {name: torch.zeros_like(value) for name, value in found.items()}
    for arch in (largest, *others):
        fresh = supernet_of(tiny_space).train()
        teacher = fresh(images, largest).detach()
        if arch == largest or loss_name == "labels":
            loss = heatmap_loss(fresh(images, arch), targets, weights)
        else:
            loss = distillation_loss(fresh(images, arch), teacher)
        loss.backward()
        losses.append(float(loss.detach()))
        for name, gradient in gradients(fresh).items():
            expected[name] += gradient
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-7, msg=name)
    assert float(shown["largest"]) == losses[0]
    assert float(shown["smallest"]) == losses[-1]
    assert abs(float(shown["random"]) - (losses[1] + losses[2]) / 2) < 1e-6


def test_students_of_a_teacher_learn_nothing_from_the_labels(tiny_space: SearchSpace) -> None:
    """With other labels, only the gradient of the largest changes: by exactly its own."""
    codec, (images, keypoints) = codec_of(tiny_space), batch_of(tiny_space, 0)
    elsewhere = keypoints.flip(0)
    step, alone = [], []
    for labels in (keypoints, elsewhere):
        supernet = supernet_of(tiny_space).train()
        lesson = Distillation("mse")
        supernet_backward(ImageTask(supernet, codec), sampler_of(tiny_space), lesson)(
            0, (images, labels)
        )
        step.append(gradients(supernet))
        supernet = supernet_of(tiny_space).train()
        network_backward(ImageTask(supernet, codec))(0, (images, labels))
        alone.append(gradients(supernet))
    for name in step[0]:
        torch.testing.assert_close(
            step[0][name] - step[1][name],
            alone[0][name] - alone[1][name],
            rtol=1e-3,
            atol=1e-6,
            msg=name,
        )


def test_every_weight_of_the_supernet_learns_in_every_step(tiny_space: SearchSpace) -> None:
    """So that no parameter is unused, whatever the random archs leave out."""
    supernet = supernet_of(tiny_space).train()
    sampler = sampler_of(tiny_space, num_random=0)
    supernet_backward(ImageTask(supernet, codec_of(tiny_space)), sampler)(
        0, batch_of(tiny_space, 0)
    )
    assert all(parameter.grad is not None for parameter in supernet.parameters())


def test_retraining_a_member_takes_the_gradient_it_has_in_the_supernet(
    tiny_space: SearchSpace,
) -> None:
    arch = tiny_space.min_arch()
    supernet, codec, batch = supernet_of(tiny_space), codec_of(tiny_space), batch_of(tiny_space, 0)
    network = extract(supernet, arch).train()
    loss = network_backward(ImageTask(network, codec))(0, batch)["labels"]
    targets, weights = codec.encode(batch[1])
    expected = heatmap_loss(supernet.train()(normalise(batch[0]), arch), targets, weights)
    assert torch.equal(loss, expected)
    expected.backward()
    for name, parameter in network.named_parameters():
        full = supernet.get_parameter(name)
        assert parameter.grad is not None and full.grad is not None
        torch.testing.assert_close(
            parameter.grad.square().sum(), full.grad.square().sum(), rtol=1e-4, atol=1e-10
        )


@pytest.mark.parametrize("strategy", ["uniform", "sandwich"])
def test_in_a_step_without_the_largest_all_learn_from_the_labels(
    strategy: str, tiny_space: SearchSpace
) -> None:
    codec, batch = codec_of(tiny_space), batch_of(tiny_space, 0)
    sampler = sampler_of(tiny_space, num_random=1, strategy=strategy)
    supernet = supernet_of(tiny_space).train()
    shown = supernet_backward(ImageTask(supernet, codec), sampler, Distillation("mse"))(0, batch)
    random_one = sampler(0)[0 if strategy == "uniform" else 1].candidates[0]
    targets, weights = codec.encode(batch[1])
    heatmaps = supernet_of(tiny_space).train()(normalise(batch[0]), random_one)
    by_labels = torch.equal(shown["random"], heatmap_loss(heatmaps, targets, weights))
    assert by_labels == (strategy == "uniform")


def test_the_step_trains_the_candidate_that_it_prefers(tiny_space: SearchSpace) -> None:
    """As if that one had been the only one; and by the losses that all processes agree on."""
    codec, batch = codec_of(tiny_space), batch_of(tiny_space, 0)
    rng = random.Random(0)
    candidates = tuple(tiny_space.sample(rng) for _ in range(4))
    largest = SampledSubnet("largest", (tiny_space.max_arch(),))

    def step(*members: SampledSubnet) -> tuple[float, dict[str, Tensor]]:
        supernet = supernet_of(tiny_space).train()
        shown = supernet_backward(ImageTask(supernet, codec), lambda step: members)(0, batch)
        return float(shown["random"]), gradients(supernet)

    alone = {arch: step(largest, SampledSubnet("random", (arch,))) for arch in candidates}
    losses = [loss for loss, _ in alone.values()]
    for prefer, wanted in (("lowest_loss", min(losses)), ("highest_loss", max(losses))):
        loss, found = step(largest, SampledSubnet("random", candidates, prefer))  # type: ignore[arg-type]
        assert loss == wanted
        expected = next(gradient for found_loss, gradient in alone.values() if found_loss == wanted)
        assert all(torch.equal(found[name], expected[name]) for name in found)

    member = SampledSubnet("random", candidates)
    local = dict(zip(candidates, torch.tensor([1.0, 2.0, 3.0, 4.0]), strict=True))
    others = torch.tensor([9.0, 9.0, 0.0, 9.0])
    assert choose(member, local.__getitem__, lambda losses: losses) == candidates[0]
    agreed = choose(member, local.__getitem__, lambda losses: (losses + others) / 2)
    assert agreed == candidates[2]
