"""Follow persons through a video: boxes from a detector at intervals, from poses in between.

N persons in a frame, K keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vipnas.data.crops.boxes import box_ious
from vipnas.data.crops.geometry import FloatArray
from vipnas.data.formats.results import SCORE_THRESHOLD
from vipnas.data.formats.skeletons import Skeleton
from vipnas.deploy.clip_runner import UINT8, FoundPoses, Runner
from vipnas.deploy.detected_boxes import DetectedBoxes, whole_image
from vipnas.errors import UserError
from vipnas.evaluation.key_frames import ClipMemory
from vipnas.evaluation.oks import best_pairs, oks_nms, pose_similarity
from vipnas.evaluation.online import box_of_pose, is_pose
from vipnas.evaluation.tracker import NEW, Tracker

# A crop of fewer pixels shows nothing: a box that shrank to this has lost its person.
LEAST_SIDE_PX = 8.0


class TrackedFrame(NamedTuple):
    """The persons of one frame.

    Attributes:
        ids: (N,), the same for a person in all frames.
        keypoints: (N, K, 2), x and y in pixels of the image.
        scores: (N, K).
        boxes_xyxy: (N, 4), where the poses were looked for.
        box_scores: (N,), of the detector when it last found the person; 1 without a detector.
        is_key_frame: (N,), False for follow-up frames of a clip.
        is_detected: Whether the detector ran.
    """

    ids: NDArray[np.int64]
    keypoints: FloatArray
    scores: NDArray[np.float32]
    boxes_xyxy: FloatArray
    box_scores: NDArray[np.float32]
    is_key_frame: NDArray[np.bool_]
    is_detected: bool


@dataclass(frozen=True)
class FollowRule:
    """When the detector runs, and when a person is dropped.

    A person is lost in a frame where fewer than four joints score above `min_joint_score`. The box
    then stays where it is, and the next frame is a key frame.

    Attributes:
        detect_every: Frames from one run of the detector to the next, at most. It also runs where
            nobody is followed, and in the frame after somebody was dropped.
        min_joint_score: Joints that score less count neither for boxes nor for being lost.
        max_lost_frames: A person who is lost in more consecutive frames is dropped.
        max_missed_detections: A person whom the detector misses in more consecutive runs is
            dropped.
        min_birth_score: Detections that score less confirm followed persons, but start none, as in
            ByteTrack (Zhang et al., ECCV 2022).
        min_iou: A detection with this IoU to a followed box is the same person.
        max_similarity: OKS above which two poses are one person, found twice.

    Raises:
        UserError: A setting is out of range.
    """

    detect_every: int = 10
    min_joint_score: float = SCORE_THRESHOLD
    max_lost_frames: int = 3
    max_missed_detections: int = 2
    min_birth_score: float = 0.5
    min_iou: float = 0.3
    max_similarity: float = 0.8

    def __post_init__(self) -> None:
        whole = {"detect_every": 1, "max_lost_frames": 0, "max_missed_detections": 0}
        for name, least in whole.items():
            if getattr(self, name) < least:
                found = getattr(self, name)
                raise UserError(f"following: {name}", f"{least} or more", str(found))
        if not 0 <= self.min_birth_score <= 1:
            found = str(self.min_birth_score)
            raise UserError("following: min_birth_score", "0 to 1", found)
        for name in ("min_iou", "max_similarity"):
            if not 0 < getattr(self, name) <= 1:
                found = getattr(self, name)
                raise UserError(f"following: {name}", "above 0, to 1", str(found))


def follow(
    images: Iterable[UINT8],
    runner: Runner,
    tracker: Tracker,
    detect: Callable[[UINT8], DetectedBoxes] | None = None,
    rule: FollowRule | None = None,
) -> Iterator[TrackedFrame]:
    """Yield the persons of each frame of a video, before the next frame is read.

    A person's box is that of the detector in frames where it ran, and that of the pose in the
    frame before in all others. Detections that match nobody are born; they take the id of somebody
    who is missing, if the tracker knows them.

    Args:
        images: uint8 (H, W, 3), RGB.
        runner: Finds the poses: `ClipRunner`, or `ImageRunner` for models of images.
        tracker: Gives the ids; a new one for each video.
        detect: Finds the persons of an image. Without it, the whole image is looked at where nobody
            is followed.
        rule: Defaults to `FollowRule()`.

    Raises:
        UserError: The detector's boxes have another form, or are not finite.
    """
    rule = rule or FollowRule()
    people, frames_since, num_followed = list[_Person](), 0, 0
    for image in images:
        # Who was dropped may be found again at once.
        is_due = frames_since >= rule.detect_every or len(people) < num_followed
        is_detected = not people or (detect is not None and is_due)
        frames_since = 1 if is_detected else frames_since + 1
        if is_detected:
            people = _detected(people, (detect or whole_image)(image), rule)
        boxes_N4, num_followed = _boxes(people), len(people)
        poses = runner(image, boxes_N4, [person.memory for person in people])
        kept = _distinct(people, boxes_N4, poses, tracker.skeleton, rule.max_similarity)
        if len(kept) < len(people):
            people, boxes_N4, poses = [people[row] for row in kept], boxes_N4[kept], poses.of(kept)
        ids = tracker.update(poses.keypoints, poses.scores, boxes_N4, [one.id for one in people])
        box_scores_N = np.array([person.box_score for person in people], np.float32)
        found = zip(people, ids.tolist(), *poses[:3], strict=True)
        people = [
            person.followed(number, xy_K2, scores_K, memory, rule)
            for person, number, xy_K2, scores_K, memory in found
        ]
        people = [person for person in people if person.is_followed(rule, image)]
        shown = ids, poses.keypoints, poses.scores, boxes_N4, box_scores_N
        yield TrackedFrame(*shown, poses.distances == 0, is_detected)


@dataclass(frozen=True)
class _Person:
    """A followed person, with the pose in the previous frame."""

    box_xyxy: FloatArray
    box_score: float
    id: int = NEW
    memory: ClipMemory | None = None
    keypoints_K2: FloatArray | None = None
    lost_frames: int = 0
    missed_detections: int = 0

    def followed(
        self,
        number: int,
        keypoints_K2: FloatArray,
        scores_K: NDArray[np.float32],
        memory: ClipMemory | None,
        rule: FollowRule,
    ) -> _Person:
        """Return the person's box in the next frame."""
        left, top, right, bottom = self.box_xyxy.tolist()
        box_xywh = left, top, right - left, bottom - top
        x, y, width, height = box_of_pose(box_xywh, keypoints_K2, scores_K, rule.min_joint_score)
        is_lost = not is_pose(scores_K, rule.min_joint_score)
        return _Person(
            np.array((x, y, x + width, y + height)),
            self.box_score,
            number,
            None if is_lost else memory,
            keypoints_K2.copy(),
            self.lost_frames + 1 if is_lost else 0,
            self.missed_detections,
        )

    def is_followed(self, rule: FollowRule, image: UINT8) -> bool:
        """Return whether the person is still followed, within the image."""
        left, top, right, bottom = self.box_xyxy.tolist()
        height, width = image.shape[:2]
        return (
            self.lost_frames <= rule.max_lost_frames
            and 0 <= (left + right) / 2 <= width
            and 0 <= (top + bottom) / 2 <= height
            and max(right - left, bottom - top) >= LEAST_SIDE_PX
        )


