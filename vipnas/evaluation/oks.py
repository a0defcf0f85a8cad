"""How alike two poses are, and which of several similar ones to keep.

N poses in one image, M of another set, K joints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.skeletons import Skeleton
from vipnas.files import did_you_mean

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Of soft suppression no more people are kept in an image than the COCO protocol looks at.
MAX_PERSONS = 20


def pose_similarity(
    xy_NK2: NDArray[np.floating],
    areas_N: NDArray[np.floating],
    xy_MK2: NDArray[np.floating],
    areas_M: NDArray[np.floating],
    sigmas_K: Sequence[float],
    counted: NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Object keypoint similarity (N, M) of poses, in 0..1.

    The scale is the mean of the two areas, in square pixels, and all joints count, or those that
    are `counted` in the second set (M, K) or in each pair (N, M, K); 0 where none does.
    """
    squares_NMK = np.square(xy_NK2[:, None] - xy_MK2[None]).sum(axis=3, dtype=np.float64)
    areas_NM = (areas_N[:, None] + areas_M[None]).astype(np.float64) / 2
    likeness_NMK = _similarity(squares_NMK, areas_NM, sigmas_K)
    if counted is None:
        return np.asarray(likeness_NMK.mean(axis=2))
    sums_NM = (likeness_NMK * counted).sum(axis=2)
    return np.asarray(sums_NM / np.maximum(counted.sum(axis=-1), 1))


def mean_similarity(
    xy_NK2: NDArray[np.floating],
    truth_NK3: NDArray[np.floating],
    areas_N: NDArray[np.floating],
    sigmas_K: Sequence[float],
) -> float:
    """Mean over N people of the object keypoint similarity (0..1) of each one's pose to his own
    labels, x, y and visibility. Joints without a label do not count, nor do people without any."""
    squares_NK = np.square(xy_NK2 - truth_NK3[..., :2]).sum(axis=2, dtype=np.float64)
    labelled_NK = truth_NK3[..., 2] > 0
    counts_N = labelled_NK.sum(axis=1)
    if not counts_N.any():
        return 0.0
    sums_N = (_similarity(squares_NK, areas_N, sigmas_K) * labelled_NK).sum(axis=1)
    return float((sums_N[counts_N > 0] / counts_N[counts_N > 0]).mean())


def _similarity(
    squares_K: FloatArray, areas: NDArray[np.floating], sigmas_K: Sequence[float]
) -> FloatArray:
    """Of joints (..., K), by the squares of their distances and the areas (...) of their people, in
    pixels."""
    variances_K = np.square(2 * np.asarray(sigmas_K, np.float64))
    return np.asarray(np.exp(-squares_K / variances_K / (areas[..., None] + np.spacing(1)) / 2))


def best_pairs(similarity_NM: FloatArray, least: float = 0.0) -> list[tuple[int, int]]:
    """Rows and columns that belong together: the most alike pair goes first, each row and column is
    in one pair at most, and pairs less alike than `least` are none."""
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
    """Hard suppression: the best pose stays, those more alike to it than `threshold` go, and so on.

    Indices of what is kept, best first (the earlier of equals), and their scores.
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
    """Soft suppression: nothing goes because it is similar, but its score falls.

    Each time the best of the rest is kept, the scores of the others are multiplied by
    exp(-similarity^2 / threshold) (Bodla et al., "Soft-NMS", ICCV 2017), until 20 are kept.
    Indices of what is kept, best first, and their new scores.
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
    """Keypoint results (`keypoint_results`) without people found twice, image by image.

    `areas_N` are those of the boxes that the results were found in, in square pixels. `threshold`
    is that of the published networks. The order is by image, as they first appear, then by score.
    """
    if method not in SUPPRESSION:
        raise ValueError(f"suppression {method!r} is unknown; {did_you_mean(method, SUPPRESSION)}")
    if not threshold > 0:
        raise ValueError(f"suppression threshold: {threshold}; allowed: above 0")
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
