"""What must be true of a COCO keypoint file.

Every error is a ValueError of one line: the file, the id, what was found, what is allowed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vipnas.data.formats.skeletons import Skeleton
from vipnas.files import read_json

IMAGE_KEYS = {"id": int, "file_name": str, "width": int, "height": int}
ANNOTATION_KEYS = {"id": int, "image_id": int, "category_id": int, "bbox": list}

_KIND_NAMES = {int: "a whole number", str: "a text", list: "a list"}


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object of an annotation file, with its two lists there and not empty."""
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: found a {type(raw).__name__}; allowed: an object in COCO form")
    for key in ("images", "annotations"):
        if not isinstance(raw.get(key), list) or not raw[key]:
            raise ValueError(f"{path}: {key}: missing or empty; allowed: a list with entries")
    return raw


def images_by_id(entries: Sequence[Any], where: str) -> dict[int, dict[str, Any]]:
    """The image entries, with unique ids, names and sizes."""
    for entry in entries:
        _require_keys(entry, IMAGE_KEYS, f"{where}: image")
        if min(entry["width"], entry["height"]) < 1:
            raise ValueError(
                f"{where}: image {entry['id']}: size {entry['width']} x {entry['height']}; "
                "allowed: whole numbers above 0"
            )
    _require_unique(entries, f"{where}: image")
    return {entry["id"]: entry for entry in entries}


def person_category(raw: Mapping[str, Any], where: str, skeleton: Skeleton) -> int:
    """Id of the one category that has keypoints, whose joints must be those of the skeleton."""
    categories = raw.get("categories", [])
    for category in categories:
        _require_keys(category, {"id": int}, f"{where}: category")
    with_joints = [category for category in categories if category.get("keypoints")]
    if len(with_joints) != 1:
        raise ValueError(
            f"{where}: categories: {len(with_joints)} of {len(categories)} have keypoints; "
            "allowed: exactly one, with the list of its joint names"
        )
    _check_joint_names(list(with_joints[0]["keypoints"]), where, skeleton)
    category_id: int = with_joints[0]["id"]
    return category_id


def _check_joint_names(joints: list[Any], where: str, skeleton: Skeleton) -> None:
    first_field, count = skeleton.annotation_fields[0]
    if first_field != "keypoints":
        return  # the file's names are those of another list of joints
    expected = list(skeleton.joints[:count])
    if joints == expected:
        return
    if len(joints) != count:
        difference = f"{len(joints)} joints"
    else:
        place = next(i for i, name in enumerate(joints) if name != expected[i])
        difference = f"joint {place} is {joints[place]!r}"
    raise ValueError(
        f"{where}: categories: {difference}; allowed: the {count} joints of {skeleton.name} in "
        f"their order: {', '.join(expected)}"
    )


def annotations_of(
    category: int, entries: Sequence[Any], where: str, skeleton: Skeleton
) -> list[dict[str, Any]]:
    """Those of one category, each with all that an annotation must hold."""
    for entry in entries:
        _require_keys(entry, {"category_id": int}, f"{where}: annotation")
    chosen = [entry for entry in entries if entry["category_id"] == category]
    keys = {**ANNOTATION_KEYS, **{name: list for name, _ in skeleton.annotation_fields}}
    for entry in chosen:
        _require_keys(entry, keys, f"{where}: annotation")
    return chosen


def keypoints_of(entry: Mapping[str, Any], skeleton: Skeleton) -> list[Any]:
    """The joints of an annotation (3 K numbers) from the lists that hold them."""
    flat: list[Any] = []
    for name, _ in skeleton.annotation_fields:
        flat += entry[name]
    return flat


def check_annotations(
    entries: Sequence[Any], where: str, images: Mapping[int, Any], skeleton: Skeleton
) -> None:
    """Ids, joints and boxes of the annotations of one category."""
    _require_unique(entries, f"{where}: annotation")
    for entry in entries:
        place = f"{where}: annotation {entry['id']}"
        if entry["image_id"] not in images:
            raise ValueError(
                f"{place}: points to image {entry['image_id']}, which is not in the file; "
                "allowed: the id of one of its images"
            )
        _check_keypoints(entry, place, skeleton)
        labelled = any(keypoints_of(entry, skeleton)[2::3])
        _check_box(entry, place, images[entry["image_id"]], labelled)


def _check_keypoints(entry: Mapping[str, Any], place: str, skeleton: Skeleton) -> None:
    for name, count in skeleton.annotation_fields:
        if len(entry[name]) != 3 * count:
            what = "keypoint numbers" if name == "keypoints" else f"numbers in {name}"
            raise ValueError(
                f"{place}: {len(entry[name])} {what}; allowed: {3 * count}, x, y and "
                f"visibility of {count} joints of {skeleton.name}"
            )
    flat = keypoints_of(entry, skeleton)
    if not _all_finite(flat):
        raise ValueError(f"{place}: keypoints hold something that is not a finite number")
    if wrong := set(flat[2::3]) - {0, 1, 2}:
        raise ValueError(f"{place}: visibility {min(wrong)}; allowed: 0, 1 or 2")
    if "keypoints" not in dict(skeleton.annotation_fields):
        return  # num_keypoints counts another list of joints
    labelled = sum(visibility > 0 for visibility in entry["keypoints"][2::3])
    if entry.get("num_keypoints", labelled) != labelled:
        raise ValueError(
            f"{place}: num_keypoints is {entry['num_keypoints']}, but {labelled} joints are "
            f"labelled; allowed: {labelled}, or none given"
        )


def _check_box(
    entry: Mapping[str, Any], place: str, image: Mapping[str, Any], labelled: bool
) -> None:
    box = entry["bbox"]
    if len(box) != 4 or not _all_finite(box):
        raise ValueError(f"{place}: bbox {box}; allowed: four finite numbers x, y, width, height")
    if not labelled or entry.get("iscrowd", 0):
        return  # nobody is cropped from it
    x, y, width, height = box
    if width <= 0 or height <= 0:
        raise ValueError(f"{place}: bbox {box} has no area; allowed: width and height above 0")
    if x >= image["width"] or y >= image["height"] or x + width <= 0 or y + height <= 0:
        raise ValueError(
            f"{place}: bbox {box} lies outside its image of {image['width']} x {image['height']} "
            "pixels; allowed: boxes that overlap it"
        )
    if "area" in entry and not (_all_finite([entry["area"]]) and entry["area"] > 0):
        raise ValueError(f"{place}: area {entry['area']}; allowed: a number above 0, or none given")


def _all_finite(values: Sequence[Any]) -> bool:
    try:
        return all(map(math.isfinite, values))
    except (TypeError, OverflowError):
        return False


def _require_keys(entry: Any, kinds: Mapping[str, type], place: str) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{place}: found {entry!r}; allowed: an object with {', '.join(kinds)}")
    for key, kind in kinds.items():
        if key not in entry:
            raise ValueError(
                f"{place} {entry.get('id', '(no id)')}: {key} is missing; "
                f"allowed: an object with {', '.join(kinds)}"
            )
        if not isinstance(entry[key], kind):
            raise ValueError(
                f"{place} {entry.get('id', '(no id)')}: {key} is {entry[key]!r}; "
                f"allowed: {_KIND_NAMES[kind]}"
            )


def _require_unique(entries: Sequence[Mapping[str, Any]], place: str) -> None:
    ids = [entry["id"] for entry in entries]
    if len(set(ids)) != len(ids):
        twice, times = Counter(ids).most_common(1)[0]
        raise ValueError(f"{place} {twice}: this id is there {times} times; allowed: once")
