"""The networks of a clip along whole videos, as at run time: frame after frame, the crop moving
with the person, the heatmaps of the frame before warped to the crop of this one.

Everybody has a clock of their own: a key frame when they come into view, and from there on every
T + 1 frames. What is found of a person does not depend on the others, so that people of all videos
run side by side, by the number of frames that they have been in view.

N people in view, K keypoints, H W the heatmaps' size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vipnas.config.clip import Boxes
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.crops import Crops, fixed_crops, normalise
from vipnas.data.crops.geometry import box_of_joints, heatmap_warp, invert
from vipnas.data.formats.posetrack import Box, Frame, TrackedPerson, Video
from vipnas.data.formats.results import SCORE_THRESHOLD
from vipnas.data.formats.skeletons import Skeleton
from vipnas.data.poses import TrackedPose
from vipnas.models.clipnet import VideoNet, warp_heatmaps

# A box around the joints found in the frame before: so much wider and higher, since joints are not
# the outline, and since the person moves.
POSE_BOX_PADDING = 1.25
LEAST_JOINTS = 4


class FrameDetection(NamedTuple):
    """Somebody in one frame; `person` is None where that frame has no labels."""

    frame: Frame
    person: TrackedPerson | None


def tracklets(video: Video) -> list[tuple[FrameDetection, ...]]:
    """Return each person's unbroken runs of frames, from one labelled frame to another.

    A tracklet ends before a labelled frame without the person, and where frame numbers jump.
    """
    open_now: dict[int, list[FrameDetection]] = {}
    done: list[list[FrameDetection]] = []
    last_number: int | None = None
    for frame in video.frames:
        people = {
            person.track_id: person for person in frame.people if min(person.box_xywh[2:]) > 0
        }
        jumped = last_number is not None and frame.number > last_number + 1
        last_number = frame.number
        for track_id in list(open_now):
            if jumped or (frame.is_labelled and track_id not in people):
                done.append(open_now.pop(track_id))
        for track_id in people if frame.is_labelled else list(open_now):
            open_now.setdefault(track_id, []).append(FrameDetection(frame, people.get(track_id)))
    return [_until_labelled(detections) for detections in (*done, *open_now.values())]


def _until_labelled(detections: list[FrameDetection]) -> tuple[FrameDetection, ...]:
    last = max(place for place, detection in enumerate(detections) if detection.person is not None)
    return tuple(detections[: last + 1])


@dataclass(frozen=True)
class OnlineLoop:
    """Runs the networks of a clip over videos.

    `boxes`: each frame's annotated box, or, but for the first frame of an appearance, the box of
    the pose found in the frame before. Frames without labels always take the latter. `batch_size`
    changes nothing but the speed.
    """

    network: VideoNet
    skeleton: Skeleton
    codec: HeatmapCodec
    boxes: Boxes = "annotated"
    batch_size: int = 64

    @torch.no_grad()
    def __call__(self, videos: Sequence[Video]) -> list[TrackedPose]:
        """Everything found in labelled frames, in the order of the videos and their frames."""
        self.network.eval()
        in_view = [tracklet for video in videos for tracklet in tracklets(video)]
        found: list[TrackedPose] = []
        before: _State | None = None
        for age in range(max((len(tracklet) for tracklet in in_view), default=0)):
            going_on = [row for row, tracklet in enumerate(in_view) if len(tracklet) > age]
            in_view = [in_view[row] for row in going_on]
            if before is not None:
                before = before.of(going_on)
            detections = [tracklet[age] for tracklet in in_view]
            distance = age % len(self.network.arch)
            now = self._step(detections, distance, before)
            found += _found(detections, distance, now)
            before = now
        frames = (frame for video in videos for frame in video.frames)
        order = {frame.image_id: place for place, frame in enumerate(frames)}
        return sorted(found, key=lambda item: order[item.person.image_id])

    def _step(
        self, detections: Sequence[FrameDetection], distance: int, before: _State | None
    ) -> _State:
        boxes = [
            self._box(detection, None if before is None else before.found(row))
            for row, detection in enumerate(detections)
        ]
        persons = [
            _in_box(detection, box, self.skeleton)
            for detection, box in zip(detections, boxes, strict=True)
        ]
        arch = self.network.arch.key_frame
        crops = fixed_crops(persons, self.skeleton, arch.input_hw, span_hw=self.codec.span_hw)
        heatmaps_NKHW = torch.cat(list(self._heatmaps(crops, distance, before)))
        if not torch.isfinite(heatmaps_NKHW).all():
            raise FloatingPointError("the networks' heatmaps are not finite")
        xy_NK2, scores_NK = self.codec.decode(heatmaps_NKHW)
        joints_NK3 = np.concatenate((crops.to_image(xy_NK2), scores_NK[..., None].numpy()), axis=2)
        return _State(heatmaps_NKHW, invert(crops.image_from_input_B23), boxes, joints_NK3)

    def _heatmaps(self, crops: Crops, distance: int, before: _State | None) -> Iterator[Tensor]:
        device = next(self.network.parameters()).device
        for rows in torch.arange(len(crops)).split(self.batch_size):
            images = normalise(crops.images_B3HW[rows].to(device))
            if distance == 0:
                yield self.network.key_frame(images).cpu()
                continue
            assert before is not None
            now = invert(crops.image_from_input_B23[rows.numpy()])
            warps = heatmap_warp(
                before.input_from_image_N23[rows.numpy()],
                now,
                self.codec.stride_xy,
                self.codec.heatmap_hw,
            )
            warped = warp_heatmaps(
                before.heatmaps_NKHW[rows].to(device), torch.from_numpy(warps).float().to(device)
            )
            yield self.network.follow_ups(distance - 1, images, warped).cpu()

    def _box(
        self, detection: FrameDetection, before: tuple[Box, NDArray[np.float64]] | None
    ) -> Box:
        if before is None or (self.boxes == "annotated" and detection.person is not None):
            assert detection.person is not None
            return detection.person.box_xywh
        return box_of_pose(*before)


def box_of_pose(box_xywh: Box, joints_K3: NDArray[np.float64]) -> Box:
    """Around the joints that were found, padded; the box itself where they are too few."""
    xy_N2 = joints_K3[joints_K3[:, 2] > SCORE_THRESHOLD, :2]
    if len(xy_N2) < LEAST_JOINTS:
        return box_xywh
    x, y, width, height = box_of_joints(xy_N2)
    more = POSE_BOX_PADDING - 1
    return x - width * more / 2, y - height * more / 2, width * (1 + more), height * (1 + more)


class _State(NamedTuple):
    """What a frame leaves to the next: of each person in view the heatmaps, the crop, the box, the
    joints."""

    heatmaps_NKHW: Tensor
    input_from_image_N23: NDArray[np.float64]
    boxes: list[Box]
    joints_NK3: NDArray[np.float64]

    def of(self, rows: list[int]) -> _State:
        return _State(
            self.heatmaps_NKHW[rows],
            self.input_from_image_N23[rows],
            [self.boxes[row] for row in rows],
            self.joints_NK3[rows],
        )

    def found(self, row: int) -> tuple[Box, NDArray[np.float64]]:
        return self.boxes[row], self.joints_NK3[row]


def _in_box(detection: FrameDetection, box_xywh: Box, skeleton: Skeleton) -> TrackedPerson:
    """Somebody to be cropped by that box."""
    if detection.person is not None:
        return replace(detection.person, box_xywh=box_xywh)
    return TrackedPerson(
        annotation_id=-1,
        image_id=detection.frame.image_id,
        image_path=detection.frame.image_path,
        box_xywh=box_xywh,
        area=box_xywh[2] * box_xywh[3],
        keypoints_K3=np.zeros((skeleton.num_joints, 3), np.float32),
        image_hw=detection.frame.image_hw,
    )


def _found(detections: Sequence[FrameDetection], distance: int, now: _State) -> list[TrackedPose]:
    return [
        TrackedPose(detection.person, box_xywh, distance, joints_K3)
        for detection, box_xywh, joints_K3 in zip(
            detections, now.boxes, now.joints_NK3, strict=True
        )
        if detection.person is not None
    ]
