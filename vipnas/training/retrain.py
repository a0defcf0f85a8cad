"""Training of one architecture by itself, on the labels."""

from __future__ import annotations

from torch import Tensor

from vipnas.data.crops import normalise
from vipnas.data.heatmap import HeatmapCodec
from vipnas.models.posenet import PoseNet
from vipnas.training.loop import Backward, Batch
from vipnas.training.losses import heatmap_loss


def retrain_backward(network: PoseNet, codec: HeatmapCodec) -> Backward:
    """The step: forward, loss against the labels, backward."""
    device = next(network.parameters()).device

    def backward(step: int, batch: Batch) -> dict[str, Tensor]:
        images_B3HW, keypoints_BK3 = (part.to(device, non_blocking=True) for part in batch)
        targets, weights = codec.encode(keypoints_BK3)
        loss = heatmap_loss(network(normalise(images_B3HW)), targets, weights)
        loss.backward()
        return {"labels": loss.detach()}

    return backward
