"""Training of one architecture by itself, on the labels."""

from __future__ import annotations

from torch import Tensor

from vipnas.data.crops import normalise
from vipnas.data.heatmap import HeatmapCodec
from vipnas.training.compute import Forward
from vipnas.training.loop import Backward, Batch
from vipnas.training.losses import heatmap_loss


def retrain_backward(forward: Forward, codec: HeatmapCodec) -> Backward:
    """The step: forward, loss against the labels, backward."""

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        images_B3HW, keypoints_BK3 = batch
        targets, weights = codec.encode(keypoints_BK3)
        loss = heatmap_loss(forward(normalise(images_B3HW), None), targets, weights)
        loss.backward()
        return {"labels": loss.detach()}

    return backward
