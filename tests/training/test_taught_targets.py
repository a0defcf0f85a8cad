"""Targets of a teacher by hand, and the joints that crops give it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vipnas.config.data import Augmentation
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.loader import TrainingCrops
from vipnas.data.formats.coco import read_coco
from vipnas.data.formats.skeletons import COCO_17
from vipnas.synthetic.images import ANNOTATIONS, synthesize
from vipnas.training.losses import heatmap_loss
from vipnas.training.step import ImageTask
from vipnas.training.teacher import taught_targets

CODEC = HeatmapCodec((32, 32), (8, 8), 1.0)
# Labelled, labelled but unknown to the teacher, labelled outside of the crop, not labelled.
LABELS = torch.tensor([[[8.0, 8, 2], [20, 8, 1], [90, 8, 2], [0, 0, 0]]])
TEACHER = torch.tensor([[[12.0, 16, 0.5], [0, 0, 0], [28, 28, 1.0], [4, 24, 0.8]]])


def test_targets_are_mixed_by_score_and_joints_without_a_label_are_the_teachers() -> None:
    targets, weights = taught_targets(CODEC, LABELS, TEACHER, 0.4)
    label, found = CODEC.encode(LABELS)[0][0], CODEC.encode(TEACHER)[0][0]
    torch.testing.assert_close(targets[0, 0], 0.8 * label[0] + 0.2 * found[0])
    assert torch.equal(targets[0, 1], label[1])
    assert torch.equal(targets[0, 3], found[3])
    torch.testing.assert_close(weights, torch.tensor([[1.0, 1.0, 0.0, 0.32**0.5]]))


def test_the_gradient_is_that_of_the_mixture_of_both_losses() -> None:
    heatmaps = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    heatmaps.requires_grad_()
    heatmap_loss(heatmaps, *taught_targets(CODEC, LABELS, TEACHER, 0.4)).backward()
    share = torch.tensor([[0.2, 0.0, 0.0, 0.32]])
    (labels, is_shown), (found, _) = CODEC.encode(LABELS), CODEC.encode(TEACHER)
    other = heatmaps.detach().clone().requires_grad_()
    by_labels = heatmap_loss(other, labels, is_shown * (1 - share).sqrt())
    (by_labels + heatmap_loss(other, found, share.sqrt())).backward()
    torch.testing.assert_close(heatmaps.grad, other.grad)


def test_a_weight_of_0_is_no_teacher() -> None:
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    tasks = [ImageTask(lambda images, arch: images, CODEC, weight) for weight in (0.0, 0.4)]
    (without, _), (ignored, taught) = (
        [task.prepare(0, batch)(None) for task in tasks]
        for batch in ((images, LABELS), (images, LABELS, TEACHER))
    )
    assert torch.equal(without.targets[0], ignored.targets[0])
    assert torch.equal(without.weights[0], ignored.weights[0])
    assert not torch.equal(taught.targets[0], ignored.targets[0])


def test_joints_of_the_teacher_move_as_the_labels_do(tmp_path: Path) -> None:
    synthesize(tmp_path, 3, seed=0, image_hw=(64, 64))
    data = read_coco(tmp_path / ANNOTATIONS, tmp_path / "images", COCO_17)
    persons, skeleton = data.persons, data.skeleton
    crops = TrainingCrops(persons, skeleton, (32, 24), Augmentation(), 0)
    taught = crops.taught_by(np.stack([person.keypoints_K3 for person in persons]))
    keys = [(epoch, index) for epoch in range(8) for index in range(len(persons))]
    images, labels, found = taught.__getitems__(keys)
    assert torch.equal(labels, found)
    assert torch.equal(labels, crops.__getitems__(keys)[1])
    assert torch.equal(images[3], taught[keys[3]][0])
