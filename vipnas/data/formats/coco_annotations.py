"""Checks and defaults for a single annotation of a COCO keypoint file.

The place of every error is the file and the id.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vipnas.data.crops.geometry import box_of_joints
from vipnas.data.formats.json_values import (
    MAX_PIXELS,
    box,
    flag,
    is_coordinate,
    is_number,
    number,
    too_large,
    unexpected,
    whole_number,
)
from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError

# Default area as a fraction of the box: the mean of COCO's person masks, as in CrowdPose.
AREA_OF_BOX = 0.53
# Default box: that of the joints, enlarged by this factor as in PoseTrack's converter.
BOX_OF_JOINTS = 1.3


def check_parts(entries: Collection[Mapping[str, Any]], where: str, skeleton: Skeleton) -> None:
    """Raise UserError for a list of joints that no annotation has, such as a misspelt one."""
    for field, _ in skeleton.annotation_fields:
        if entries and len(skeleton.annotation_fields) > 1 and not any(field in e for e in entries):
            expected = f"{field}, as {skeleton.name} has it"
            raise UserError(f"{where}: annotations", expected, "it in none")


def complete_annotation(
    entry: Mapping[str, Any], place: str, images: Mapping[int, Any], skeleton: Skeleton
) -> dict[str, Any]:
    """Return a checked annotation with all keys that the evaluation needs.

    Missing keypoints count as unlabelled. A missing box is computed from the joints, a missing area
    is 0.53 of the box.

    Args:
        entry: The annotation in the file, with its ids checked.
        place: The annotation in errors.
        images: Image entries by id.
        skeleton: The joints of the annotation.
    """
    if entry["image_id"] not in images:
        raise unexpected(f"{place}: image_id", "the id of one of the images", entry["image_id"])
    keypoints = _keypoints(entry, place, skeleton)
    num_labelled = sum(visibility > 0 for visibility in keypoints[2::3])
    is_crowd = flag(entry, "iscrowd", place)
    is_scored = num_labelled > 0 and not is_crowd
    box_xywh = _box(entry, place, images[entry["image_id"]], keypoints, is_scored)
    return {
        "id": entry["id"],
        "image_id": entry["image_id"],
        "category_id": entry["category_id"],
        "iscrowd": is_crowd,
        "bbox": box_xywh,
        "area": _area(entry, place, box_xywh, is_scored),
        "keypoints": keypoints,
        "num_keypoints": num_labelled,
    }


def _keypoints(entry: Mapping[str, Any], place: str, skeleton: Skeleton) -> list[float]:
    """Return the joints (3 K numbers), joined from the lists of the skeleton's parts."""
    flat: list[float] = []
    names = iter(skeleton.joints)
    for field, count in skeleton.annotation_fields:
        joints = [next(names) for _ in range(count)]
        is_body = field == "keypoints"
        values = _joint_values(entry.get(field), f"{place}: {field}", joints, not is_body)
        if is_body and entry.get("num_keypoints") is not None:
            _check_count(whole_number(entry, "num_keypoints", place), values, place)
        flat += values
    return flat


def _check_count(count: int, keypoints: Sequence[float], place: str) -> None:
    """Allow fewer than are labelled: CrowdPose does not count the head and the neck."""
    labelled = sum(visibility > 0 for visibility in keypoints[2::3])
    if not min(1, labelled) <= count <= labelled:
        allowed = f"1 to {labelled}" if labelled else "0"
        raise unexpected(f"{place}: num_keypoints", f"{allowed}, as joints are labelled", count)


def _joint_values(
    values: Any, place: str, joints: Sequence[str], may_be_confidence: bool
) -> list[float]:
    """Return x, y and visibility of each joint.

    Coordinates of unlabelled joints are ignored. A confidence in 0..1, as COCO-WholeBody has for
    hands, counts as hidden (1).
    """
    if values is None or values == []:
        return [0] * (3 * len(joints))
    if not isinstance(values, list) or len(values) != 3 * len(joints):
        what = f"a list of {3 * len(joints)} numbers (x, y and visibility of {len(joints)} joints)"
        raise unexpected(place, what, values)
    is_plain = {*map(type, values)} <= {int, float} and all(abs(v) <= MAX_PIXELS for v in values)
    if is_plain and {*values[2::3]} <= {0, 1, 2}:
        return values
    checked: list[float] = []
    for index, name in enumerate(joints):
        x, y, visibility = values[3 * index : 3 * index + 3]
        joint = f"{place}: joint {index} ({name})"
        is_confidence = may_be_confidence and is_number(visibility) and 0 <= visibility <= 1
        if not is_confidence and not (is_number(visibility) and visibility in (0, 1, 2)):
            raise unexpected(f"{joint}: visibility", "0, 1 or 2", visibility)
        for axis, value in (("x", x), ("y", y)):
            if visibility and not is_coordinate(value):
                expected = "a finite number of pixels"
                raise unexpected(f"{joint}: {axis}", expected, value, too_large(value))
            checked.append(value if is_coordinate(value) else 0)
        checked.append(math.ceil(visibility))
    return checked


def _box(
    entry: Mapping[str, Any],
    place: str,
    image: Mapping[str, Any],
    keypoints: Sequence[float],
    is_scored: bool,
) -> list[float]:
    if entry.get("bbox") in (None, []):
        box_xywh = box_around_joints(keypoints)
    else:
        box_xywh = box(entry, "bbox", place)
    if not is_scored:
        return box_xywh  # no crop is made from it
    x, y, width, height = box_xywh
    if width <= 0 or height <= 0:
        raise unexpected(f"{place}: bbox", "a width and height above 0", box_xywh)
    if x >= image["width"] or y >= image["height"] or x + width <= 0 or y + height <= 0:
        inside = f"a box that overlaps its image of {image['width']} x {image['height']} pixels"
        raise unexpected(f"{place}: bbox", inside, box_xywh)
    return box_xywh


def box_around_joints(keypoints: Sequence[float]) -> list[float]:
    """Return the padded box (x, y, width, height) of the labelled joints, or zeros without any."""
    flat = np.array(keypoints, np.float64).reshape(-1, 3)
    xy_N2 = flat[flat[:, 2] > 0, :2]
    if not len(xy_N2):
        return [0.0, 0.0, 0.0, 0.0]
    x, y, width, height = box_of_joints(xy_N2.tolist())
    more = BOX_OF_JOINTS - 1
    padded_wh = [width * BOX_OF_JOINTS, height * BOX_OF_JOINTS]
    return [x - width * more / 2, y - height * more / 2, *padded_wh]


def _area(
    entry: Mapping[str, Any], place: str, box_xywh: Sequence[float], is_scored: bool
) -> float:
    if entry.get("area") is None:
        return AREA_OF_BOX * box_xywh[2] * box_xywh[3]
    area = number(entry, "area", place)
    if is_scored and not 0 < area <= MAX_PIXELS**2:
        raise unexpected(f"{place}: area", "a number of square pixels above 0, or none", area)
    return area
