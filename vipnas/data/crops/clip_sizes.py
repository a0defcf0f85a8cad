"""Sizes of the frames of a clip: crops of one size become the inputs of their networks.

Crops are made at the largest size of a clip and resized on the device, as in `resizing`. Warps are
made for heatmaps of the crops' size and moved to those of two frames. Training, calibration,
scoring and the online loop all use this.

B batch, K keypoints, H W height and width of the crops, h w those of a frame's heatmaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from vipnas.arch.clip import VideoArch
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.resizing import resize_crops, resize_points
from vipnas.models.propagation import Frame


@dataclass(frozen=True)
class ClipSizes:
    """The sizes of the frames of a clip.

    Attributes:
        codec: For the size of the crops.
        arch: The networks of the clip; None where all take the crops as they are.
    """

    codec: HeatmapCodec
    arch: VideoArch | None = None

    @classmethod
    def largest(cls, codec: HeatmapCodec, arch: VideoArch) -> ClipSizes:
        """Return the sizes for crops of the largest frame; `codec` may be of any size."""
        return cls(codec.at(arch.largest), arch)

    def codec_at(self, distance: int) -> HeatmapCodec:
        """Return the codec of a frame by its distance from the key frame."""
        return self.codec if self.arch is None else self.codec.at(self.arch.sized_as(distance))

    def images(self, distance: int, crops_B3HW: Tensor) -> Tensor:
        """Return uint8 crops at the size of a frame."""
        return resize_crops(crops_B3HW, self.codec_at(distance).input_hw)

    def frame(self, distance: int, images_B3HW: Tensor, warps_B23: Tensor | None) -> Frame:
        """Return a frame of a clip.

        Args:
            distance: Frames since the key frame.
            images_B3HW: What the network of the frame is given.
            warps_B23: As in `warp_heatmaps`, for heatmaps of the crops' size; None in a key frame.
        """
        now = self.codec_at(distance)
        if warps_B23 is not None:
            warps_B23 = resize_warps(warps_B23, self.codec, self.codec_at(distance - 1), now)
        return Frame(distance, images_B3HW, warps_B23, now.heatmap_hw)

    def encode(self, distance: int, keypoints_BK3: Tensor) -> tuple[Tensor, Tensor]:
        """Return targets (B, K, h, w) and weights (B, K) of joints in pixels of the crops."""
        codec = self.codec_at(distance)
        return codec.encode(resize_points(keypoints_BK3, self.codec.input_hw, codec.input_hw))

    def decode(self, distance: int, heatmaps_BKhw: Tensor) -> tuple[Tensor, Tensor]:
        """Return joints (B, K, 2) in pixels of the crops, and scores (B, K)."""
        codec = self.codec_at(distance)
        xy_BK2, scores_BK = codec.decode(heatmaps_BKhw)
        return resize_points(xy_BK2, codec.input_hw, self.codec.input_hw), scores_BK


def resize_warps(
    warps_B23: Tensor, crops: HeatmapCodec, before: HeatmapCodec, now: HeatmapCodec
) -> Tensor:
    """Return warps between heatmaps of two other sizes.

    Args:
        warps_B23: As in `warp_heatmaps`, for heatmaps before and now of the size of `crops`.
        crops: The codec of that size.
        before: The codec of the heatmaps before.
        now: The codec of the heatmaps now.
    """
    if before == now == crops:
        return warps_B23
    (factor, shift), (factor_before, shift_before) = (
        _to_crops(codec, crops, warps_B23.device).to(warps_B23.dtype) for codec in (now, before)
    )
    linear_B22, moved_B2 = warps_B23[..., :2], warps_B23[..., 2]
    moved_B2 = (linear_B22 @ shift + moved_B2 - shift_before) / factor_before
    linear_B22 = linear_B22 * factor / factor_before[:, None]
    return torch.cat((linear_B22, moved_B2[..., None]), dim=-1)


@cache
def _to_crops(codec: HeatmapCodec, crops: HeatmapCodec, device: torch.device) -> Tensor:
    """Return factors and shifts (x, y) from normalised places on heatmaps to those of the crops.

    By way of pixels: of these heatmaps, the input, the crop (`resize_points`), its heatmaps. They
    are made once: sending them to a GPU blocks.
    """
    axes = []
    for axis, stride, stride_of_crops in zip((1, 0), codec.stride_xy, crops.stride_xy, strict=True):
        size, size_of_crops = codec.heatmap_hw[axis], crops.heatmap_hw[axis]
        ratio = crops.input_hw[axis] / codec.input_hw[axis]
        to_normalised = 2 / (stride_of_crops * size_of_crops)
        centre = (stride * (size - 1) / 2 + 0.5) * ratio - 0.5
        factor = to_normalised * stride * size * ratio / 2
        axes.append((factor, to_normalised * centre + 1 / size_of_crops - 1))
    return torch.tensor(list(zip(*axes, strict=True)), device=device)
