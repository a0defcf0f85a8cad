"""Codecs between keypoints and heatmaps: one class each, chosen by name from `CODECS`.

The sub-pixel convention of the whole project: a target is a Gaussian centred on the joint, not on
the nearest pixel, with the value 1 at its centre. The codec `quarter` decodes the largest pixel,
moved a quarter of a pixel towards the larger neighbour in x and y. A round trip then errs by at
most 0.25 heatmap pixels in x and y: 0.77 input pixels on average at stride 4. With `dark` and
`udp`, it errs by at most 0.03 input pixels on noise-free heatmaps.
Gaussians centred on the nearest pixel, as in the first published recipe, lose the sub-pixel
position: at most 0.5 heatmap pixels, 1.53 input pixels on average.

B batch, K keypoints, H W height and width of the heatmaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vipnas.arch.image import Arch
from vipnas.data.codecs.dark import refine, refine_array, runs_in_numpy
from vipnas.files import did_you_mean

# exp(-40) squared is still a normal float32. Denormal tails would be slow.
_SMALLEST_EXPONENT = -40.0


@dataclass(frozen=True)
class HeatmapCodec:
    """The codec `quarter`: Gaussian targets, decoded by arg-max and quarter offset.

    Attributes:
        input_hw: Height and width of the network's input.
        heatmap_hw: Height and width of the heatmaps.
        sigma_px: Standard deviation of the targets in heatmap pixels. The published networks use 2
            on 64 x 48, for an input of 256 x 192.
    """

    input_hw: tuple[int, int]
    heatmap_hw: tuple[int, int]
    sigma_px: float = 2.0

    def __post_init__(self) -> None:
        if min(*self.input_hw, *self.heatmap_hw) < 1 or not self.sigma_px > 0:
            raise ValueError(f"codec: expected sizes and a sigma above 0, got {self}")

    def at(self, arch: Arch) -> HeatmapCodec:
        """Return the codec for the sizes of an architecture, with as many pixels of sigma."""
        return replace(self, input_hw=arch.input_hw, heatmap_hw=arch.heatmap_hw)

    @property
    def span_hw(self) -> tuple[int, int]:
        """Size, in input pixels, that the region of a crop is mapped onto.

        The functions of `geometry` and `crops` take it as the size of the input.
        """
        return self.input_hw

    @property
    def shift_flipped(self) -> bool:
        """Whether `flip_back` must shift heatmaps of mirrored crops."""
        return True

    @property
    def stride_xy(self) -> tuple[float, float]:
        """Input pixels per heatmap pixel."""
        return (
            self.input_hw[1] / self.heatmap_hw[1],
            self.input_hw[0] / self.heatmap_hw[0],
        )

    def encode(self, keypoints_BK3: Tensor) -> tuple[Tensor, Tensor]:
        """Encode keypoints.

        Args:
            keypoints_BK3: x and y in input pixels, and visibility: 0 not labelled, 1 or 2
                labelled, a fraction for a label of less weight.

        Returns:
            Targets (B, K, H, W) and weights (B, K), float32, on the device of the keypoints. The
            weight is the visibility, at most 1, for a joint whose nearest pixel is on the map, else
            0. With weight 0, the target is 0 everywhere.
        """
        keypoints = keypoints_BK3.float()
        x, y = (keypoints[..., axis] / self.stride_xy[axis] for axis in (0, 1))
        height, width = self.heatmap_hw
        on_map = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
        is_shown_BK = (on_map & (keypoints[..., 2] > 0)).float()
        rows_BKH = gaussian(y, height, self.sigma_px) * is_shown_BK[..., None]
        columns_BKW = gaussian(x, width, self.sigma_px)
        targets_BKHW = rows_BKH[..., :, None] * columns_BKW[..., None, :]
        return targets_BKHW, is_shown_BK * keypoints[..., 2].clamp(max=1)

    def decode(self, heatmaps_BKHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return keypoints (B, K, 2), x and y in input pixels, and peak values (B, K) as scores."""
        peaks_BK, scores_BK = _peaks(heatmaps_BKHW)
        xy_BK2 = self._tops(heatmaps_BKHW, peaks_BK)
        return xy_BK2 * xy_BK2.new_tensor(self.stride_xy), scores_BK

    def decode_array(
        self, heatmaps_BKHW: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return keypoints and scores as `decode` does, in NumPy."""
        xy_BK2, scores_BK = self.decode(torch.from_numpy(heatmaps_BKHW))
        return xy_BK2.numpy(), scores_BK.numpy()

    def average(
        self, heatmaps_BKHW: Tensor, mirrored_BKHW: Tensor, flip_order: Sequence[int], shift: bool
    ) -> Tensor:
        """Return the mean of the output for images and of that for their mirror images.

        The last two arguments are those of `flip_back`.
        """
        both = heatmaps_BKHW + flip_back(mirrored_BKHW, flip_order, shift)
        return both.mul_(0.5)

    @property
    def drawn(self) -> HeatmapCodec:
        """The codec whose targets are drawn for people."""
        return self

    def pictures(self, heatmaps_BKHW: Tensor) -> Tensor:
        """Return a network's output as pictures over the crop, with values from 0 to about 1."""
        return heatmaps_BKHW

    def _tops(self, heatmaps_BKHW: Tensor, peaks_BK: Tensor) -> Tensor:
        """Return sub-pixel positions (B, K, 2) of the peaks, x and y in heatmap pixels."""
        return _quarter_offset(heatmaps_BKHW, peaks_BK)


@dataclass(frozen=True)
class DarkCodec(HeatmapCodec):
    """The codec `dark`: Gaussian targets and distribution-aware decoding (Zhang et al., CVPR 2020).

    Encoding and geometry are the same as in `quarter`, so it decodes networks trained with that.
    """

    def decode_array(
        self, heatmaps_BKHW: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # Without torch: on one person, its calls take longer than the arithmetic.
        heatmaps_NHW = heatmaps_BKHW.reshape(-1, *heatmaps_BKHW.shape[2:])
        flat_NX = heatmaps_NHW.reshape(len(heatmaps_NHW), -1)
        peaks_N, scores_N = flat_NX.argmax(axis=1), flat_NX.max(axis=1)
        tops_N2 = refine_array(heatmaps_NHW, peaks_N, self.sigma_px)
        tops_N2 *= np.array(self.stride_xy, np.float32)
        shape = heatmaps_BKHW.shape[:2]
        return tops_N2.reshape(*shape, 2), scores_N.reshape(shape)

    def _tops(self, heatmaps_BKHW: Tensor, peaks_BK: Tensor) -> Tensor:
        tops_N2 = refine(heatmaps_BKHW.flatten(0, 1), peaks_BK.flatten(), self.sigma_px)
        return tops_N2.view(*peaks_BK.shape, 2)


@dataclass(frozen=True)
class UdpCodec(DarkCodec):
    """The codec `udp`: unbiased data processing, decoded as in `dark`.

    Huang et al., "The Devil Is in the Details: Delving Into Unbiased Data Processing for Human Pose
    Estimation", CVPR 2020. Sizes are distances between the centres of the first and the last pixel,
    W - 1 and not W, in crops (`span_hw`) and heatmaps. Mirroring an array then mirrors its
    coordinates, and the flip test needs no shift. A network must be trained and tested with crops
    of this geometry.
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
    """Return the codec with this name. Raise ValueError for an unknown name."""
    if name not in CODECS:
        raise ValueError(
            f"codec: expected the name of a codec, got {name!r} ({did_you_mean(name, CODECS)})"
        )
    return CODECS[name](input_hw, heatmap_hw, sigma_px)


def gaussian(centre: Tensor, length: int, sigma: float) -> Tensor:
    """Return the values, 1 at `centre`, of Gaussians at the whole numbers from 0, along a new
    last axis."""
    distance = torch.arange(length, device=centre.device) - centre[..., None]
    exponent = distance.square() / (-2.0 * sigma**2)
    return exponent.clamp_(min=_SMALLEST_EXPONENT).exp_()


def _peaks(heatmaps_BKHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the flat index of each map's largest pixel (the first of equals), and its value."""
    flat = heatmaps_BKHW.flatten(2)
    if runs_in_numpy(flat):
        # NumPy's arg-max is several times faster than torch's.
        peaks_BK = torch.from_numpy(flat.detach().numpy().argmax(axis=2))
        return peaks_BK, flat.gather(2, peaks_BK[..., None])[..., 0]
    scores_BK, peaks_BK = flat.max(dim=2)
    return peaks_BK, scores_BK


def _quarter_offset(heatmaps_BKHW: Tensor, peaks_BK: Tensor) -> Tensor:
    """Return peak positions (B, K, 2) in heatmap pixels, moved 0.25 towards the larger neighbour.

    A peak on the border is not moved on that axis.
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
    """Mirror heatmaps of mirrored images back.

    Mirroring an array maps x to width - 1 - x. At stride s, images and heatmaps then differ by
    s - 1 input pixels.

    Args:
        heatmaps_BKHW: Heatmaps of mirrored images.
        flip_order: Index of each joint's mirror image.
        shift: Move the result one heatmap pixel to the right, as in the published networks. Both
            then agree to within one input pixel.
    """
    flipped = heatmaps_BKHW[:, list(flip_order)].flip(-1)
    return torch.cat((flipped[..., :1], flipped[..., :-1]), dim=-1) if shift else flipped
