"""The networks of a clip along whole videos, as at run time: the crop follows the person, and the
heatmaps of the frame before are warped to the crop of this one.

Key frames are scheduled per track: one when a person comes into view, then every T + 1 frames. What
is found of a person does not depend on others. So persons of all videos run side by side, by the
number of frames that they have been in view.

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
from vipnas.data.crops.crops import fixed_crops, normalise
from vipnas.data.crops.geometry import box_of_joints, heatmap_warp, invert
from vipnas.data.formats.posetrack import Box, Frame, TrackedPerson, Video
from vipnas.data.formats.results import SCORE_THRESHOLD
from vipnas.data.formats.skeletons import Skeleton
from vipnas.data.poses import TrackedPose
from vipnas.models.clipnet import Frame as FrameInput
from vipnas.models.clipnet import VideoNet, propagate

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
        """Return everything found in labelled frames, in the order of the videos and frames."""
        self.network.eval()
        views = _Views(self, [tracklet for video in videos for tracklet in tracklets(video)])
        found: list[TrackedPose] = []
        for heatmaps_NKHW in propagate(self._run, views.frames(), feed=views.followed):
            found += views.decoded(heatmaps_NKHW)
        frames = (frame for video in videos for frame in video.frames)
        order = {frame.image_id: place for place, frame in enumerate(frames)}
        return sorted(found, key=lambda item: order[item.person.image_id])

    def _run(self, distance: int, images_N3HW: Tensor, before_NKHW: Tensor | None) -> Tensor:
        """Run one frame of everybody in view, `batch_size` persons at a time."""
        device = next(self.network.parameters()).device
        found = []
        for rows in torch.arange(len(images_N3HW)).split(self.batch_size):
            before = None if before_NKHW is None else before_NKHW[rows].to(device)
            images = normalise(images_N3HW[rows].to(device))
            found.append(self.network.run_frame(distance, images, before).cpu())
        heatmaps_NKHW = torch.cat(found)
        if not torch.isfinite(heatmaps_NKHW).all():
            raise FloatingPointError("the networks' heatmaps are not finite")
        return heatmaps_NKHW


class _Views:
    """Everybody in view, by the number of frames since they came into view: the state of the loop.

    The crop of a frame may depend on the pose found in the frame before.
    """

    def __init__(self, loop: OnlineLoop, in_view: list[tuple[FrameDetection, ...]]) -> None:
        self.loop = loop
        self.in_view = in_view
        self.age = -1
        self.rows: list[int] = []  # of those in view, their rows in the frame before
        self.boxes: list[Box] = []
        self.boxes_before: list[Box] = []
        self.joints_NK3 = np.zeros((0, loop.skeleton.num_joints, 3))
        self.input_from_image_N23 = np.zeros((0, 2, 3))

    def frames(self) -> Iterator[FrameInput]:
        """Yield the next frame of all who are still in view; needs the poses of the one before."""
        loop = self.loop
        input_hw = loop.network.arch.key_frame.input_hw
        for age in range(max((len(tracklet) for tracklet in self.in_view), default=0)):
            self.age = age
            self.rows = [row for row, found in enumerate(self.in_view) if len(found) > age]
            self.in_view = [self.in_view[row] for row in self.rows]
            self.boxes = [self._box(row, place) for place, row in enumerate(self.rows)]
            persons = [
                _in_box(detection, box, loop.skeleton)
                for detection, box in zip(self._detections, self.boxes, strict=True)
            ]
            self.crops = fixed_crops(persons, loop.skeleton, input_hw, span_hw=loop.codec.span_hw)
            yield FrameInput(self._distance, self.crops.images_B3HW, self._warps())

    @property
    def _detections(self) -> list[FrameDetection]:
        return [tracklet[self.age] for tracklet in self.in_view]

    @property
    def _distance(self) -> int:
        return self.age % len(self.loop.network.arch)

    def _warps(self) -> Tensor | None:
        """Return the warps from this frame's crops to those before; None in a key frame."""
        before_N23, self.input_from_image_N23 = (
            self.input_from_image_N23,
            invert(self.crops.image_from_input_B23),
        )
        if self._distance == 0:
            return None
        codec, now_N23 = self.loop.codec, self.input_from_image_N23
        warps = heatmap_warp(before_N23[self.rows], now_N23, codec.stride_xy, codec.heatmap_hw)
        return torch.from_numpy(warps).float()

    def _box(self, row: int, place: int) -> Box:
        """Return the box of the person at `place` now, who was at `row` in the frame before."""
        detection = self._detections[place]
        annotated = self.loop.boxes == "annotated" and detection.person is not None
        if self.age == 0 or annotated:
            assert detection.person is not None
            return detection.person.box_xywh
        return box_of_pose(self.boxes_before[row], self.joints_NK3[row])

    def followed(self, distance: int, heatmaps_NKHW: Tensor) -> Tensor:
        """Return the heatmaps before of those who are still in view."""
        return heatmaps_NKHW[self.rows]

    def decoded(self, heatmaps_NKHW: Tensor) -> list[TrackedPose]:
        """Return the poses of a frame, and keep them for the boxes of the next."""
        xy_NK2, scores_NK = self.loop.codec.decode(heatmaps_NKHW)
        xy_px = self.crops.to_image(xy_NK2)
        self.joints_NK3 = np.concatenate((xy_px, scores_NK[..., None].numpy()), axis=2)
        self.boxes_before = self.boxes
        return [
            TrackedPose(detection.person, box_xywh, self._distance, joints_K3)
            for detection, box_xywh, joints_K3 in zip(
                self._detections, self.boxes, self.joints_NK3, strict=True
            )
            if detection.person is not None
        ]


def box_of_pose(box_xywh: Box, joints_K3: NDArray[np.float64]) -> Box:
    """Around the joints that were found, padded; the box itself where they are too few."""
    xy_N2 = joints_K3[joints_K3[:, 2] > SCORE_THRESHOLD, :2]
    if len(xy_N2) < LEAST_JOINTS:
        return box_xywh
    x, y, width, height = box_of_joints(xy_N2)
    more = POSE_BOX_PADDING - 1
    return x - width * more / 2, y - height * more / 2, width * (1 + more), height * (1 + more)


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
        ignore_exif=detection.frame.ignore_exif,
    )
