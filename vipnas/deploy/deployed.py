"""A network with optional normalisation of images and decoding of heatmaps, for export."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import IMAGENET_MEAN_RGB, IMAGENET_STD_RGB
from vipnas.models.clipnet import FollowUpNet
from vipnas.models.posenet import PoseNet
from vipnas.models.propagation import warp_heatmaps


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
        self.mean, self.std = _mean_and_std()

    @property
    def output_name(self) -> str:
        return "heatmaps" if self.codec is None else "keypoints"

    def forward(self, images: Tensor) -> Tensor:
        if self.with_preprocessing:
            images = _normalised(images, self.mean, self.std)
        weight = next(self.network.parameters())
        heatmaps: Tensor = self.network(images.to(weight.dtype)).float()
        return heatmaps if self.codec is None else joints_of(self.codec, heatmaps)

    def images_from(self, crops_N3HW: Tensor) -> Tensor:
        """Return uint8 RGB crops in the form that `forward` takes."""
        if self.with_preprocessing:
            return crops_N3HW.permute(0, 2, 3, 1).contiguous()
        return (crops_N3HW.float() - self.mean) / self.std


class DeployedFollowUp(nn.Module):
    """The network of a follow-up frame, with normalisation of images and the warp, for export."""

    def __init__(self, network: FollowUpNet) -> None:
        super().__init__()
        self.network = network
        self.mean, self.std = _mean_and_std()

    def forward(self, images: Tensor, before: Tensor, warps: Tensor) -> Tensor:
        """Compute heatmaps (N, K, h, w).

        Args:
            images: uint8 RGB (N, H, W, 3).
            before: Heatmaps (N, K, h, w) of the previous frame, of its crops.
            warps: Maps (N, 2, 3) from these crops to those, as in `warp_heatmaps`.
        """
        weight = next(self.network.parameters())
        images = _normalised(images, self.mean, self.std).to(weight.dtype)
        heatmaps: Tensor = self.network(images, warp_heatmaps(before, warps))
        return heatmaps.float()


class CarriedHeatmaps(nn.Module):
    """A follow-up frame without a network, for export: heatmaps of the previous frame, warped."""

    def forward(self, before: Tensor, warps: Tensor) -> Tensor:
        """Compute heatmaps (N, K, h, w); the arguments are those of `DeployedFollowUp`."""
        return warp_heatmaps(before, warps)


def _normalised(images_NHW3: Tensor, mean_311: Tensor, std_311: Tensor) -> Tensor:
    return (images_NHW3.permute(0, 3, 1, 2).float() - mean_311) / std_311


def _mean_and_std() -> tuple[Tensor, Tensor]:
    """Return mean and deviation of pixels in 0..255, (3, 1, 1)."""
    mean_311, std_311 = (
        255 * torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN_RGB, IMAGENET_STD_RGB)
    )
    return mean_311, std_311


class FlipMean(nn.Module):
    """The mean of the heatmaps (N, K, h, w) of images and of their mirror images, by the codec."""

    def __init__(self, codec: HeatmapCodec, flip_order: Sequence[int], shift: bool) -> None:
        super().__init__()
        self.codec, self.flip_order, self.shift = codec, tuple(flip_order), shift

    def forward(self, heatmaps: Tensor, mirrored: Tensor) -> Tensor:
        return self.codec.average(heatmaps, mirrored, self.flip_order, self.shift)


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
