"""A network with optional normalisation of images and decoding of heatmaps, for export."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from vipnas.models.posenet import PoseNet


class DeployedNet(nn.Module):
    """From images to heatmaps or to joints, in the precision of the network's weights.

    Args:
        network: The network itself.
        with_preprocessing: Take uint8 RGB images (N, H, W, 3), as decoded from files. Without it,
            take float32 images (N, 3, H, W), normalised as in training.
        codec: Return joints (N, K, 3) by this codec: x, y in input pixels and the score. Without
            it, return heatmaps (N, K, h, w). Both are float32.
    """

    def __init__(
        self, network: PoseNet, with_preprocessing: bool = False, codec: HeatmapCodec | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.with_preprocessing = with_preprocessing
        self.codec = codec
        # No buffers, so that they stay float32 when the module is cast to float16.
        self.mean, self.std = (
            255 * torch.tensor(values).view(3, 1, 1)
            for values in (IMAGENET_MEAN_RGB, IMAGENET_STD_RGB)
        )

    @property
    def output_name(self) -> str:
        return "heatmaps" if self.codec is None else "keypoints"

    def forward(self, images: Tensor) -> Tensor:
        if self.with_preprocessing:
            images = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        weight = next(self.network.parameters())
        heatmaps: Tensor = self.network(images.to(weight.dtype)).float()
        return heatmaps if self.codec is None else joints_of(self.codec, heatmaps)

    def images_from(self, crops_N3HW: Tensor) -> Tensor:
        """Return uint8 RGB crops in the form that `forward` takes."""
        if self.with_preprocessing:
            return crops_N3HW.permute(0, 2, 3, 1).contiguous()
        return (crops_N3HW.float() - self.mean) / self.std


class Decoder(nn.Module):
    """From heatmaps (N, K, h, w) to joints (N, K, 3): x, y in input pixels and the score."""

    def __init__(self, codec: HeatmapCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, heatmaps: Tensor) -> Tensor:
        return joints_of(self.codec, heatmaps)


def joints_of(codec: HeatmapCodec, heatmaps: Tensor) -> Tensor:
    """Return joints (N, K, 3) of heatmaps (N, K, h, w)."""
    xy_NK2, scores_NK = codec.decode(heatmaps)
    return torch.cat((xy_NK2, scores_NK[..., None]), dim=2)