def _boxes(people: Sequence[_Person]) -> FloatArray:
    return np.array([person.box_xyxy for person in people], np.float64).reshape(-1, 4)


def _detected(
    people: Sequence[_Person], detected: DetectedBoxes, rule: FollowRule
) -> list[_Person]:
    """Return the followed persons in the boxes that were detected, and those born."""
    found = [_Person(box, score) for box, score in _usable(detected)]
    matched = dict(best_pairs(box_ious(_boxes(people), _boxes(found)), rule.min_iou))
    followed = [
        replace(
            person,
            box_xyxy=found[matched[row]].box_xyxy,
            box_score=found[matched[row]].box_score,
            missed_detections=0,
        )
        if row in matched
        else replace(person, missed_detections=person.missed_detections + 1)
        for row, person in enumerate(people)
    ]
    taken = set(matched.values())
    born = [
        person
        for column, person in enumerate(found)
        if column not in taken and person.box_score >= rule.min_birth_score
    ]
    return [p for p in followed if p.missed_detections <= rule.max_missed_detections] + born


def _usable(detected: DetectedBoxes) -> list[tuple[FloatArray, float]]:
    """Return the detected boxes that are large enough, and their scores."""
    boxes_N4 = np.asarray(detected.boxes_xyxy, np.float64)
    if boxes_N4.size == 0:
        return []
    if boxes_N4.ndim != 2 or boxes_N4.shape[1] != 4:
        raise UserError("detector: boxes", "(N, 4)", str(boxes_N4.shape))
    if not np.isfinite(boxes_N4).all():
        raise UserError("detector: boxes", "finite numbers", "some that are not")
    sides_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    is_large_N = (sides_N2 > 0).all(axis=1) & (sides_N2.max(axis=1) >= LEAST_SIDE_PX)
    scores = np.asarray(detected.scores)[is_large_N].tolist()
    return list(zip(boxes_N4[is_large_N], scores, strict=True))


def _distinct(
    people: Sequence[_Person],
    boxes_N4: FloatArray,
    poses: FoundPoses,
    skeleton: Skeleton,
    max_similarity: float,
) -> list[int]:
    """Return the rows of the persons, without those whose pose is another person's.

    Of two with one pose the one who moved less stays: the other jumped onto that person. Somebody
    who was just born never replaces a person who was followed.
    """
    if len(people) < 2:
        return list(range(len(people)))
    areas_N = np.prod(boxes_N4[:, 2:] - boxes_N4[:, :2], axis=1)
    before_NK2 = np.array(
        [
            xy_K2 if person.keypoints_K2 is None else person.keypoints_K2
            for person, xy_K2 in zip(people, poses.keypoints, strict=True)
        ]
    ).reshape(poses.keypoints.shape)
    xy_NK2, sigmas = poses.keypoints, skeleton.sigmas
    continuity_N = pose_similarity(xy_NK2, areas_N, before_NK2, areas_N, sigmas).diagonal()
    is_born_N = np.array([person.keypoints_K2 is None for person in people], bool)
    rank_N = np.where(is_born_N, -1.0, continuity_N)
    similarity_NN = pose_similarity(xy_NK2, areas_N, xy_NK2, areas_N, sigmas)
    kept, _ = oks_nms(similarity_NN, rank_N, max_similarity)
    return sorted(kept.tolist())
