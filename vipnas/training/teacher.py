"""Targets of an outer teacher beside those of the labels.

B batch, K keypoints, H W height and width of the heatmaps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vipnas.data.codecs.heatmap import HeatmapCodec


def taught_targets(
    codec: HeatmapCodec, keypoints_BK3: Tensor, teacher_BK3: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Encode labels mixed with the joints of a teacher.

    The share of the teacher is `weight` times its score. For the squared error, the mixture of two
    targets has the gradient of the mixture of two losses.

    Args:
        codec: The codec of both.
        keypoints_BK3: Labels: x and y in input pixels, and visibility.
        teacher_BK3: Joints of the teacher: x and y in input pixels, and score; score 0 for a joint
            that it lacks.
        weight: Share of the teacher at score 1.

    Returns:
        Targets (B, K, H, W) and weights (B, K), as of `codec.encode`. A joint without a label has
        the teacher's target, and the root of the share as its weight, which the loss squares.
    """
    targets_BKHW, weights_BK = codec.encode(keypoints_BK3)
    taught_BKHW, scores_BK = codec.encode(teacher_BK3)
    share_BK = weight * scores_BK
    is_labelled_BK = keypoints_BK3[..., 2] > 0
    mixed_BKHW = torch.lerp(targets_BKHW, taught_BKHW, share_BK[..., None, None])
    return (
        torch.where(is_labelled_BK[..., None, None], mixed_BKHW, taught_BKHW),
        torch.where(is_labelled_BK, weights_BK, share_BK.sqrt()),
    )
