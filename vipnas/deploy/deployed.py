"""A network with what may stand before and behind it in an exported file: reading the image, and
finding the joints in the heatmaps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from vipnas.models.posenet import PoseNet


class DeployedNet(nn.Module):
    """Images to heatmaps, or to joints, in the precision of the network's weights.

    `with_preprocessing`: images are uint8 RGB (N, H, W, 3), as they are decoded from files, and not
    float32 (N, 3, H, W), normalised as in training. With a `codec` the result is (N, K, 3): x and y
    in input pixels and the score; without one, heatmaps (N, K, h, w). Results are float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: PoseNet, with_preprocessing: bool = False, codec: HeatmapCodec | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.with_preprocessing = with_preprocessing
        self.codec = codec
        for name, values in (("mean", IMAGENET_MEAN_RGB), ("std", IMAGENET_STD_RGB)):
            constant = 255 * torch.tensor(values).view(3, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    @property
    def output_name(self) -> str:
        return "heatmaps" if self.codec is None else "keypoints"

    def forward(self, images: Tensor) -> Tensor:
        if self.with_preprocessing:
            images = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        weight = next(self.network.parameters())
        heatmaps: Tensor = self.network(images.to(weight.dtype)).float()
        if self.codec is None:
            return heatmaps
        xy_NK2, scores_NK = self.codec.decode(heatmaps)
        return torch.cat((xy_NK2, scores_NK[..., None]), dim=2)

    def images_from(self, crops_N3HW: Tensor) -> Tensor:
        """uint8 RGB crops in the form that `forward` takes."""
        if self.with_preprocessing:
            return crops_N3HW.permute(0, 2, 3, 1).contiguous()
        return (crops_N3HW.float() - self.mean.cpu()) / self.std.cpu()
