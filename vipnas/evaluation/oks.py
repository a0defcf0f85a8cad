"""Object keypoint similarity (OKS) of poses, and non-maximum suppression by it.

N poses in one image, M of another set, K joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError, shown

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Soft suppression keeps as many people in an image as the COCO protocol scores.
MAX_PERSONS = 20


def pose_similarity(
    xy_NK2: NDArray[np.floating],
    areas_N: NDArray[np.floating],
    xy_MK2: NDArray[np.floating],
    areas_M: NDArray[np.floating],
    sigmas_K: Sequence[float],
    counted: NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Return the object keypoint similarity (N, M) of poses, in 0..1.

    The scale is the mean of the two areas.

    Args:
        xy_NK2: One set of poses, in pixels.
        areas_N: Its areas, in square pixels.
        xy_MK2: The other set.
        areas_M: Its areas.
        sigmas_K: The sigmas of the joints.
        counted: Which joints count, in the other set (M, K) or in each pair (N, M, K). All by
            default. The similarity is 0 where none counts.
    """
    squares_NMK = np.square(xy_NK2[:, None] - xy_MK2[None]).sum(axis=3, dtype=np.float64)
    areas_NM = (areas_N[:, None] + areas_M[None]).astype(np.float64) / 2
    similarity_NMK = _similarity(squares_NMK, areas_NM, sigmas_K)
    if counted is None:
        return np.asarray(similarity_NMK.mean(axis=2))
    sums_NM = (similarity_NMK * counted).sum(axis=2)
    return np.asarray(sums_NM / np.maximum(counted.sum(axis=-1), 1))


def mean_similarity(
    xy_NK2: NDArray[np.floating],
    truth_NK3: NDArray[np.floating],
    areas_N: NDArray[np.floating],
    sigmas_K: Sequence[float],
) -> float:
    """Return the mean of `own_similarities`, without people who have no labelled joint."""
    similarities_N = own_similarities(xy_NK2, truth_NK3, areas_N, sigmas_K)
    known_N = ~np.isnan(similarities_N)
    return float(similarities_N[known_N].mean()) if known_N.any() else 0.0


def own_similarities(
    xy_NK2: NDArray[np.floating],
    truth_NK3: NDArray[np.floating],
    areas_N: NDArray[np.floating],
    sigmas_K: Sequence[float],
) -> FloatArray:
    """Return the object keypoint similarity (0..1) of each pose to its own labels.

    Labels are x, y and visibility. Joints without a label do not count; NaN where none has one.
    """
    similarity_NK = joint_similarity(xy_NK2, truth_NK3[..., :2], areas_N, sigmas_K)
    labelled_NK = truth_NK3[..., 2] > 0
    counts_N = labelled_NK.sum(axis=1)
    sums_N = (similarity_NK * labelled_NK).sum(axis=1)
    return np.where(counts_N > 0, sums_N / np.maximum(counts_N, 1), np.nan)


def joint_similarity(
    xy_NK2: NDArray[np.floating],
    truth_NK2: NDArray[np.floating],
    areas_N: NDArray[np.floating],
    sigmas_K: Sequence[float],
) -> FloatArray:
    """Return the similarity (N, K) of each joint to its label, in 0..1."""
    squares_NK = np.square(xy_NK2 - truth_NK2).sum(axis=2, dtype=np.float64)
    return _similarity(squares_NK, areas_N, sigmas_K)


def _similarity(
    squares_K: FloatArray, areas: NDArray[np.floating], sigmas_K: Sequence[float]
) -> FloatArray:
    """Return the similarity of joints (..., K) by squared distances and areas, in pixels."""
    variances_K = np.square(2 * np.asarray(sigmas_K, np.float64))
    return np.asarray(np.exp(-squares_K / variances_K / (areas[..., None] + np.spacing(1)) / 2))


