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

from vipnas.config.data import BoxFit
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import normalise
from vipnas.data.crops.geometry import PUBLISHED_FIT, FloatArray
from vipnas.data.crops.pictures import box_crops
from vipnas.data.formats.skeletons import Skeleton
from vipnas.evaluation.clip_step import ClipStep, Seen
from vipnas.models.clipnet import RunFrame, VideoNet

UINT8 = NDArray[np.uint8]


class ClipMemory(NamedTuple):
    """What a follow-up frame takes from the previous frame, for one person.

    Attributes:
        distance: Frames from the person's key frame to the follow-up frame, from 1.
        heatmaps_KHW: Those of the previous frame (K, h, w).
        input_from_image_23: The affine from image to crop of the previous frame.
    """

    distance: int
    heatmaps_KHW: Tensor
    input_from_image_23: FloatArray


class FramePoses(NamedTuple):
    """Poses in one frame, in the order of the boxes.

    Attributes:
        keypoints: (N, K, 2), x and y in pixels of the image.
        scores: (N, K).
        memories: What the next frame takes; None where that is a key frame.
    """

    keypoints: FloatArray
    scores: NDArray[np.float32]
    memories: tuple[ClipMemory | None, ...]

    def of(self, rows: Sequence[int]) -> FramePoses:
        """Return some of the persons, in that order."""
        memories = tuple(self.memories[row] for row in rows)
        return FramePoses(self.keypoints[list(rows)], self.scores[list(rows)], memories)


class Runner(Protocol):
    """Find one pose in each box (N, 4: left, top, right, bottom) of an RGB image."""

    def __call__(
        self, image: UINT8, boxes_xyxy: FloatArray, memories: Sequence[ClipMemory | None]
    ) -> FramePoses: ...


class Poses(Protocol):
    """The poses of an image model: `keypoints` (N, K, 2) and `scores` (N, K)."""

    @property
    def keypoints(self) -> FloatArray: ...

    @property
    def scores(self) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class ImageRunner:
    """Run an image model on each frame independently.

    `predict` takes an image and boxes, as `PoseModel.predict` does.
    """

    predict: Callable[[UINT8, FloatArray], Poses]

    def __call__(
        self, image: UINT8, boxes_xyxy: FloatArray, memories: Sequence[ClipMemory | None]
    ) -> FramePoses:
        """Find one pose in each box; see `Runner`."""
        poses = self.predict(image, boxes_xyxy)
        return FramePoses(poses.keypoints, poses.scores, (None,) * len(boxes_xyxy))


@dataclass(frozen=True)
class ClipRunner:
    """Run the networks of a clip.

    Key frames are scheduled per person: `num_follow_ups` follow-up frames come after each. Persons
    at the same distance from their key frames run together. Without follow-up frames every frame
    is a key frame.

    Attributes:
        run: From normalised crops and warped heatmaps to heatmaps: `VideoNet.run_frame`, or the
            same of exported networks.
        num_follow_ups: T of the clip.
        skeleton: That of the networks.
        codec: Decodes their heatmaps.
        device: Where `run` takes its crops.
        batch_size: Crops that run at once; changes nothing but the speed.
        fit: How the region of a crop is made from the box.
        normalise: From uint8 crops (N, 3, H, W) to what `run` takes.
        place: Names the networks in errors.
    """

    run: RunFrame
    num_follow_ups: int
    skeleton: Skeleton
    codec: HeatmapCodec
    device: torch.device = torch.device("cpu")
    batch_size: int = 64
    fit: BoxFit = PUBLISHED_FIT
    normalise: Callable[[Tensor], Tensor] = normalise
    place: str = "networks"

    @classmethod
    def of(cls, network: VideoNet, skeleton: Skeleton, codec: HeatmapCodec) -> ClipRunner:
        """Run native networks, on the device that they are on; in evaluation mode."""
        device = next(network.eval().parameters()).device
        return cls(network.run_frame, len(network.arch) - 1, skeleton, codec, device)

    def __call__(
        self, image: UINT8, boxes_xyxy: FloatArray, memories: Sequence[ClipMemory | None]
    ) -> FramePoses:
        """Find one pose in each box; a person without a memory has a key frame.

        Raises:
            FloatingPointError: Heatmaps are not finite.
        """
        codec, num_persons = self.codec, len(boxes_xyxy)
        crops_NHW3, input_from_image_N23 = box_crops(
            image, boxes_xyxy, codec.input_hw, codec.span_hw, self.fit
        )
        images_N3HW = torch.from_numpy(crops_NHW3).permute(0, 3, 1, 2)
        step = ClipStep(self.run, codec, self.device, self.batch_size, self.normalise, self.place)
        keypoints = np.empty((num_persons, self.skeleton.num_joints, 2))
        scores = np.empty(keypoints.shape[:2], np.float32)
        after: list[ClipMemory | None] = [None] * num_persons
        for distance, rows in _by_distance(memories):
            before = _seen([memories[row] for row in rows])
            found = step(distance, images_N3HW[rows], input_from_image_N23[rows], before)
            keypoints[rows], scores[rows] = found.xy_NK2, found.scores_NK
            if distance < self.num_follow_ups:
                for row, *seen in zip(rows, *found.seen, strict=True):
                    after[row] = ClipMemory(distance + 1, *seen)
        return FramePoses(keypoints, scores, tuple(after))


def _by_distance(memories: Sequence[ClipMemory | None]) -> list[tuple[int, list[int]]]:
    """Return the rows of the persons at each distance from their key frames."""
    rows_by_distance: dict[int, list[int]] = {}
    for row, memory in enumerate(memories):
        rows_by_distance.setdefault(memory.distance if memory else 0, []).append(row)
    return sorted(rows_by_distance.items())


def _seen(memories: Sequence[ClipMemory | None]) -> Seen | None:
    """Return the memories of several persons in one; None for a key frame."""
    kept = [memory for memory in memories if memory is not None]
    if not kept:
        return None
    return Seen(
        torch.stack([memory.heatmaps_KHW for memory in kept]),
        np.stack([memory.input_from_image_23 for memory in kept]),
    )
