"""Write and read keypoint results in COCO results JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco import PERSON_CATEGORY, Person, PoseData
from vipnas.data.formats.json_values import (
    is_coordinate,
    json_list,
    json_object,
    number,
    too_large,
    unexpected,
    whole_number,
)
from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError
from vipnas.files import read_json, write_atomically

log = logging.getLogger(__name__)


def write_results(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """Write results atomically, in the form that COCO evaluators take. Numbers are not rounded."""
    write_atomically(path, json.dumps(list(results), allow_nan=False) + "\n")


def read_results(
    path: Path, skeleton: Skeleton, data: PoseData | None = None
) -> list[dict[str, Any]]:
    """Read results in COCO form.

    Args:
        path: JSON list of results.
        skeleton: The joints of each result.
        data: The data set to evaluate on. Results of other categories are left out, and counted in
            the log. Results for skipped images are kept.

    Raises:
        UserError: A value is not as expected, no result has a category of `data`, or a result
            belongs to an image that `data` does not have. The message names file and result.
    """
    raw = read_json(path)
    if not isinstance(raw, list):
        raise unexpected(str(path), "a list of results in COCO form", raw)
    for position, entry in enumerate(raw):
        _check_result(entry, f"{path}: result {position}", skeleton)
    return raw if data is None else _of_categories(raw, data, path)


def keypoints_of(results: Sequence[dict[str, Any]], skeleton: Skeleton) -> NDArray[np.float64]:
    """Return the keypoints (N, K, 3) of results.

    Raises:
        UserError: A result has another number of joints.
    """
    expected = 3 * skeleton.num_joints
    for position, result in enumerate(results):
        if (found := len(result["keypoints"])) != expected:
            raise UserError(f"result {position}: keypoints", f"{expected} numbers", str(found))
    keypoints_NK3 = np.array([result["keypoints"] for result in results], np.float64)
    return keypoints_NK3.reshape(len(results), skeleton.num_joints, 3)


def _check_result(entry: Any, place: str, skeleton: Skeleton) -> None:
    json_object(entry, place)
    for key in ("image_id", "category_id"):
        whole_number(entry, key, place)
    if entry.get("track_id") is not None:
        whole_number(entry, "track_id", place)
    number(entry, "score", place)
    keypoints = json_list(entry, "keypoints", place)
    if len(keypoints) != 3 * skeleton.num_joints:
        expected = f"{3 * skeleton.num_joints} numbers for {skeleton.name}"
        raise UserError(f"{place}: keypoints", expected, str(len(keypoints)))
    for index, value in enumerate(keypoints):
        if not is_coordinate(value):
            joint, column = divmod(index, 3)
            name = f"joint {joint} ({skeleton.joints[joint]}): {('x', 'y', 'score')[column]}"
            expected = "a finite number"
            raise unexpected(f"{place}: keypoints: {name}", expected, value, too_large(value))


def _of_categories(
    results: list[dict[str, Any]], data: PoseData, path: Path
) -> list[dict[str, Any]]:
    images = {image["id"] for image in data.ground_truth["images"]} | data.skipped_images.keys()
    kept = [result for result in results if result["category_id"] in data.category_ids]
    if results and not kept:
        found = ", ".join(map(str, sorted({result["category_id"] for result in results})))
        expected = f"{data.category_names} as in {data.source}"
        raise UserError(f"{path}: category_id", expected, found)
    if others := len(results) - len(kept):
        names = data.category_names
        log.warning("%s: %d of %d results left out: not %s", path, others, len(results), names)
    for position, result in enumerate(results):
        if result["image_id"] not in images and result["category_id"] in data.category_ids:
            place = f"{path}: result {position}: image_id"
            expected = f"the id of an image of {data.source}"
            raise UserError(place, expected, str(result["image_id"]))
    return kept


# Joints with a lower score do not count towards the score of the person, as in mmpose.
SCORE_THRESHOLD = 0.2


def keypoint_results(
    persons: Sequence[Person],
    xy_NK2: NDArray[np.floating],
    scores_NK: NDArray[np.floating],
    box_scores_N: NDArray[np.floating] | None = None,
) -> list[dict[str, Any]]:
    """Return predictions in COCO results form, one for each person.

    The score of a person is the box score times the mean of the joint scores above 0.2, or 0 if
    there is none.

    Args:
        persons: The persons that were predicted.
        xy_NK2: Joints in image pixels.
        scores_NK: Scores of the joints.
        box_scores_N: Scores of the boxes, 1 by default as for annotated boxes.
    """
    image_ids = [person.image_id for person in persons]
    category_ids = [person.category_id for person in persons]
    return coco_results(image_ids, xy_NK2, scores_NK, box_scores_N, category_ids)


def coco_results(
    image_ids: Sequence[int],
    xy_NK2: NDArray[np.floating],
    scores_NK: NDArray[np.floating],
    box_scores_N: NDArray[np.floating] | None = None,
    category_ids: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Return `keypoint_results` of poses whose images are known by their ids.

    Without `category_ids` all are persons by the ids of COCO.
    """
    category_ids = category_ids or [PERSON_CATEGORY] * len(image_ids)
    counted = scores_NK > SCORE_THRESHOLD
    sums = np.where(counted, scores_NK, 0).sum(axis=1, dtype=np.float64)
    scores_N = sums / np.maximum(counted.sum(axis=1), 1)
    if box_scores_N is not None:
        scores_N = scores_N * box_scores_N
    keypoints_NK3 = np.concatenate((xy_NK2, scores_NK[..., None]), axis=2, dtype=np.float64)
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "keypoints": keypoints,
            "score": score,
        }
        for image_id, category_id, keypoints, score in zip(
            image_ids,
            category_ids,
            keypoints_NK3.reshape(len(image_ids), 3 * xy_NK2.shape[1]).tolist(),
            scores_N.tolist(),
            strict=True,
        )
    ]
