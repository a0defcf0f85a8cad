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
    """Return the mean squared error over all pixels of all joints; weight 0 excludes a joint.

    The mean is over all joints, labelled or not, as in the published recipe.
    """
    errors_BK = F.mse_loss(heatmaps_BKHW, targets_BKHW, reduction="none").mean(dim=(2, 3))
    return (errors_BK * weights_BK.square()).mean()


def distillation_loss(heatmaps_BKHW: Tensor, teacher_BKHW: Tensor) -> Tensor:
    """Return the mean squared error to the teacher, through which no gradient flows.

    All joints count, because the teacher also predicts unlabelled ones.
    """
    return F.mse_loss(heatmaps_BKHW, teacher_BKHW.detach())


def softmax_divergence(
    heatmaps_BKHW: Tensor, teacher_BKHW: Tensor, weights_BK: Tensor, temperature: float
) -> Tensor:
    """Return the Kullback-Leibler divergence from the teacher's softmax to the student's.

    The softmax is over all pixels of a joint, and the divergence is the mean over all joints. No
    gradient flows through the teacher. Joints of weight 0 add nothing: the softmax of the flat map
    of an unlabelled joint would be a confident prediction. The factor of the squared temperature
    keeps the scale of gradients (Hinton et al., 2015).
    """
    student = F.log_softmax(heatmaps_BKHW.flatten(2) / temperature, dim=2)
    teacher = F.log_softmax(teacher_BKHW.detach().flatten(2) / temperature, dim=2)
    divergence_BK = (teacher.exp() * (teacher - student)).sum(dim=2)
    return (divergence_BK * weights_BK).mean() * temperature**2
