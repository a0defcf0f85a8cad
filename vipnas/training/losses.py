"""Losses on heatmaps. B batch, K keypoints, H W height and width of the heatmaps."""

from __future__ import annotations

from torch import Tensor


def heatmap_loss(heatmaps_BKHW: Tensor, targets_BKHW: Tensor, weights_BK: Tensor) -> Tensor:
    """Mean squared error over all pixels of all joints; joints of weight 0 add nothing.

    The mean is over all joints, labelled or not, as in the published recipe.
    """
    difference = (heatmaps_BKHW - targets_BKHW) * weights_BK[:, :, None, None]
    return difference.square().mean()


def distillation_loss(heatmaps_BKHW: Tensor, teacher_BKHW: Tensor) -> Tensor:
    """Mean squared error to the heatmaps of the largest subnet, through which no gradient flows.

    All joints count: the teacher has an opinion of unlabelled ones as well.
    """
    return (heatmaps_BKHW - teacher_BKHW.detach()).square().mean()
