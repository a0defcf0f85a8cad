"""Boxes of a person detector, used instead of the annotated boxes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco import Person, PoseData, inside
from vipnas.data.formats.json_values import box, json_object, number, unexpected, whole_number
from vipnas.errors import UserError
from vipnas.files import read_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detections:
    """Detected persons and their box scores, in the order of the file.

    Attributes:
        persons: Persons without labelled joints. `annotation_id` is the position of the detection
            in the file, from 0.
        scores_N: Score of each box.
    """

    persons: tuple[Person, ...]
    scores_N: NDArray[np.float64]


def read_detections(path: Path, data: PoseData, score_threshold: float = 0.0) -> Detections:
    """Read detections in COCO results form (`image_id`, `category_id`, `bbox`, `score`).

    These are left out, and counted in the log: other categories than those of `data`, scores below
    the threshold, images that `data` does not have, and boxes without area inside their image.

    Args:
        path: JSON list of detections; `bbox` is x, y, width, height. Without a `category_id`, a
            detection has the first category of `data`.
        data: The data set whose images are evaluated.
        score_threshold: Lowest score of a detection that is kept.

    Raises:
        UserError: The file has another form, a number is not finite, or no detection is left.
    """
    entries = _read_list(path)
    images = {image["id"]: image for image in data.ground_truth["images"]}
    left_out: Counter[str] = Counter()
    persons, scores = [], []
    for position, entry in enumerate(entries):
        detection = _detection(entry, f"{path}: detection {position}", data.category_ids[0])
        reason = _reason_to_leave_out(detection, images, data, score_threshold)
        if reason is None:
            image = images[detection.image_id]
            persons.append(_person(position, detection, image, data))
            scores.append(float(detection.score))
        else:
            left_out[reason] += 1
    for reason, count in left_out.items():
        log.warning("%s: %d of %d detections left out: %s", path, count, len(entries), reason)
    if not persons:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        expected = f"detections on the {len(images)} images of {data.source}"
        found = f"{len(entries)} of which none can be used"
        raise UserError(str(path), expected, found, reasons)
    if missing := len(images) - len({person.image_id for person in persons}):
        log.warning("%s: no detection on %d of %d images", path, missing, len(images))
    return Detections(tuple(persons), np.array(scores))


class _Detection(NamedTuple):
    image_id: int
    category_id: int
    box_xywh: list[float]
    score: float


def read_boxes(path: Path) -> list[dict[str, Any]]:
    """Read detections in COCO results form, as they are in the file.

    Returns:
        Objects with at least `image_id` (a number or a file name), `bbox` (x, y, width, height)
        and `score`.

    Raises:
        UserError: The file has another form, or a number is not finite.
    """
    entries = _read_list(path)
    for position, entry in enumerate(entries):
        place = f"{path}: detection {position}"
        json_object(entry, place)
        if not isinstance(entry.get("image_id"), str):
            whole_number(entry, "image_id", place)
        box(entry, "bbox", place)
        number(entry, "score", place)
    return entries


def _read_list(path: Path) -> list[Any]:
    raw = read_json(path)
    if not isinstance(raw, list) or not raw:
        raise unexpected(str(path), "a list of detections in COCO results form", raw)
    return raw


def _detection(entry: Any, place: str, default_category: int) -> _Detection:
    json_object(entry, place)
    has_category = entry.get("category_id") is not None
    return _Detection(
        whole_number(entry, "image_id", place),
        whole_number(entry, "category_id", place) if has_category else default_category,
        box(entry, "bbox", place),
        number(entry, "score", place),
    )


def _reason_to_leave_out(
    detection: _Detection, images: Mapping[int, Any], data: PoseData, score_threshold: float
) -> str | None:
    if detection.category_id not in data.category_ids:
        return f"other categories than {data.category_names}"
    if detection.image_id not in images:
        return "images that are not in the data"
    if detection.score < score_threshold:
        return f"scores below {score_threshold:g}"
    _, _, width, height = inside(detection.box_xywh, images[detection.image_id])
    return None if width > 0 and height > 0 else "boxes without area inside the image"


def _person(
    position: int, detection: _Detection, image: Mapping[str, Any], data: PoseData
) -> Person:
    box_xywh = inside(detection.box_xywh, image)
    return Person(
        annotation_id=position,
        image_id=detection.image_id,
        image_path=data.image_root / image["file_name"],
        box_xywh=box_xywh,
        area=box_xywh[2] * box_xywh[3],
        keypoints_K3=np.zeros((data.skeleton.num_joints, 3), np.float32),
        image_hw=(image["height"], image["width"]),
        ignore_exif=data.ignore_exif,
        category_id=detection.category_id,
    )
