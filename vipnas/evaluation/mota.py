"""Track people through a video by the similarity of their poses, and score tracks (MOTA).

N people in a frame, K joints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.posetrack import Frame, Video
from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError
from vipnas.evaluation.posetrack_ap import HEAD_SHARE, FramePairs, frame_pairs
from vipnas.evaluation.tracker import Tracker
from vipnas.tables import check_known

FloatArray = NDArray[np.float64]
MotaRule = Literal["poseval", "all-frames"]

# Weight of the OKS in the similarity of two poses; that of the IoU of boxes is the rest.
SIMILARITIES = {"oks": 1.0, "iou": 0.0}


def track(
    videos: Iterable[Video],
    results: Sequence[dict[str, Any]],
    skeleton: Skeleton,
    similarity: str = "oks",
    min_similarity: float = 0.3,
    max_gap: int = 5,
) -> list[dict[str, Any]]:
    """Return the results with a `track_id`, video by video and frame by frame.

    Joints of three zeros are not predicted. A person takes the most similar track; a track ends
    after more than `max_gap` frames without one.
    """
    check_known(similarity, SIMILARITIES, "similarity")
    by_image: dict[int, list[dict[str, Any]]] = {}
    for result in results:
        by_image.setdefault(result["image_id"], []).append(result)
    tracked = []
    for video in videos:
        tracker = Tracker(
            skeleton,
            matching="greedy",
            min_similarity=min_similarity,
            oks_weight=SIMILARITIES[similarity],
            max_gap=max_gap,
            max_absence=max_gap,
        )
        for frame in video.frames:
            people = by_image.get(frame.image_id, [])
            keypoints = np.array([person["keypoints"] for person in people], np.float64)
            joints_NK3 = keypoints.reshape(len(people), skeleton.num_joints, 3)
            is_predicted_NK = (joints_NK3 != 0).any(axis=2)
            boxes_xyxy = _boxes(joints_NK3, is_predicted_NK)
            ids = tracker.update(joints_NK3[..., :2], is_predicted_NK.astype(float), boxes_xyxy)
            tracked += [
                {**person, "track_id": number}
                for person, number in zip(people, ids.tolist(), strict=True)
            ]
    return tracked


def _boxes(joints_NK3: FloatArray, is_predicted_NK: NDArray[np.bool_]) -> FloatArray:
    """Return left, top, right, bottom (N, 4) of the predicted joints; zeros without any."""
    low = np.where(is_predicted_NK[..., None], joints_NK3[..., :2], np.inf).min(axis=1)
    high = np.where(is_predicted_NK[..., None], joints_NK3[..., :2], -np.inf).max(axis=1)
    has_any_N1 = is_predicted_NK.any(axis=1, keepdims=True)
    return np.where(has_any_N1, np.concatenate((low, high), axis=1), 0.0)


@dataclass(frozen=True)
class Mota:
    """Multiple object tracking accuracy: the mean over the joints, and each of them.

    The best value is 1; it is below 0 with more errors than joints. Values of different rules are
    not comparable.
    """

    mean: float
    by_joint: dict[str, float]
    num_switches: int
    rule: MotaRule = "poseval"

    def __str__(self) -> str:
        return f"MOTA {self.mean:.3f}, {self.num_switches} switches of identity"


def mota(
    videos: Iterable[Video],
    results: Sequence[dict[str, Any]],
    skeleton: Skeleton,
    rule: MotaRule = "poseval",
) -> Mota:
    """Compute the MOTA of results with track ids, joint by joint, by motmetrics.

    A predicted joint matches an annotated one within half the head size. Only frames with annotated
    people count.

    Args:
        rule: `poseval` counts as the official kit does, for values that compare with published
            ones. It leaves out the last annotated frame of every video. A frame with annotations
            but no predictions counts one object, one miss and one false positive for each joint,
            however many people it has; so does one with predictions but no annotations, where
            ignore regions hide them. `all-frames` counts every annotated frame as it is.

    Raises:
        UserError: A result has no track id, no annotated frame counts, or motmetrics is missing.
    """
    _check_tracks(results)
    counts = np.zeros((skeleton.num_joints, 4))  # misses, switches, false positives, objects
    annotated_K = np.zeros(skeleton.num_joints, bool)
    for video in videos:
        in_video = {frame.image_id for frame in video.frames}
        here = [result for result in results if result["image_id"] in in_video]
        pairs = list(frame_pairs(video.frames, here, skeleton))
        for one in pairs:
            annotated_K |= one.annotated_GK.any(axis=0)
        counts += (
            _counts(pairs, skeleton) if rule == "all-frames" else _poseval(video, pairs, skeleton)
        )
    if not annotated_K.any():
        raise UserError("videos", "at least one annotated joint", "none")
    counts[~annotated_K] = 0  # such as the ears, which the kit does not know
    if not counts[:, 3].any():
        raise UserError(
            "videos",
            "two annotated frames in a video, or the rule all-frames",
            "one at most",
            "the rule poseval leaves out the last annotated frame of every video",
        )
    by_joint = {
        name: float(1 - errors[:3].sum() / errors[3])
        for name, errors in zip(skeleton.joints, counts, strict=True)
        if errors[3]
    }
    mean, num_switches = float(np.mean(list(by_joint.values()))), int(counts[:, 1].sum())
    return Mota(mean, by_joint, num_switches, rule)


def _check_tracks(results: Sequence[dict[str, Any]]) -> None:
    for number, result in enumerate(results):
        if result.get("track_id") is None:
            raise UserError(
                f"result {number}: track_id", "a number", "none", "results of `track` have one"
            )


def _poseval(video: Video, pairs: Sequence[FramePairs], skeleton: Skeleton) -> FloatArray:
    """Return the counts (K, 4) of a video by the rule of the official kit."""
    frames = [frame for frame in video.frames if frame.people]
    counted = list(zip(frames, pairs, strict=True))[:-1]
    whole = [one for frame, one in counted if not _is_one_sided(frame, one)]
    counts_K4 = _counts(whole, skeleton)
    # One miss, no switch, one false positive, one object.
    counts_K4 += (len(counted) - len(whole)) * np.array((1.0, 0, 1, 1))
    return counts_K4


def _is_one_sided(frame: Frame, pairs: FramePairs) -> bool:
    """Return whether a frame has no predicted or no annotated people.

    In frames with ignore regions, the kit drops people without a joint outside of them. Elsewhere
    it keeps people without joints.
    """
    people = (pairs.annotated_GK, pairs.predicted_PK)
    if frame.ignore_regions:
        return not all(joints.any() for joints in people)
    return not all(len(joints) for joints in people)


def _counts(pairs_of_frames: Sequence[FramePairs], skeleton: Skeleton) -> FloatArray:
    """Return misses, switches, false positives and objects (K, 4) of a video."""
    try:
        import motmetrics  # optional dependency
    except ImportError:
        raise UserError(
            "MOTA", "motmetrics installed", "none", "pip install 'vipnas[posetrack]'"
        ) from None
    accumulators = [motmetrics.MOTAccumulator(auto_id=True) for _ in skeleton.joints]
    for pairs in pairs_of_frames:
        for joint, accumulator in enumerate(accumulators):
            accumulator.update(*_one_joint(pairs, joint))
    names = ["num_misses", "num_switches", "num_false_positives", "num_objects"]
    metrics = motmetrics.metrics.create()
    summaries = [
        metrics.compute(accumulator, metrics=names, return_dataframe=False)
        for accumulator in accumulators
    ]
    return np.array([[float(summary[name]) for name in names] for summary in summaries])


def _one_joint(pairs: FramePairs, joint: int) -> tuple[list[int], list[int | None], FloatArray]:
    """Return annotated and predicted track ids of a joint, and distances (NaN: no match)."""
    truths = np.flatnonzero(pairs.annotated_GK[:, joint])
    predictions = np.flatnonzero(pairs.predicted_PK[:, joint])
    distances_GP = pairs.distances_PGK[predictions][:, truths, joint].T
    near_GP = np.where(distances_GP <= HEAD_SHARE, distances_GP, np.nan)
    return (
        [pairs.truth_track_ids[person] for person in truths],
        [pairs.track_ids[person] for person in predictions],
        near_GP,
    )
