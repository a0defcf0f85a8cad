"""A step of the supernet: gradients add up, and none flows through the teacher."""

from __future__ import annotations

import torch
from torch import Tensor
from training_fixture import batch_of, codec_of, supernet_of

from vipnas.data.crops import normalise
from vipnas.models.posenet import PoseNet, extract
from vipnas.space import SearchSpace
from vipnas.training.losses import distillation_loss, heatmap_loss
from vipnas.training.retrain import retrain_backward
from vipnas.training.sandwich import archs_of_step
from vipnas.training.supernet import supernet_backward


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


def test_no_gradient_flows_through_the_teacher() -> None:
    student = torch.tensor([[[[3.0]]]], requires_grad=True)
    teacher = torch.tensor([[[[1.0]]]], requires_grad=True)
    distillation_loss(student, teacher).backward()
    assert student.grad is not None and student.grad.item() == 4
    assert teacher.grad is None


def test_unlabelled_joints_add_nothing_to_the_gradient() -> None:
    heatmaps = torch.ones(1, 2, 1, 2, requires_grad=True)
    heatmap_loss(heatmaps, torch.zeros(1, 2, 1, 2), torch.tensor([[1.0, 0.0]])).backward()
    assert heatmaps.grad is not None
    assert heatmaps.grad.tolist() == [[[[0.5, 0.5]], [[0.0, 0.0]]]]


def test_the_step_is_the_sum_of_separate_backward_passes(tiny_space: SearchSpace) -> None:
    codec, batch = codec_of(tiny_space), batch_of(tiny_space, 3)
    supernet = supernet_of(tiny_space).train()
    shown = supernet_backward(supernet, tiny_space, codec, seed=4, num_random=2)(3, batch)
    found = gradients(supernet)

    images = normalise(batch[0])
    targets, weights = codec.encode(batch[1])
    largest, *others = archs_of_step(tiny_space, 4, 3, 2)
    losses, expected = [], {name: torch.zeros_like(value) for name, value in found.items()}
    for arch in (largest, *others):
        fresh = supernet_of(tiny_space).train()
        teacher = fresh(images, largest).detach()
        if arch == largest:
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


def test_students_learn_nothing_from_the_labels(tiny_space: SearchSpace) -> None:
    """With other labels, only the gradient of the largest changes: by exactly its own."""
    codec, (images, keypoints) = codec_of(tiny_space), batch_of(tiny_space, 0)
    elsewhere = keypoints.flip(0)
    step, alone = [], []
    for labels in (keypoints, elsewhere):
        supernet = supernet_of(tiny_space).train()
        supernet_backward(supernet, tiny_space, codec, 0, 1)(0, (images, labels))
        step.append(gradients(supernet))
        supernet = supernet_of(tiny_space).train()
        retrain_backward(supernet, codec)(0, (images, labels))
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
    supernet_backward(supernet, tiny_space, codec_of(tiny_space), 0, 0)(0, batch_of(tiny_space, 0))
    assert all(parameter.grad is not None for parameter in supernet.parameters())


def test_retraining_a_member_takes_the_gradient_it_has_in_the_supernet(
    tiny_space: SearchSpace,
) -> None:
    arch = tiny_space.min_arch()
    supernet, codec, batch = supernet_of(tiny_space), codec_of(tiny_space), batch_of(tiny_space, 0)
    network = extract(supernet, arch).train()
    loss = retrain_backward(network, codec)(0, batch)["labels"]
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
