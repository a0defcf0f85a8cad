"""The codec `simcc`: coordinates as classes of bins (Li et al., ECCV 2022).

A map has one row: the bins of x, then those of y. A network gives logits, which a softmax over
each axis turns into distributions. Bin b of an axis is the coordinate b / `split_ratio` in input
pixels. A round trip errs by at most half a bin.

B batch, K keypoints, X Y number of bins along x and along y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vipnas.data.codecs.heatmap import HeatmapCodec, flip_back, gaussian

# Sigma of the published heatmaps in input pixels: 2 pixels of a heatmap of a quarter of the input.
SCORE_SIGMA_PX = 8.0


@dataclass(frozen=True)
class SimccCodec(HeatmapCodec):
    """Targets are Gaussian distributions over bins; the most likely bins are decoded.

    A score means what it means for heatmaps. A heatmap that minimises the squared error is, at each
    pixel, the expectation of a Gaussian around the joint. So a score is the expectation of the
    Gaussian of the published heatmaps around the decoded place, by the predicted distributions. It
    is the product over x and y, as if their errors were independent.

    Attributes:
        sigma_px: Standard deviation of the targets in input pixels.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sigma_px < SCORE_SIGMA_PX:
            raise ValueError(f"codec: expected a sigma below {SCORE_SIGMA_PX:g}, got {self}")

    @property
    def split_ratio(self) -> int:
        """Bins per pixel of the input."""
        return self.heatmap_hw[1] // sum(self.input_hw)

    @property
    def bins_xy(self) -> tuple[int, int]:
        """Number of bins along x and along y."""
        return self.split_ratio * self.input_hw[1], self.split_ratio * self.input_hw[0]

    @property
    def stride_xy(self) -> tuple[float, float]:
        return 1 / self.split_ratio, 1 / self.split_ratio

    def encode(self, keypoints_BK3: Tensor) -> tuple[Tensor, Tensor]:
        """Encode keypoints; see `HeatmapCodec.encode`.

        Returns:
            Targets (B, K, 1, X + Y), whose sum over each axis is 1, and weights (B, K).
        """
        keypoints = keypoints_BK3.float()
        centres_BK2 = keypoints[..., :2] * self.split_ratio
        is_shown_BK = keypoints[..., 2] > 0
        axes = []
        for axis, bins in enumerate(self.bins_xy):
            centre_BK = centres_BK2[..., axis]
            is_shown_BK = is_shown_BK & (centre_BK >= -0.5) & (centre_BK < bins - 0.5)
            axes.append(gaussian(centre_BK, bins, self._sigma_bins))
        targets = [axis / axis.sum(dim=-1, keepdim=True) for axis in axes]
        shown_BK = is_shown_BK.float()
        targets_BK1N = torch.cat(targets, dim=-1)[..., None, :] * shown_BK[..., None, None]
        return targets_BK1N, shown_BK * keypoints[..., 2].clamp(max=1)

    def decode(self, logits_BK1N: Tensor) -> tuple[Tensor, Tensor]:
        """Return keypoints (B, K, 2), x and y in input pixels, and scores (B, K) up to 1."""
        # Targets are as wide as sigma_px, so that the rest of the score's Gaussian is narrower.
        score_sigma = self.split_ratio * SCORE_SIGMA_PX
        rest_sigma = math.sqrt(score_sigma**2 - self._sigma_bins**2)
        places, scores_BK = [], torch.ones_like(logits_BK1N[..., 0, 0])
        for distribution_BKN in self._axes(self._normalised(logits_BK1N).exp()):
            place_BK = distribution_BKN.argmax(dim=-1)
            kernel_BKN = gaussian(place_BK, distribution_BKN.shape[-1], rest_sigma)
            expected_BK = (kernel_BKN * distribution_BKN).sum(dim=-1) * score_sigma / rest_sigma
            places.append(place_BK.to(logits_BK1N.dtype) / self.split_ratio)
            scores_BK = scores_BK * expected_BK.clamp(max=1)
        return torch.stack(places, dim=-1), scores_BK

    def average(
        self, logits_BK1N: Tensor, mirrored_BK1N: Tensor, flip_order: Sequence[int], shift: bool
    ) -> Tensor:
        """Return logits of the mean distributions; see `HeatmapCodec.average`."""
        along_x, along_y = self._axes(mirrored_BK1N)
        back_x = flip_back(along_x[..., None, :], flip_order, shift)
        back = torch.cat((back_x, along_y[:, list(flip_order), None, :]), dim=-1)
        both = (self._normalised(logits) for logits in (logits_BK1N, back))
        return torch.logaddexp(*both) - math.log(2)

    @property
    def drawn(self) -> HeatmapCodec:
        return HeatmapCodec(self.input_hw, self.input_hw, self.sigma_px)

    def pictures(self, logits_BK1N: Tensor) -> Tensor:
        """Return pictures (B, K, Y, X): 1 where both axes have the peak of a target."""
        target_peak = 1 / (math.sqrt(2 * math.pi) * self._sigma_bins)
        along_x, along_y = (
            (logits_BKN.exp() / target_peak).clamp(max=1)
            for logits_BKN in self._axes(self._normalised(logits_BK1N))
        )
        return along_y[..., :, None] * along_x[..., None, :]

    @property
    def _sigma_bins(self) -> float:
        return self.split_ratio * self.sigma_px

    def _axes(self, maps_BK1N: Tensor) -> tuple[Tensor, Tensor]:
        """Split maps into those of x (B, K, X) and of y (B, K, Y)."""
        along_x, along_y = maps_BK1N[..., 0, :].split(self.bins_xy, dim=-1)
        return along_x, along_y

    def _normalised(self, logits_BK1N: Tensor) -> Tensor:
        """Return the logarithm of the softmax over each axis."""
        axes = [F.log_softmax(logits_BKN, dim=-1) for logits_BKN in self._axes(logits_BK1N)]
        return torch.cat(axes, dim=-1)[..., None, :]
