"""Average precision of joints by the rule of PoseTrack.

The rule, of the official kit (github.com/leonid-pishchulin/poseval): in a frame, a predicted joint
is near an annotated one within half the head size (0.6 times the diagonal of the head box). The
fraction of a person's annotated joints that a prediction is near is the pair's score. Each
prediction is assigned to its best person, and each person keeps the best of its predictions.
Joints of a kept prediction are correct where they are near, all others are wrong. The average
precision of a joint is the area under its precision and recall over all frames, by joint score.
Frames in which nobody is annotated do not count, nor do joints within an ignore region.

Unlike in the kit, a joint without annotations never has an average precision. The kit counts it as
0 in the mean if nothing is predicted for it.

P predictions and G annotated people in a frame, K joints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.posetrack import Frame
from vipnas.data.formats.results import keypoints_of
from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError
from vipnas.evaluation.pck import HEAD_OF_DIAGONAL

FloatArray = NDArray[np.float64]

# A joint is near within this fraction of the head size.
HEAD_SHARE = 0.5


@dataclass(frozen=True)
class PoseTrackAp:
    """Average precision in 0..1: the mean over the joints that are annotated, and each of them."""

    mean: float
    by_joint: dict[str, float]

    def __str__(self) -> str:
        joints = ", ".join(f"{name} {ap:.3f}" for name, ap in self.by_joint.items())
        return f"mAP {self.mean:.3f} ({joints})"


class FramePairs(NamedTuple):
    """One frame's people and predictions.

    Attributes:
        distances_PGK: In head sizes; infinite where either joint is missing.
        annotated_GK: Which joints are annotated.
        predicted_PK: Which joints are predicted.
        scores_PK: The scores of the predictions.
        truth_track_ids: The track ids of the people.
        track_ids: Those of the predictions; None for a prediction without one.
    """

    distances_PGK: FloatArray
    annotated_GK: NDArray[np.bool_]
    predicted_PK: NDArray[np.bool_]
    scores_PK: FloatArray
    truth_track_ids: tuple[int, ...]
    track_ids: tuple[int | None, ...]


def posetrack_ap(
    frames: Iterable[Frame], results: Sequence[dict[str, Any]], skeleton: Skeleton
) -> PoseTrackAp:
    """Compute the average precision of joints by the rule of PoseTrack.

    Args:
        frames: The annotated frames.
        results: Predictions in the COCO results format: x, y and score of each joint. A joint of
            three zeros is not predicted (`without_weak_joints`).
        skeleton: The joints.

    Raises:
        UserError: A result is of another image, or an annotated person has no head box.
    """
    scores, correct = [], []
    num_annotated_K = np.zeros(skeleton.num_joints, np.int64)
    for pairs in frame_pairs(frames, results, skeleton):
        num_annotated_K += pairs.annotated_GK.sum(axis=0)
        scores.append(np.where(pairs.predicted_PK, pairs.scores_PK, np.nan))
        correct.append(correct_joints(pairs))
    if not num_annotated_K.any():
        raise UserError("frames", "at least one annotated joint", "none")
    all_scores, all_correct = np.concatenate(scores), np.concatenate(correct)
    by_joint = {
        name: average_precision(all_scores[:, joint], all_correct[:, joint], int(num_annotated))
        for joint, (name, num_annotated) in enumerate(
            zip(skeleton.joints, num_annotated_K, strict=True)
        )
        if num_annotated
    }
    return PoseTrackAp(float(np.mean(list(by_joint.values()))), by_joint)


def frame_pairs(
    frames: Iterable[Frame], results: Sequence[dict[str, Any]], skeleton: Skeleton
) -> Iterator[FramePairs]:
    """Yield the frames in which somebody is annotated, in their order."""
    by_image = _by_image(results, skeleton)
    frames = list(frames)
    if unknown := by_image.keys() - {frame.image_id for frame in frames}:
        raise UserError(
            "results: image_id",
            f"an image of the {len(frames)} frames",
            f"{len(unknown)} others, such as {min(unknown)}",
        )
    nothing = np.zeros((0, skeleton.num_joints, 3)), ()
    for frame in frames:
        if frame.people:
            yield _pairs(frame, *by_image.get(frame.image_id, nothing))


def _by_image(
    results: Sequence[dict[str, Any]], skeleton: Skeleton
) -> dict[int, tuple[FloatArray, tuple[int | None, ...]]]:
    """Return keypoints (P, K, 3) and track ids of the results of each image."""
    if not results:
        return {}
    keypoints_NK3 = keypoints_of(results, skeleton)
    if not np.isfinite(keypoints_NK3).all():
        raise UserError("results: keypoints", "finite numbers", "others")
    numbers: dict[int, list[int]] = {}
    for number, result in enumerate(results):
        numbers.setdefault(result["image_id"], []).append(number)
    return {
        image_id: (keypoints_NK3[rows], tuple(results[row].get("track_id") for row in rows))
        for image_id, rows in numbers.items()
    }


def _pairs(
    frame: Frame, keypoints_PK3: FloatArray, track_ids: tuple[int | None, ...]
) -> FramePairs:
    truth_GK3 = np.array([person.keypoints_K3 for person in frame.people], np.float64)
    annotated_GK = (truth_GK3[..., 2] > 0) & ~_ignored(truth_GK3, frame)
    predicted_PK = keypoints_PK3.any(axis=2) & ~_ignored(keypoints_PK3, frame)
    offsets_PGK2 = keypoints_PK3[:, None, :, :2] - truth_GK3[None, :, :, :2]
    distances_PGK = np.hypot(offsets_PGK2[..., 0], offsets_PGK2[..., 1])
    distances_PGK /= _head_sizes(frame)[None, :, None]
    distances_PGK[~(predicted_PK[:, None] & annotated_GK[None])] = np.inf
    return FramePairs(
        distances_PGK,
        annotated_GK,
        predicted_PK,
        keypoints_PK3[..., 2],
        tuple(person.track_id for person in frame.people),
        track_ids,
    )


def _head_sizes(frame: Frame) -> FloatArray:
    sizes = []
    for person in frame.people:
        box = person.head_box_xywh
        if box is None and person.keypoints_K3[:, 2].any():
            raise UserError(
                f"annotation {person.annotation_id}: bbox_head",
                "a head box for a person with a labelled joint",
                "none",
            )
        sizes.append(1.0 if box is None else HEAD_OF_DIAGONAL * np.hypot(box[2], box[3]))
    return np.array(sizes)


def _ignored(keypoints_NK3: FloatArray, frame: Frame) -> NDArray[np.bool_]:
    """Return which joints (N, K) are in a region where people are not annotated."""
    ignored_NK = np.zeros(keypoints_NK3.shape[:2], bool)
    for polygon in frame.ignore_regions:
        ignored_NK |= inside_polygon(keypoints_NK3[..., 0], keypoints_NK3[..., 1], polygon)
    return ignored_NK


def inside_polygon(x: FloatArray, y: FloatArray, polygon_N2: FloatArray) -> NDArray[np.bool_]:
    """Return which points, of any shape, are inside by the even-odd rule."""
    inside = np.zeros(np.shape(x), bool)
    for (x1, y1), (x2, y2) in zip(polygon_N2, np.roll(polygon_N2, -1, axis=0), strict=True):
        if y1 != y2:
            crosses = (y1 > y) != (y2 > y)
            inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return inside


def correct_joints(pairs: FramePairs) -> NDArray[np.bool_]:
    """Return which predicted joints (P, K) are correct, after people are assigned."""
    near_PGK = pairs.distances_PGK <= HEAD_SHARE
    correct_PK = np.zeros(pairs.predicted_PK.shape, bool)
    if not near_PGK.any():
        return correct_PK
    num_annotated_G = np.maximum(pairs.annotated_GK.sum(axis=1), 1)
    shares_PG = near_PGK.sum(axis=2) / num_annotated_G
    chosen_P = shares_PG.argmax(axis=1)
    assigned_PG = np.zeros_like(shares_PG)
    predictions = np.arange(len(shares_PG))
    assigned_PG[predictions, chosen_P] = shares_PG[predictions, chosen_P]
    kept_G = assigned_PG.argmax(axis=0)
    for person in np.flatnonzero(assigned_PG.max(axis=0) > 0):
        correct_PK[kept_G[person]] = near_PGK[kept_G[person], person]
    return correct_PK


def average_precision(
    scores_N: FloatArray, correct_N: NDArray[np.bool_], num_annotated: int
) -> float:
    """Return the area under precision (the largest at that recall or beyond) over recall.

    Scores that are NaN do not count. The later of equal scores comes first, as in the kit.
    """
    scored_N = ~np.isnan(scores_N)
    order = np.argsort(scores_N[scored_N], kind="stable")[::-1]
    correct = correct_N[scored_N][order]
    precision = np.cumsum(correct) / np.arange(1, len(correct) + 1)
    best_beyond = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_beyond[correct].sum() / num_annotated)


def without_weak_joints(
    results: Sequence[Mapping[str, Any]], threshold: float
) -> list[dict[str, Any]]:
    """Return results whose joints below `threshold` are three zeros: not predicted."""
    cut = []
    for result in results:
        keypoints_K3 = np.array(result["keypoints"], np.float64).reshape(-1, 3)
        keypoints_K3[keypoints_K3[:, 2] < threshold] = 0
        cut.append({**result, "keypoints": keypoints_K3.ravel().tolist()})
    return cut