def best_pairs(similarity_NM: FloatArray, least: float = 0.0) -> list[tuple[int, int]]:
    """Match rows and columns greedily, the most similar pair first.

    Each row and column is in one pair at most. Pairs less similar than `least` do not match.
    """
    pairs: list[tuple[int, int]] = []
    rows: set[int] = set()
    columns: set[int] = set()
    for place in np.argsort(-similarity_NM, axis=None, kind="stable"):
        row, column = divmod(int(place), similarity_NM.shape[1])
        if similarity_NM[row, column] < least:
            break
        if row not in rows and column not in columns:
            pairs.append((row, column))
            rows.add(row)
            columns.add(column)
    return pairs


def oks_nms(
    similarity_NN: FloatArray, scores_N: FloatArray, threshold: float
) -> tuple[IntArray, FloatArray]:
    """Suppress poses that are more similar to a better one than `threshold`.

    Returns:
        Indices of the poses kept, best first (the earlier of equals), and their scores.
    """
    order = np.argsort(-scores_N, kind="stable")
    gone_N = np.zeros(len(scores_N), bool)
    kept = []
    for index in order:
        if not gone_N[index]:
            kept.append(index)
            gone_N |= similarity_NN[index] > threshold
    indices = np.array(kept, np.int64)
    return indices, scores_N[indices]


def soft_oks_nms(
    similarity_NN: FloatArray, scores_N: FloatArray, threshold: float
) -> tuple[IntArray, FloatArray]:
    """Lower the scores of poses that are similar to a better one.

    Up to 20 poses are kept, each time the best. It multiplies the scores of the rest by
    exp(-similarity^2 / threshold) (Bodla et al., "Soft-NMS", ICCV 2017).

    Returns:
        Indices of the poses kept, best first, and their new scores.
    """
    scores = scores_N.astype(np.float64, copy=True)
    rest_N = np.ones(len(scores), bool)
    kept: list[int] = []
    for _ in range(min(MAX_PERSONS, len(scores))):
        best = int(np.argmax(np.where(rest_N, scores, -np.inf)))
        rest_N[best] = False
        kept.append(best)
        decay_N = np.exp(-np.square(similarity_NN[best]) / threshold)
        scores[rest_N] *= decay_N[rest_N]
    indices = np.array(kept, np.int64)
    return indices, scores[indices]


SUPPRESSION: dict[str, Callable[..., tuple[IntArray, FloatArray]]] = {
    "hard": oks_nms,
    "soft": soft_oks_nms,
}


def suppress(
    results: Sequence[dict[str, Any]],
    areas_N: NDArray[np.floating],
    skeleton: Skeleton,
    method: str = "hard",
    threshold: float = 0.9,
) -> list[dict[str, Any]]:
    """Return keypoint results (`keypoint_results`) without people found twice in an image.

    Args:
        results: Predictions in the COCO results format.
        areas_N: The areas of their boxes, in square pixels.
        skeleton: The joints.
        method: `hard` or `soft`.
        threshold: That of `method`; the default is that of the published networks.

    Returns:
        The results kept, by image in order of first occurrence, then by score.

    Raises:
        UserError: `method` is unknown, or `threshold` is not above 0.
    """
    if method not in SUPPRESSION:
        raise UserError.not_one_of("suppression", SUPPRESSION, method)
    if not threshold > 0:
        raise UserError("suppression threshold", "a number above 0", shown(threshold))
    by_image: dict[int, list[int]] = {}
    for number, result in enumerate(results):
        by_image.setdefault(result["image_id"], []).append(number)
    kept = []
    for numbers in by_image.values():
        keypoints = np.array([results[number]["keypoints"] for number in numbers])
        xy_NK2 = keypoints.reshape(len(numbers), -1, 3)[..., :2]
        scores_N = np.array([results[number]["score"] for number in numbers], np.float64)
        areas = areas_N[numbers]
        similarity_NN = pose_similarity(xy_NK2, areas, xy_NK2, areas, skeleton.sigmas)
        for index, score in zip(
            *SUPPRESSION[method](similarity_NN, scores_N, threshold), strict=True
        ):
            kept.append({**results[numbers[index]], "score": float(score)})
    return kept
