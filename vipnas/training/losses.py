"""Losses on heatmaps. B batch, K keypoints, H W height and width of the heatmaps."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from vipnas.config.training import Distillation


def student_loss(
    distillation: Distillation,
    step: int,
    heatmaps_BKHW: Tensor,
    teacher_BKHW: Tensor,
    targets_BKHW: Tensor,
    weights_BK: Tensor,
) -> Tensor:
    """Return the loss of a smaller subnet at a step. No gradient flows through the teacher."""
    teacher_share, label_share = distillation.shares(step)
    loss = heatmaps_BKHW.new_zeros(())
    if teacher_share > 0 and distillation.loss == "mse":
        loss = loss + teacher_share * distillation_loss(heatmaps_BKHW, teacher_BKHW)
    elif teacher_share > 0:
        loss = loss + teacher_share * softmax_divergence(
            heatmaps_BKHW, teacher_BKHW, weights_BK, distillation.temperature
        )
    if label_share > 0:
        loss = loss + label_share * heatmap_loss(heatmaps_BKHW, targets_BKHW, weights_BK)
    return loss


def heatmap_loss(heatmaps_BKHW: Tensor, targets_BKHW: Tensor, weights_BK: Tensor) -> Tensor:
    """Mean squared error over all pixels of all joints; joints of weight 0 add nothing.

    The mean is over all joints, labelled or not, as in the published recipe.
    """
    errors_BK = F.mse_loss(heatmaps_BKHW, targets_BKHW, reduction="none").mean(dim=(2, 3))
    return (errors_BK * weights_BK.square()).mean()


def distillation_loss(heatmaps_BKHW: Tensor, teacher_BKHW: Tensor) -> Tensor:
    """Mean squared error to the heatmaps of the largest subnet, through which no gradient flows.

    All joints count: the teacher has an opinion of unlabelled ones as well.
    """
    return F.mse_loss(heatmaps_BKHW, teacher_BKHW.detach())


def softmax_divergence(
    heatmaps_BKHW: Tensor, teacher_BKHW: Tensor, weights_BK: Tensor, temperature: float
) -> Tensor:
    """Kullback-Leibler divergence from the teacher's softmax over all pixels of a joint to the
    student's; mean over all joints. No gradient flows through the teacher.

    Joints of weight 0 add nothing: a softmax turns the low, flat map of a joint that the teacher
    was never asked for into a firm opinion. Multiplied by the square of the temperature, so that
    gradients keep their size (Hinton et al., 2015). The level of a map does not matter to it.
    """
    student = F.log_softmax(heatmaps_BKHW.flatten(2) / temperature, dim=2)
    teacher = F.log_softmax(teacher_BKHW.detach().flatten(2) / temperature, dim=2)
    divergence_BK = (teacher.exp() * (teacher - student)).sum(dim=2)
    return (divergence_BK * weights_BK).mean() * temperature**2
