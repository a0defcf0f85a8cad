"""Keypoint results in COCO results JSON: written whole or not at all, and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco import PERSON_CATEGORY, Person
from vipnas.data.formats.skeletons import Skeleton
from vipnas.files import read_json, write_atomically

KEYS = ("image_id", "category_id", "keypoints", "score")


def write_results(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """What the COCO server and every evaluator of the field takes; numbers are not rounded."""
    write_atomically(path, json.dumps(list(results), allow_nan=False) + "\n")


def read_results(path: Path, skeleton: Skeleton) -> list[dict[str, Any]]:
    """Raises ValueError, one line: the file, the place, what was found, what is allowed."""
    raw = read_json(path)
    if not isinstance(raw, list):
        raise ValueError(f"{path}: found a {type(raw).__name__}; allowed: a list of results")
    for number, entry in enumerate(raw):
        place = f"{path}: result {number}"
        if not isinstance(entry, dict) or (missing := [key for key in KEYS if key not in entry]):
            what = f"{missing[0]} is missing" if isinstance(entry, dict) else f"found {entry!r}"
            raise ValueError(f"{place}: {what}; allowed: objects with {', '.join(KEYS)}")
        numbers = [*entry["keypoints"], entry["score"]]
        if len(numbers) != 3 * skeleton.num_joints + 1:
            raise ValueError(
                f"{place}: {len(numbers) - 1} keypoint numbers; allowed: {3 * skeleton.num_joints} "
                f"for {skeleton.name}"
            )
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in numbers):
            raise ValueError(f"{place}: holds something that is not a finite number")
    return raw


# A joint whose score is below this does not count for the score of its person, as in mmpose.
SCORE_THRESHOLD = 0.2


def keypoint_results(
    persons: Sequence[Person],
    xy_NK2: NDArray[np.floating],
    scores_NK: NDArray[np.floating],
    box_scores_N: NDArray[np.floating] | None = None,
) -> list[dict[str, Any]]:
    """Predictions in COCO results form, one for each person.

    `xy_NK2` is in image pixels. A person's score is the box score (1 for ground-truth boxes) times
    the mean of those joint scores that are above 0.2, and 0 where none is.
    """
    image_ids = [person.image_id for person in persons]
    return coco_results(image_ids, xy_NK2, scores_NK, box_scores_N)


def coco_results(
    image_ids: Sequence[int],
    xy_NK2: NDArray[np.floating],
    scores_NK: NDArray[np.floating],
    box_scores_N: NDArray[np.floating] | None = None,
) -> list[dict[str, Any]]:
    """`keypoint_results` of poses whose images are known by their ids."""
    counted = scores_NK > SCORE_THRESHOLD
    sums = np.where(counted, scores_NK, 0).sum(axis=1, dtype=np.float64)
    scores_N = sums / np.maximum(counted.sum(axis=1), 1)
    if box_scores_N is not None:
        scores_N = scores_N * box_scores_N
    keypoints_NK3 = np.concatenate((xy_NK2, scores_NK[..., None]), axis=2, dtype=np.float64)
    return [
        {
            "image_id": image_id,
            "category_id": PERSON_CATEGORY,
            "keypoints": keypoints,
            "score": score,
        }
        for image_id, keypoints, score in zip(
            image_ids,
            keypoints_NK3.reshape(len(image_ids), 3 * xy_NK2.shape[1]).tolist(),
            scores_N.tolist(),
            strict=True,
        )
    ]
