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

from vipnas.data.crops.clip_sizes import ClipSizes
from vipnas.data.crops.crops import normalise
from vipnas.data.crops.geometry import FloatArray, heatmap_warp, invert, transform
from vipnas.evaluation.key_frames import ClipMemory, KeyFrameSchedule
from vipnas.models.propagation import RunFrame, propagate


class StepPoses(NamedTuple):
    """Poses of one frame.

    Attributes:
        xy_NK2: x and y in pixels of the image.
        scores_NK: Peak values of the heatmaps.
        distances_N: Frames since each person's key frame; 0 in a key frame.
        memories: What the next frame needs of this one.
    """

    xy_NK2: FloatArray
    scores_NK: NDArray[np.float32]
    distances_N: NDArray[np.int64]
    memories: tuple[ClipMemory, ...]


@dataclass(frozen=True)
class ClipStep:
    """Run one frame of several persons. Those at the same distance from a key frame run together.

    `run` takes images on `device`, normalised by `normalise`, of the `sizes` of its frame.
    `batch_size` changes nothing but the speed. `place` names the networks in errors.
    """

    run: RunFrame
    schedule: KeyFrameSchedule
    sizes: ClipSizes
    num_joints: int
    device: torch.device
    batch_size: int = 64
    normalise: Callable[[Tensor], Tensor] = normalise
    place: str = "networks"

    @torch.no_grad()
    def __call__(
        self,
        images_N3HW: Tensor,
        input_from_image_N23: FloatArray,
        before: Sequence[ClipMemory | None],
    ) -> StepPoses:
        """Find the pose in each crop.

        Args:
            images_N3HW: uint8 RGB crops, of the size of the largest frame.
            input_from_image_N23: Affines from the image to the crops.
            before: The same persons in the previous frame. Who has no memory has a key frame.

        Raises:
            FloatingPointError: Heatmaps are not finite.
        """
        views = [self.schedule.view(image) for image in images_N3HW]
        distances_N = np.array(
            [self.schedule.distance(*pair) for pair in zip(before, views, strict=True)], np.int64
        )
        xy_NK2 = np.empty((len(views), self.num_joints, 2))
        scores_NK = np.empty(xy_NK2.shape[:2], np.float32)
        memories: dict[int, ClipMemory] = {}
        for distance in np.unique(distances_N).tolist():
            rows = np.flatnonzero(distances_N == distance).tolist()
            matrices_N23 = input_from_image_N23[rows]
            known = [memory for row in rows if distance and (memory := before[row])]
            heatmaps_NKHW = self._heatmaps(distance, images_N3HW[rows], matrices_N23, known)
            found, scores = self.sizes.decode(distance, heatmaps_NKHW)
            xy_NK2[rows] = transform(invert(matrices_N23), found.double().numpy())
            scores_NK[rows] = scores.numpy()
            for number, row in enumerate(rows):
                view = known[number].key_view_3HW if known else views[row]
                score = float(scores[number].mean())
                memories[row] = ClipMemory(
                    distance, heatmaps_NKHW[number], matrices_N23[number], score, view
                )
        ordered = tuple(memories[row] for row in range(len(views)))
        return StepPoses(xy_NK2, scores_NK, distances_N, ordered)

    def _heatmaps(
        self,
        distance: int,
        images_N3HW: Tensor,
        input_from_image_N23: FloatArray,
        before: Sequence[ClipMemory],
    ) -> Tensor:
        """Return the heatmaps of persons at one distance; `before` is empty in a key frame."""
        heatmaps_before, warps_N23 = None, None
        if before:
            heatmaps_before = torch.stack([memory.heatmaps_KHW for memory in before])
            matrices_N23 = np.stack([memory.input_from_image_23 for memory in before])
            warps_N23 = self._warps(matrices_N23, input_from_image_N23)
        frame = self.sizes.frame(distance, images_N3HW, warps_N23)
        (heatmaps_NKHW,) = propagate(self._run, [frame], heatmaps_before)
        return heatmaps_NKHW

    def _warps(self, before_N23: FloatArray, now_N23: FloatArray) -> Tensor:
        codec = self.sizes.codec
        warps = heatmap_warp(before_N23, now_N23, codec.stride_xy, codec.heatmap_hw)
        return torch.from_numpy(warps).float()

    def _run(self, distance: int, images_N3HW: Tensor, before_NKHW: Tensor | None) -> Tensor:
        """Run all persons, `batch_size` of them at a time."""
        found = []
        for rows in torch.arange(len(images_N3HW)).split(self.batch_size):
            before = None if before_NKHW is None else before_NKHW[rows].to(self.device)
            images = self.sizes.images(distance, images_N3HW[rows].to(self.device))
            images = self.normalise(images)
            found.append(self.run(distance, images, before).cpu())
        heatmaps_NKHW = torch.cat(found)
        if not torch.isfinite(heatmaps_NKHW).all():
            raise FloatingPointError(f"{self.place}: expected finite heatmaps, got others")
        return heatmaps_NKHW
