"""Track ids for the persons of a video, by the similarity of poses and the overlap of boxes.

N persons in a frame, T tracks, K joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from vipnas.data.crops.boxes import box_ious
from vipnas.data.formats.results import SCORE_THRESHOLD
from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError
from vipnas.evaluation.oks import best_pairs, pose_similarity

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NEW = -1  # in place of an id: a person whose track is not known


def optimal_pairs(similarity_NM: FloatArray, least: float) -> list[tuple[int, int]]:
    """Return the rows and columns whose similarities have the largest sum.

    Pairs less similar than `least` do not count and are left out (Kuhn, "The Hungarian method for
    the assignment problem", 1955).
    """
    allowed_NM = similarity_NM >= least
    rows, columns = linear_sum_assignment(np.where(allowed_NM, similarity_NM, 0), maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [pair for pair in pairs if allowed_NM[pair]]


MATCHINGS: dict[str, Callable[[FloatArray, float], list[tuple[int, int]]]] = {
    "greedy": best_pairs,
    "hungarian": optimal_pairs,
}


class _Track(NamedTuple):
    """Where somebody was last seen; `age` is the number of frames since then."""

    keypoints_K2: FloatArray
    has_joint_K: NDArray[np.bool_]
    box_xyxy: FloatArray
    age: int = 0


@dataclass
class Tracker:
    """Give the persons of one frame after another their track ids, from 0.

    A person takes the track whose last pose and box are most similar. Within `max_gap` frames the
    similarity is the weighted mean of the OKS and of the IoU of the boxes. Afterwards the pose has
    changed: a person who returns within `max_absence` frames is matched by the IoU alone, after
    all others. A person without a track begins one.

    Attributes:
        skeleton: Its sigmas are those of the OKS.
        matching: `hungarian` maximises the sum of similarities; `greedy` takes the most similar
            pair first.
        min_similarity: A less similar pair, in 0..1, is no match.
        oks_weight: Weight of the OKS, in 0..1; that of the IoU is the rest.
        max_gap: Frames for which somebody may be missing between two detections.
        max_absence: Frames after which a track ends; at least `max_gap`.
        min_reentry_iou: A box that overlaps less with that of a track is not a return.
        min_joint_score: Joints that score less, now or before, do not count for the OKS.

    Raises:
        UserError: A setting is out of range.
    """

    skeleton: Skeleton
    matching: str = "hungarian"
    min_similarity: float = 0.2
    oks_weight: float = 0.5
    max_gap: int = 10
    max_absence: int = 50
    min_reentry_iou: float = 0.2
    min_joint_score: float = SCORE_THRESHOLD
    _num_tracks: int = 0
    _tracks: dict[int, _Track] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.matching not in MATCHINGS:
            raise UserError.not_one_of("tracker: matching", MATCHINGS, self.matching)
        for name in ("min_similarity", "min_reentry_iou"):
            if not 0 < getattr(self, name) <= 1:
                found = getattr(self, name)
                raise UserError(f"tracker: {name}", "above 0, to 1", str(found))
        if not 0 <= self.oks_weight <= 1:
            raise UserError("tracker: oks_weight", "0 to 1", str(self.oks_weight))
        if not 0 <= self.max_gap <= self.max_absence:
            raise UserError(
                "tracker: max_gap", f"0 to max_absence ({self.max_absence})", str(self.max_gap)
            )

    def update(
        self,
        keypoints_NK2: NDArray[np.floating],
        scores_NK: NDArray[np.floating],
        boxes_xyxy: NDArray[np.floating],
        known_ids: Sequence[int] | None = None,
    ) -> IntArray:
        """Return the track ids (N,) of the persons in the next frame, in their order.

        Args:
            keypoints_NK2: x and y in pixels of the image.
            scores_NK: Scores of the joints.
            boxes_xyxy: (N, 4), left, top, right and bottom in pixels.
            known_ids: Ids (N,) of persons who were followed from frame to frame, and `NEW` for the
                others; by default all are `NEW`.

        Raises:
            UserError: The arrays do not fit the skeleton or each other.
        """
        shown = [
            _Track(xy_K2, scores_K >= self.min_joint_score, box)
            for xy_K2, scores_K, box in zip(
                *self._checked(keypoints_NK2, scores_NK, boxes_xyxy), strict=True
            )
        ]
        ids = [NEW] * len(shown) if known_ids is None else list(known_ids)
        self._match(ids, shown, range(self.max_gap + 1), self._similarity, self.min_similarity)
        away_for = range(self.max_gap + 1, self.max_absence + 1)
        self._match(ids, shown, away_for, _overlap, self.min_reentry_iou)
        for row, number in enumerate(ids):
            if number == NEW:
                ids[row] = self._num_tracks
                self._num_tracks += 1
        self._keep(dict(zip(ids, shown, strict=True)))
        return np.array(ids, np.int64)

    def _checked(
        self,
        keypoints_NK2: NDArray[np.floating],
        scores_NK: NDArray[np.floating],
        boxes_xyxy: NDArray[np.floating],
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        num_persons, num_joints = len(boxes_xyxy), self.skeleton.num_joints
        checked = []
        for name, values, shape in (
            ("keypoints", keypoints_NK2, (num_persons, num_joints, 2)),
            ("scores", scores_NK, (num_persons, num_joints)),
            ("boxes_xyxy", boxes_xyxy, (num_persons, 4)),
        ):
            if values.shape != shape:
                raise UserError(f"tracker: {name}", str(shape), str(values.shape))
            checked.append(np.array(values, np.float64))  # kept after the caller changes them
        keypoints, scores, boxes = checked
        return keypoints, scores, boxes

    def _match(
        self,
        ids: list[int],
        shown: Sequence[_Track],
        ages: range,
        similarity: Callable[[Sequence[_Track], Sequence[_Track]], FloatArray],
        least: float,
    ) -> None:
        """Give the persons that are still `NEW` the free tracks of these ages; in place."""
        rows = [row for row, number in enumerate(ids) if number == NEW]
        if not rows:
            return
        free = [
            number
            for number, track in self._tracks.items()
            if track.age in ages and number not in ids
        ]
        if not free:
            return
        similarity_NT = similarity(
            [shown[row] for row in rows], [self._tracks[number] for number in free]
        )
        for row, column in MATCHINGS[self.matching](similarity_NT, least):
            ids[rows[row]] = free[column]

    def _similarity(self, shown: Sequence[_Track], tracks: Sequence[_Track]) -> FloatArray:
        boxes_N4, boxes_T4 = (np.array([one.box_xyxy for one in some]) for some in (shown, tracks))
        joints_NK, joints_TK = (
            np.array([one.has_joint_K for one in some]) for some in (shown, tracks)
        )
        oks_NT = pose_similarity(
            np.array([one.keypoints_K2 for one in shown]),
            _areas(boxes_N4),
            np.array([track.keypoints_K2 for track in tracks]),
            _areas(boxes_T4),
            self.skeleton.sigmas,
            joints_NK[:, None] & joints_TK[None],
        )
        return self.oks_weight * oks_NT + (1 - self.oks_weight) * box_ious(boxes_N4, boxes_T4)

    def _keep(self, seen: dict[int, _Track]) -> None:
        """Keep those seen in this frame, and the others until they are away for too long."""
        away = {
            number: _Track(track.keypoints_K2, track.has_joint_K, track.box_xyxy, track.age + 1)
            for number, track in self._tracks.items()
            if number not in seen and track.age < self.max_absence
        }
        self._tracks = {**away, **seen}


def _overlap(shown: Sequence[_Track], tracks: Sequence[_Track]) -> FloatArray:
    return box_ious(
        np.array([one.box_xyxy for one in shown]), np.array([track.box_xyxy for track in tracks])
    )


def _areas(boxes_N4: FloatArray) -> FloatArray:
    """Return areas (N,) in square pixels; a box around one joint has one."""
    return np.asarray(np.maximum(np.prod(boxes_N4[:, 2:] - boxes_N4[:, :2], axis=1), 1.0))
