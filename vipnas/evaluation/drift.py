"""Pose errors by the number of frames since the key frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vipnas.data.formats.skeletons import Skeleton
from vipnas.data.poses import TrackedPose
from vipnas.evaluation.oks import pose_similarity


def drift_of(found: Sequence[TrackedPose], skeleton: Skeleton) -> list[dict[str, float]]:
    """Return mean similarity (OKS) and error by the number of frames since the key frame.

    Persons without a labelled joint are left out, and distances at which there is no other. The
    error of a joint is in percent of the square root of the person's area.
    """
    at: dict[int, list[TrackedPose]] = {}
    for item in found:
        if (item.person.keypoints_K3[:, 2] > 0).any():
            at.setdefault(item.distance, []).append(item)
    return [_at_distance(at[distance], distance, skeleton) for distance in sorted(at)]


def _at_distance(
    found: Sequence[TrackedPose], distance: int, skeleton: Skeleton
) -> dict[str, float]:
    similarity, errors = [], []
    for item in found:
        person, xy_K2 = item.person, item.keypoints_K3[:, :2]
        labelled_K = person.keypoints_K3[:, 2] > 0
        area = np.array([person.area])
        truth_K2 = person.keypoints_K3[:, :2]
        pair = pose_similarity(
            xy_K2[None], area, truth_K2[None], area, skeleton.sigmas, labelled_K[None]
        )
        similarity.append(pair[0, 0])
        lengths_K = np.linalg.norm(xy_K2 - truth_K2, axis=1)[labelled_K]
        errors.append(100 * lengths_K.mean() / person.area**0.5)
    return {
        "distance": distance,
        "people": len(found),
        "oks": round(float(np.mean(similarity)), 4),
        "error_percent": round(float(np.mean(errors)), 3),
    }
