"""Keypoints to heatmaps and back.

The sub-pixel rule, stated here for the whole project: a target is a Gaussian whose centre is where
the joint is, not on the nearest pixel, with the value 1 at its centre; decoding takes the largest
pixel and moves a quarter of a pixel towards the larger neighbour, in x and in y. There and back
that leaves at most 0.25 heatmap pixels in x and in y: 0.77 input pixels on average at stride 4.
Gaussians centred on the nearest pixel, as in the first published recipe, are symmetric about it and
hide where the joint was: at most 0.5 heatmap pixels, 1.53 input pixels on average.

B batch, K keypoints, H W height and width of the heatmaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# exp(-40) twice is still a normal float32: the far tails must not become denormal, which is slow.
_SMALLEST_EXPONENT = -40.0


@dataclass(frozen=True)
class HeatmapCodec:
    """Gaussian targets, decoded by arg-max and quarter offset.

    `sigma_px` is in heatmap pixels; the published networks use 2 on 64 x 48 for an input of
    256 x 192.
    """

    input_hw: tuple[int, int]
    heatmap_hw: tuple[int, int]
    sigma_px: float = 2.0

    def __post_init__(self) -> None:
        if min(*self.input_hw, *self.heatmap_hw) < 1 or not self.sigma_px > 0:
            raise ValueError(f"{self}: sizes and sigma must be above 0")

    @property
    def stride_xy(self) -> tuple[float, float]:
        """Input pixels per heatmap pixel."""
        return (
            self.input_hw[1] / self.heatmap_hw[1],
            self.input_hw[0] / self.heatmap_hw[0],
        )

    def encode(self, keypoints_BK3: Tensor) -> tuple[Tensor, Tensor]:
        """Targets (B, K, H, W) and weights (B, K), float32, on the device of the keypoints.

        `keypoints_BK3` holds x, y in input pixels and the visibility. The weight is 1 for a
        labelled joint (visibility above 0) whose nearest pixel lies on the map, else 0, and its
        target is then 0 everywhere.
        """
        keypoints = keypoints_BK3.float()
        x, y = (keypoints[..., axis] / self.stride_xy[axis] for axis in (0, 1))
        height, width = self.heatmap_hw
        on_map = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
        weights_BK = (on_map & (keypoints[..., 2] > 0)).float()
        rows_BKH = self._gaussian(y, height) * weights_BK[..., None]
        columns_BKW = self._gaussian(x, width)
        return rows_BKH[..., :, None] * columns_BKW[..., None, :], weights_BK

    def _gaussian(self, centre: Tensor, length: int) -> Tensor:
        distance = torch.arange(length, device=centre.device) - centre[..., None]
        exponent = distance.square() / (-2.0 * self.sigma_px**2)
        return exponent.clamp_(min=_SMALLEST_EXPONENT).exp_()

    def decode(self, heatmaps_BKHW: Tensor) -> tuple[Tensor, Tensor]:
        """Keypoints (B, K, 2) as x, y in input pixels, and their scores (B, K): the peak values."""
        peaks_BK, scores_BK = _peaks(heatmaps_BKHW)
        xy_BK2 = _quarter_offset(heatmaps_BKHW, peaks_BK)
        return xy_BK2 * xy_BK2.new_tensor(self.stride_xy), scores_BK


def _peaks(heatmaps_BKHW: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the largest pixel (the first of equals) in the flattened map, and its value."""
    flat = heatmaps_BKHW.flatten(2)
    if flat.device.type == "cpu" and flat.dtype in (torch.float32, torch.float64):
        # numpy's arg-max runs at the speed of memory, several times that of torch's.
        peaks_BK = torch.from_numpy(flat.detach().numpy().argmax(axis=2))
        return peaks_BK, flat.gather(2, peaks_BK[..., None])[..., 0]
    scores_BK, peaks_BK = flat.max(dim=2)
    return peaks_BK, scores_BK


def _quarter_offset(heatmaps_BKHW: Tensor, peaks_BK: Tensor) -> Tensor:
    """Peak position (B, K, 2) in heatmap pixels, moved 0.25 towards the larger neighbour.

    Where the peak is on the border, so that a neighbour is missing, it is not moved on that axis.
    """
    height, width = heatmaps_BKHW.shape[-2:]
    flat = heatmaps_BKHW.flatten(2)
    moved = []
    for position, step, length in (
        (peaks_BK % width, 1, width),
        (peaks_BK // width, width, height),
    ):
        inside = (position > 0) & (position < length - 1)
        sides = torch.stack((peaks_BK - step, peaks_BK + step), dim=-1)
        before, after = flat.gather(2, sides.clamp(0, height * width - 1)).unbind(-1)
        moved.append(position + 0.25 * torch.sign(after - before).float() * inside)
    return torch.stack(moved, dim=-1)


def flip_back(heatmaps_BKHW: Tensor, flip_order: Sequence[int], shift: bool = True) -> Tensor:
    """Heatmaps of mirrored images, brought back to the images as they were.

    Mirroring an image array takes x to width - 1 - x, and heatmaps likewise, which at stride s
    disagree by s - 1 input pixels; `shift` moves the result one heatmap pixel to the right, as in
    the published networks, so that both agree to within one input pixel.
    """
    flipped = heatmaps_BKHW[:, list(flip_order)].flip(-1)
    if shift:
        flipped[..., 1:] = flipped[..., :-1].clone()
    return flipped
