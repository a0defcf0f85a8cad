"""Keypoints to heatmaps and back: one class for each codec, chosen by its name in `CODECS`.

The sub-pixel rule, stated here for the whole project: a target is a Gaussian whose centre is where
the joint is, not on the nearest pixel, with the value 1 at its centre. Decoding (`quarter`) takes
the largest pixel and moves a quarter of a pixel towards the larger neighbour, in x and in y. There
and back that leaves at most 0.25 heatmap pixels in x and in y: 0.77 input pixels on average at
stride 4; `dark` and `udp` leave at most 0.03 input pixels of noise-free heatmaps.
Gaussians centred on the nearest pixel, as in the first published recipe, are symmetric about it and
hide where the joint was: at most 0.5 heatmap pixels, 1.53 input pixels on average.

B batch, K keypoints, H W height and width of the heatmaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vipnas.data.codecs.dark import refine
from vipnas.files import did_you_mean

# exp(-40) twice is still a normal float32: the far tails must not become denormal, which is slow.
_SMALLEST_EXPONENT = -40.0


@dataclass(frozen=True)
class HeatmapCodec:
    """Gaussian targets, decoded by arg-max and quarter offset: the codec `quarter`.

    `sigma_px` is in heatmap pixels; the published networks use 2 on 64 x 48 for an input of
    256 x 192. The others differ from this one in what they override.
    """

    input_hw: tuple[int, int]
    heatmap_hw: tuple[int, int]
    sigma_px: float = 2.0

    def __post_init__(self) -> None:
        if min(*self.input_hw, *self.heatmap_hw) < 1 or not self.sigma_px > 0:
            raise ValueError(f"{self}: sizes and sigma must be above 0")

    @property
    def span_hw(self) -> tuple[int, int]:
        """Input pixels that the region of a crop is mapped onto: what the functions of `geometry`
        and `crops` are given as the size of the input."""
        return self.input_hw

    @property
    def shift_flipped(self) -> bool:
        """Whether heatmaps of mirrored crops must be shifted to agree (`flip_back`)."""
        return True

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
        xy_BK2 = self._tops(heatmaps_BKHW, peaks_BK)
        return xy_BK2 * xy_BK2.new_tensor(self.stride_xy), scores_BK

    def _tops(self, heatmaps_BKHW: Tensor, peaks_BK: Tensor) -> Tensor:
        """Sub-pixel positions (B, K, 2) of the peaks, x and y in heatmap pixels."""
        return _quarter_offset(heatmaps_BKHW, peaks_BK)


@dataclass(frozen=True)
class DarkCodec(HeatmapCodec):
    """Gaussian targets, decoded by the shape of the peak: the codec `dark` (Zhang et al., CVPR
    2020).

    Encoding and geometry are those of `quarter`: it decodes networks that were trained with that.
    """

    def _tops(self, heatmaps_BKHW: Tensor, peaks_BK: Tensor) -> Tensor:
        width = heatmaps_BKHW.shape[-1]
        peaks_xy_BK2 = torch.stack((peaks_BK % width, peaks_BK // width), dim=-1)
        tops_N2 = refine(heatmaps_BKHW.flatten(0, 1), peaks_xy_BK2.flatten(0, 1), self.sigma_px)
        return tops_N2.view(peaks_xy_BK2.shape)


@dataclass(frozen=True)
class UdpCodec(DarkCodec):
    """Unbiased coordinates, decoded as by `dark`: the codec `udp` (Huang et al., "The Devil Is in
    the Details: Delving Into Unbiased Data Processing for Human Pose Estimation", CVPR 2020).

    Sizes are distances between the centres of the first and the last pixel, W - 1 and not W, in
    crops (`span_hw`) and heatmaps. Mirroring the array of an image or of a heatmap is then the
    mirror of its coordinates, and the flip test needs no shift. A network must be trained and
    tested with crops of this geometry.
    """

    @property
    def span_hw(self) -> tuple[int, int]:
        return self.input_hw[0] - 1, self.input_hw[1] - 1

    @property
    def shift_flipped(self) -> bool:
        return False

    @property
    def stride_xy(self) -> tuple[float, float]:
        return (
            (self.input_hw[1] - 1) / max(self.heatmap_hw[1] - 1, 1),
            (self.input_hw[0] - 1) / max(self.heatmap_hw[0] - 1, 1),
        )


CODECS: dict[str, type[HeatmapCodec]] = {
    "quarter": HeatmapCodec,
    "dark": DarkCodec,
    "udp": UdpCodec,
}


def make_codec(
    name: str, input_hw: tuple[int, int], heatmap_hw: tuple[int, int], sigma_px: float = 2.0
) -> HeatmapCodec:
    """The codec of that name; ValueError for an unknown one, with the known ones."""
    if name not in CODECS:
        raise ValueError(f"codec {name!r} is unknown; {did_you_mean(name, CODECS)}")
    return CODECS[name](input_hw, heatmap_hw, sigma_px)


def _peaks(heatmaps_BKHW: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the largest pixel (the first of equals) in the flattened map, and its value."""
    flat = heatmaps_BKHW.flatten(2)
    plain = flat.device.type == "cpu" and flat.dtype in (torch.float32, torch.float64)
    if plain and not torch.compiler.is_compiling():  # numpy is not part of an exported graph
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
    return torch.cat((flipped[..., :1], flipped[..., :-1]), dim=-1) if shift else flipped
