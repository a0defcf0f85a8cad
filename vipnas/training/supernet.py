"""Training of the supernet: the sandwich rule with in-place distillation."""

from __future__ import annotations

import torch
from torch import Tensor

from vipnas.data.crops import normalise
from vipnas.data.heatmap import HeatmapCodec
from vipnas.models.posenet import PoseNet
from vipnas.space import SearchSpace
from vipnas.training.loop import Backward, Batch
from vipnas.training.losses import distillation_loss, heatmap_loss
from vipnas.training.sandwich import archs_of_step


def supernet_backward(
    supernet: PoseNet, space: SearchSpace, codec: HeatmapCodec, seed: int, num_random: int
) -> Backward:
    """The step: the largest learns from labels, the others from the largest; gradients add up."""
    device = next(supernet.parameters()).device

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        images_B3HW, keypoints_BK3 = (part.to(device, non_blocking=True) for part in batch)
        targets, weights = codec.encode(keypoints_BK3)
        images = normalise(images_B3HW)
        largest, *others = archs_of_step(space, seed, step, num_random)
        teacher = supernet(images, largest)
        loss = heatmap_loss(teacher, targets, weights)
        loss.backward()
        distilled = []
        for arch in others:
            distilled.append(distillation_loss(supernet(images, arch), teacher))
            distilled[-1].backward()
        shown = {"largest": loss.detach(), "smallest": distilled[-1].detach()}
        if num_random:
            shown["random"] = torch.stack(distilled[:-1]).mean().detach()
        return shown

    return backward
