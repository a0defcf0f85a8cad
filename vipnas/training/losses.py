"""Losses on heatmaps, and on the bins of a SimCC head.

B batch, K keypoints, H W height and width of the heatmaps, X Y number of bins along x and y.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from torch import Tensor
from torch.nn import functional as F

from vipnas.config.training import Distillation
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.codecs.simcc import SimccCodec

# From a network's output, targets and weights (B, K) to the loss.
LabelLoss: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


def label_loss_of(codec: HeatmapCodec) -> LabelLoss:
    """Return the loss against the labels, by the head that a codec belongs to."""
    if isinstance(codec, SimccCodec):
        return partial(simcc_loss, codec.bins_xy)
    return heatmap_loss


def simcc_loss(
    bins_xy: tuple[int, int], logits_BK1N: Tensor, targets_BK1N: Tensor, weights_BK: Tensor
) -> Tensor:
    """Return the Kullback-Leibler divergence from targets to predictions, the sum of both axes.

    The mean is over all joints, and weights count as in `heatmap_loss`.

    Args:
        bins_xy: Number of bins along x and along y.
        logits_BK1N: Logits (B, K, 1, X + Y).
        targets_BK1N: Distributions over the bins of x and of y, or zeros.
        weights_BK: Weights (B, K).
    """
    logits = logits_BK1N.split(bins_xy, dim=-1)
    targets = targets_BK1N.split(bins_xy, dim=-1)
    axes = (
        F.kl_div(F.log_softmax(logits_BK1X, dim=-1), targets_BK1X, reduction="none").sum((2, 3))
        for logits_BK1X, targets_BK1X in zip(logits, targets, strict=True)
    )
    return (sum(axes, start=weights_BK.new_zeros(())) * weights_BK.square()).mean()


def heatmap_loss(heatmaps_BKHW: Tensor, targets_BKHW: Tensor, weights_BK: Tensor) -> Tensor:
    """Return the mean squared error over all pixels of all joints; weight 0 excludes a joint.

    The mean is over all joints, labelled or not, as in the published recipe.
    """
    errors_BK = F.mse_loss(heatmaps_BKHW, targets_BKHW, reduction="none").mean(dim=(2, 3))
    return (errors_BK * weights_BK.square()).mean()


def student_loss(
    distillation: Distillation,
    step: int,
    heatmaps_BKHW: Tensor,
    teacher_BKHW: Tensor,
    targets_BKHW: Tensor,
    weights_BK: Tensor,
    label_loss: LabelLoss = heatmap_loss,
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
        loss = loss + label_share * label_loss(heatmaps_BKHW, targets_BKHW, weights_BK)
    return loss


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
