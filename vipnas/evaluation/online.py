"""Run the networks of a clip on whole videos, as at run time.

The crop follows the person, and the heatmaps of the previous frame are warped to the current crop.
Key frames are scheduled per track: one when a person comes into view, then every T + 1 frames, or
by need. The pose of a person does not depend on others. Persons of all videos therefore run in one
batch, by the number of frames that they have been in view.

N people in view, K keypoints, H W the heatmaps' size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vipnas.arch.clip import KeyFrameRule
from vipnas.config.clip import Boxes, KeyFramesByNeed
from vipnas.config.data import BoxFit
from vipnas.data.codecs.heatmap import HeatmapCodec
from vipnas.data.crops.clip_sizes import ClipSizes
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.crops.geometry import PUBLISHED_FIT, box_of_joints, invert
from vipnas.data.formats.posetrack import Box, Frame, PoseTrackData, TrackedPerson, Video
from vipnas.data.formats.results import SCORE_THRESHOLD
from vipnas.data.formats.skeletons import Skeleton
from vipnas.data.poses import TrackedPose
from vipnas.evaluation.clip_step import ClipStep
from vipnas.evaluation.key_frames import (
    ClipMemory,
    KeyFrameSchedule,
    KeyFrameUse,
    chosen_rule,
)
from vipnas.evaluation.protocols import Score, protocols_for, score
from vipnas.models.clipnet import ClipNetworks
from vipnas.models.counting import cost_at

# A box around the joints of the previous frame grows by this factor: the outline is larger than the
# joints, and the person moves.
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
    """Run the networks of a clip on videos.

    Attributes:
        network: The networks.
        skeleton: The joints.
        codec: Decodes the heatmaps; of any size, crops have that of the largest frame.
        boxes: Each frame's annotated box, or the box of the pose in the previous frame. The first
            frame of a tracklet always takes the former, frames without labels the latter.
        batch_size: How many persons run at a time. It changes only the speed.
        fit: How the region of a crop is made from the box.
        rule: When key frames come by need; None is one every T + 1 frames.
        place: Names the networks in errors.
    """

    network: ClipNetworks
    skeleton: Skeleton
    codec: HeatmapCodec
    boxes: Boxes = "annotated"
    batch_size: int = 64
    fit: BoxFit = PUBLISHED_FIT
    rule: KeyFrameRule | None = None
    place: str = "networks"

    def __call__(self, videos: Sequence[Video]) -> list[TrackedPose]:
        """Return the poses in labelled frames, in the order of the videos and frames."""
        found = [
            pose
            for detections, poses in self._frames(videos)
            for pose in poses.of_labelled(detections)
        ]
        frames = (frame for video in videos for frame in video.frames)
        order = {frame.image_id: place for place, frame in enumerate(frames)}
        return sorted(found, key=lambda item: order[item.person.image_id])

    def scores(
        self, data: PoseTrackData
    ) -> tuple[dict[str, Score | KeyFrameUse], list[TrackedPose]]:
        """Return the scores on videos, and the poses.

        They are OKS AP, PoseTrack mAP where the labels allow it, and `key_frames` by need.

        Raises:
            FloatingPointError: Heatmaps are not finite.
        """
        found = self(data.videos)
        wanted = [name for name in protocols_for(data) if name in ("coco", "posetrack")]
        results = [pose.result() for pose in found]
        scores: dict[str, Score | KeyFrameUse] = {**score(data, results, wanted)}
        if self.rule is not None:
            scores["key_frames"] = self.use_of([pose.distance for pose in found])
        return scores, found

    def rule_within(
        self, max_macs: int, settings: KeyFramesByNeed, videos: Sequence[Video]
    ) -> KeyFrameRule | None:
        """Return the rule with the lowest threshold that keeps a budget on videos.

        `max_macs` are those of a mean frame of a person. None: no threshold keeps them.
        """
        videos = videos[: settings.val_videos]

        def keeps_budget(rule: KeyFrameRule) -> bool:
            by_need = replace(self, rule=rule)
            return by_need.use_of(by_need.distances(videos)).macs <= max_macs

        return chosen_rule(settings.trigger, settings.max_interval, keeps_budget)

    def use_of(self, distances: Sequence[int]) -> KeyFrameUse:
        """Return what frames at these distances from their key frames came to."""
        share = distances.count(0) / max(len(distances), 1)
        return KeyFrameUse(share, cost_at(self.network.arch, distances).macs)

    def distances(self, videos: Sequence[Video]) -> list[int]:
        """Return the frames since the key frame, of each person in each frame."""
        found = [poses.distances_N for _, poses in self._frames(videos)]
        return [distance for distances_N in found for distance in distances_N.tolist()]

    def _frames(
        self, videos: Sequence[Video]
    ) -> Iterator[tuple[Sequence[FrameDetection], _PosesInView]]:
        """Yield all who have been in view for one frame, for two, and so on."""
        network = self.network.eval()
        device = next(network.parameters()).device
        schedule = KeyFrameSchedule(len(network.arch) - 1, self.rule)
        num_joints = self.skeleton.num_joints
        step = ClipStep(
            network.run_frame,
            schedule,
            ClipSizes.largest(self.codec, network.arch),
            num_joints,
            device,
            self.batch_size,
            place=self.place,
        )
        in_view = [tracklet for video in videos for tracklet in tracklets(video)]
        before: _PosesInView | None = None
        for age in range(max(map(len, in_view), default=0)):
            rows = [row for row, tracklet in enumerate(in_view) if len(tracklet) > age]
            in_view = [in_view[row] for row in rows]
            detections = [tracklet[age] for tracklet in in_view]
            before = self._frame(step, detections, before and before.of(rows))
            yield detections, before

    def _frame(
        self,
        step: ClipStep,
        detections: Sequence[FrameDetection],
        before: _PosesInView | None,
    ) -> _PosesInView:
        """Return the poses of all in view; `before` are their poses in the previous frame."""
        boxes = [self._box(row, detection, before) for row, detection in enumerate(detections)]
        persons = [
            _in_box(detection, box, self.skeleton)
            for detection, box in zip(detections, boxes, strict=True)
        ]
        codec = step.sizes.codec
        crops = fixed_crops(
            persons, self.skeleton, codec.input_hw, span_hw=codec.span_hw, fit=self.fit
        )
        input_from_image_N23 = invert(crops.image_from_input_B23)
        memories = [None] * len(persons) if before is None else before.memories
        found = step(crops.images_B3HW, input_from_image_N23, memories)
        joints_NK3 = np.concatenate(
            (found.xy_NK2, found.scores_NK[..., None]), axis=2, dtype=np.float64
        )
        return _PosesInView(boxes, joints_NK3, found.distances_N, found.memories)

    def _box(self, row: int, detection: FrameDetection, before: _PosesInView | None) -> Box:
        annotated = self.boxes == "annotated" and detection.person is not None
        if before is None or annotated:
            assert detection.person is not None
            return detection.person.box_xywh
        joints_K3 = before.joints_NK3[row]
        return box_of_pose(before.boxes[row], joints_K3[:, :2], joints_K3[:, 2])


class _PosesInView(NamedTuple):
    """Poses of all who have been in view for the same number of frames, and their boxes."""

    boxes: Sequence[Box]
    joints_NK3: NDArray[np.float64]
    distances_N: NDArray[np.int64]
    memories: Sequence[ClipMemory]

    def of(self, rows: Sequence[int]) -> _PosesInView:
        """Return some of the persons, in that order."""
        boxes = [self.boxes[row] for row in rows]
        memories = [self.memories[row] for row in rows]
        chosen = list(rows)
        return _PosesInView(boxes, self.joints_NK3[chosen], self.distances_N[chosen], memories)

    def of_labelled(self, detections: Sequence[FrameDetection]) -> Iterator[TrackedPose]:
        """Yield the poses of those who are labelled in this frame."""
        poses = zip(detections, self.boxes, self.joints_NK3, self.distances_N.tolist(), strict=True)
        for detection, box, joints_K3, distance in poses:
            if detection.person is not None:
                yield TrackedPose(detection.person, box, distance, joints_K3)


def is_pose(scores_K: NDArray[np.floating], min_score: float = SCORE_THRESHOLD) -> bool:
    """Return whether enough joints score above `min_score` to say where the person is."""
    num_found: int = sum(score > min_score for score in scores_K.tolist())
    return num_found >= min(LEAST_JOINTS, len(scores_K))


def box_of_pose(
    box_xywh: Box,
    xy_K2: NDArray[np.floating],
    scores_K: NDArray[np.floating],
    min_score: float = SCORE_THRESHOLD,
) -> Box:
    """Return the padded box around the joints that were found; the box itself for too few."""
    if not is_pose(scores_K, min_score):
        return box_xywh
    joints = zip(xy_K2.tolist(), scores_K.tolist(), strict=True)
    x, y, width, height = box_of_joints([xy for xy, score in joints if score > min_score])
    more = POSE_BOX_PADDING - 1
    return x - width * more / 2, y - height * more / 2, width * (1 + more), height * (1 + more)


def _in_box(detection: FrameDetection, box_xywh: Box, skeleton: Skeleton) -> TrackedPerson:
    """Return the person of a detection, with that box."""
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
