"""Run the networks of a clip on one frame, for persons whose crops move.

N persons, K keypoints, H W the network's input, h w the heatmaps' size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import normalise
from vipnas.data.crops.geometry import FloatArray, heatmap_warp, invert, transform
from vipnas.models.clipnet import Frame, RunFrame, propagate


class Seen(NamedTuple):
    """What the next frame needs of a frame.

    Attributes:
        heatmaps_NKHW: (N, K, h, w), on the CPU.
        input_from_image_N23: Affines (N, 2, 3) of the crops that gave the heatmaps.
    """

    heatmaps_NKHW: Tensor
    input_from_image_N23: FloatArray

    def of(self, rows: Sequence[int]) -> Seen:
        """Return some of the persons, in that order."""
        return Seen(self.heatmaps_NKHW[list(rows)], self.input_from_image_N23[list(rows)])


class StepPoses(NamedTuple):
    """Poses of one frame.

    Attributes:
        xy_NK2: x and y in pixels of the image.
        scores_NK: Peak values of the heatmaps.
        seen: What the next frame needs of this one.
    """

    xy_NK2: FloatArray
    scores_NK: NDArray[np.float32]
    seen: Seen


@dataclass(frozen=True)
class ClipStep:
    """Run one frame of persons who are all at the same distance from their key frames.

    `run` takes images on `device`, normalised by `normalise`. `batch_size` changes nothing but the
    speed. `place` names the networks in errors.
    """

    run: RunFrame
    codec: HeatmapCodec
    device: torch.device
    batch_size: int = 64
    normalise: Callable[[Tensor], Tensor] = normalise
    place: str = "networks"

    @torch.no_grad()
    def __call__(
        self,
        distance: int,
        images_N3HW: Tensor,
        input_from_image_N23: FloatArray,
        before: Seen | None,
    ) -> StepPoses:
        """Find the pose in each crop.

        Args:
            distance: Frames since the key frame; 0 is a key frame.
            images_N3HW: uint8 RGB crops.
            input_from_image_N23: Affines from the image to the crops.
            before: The same persons in the previous frame. A key frame ignores it.

        Raises:
            FloatingPointError: Heatmaps are not finite.
        """
        heatmaps_before, warps_N23 = None, None
        if distance > 0:
            assert before is not None
            heatmaps_before = before.heatmaps_NKHW
            warps_N23 = self._warps(before.input_from_image_N23, input_from_image_N23)
        frame = Frame(distance, images_N3HW, warps_N23)
        (heatmaps_NKHW,) = propagate(self._run, [frame], heatmaps_before)
        xy_NK2, scores_NK = self.codec.decode(heatmaps_NKHW)
        return StepPoses(
            transform(invert(input_from_image_N23), xy_NK2.double().numpy()),
            scores_NK.numpy(),
            Seen(heatmaps_NKHW, input_from_image_N23),
        )

    def _warps(self, before_N23: FloatArray, now_N23: FloatArray) -> Tensor:
        codec = self.codec
        warps = heatmap_warp(before_N23, now_N23, codec.stride_xy, codec.heatmap_hw)
        return torch.from_numpy(warps).float()

    def _run(self, distance: int, images_N3HW: Tensor, before_NKHW: Tensor | None) -> Tensor:
        """Run all persons, `batch_size` of them at a time."""
        found = []
        for rows in torch.arange(len(images_N3HW)).split(self.batch_size):
            before = None if before_NKHW is None else before_NKHW[rows].to(self.device)
            images = self.normalise(images_N3HW[rows].to(self.device))
            found.append(self.run(distance, images, before).cpu())
        heatmaps_NKHW = torch.cat(found)
        if not torch.isfinite(heatmaps_NKHW).all():
            raise FloatingPointError(f"{self.place}: expected finite heatmaps, got others")
        return heatmaps_NKHW
