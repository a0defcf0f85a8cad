"""Runners: networks on the frames of a video without labels, one frame after another.

N persons in a frame, K keypoints, h w the heatmaps' size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vipnas.arch.clip import VideoArch
from vipnas.config.data import BoxFit
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.clip_sizes import ClipSizes
from vipnas.data.crops.crops import normalise
from vipnas.data.crops.geometry import PUBLISHED_FIT, FloatArray
from vipnas.data.crops.pictures import box_crops
from vipnas.data.formats.skeletons import Skeleton
from vipnas.evaluation.clip_step import ClipStep
from vipnas.evaluation.key_frames import ClipMemory, KeyFrameSchedule
from vipnas.models.clipnet import VideoNet
from vipnas.models.propagation import RunFrame

UINT8 = NDArray[np.uint8]


class FoundPoses(NamedTuple):
    """Poses in one frame, in the order of the boxes.

    Attributes:
        keypoints: (N, K, 2), x and y in pixels of the image.
        scores: (N, K).
        memories: What the next frame takes; None where that is a key frame.
        distances: (N,), frames since the person's key frame; 0 in a key frame.
    """

    keypoints: FloatArray
    scores: NDArray[np.float32]
    memories: tuple[ClipMemory | None, ...]
    distances: NDArray[np.int64]

    def of(self, rows: Sequence[int]) -> FoundPoses:
        """Return some of the persons, in that order."""
        memories = tuple(self.memories[row] for row in rows)
        keypoints, scores, _, distances = self
        chosen = list(rows)
        return FoundPoses(keypoints[chosen], scores[chosen], memories, distances[chosen])


class Runner(Protocol):
    """Find one pose in each box (N, 4: left, top, right, bottom) of an RGB image."""

    def __call__(
        self, image: UINT8, boxes_xyxy: FloatArray, memories: Sequence[ClipMemory | None]
    ) -> FoundPoses: ...


@dataclass(frozen=True)
class ImageRunner:
    """Run an image model on each frame independently.

    `find` takes an image and boxes, as `PoseModel.find` does.
    """

    find: Callable[[UINT8, FloatArray], tuple[FloatArray, NDArray[np.float32]]]

    def __call__(
        self, image: UINT8, boxes_xyxy: FloatArray, memories: Sequence[ClipMemory | None]
    ) -> FoundPoses:
        """Find one pose in each box; see `Runner`."""
        num_persons = len(boxes_xyxy)
        distances = np.zeros(num_persons, np.int64)
        return FoundPoses(*self.find(image, boxes_xyxy), (None,) * num_persons, distances)


@dataclass(frozen=True)
class ClipRunner:
    """Run the networks of a clip.

    Key frames are scheduled per person. Persons at the same distance from their key frames run
    together. Without follow-up frames every frame is a key frame.

    Attributes:
        run: From normalised crops and warped heatmaps to heatmaps: `VideoNet.run_frame`, or the
            same of exported networks.
        schedule: Says when a person has a key frame.
        skeleton: That of the networks.
        codec: Decodes their heatmaps; for the size of the largest frame.
        device: Where `run` takes its crops.
        batch_size: Crops that run at once; changes nothing but the speed.
        fit: How the region of a crop is made from the box.
        normalise: From uint8 crops (N, 3, H, W) to what `run` takes.
        place: Names the networks in errors.
        arch: The networks; None where all have the size of `codec`.
    """

    run: RunFrame
    schedule: KeyFrameSchedule
    skeleton: Skeleton
    codec: HeatmapCodec
    device: torch.device = torch.device("cpu")
    batch_size: int = 64
    fit: BoxFit = PUBLISHED_FIT
    normalise: Callable[[Tensor], Tensor] = normalise
    place: str = "networks"
    arch: VideoArch | None = None

    @classmethod
    def of(cls, network: VideoNet, skeleton: Skeleton, codec: HeatmapCodec) -> ClipRunner:
        """Run native networks, on the device that they are on; in evaluation mode."""
        device = next(network.eval().parameters()).device
        schedule = KeyFrameSchedule(len(network.arch) - 1)
        sized = codec.at(network.arch.largest)
        return cls(network.run_frame, schedule, skeleton, sized, device, arch=network.arch)

    def __call__(
        self, image: UINT8, boxes_xyxy: FloatArray, memories: Sequence[ClipMemory | None]
    ) -> FoundPoses:
        """Find one pose in each box; a person without a memory has a key frame.

        Raises:
            FloatingPointError: Heatmaps are not finite.
        """
        codec = self.codec
        crops_NHW3, input_from_image_N23 = box_crops(
            image, boxes_xyxy, codec.input_hw, codec.span_hw, self.fit
        )
        images_N3HW = torch.from_numpy(crops_NHW3).permute(0, 3, 1, 2)
        step = ClipStep(
            self.run,
            self.schedule,
            ClipSizes(codec, self.arch),
            self.skeleton.num_joints,
            self.device,
            self.batch_size,
            self.normalise,
            self.place,
        )
        found = step(images_N3HW, input_from_image_N23, memories)
        return FoundPoses(found.xy_NK2, found.scores_NK, found.memories, found.distances_N)
