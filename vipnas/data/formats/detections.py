"""Boxes of a person detector in place of the annotated ones."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco import PERSON_CATEGORY, Person, PoseData
from vipnas.files import read_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detections:
    """Detected people, as `Person` without labelled joints, and their box scores.

    In the order of the file, but for those below the threshold. A person's `annotation_id` is the
    place of its detection in the file, from 0.
    """

    persons: tuple[Person, ...]
    scores_N: NDArray[np.float64]


def read_detections(path: Path, data: PoseData, score_threshold: float = 0.0) -> Detections:
    """Detections in COCO results form (`image_id`, `category_id`, `bbox` x y w h, `score`).

    Kept are people on the images of `data` with a score of at least `score_threshold`. Left out,
    and counted in the log, are other categories, lower scores, images that `data` does not have
    (its images may be some of those that the detector saw), and boxes without area inside their
    image; images without a detection are counted too.

    Raises ValueError, one line, for what is no such file, for numbers that are not finite, and for
    a file of which no detection is on an image of `data`.
    """
    entries = read_boxes(path)
    images = {image["id"]: image for image in data.ground_truth["images"]}
    left_out: Counter[str] = Counter()
    persons, scores = [], []
    for number, entry in enumerate(entries):
        reason = _reason_to_leave_out(entry, images, score_threshold)
        if reason is None:
            persons.append(_person(number, entry, images[entry["image_id"]], data))
            scores.append(float(entry["score"]))
        else:
            left_out[reason] += 1
    for reason, count in left_out.items():
        log.warning("%s: %d of %d detections left out: %s", path, count, len(entries), reason)
    if not persons:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise ValueError(
            f"{path}: none of {len(entries)} detections can be used ({reasons}); allowed: a file "
            f"for the {len(images)} images at hand"
        )
    if missing := len(images) - len({person.image_id for person in persons}):
        log.warning("%s: no detection on %d of %d images", path, missing, len(images))
    return Detections(tuple(persons), np.array(scores))


def read_boxes(path: Path) -> list[dict[str, Any]]:
    """Detections in COCO results form, as they are in the file: each has `image_id`, `bbox` (x, y,
    width, height) and `score`.

    Raises ValueError, one line, for what is no such file, and for numbers that are not finite.
    """
    raw = read_json(path)
    if not isinstance(raw, list) or not raw:
        raise ValueError(
            f"{path}: found {'an empty list' if raw == [] else type(raw).__name__}; "
            "allowed: a list of detections in COCO results form"
        )
    for number, entry in enumerate(raw):
        _check_entry(entry, f"{path}: detection {number}")
    return raw


def _check_entry(entry: Any, place: str) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{place}: found {entry!r}; allowed: an object with image_id, bbox, score")
    for key in ("image_id", "bbox", "score"):
        if key not in entry:
            raise ValueError(f"{place}: {key} is missing; allowed: image_id, bbox and score")
    if type(entry["image_id"]) not in (int, str):
        raise ValueError(f"{place}: image_id {entry['image_id']}; allowed: a number or a name")
    box, score = entry["bbox"], entry["score"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        raise ValueError(f"{place}: bbox {box}; allowed: four finite numbers x, y, width, height")
    if not _is_finite(score):
        raise ValueError(f"{place}: score {score}; allowed: a finite number")


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _reason_to_leave_out(
    entry: Mapping[str, Any], images: Mapping[int, Any], score_threshold: float
) -> str | None:
    if entry.get("category_id", PERSON_CATEGORY) != PERSON_CATEGORY:
        return "other categories than person"
    if entry["image_id"] not in images:
        return "images that are not in the data"
    if entry["score"] < score_threshold:
        return f"scores below {score_threshold:g}"
    _, _, width, height = _inside(entry["bbox"], images[entry["image_id"]])
    return None if width > 0 and height > 0 else "boxes without area inside the image"


def _person(
    number: int, entry: Mapping[str, Any], image: Mapping[str, Any], data: PoseData
) -> Person:
    box_xywh = _inside(entry["bbox"], image)
    return Person(
        annotation_id=number,
        image_id=entry["image_id"],
        image_path=data.image_root / image["file_name"],
        box_xywh=box_xywh,
        area=box_xywh[2] * box_xywh[3],
        keypoints_K3=np.zeros((data.skeleton.num_joints, 3), np.float32),
        image_hw=(image["height"], image["width"]),
        ignore_exif=data.ignore_exif,
    )


def _inside(
    box_xywh: Sequence[float], image: Mapping[str, Any]
) -> tuple[float, float, float, float]:
    x, y, width, height = map(float, box_xywh)
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = min(image["width"], x + width), min(image["height"], y + height)
    return left, top, right - left, bottom - top
