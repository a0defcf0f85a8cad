"""Calibration by hand, scores that depend on nothing but network and crops, flip test aligned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_fixture import evaluator_of, noise
from torch import Tensor, nn
from training_fixture import supernet_of

from vipnas.data.codecs.heatmap import flip_back
from vipnas.data.crops.crops import normalise
from vipnas.data.formats.skeletons import COCO_17
from vipnas.evaluation.evaluator import calibrate_bn, mirror
from vipnas.models.elastic import ElasticConv2d
from vipnas.space.image import SearchSpace


class Oracle(nn.Module):
    """Answers with the given heatmaps, in the order of the batches."""

    def __init__(self, heatmaps_NKHW: Tensor) -> None:
        super().__init__()
        self.heatmaps = nn.Parameter(heatmaps_NKHW)
        self.next = 0

    def forward(self, images_B3HW: Tensor) -> Tensor:
        first, self.next = self.next, self.next + len(images_B3HW)
        return self.heatmaps[first : self.next]


def test_calibration_is_the_mean_over_the_images_however_short_the_last_batch(
    tiny_space: SearchSpace,
) -> None:
    network = supernet_of(tiny_space).eval()
    images = noise(tiny_space, 10, 0)
    stem_conv = network.get_submodule("layers.stem.conv")
    assert isinstance(stem_conv, ElasticConv2d)
    with torch.no_grad():
        outputs = [stem_conv(normalise(batch), 8, 3) for batch in images.split(4)]
    calibrate_bn(network, images, batch_size=4)
    norm = network.get_submodule("layers.stem.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    mean = torch.cat(outputs).mean((0, 2, 3))
    variance = sum(output.var((0, 2, 3)) * len(output) for output in outputs) / len(images)
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var, variance, rtol=1e-5, atol=1e-6)


def test_calibration_forgets_the_past_and_disturbs_nothing_else(tiny_space: SearchSpace) -> None:
    images = noise(tiny_space, 6, 0)
    first, second = supernet_of(tiny_space), supernet_of(tiny_space).train()
    for module in second.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.7
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.fill_(1e6)
            module.running_var.fill_(1e-6)
    weights = {name: tensor.clone() for name, tensor in second.named_parameters()}
    for network in (first.eval(), second):
        calibrate_bn(network, images, batch_size=3)
    assert not first.training and second.training
    state = second.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in first.state_dict().items())
    assert all(torch.equal(weights[name], tensor) for name, tensor in second.named_parameters())
    norms = [module for module in second.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.7} and all(norm.training for norm in norms)


def test_heatmaps_of_the_labels_score_one(tiny_space: SearchSpace) -> None:
    evaluator = evaluator_of(tiny_space, flip_test=False)
    heatmaps, _ = evaluator.codec.encode(evaluator.crops.keypoints_BK3)
    xy, scores = evaluator.predict(Oracle(heatmaps))
    distance = np.abs(xy - evaluator.crops.keypoints_BK3[..., :2].numpy())
    assert distance.max() <= 0.25 * 4  # a quarter of a heatmap pixel, at stride 4
    assert scores.min() > 0.5
    assert evaluator(Oracle(heatmaps)).ap == 1.0
    assert evaluator(Oracle(heatmaps.flip(0))).ap < 0.1


def test_crops_are_predicted_one_as_the_other_whatever_the_batch(tiny_space: SearchSpace) -> None:
    evaluator = evaluator_of(tiny_space)
    network = supernet_of(tiny_space).train()
    xy, scores = evaluator.predict(network)
    assert network.training
    other_xy, other_scores = replace(evaluator, batch_size=7).predict(network)
    np.testing.assert_allclose(scores, other_scores, rtol=1e-4)
    assert (np.abs(xy - other_xy) < 1e-6).mean() > 0.99


def test_heatmaps_that_are_not_finite_are_an_error(tiny_space: SearchSpace) -> None:
    evaluator = evaluator_of(tiny_space)
    network = supernet_of(tiny_space)
    network.get_parameter("layers.heatmaps.conv.bias").data[3] = float("nan")
    with pytest.raises(FloatingPointError, match="not finite"):
        evaluator(network)


class Symmetric(nn.Module):
    """Stride 4 by two convolutions that are the same from left to right and for left and right
    joints; whole numbers, so that sums are exact in any order."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        first = torch.randint(-3, 4, (4, 3, 3, 3), generator=generator).float()
        second = torch.randint(-3, 4, (17, 4, 3, 3), generator=generator).float()
        self.first = nn.Parameter(first + first.flip(3))
        second = second + second.flip(3)
        self.second = nn.Parameter(second + second[list(COCO_17.flip_order)])

    def forward(self, images_B3HW: Tensor) -> Tensor:
        x = nn.functional.conv2d(images_B3HW, self.first, stride=2, padding=1)
        return nn.functional.conv2d(x, self.second, stride=2, padding=1)


@torch.no_grad()
def test_the_flip_test_meets_the_unflipped_heatmaps_exactly() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 9, (2, 3, 32, 24), generator=generator).float()
    network = Symmetric()
    heatmaps = network(images)
    back = flip_back(network(mirror(images, shift=True)), COCO_17.flip_order, shift=True)
    # The first column of the mirrored heatmaps would lie outside: it is repeated.
    assert torch.equal(back[..., 1:], heatmaps[..., 1:])
    assert not torch.equal(back[..., 0], heatmaps[..., 0])
    # Without the shift of the image the two lie an input pixel apart.
    apart = flip_back(network(images.flip(3)), COCO_17.flip_order, shift=True)
    assert not torch.equal(apart[..., 1:], heatmaps[..., 1:])


def test_mirroring_by_hand() -> None:
    row = torch.tensor([1.0, 2, 3, 4]).view(1, 1, 1, 4)
    assert mirror(row, shift=True).flatten().tolist() == [4, 4, 3, 2]
    assert mirror(row, shift=False).flatten().tolist() == [4, 3, 2, 1]
