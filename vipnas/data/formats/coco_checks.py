"""Checks of a COCO keypoint file. The place of every error is the file and the id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vipnas.data.formats.json_values import (
    MAX_PIXELS,
    json_list,
    json_object,
    shown,
    text,
    too_large,
    unexpected,
    whole_number,
)
from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError
from vipnas.files import did_you_mean, read_json


class LeftOut(NamedTuple):
    """An annotation that was left out, and why."""

    image_id: int
    reason: str


def read_document(path: Path) -> dict[str, Any]:
    """Return the JSON object of an annotation file with at least one image and annotation."""
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise unexpected(str(path), "an object in COCO form", raw)
    for key in ("images", "annotations"):
        if not json_list(raw, key, str(path)):
            raise UserError(f"{path}: {key}", "entries", "an empty list")
    return raw


def images_by_id(entries: Sequence[Any], where: str) -> dict[int, dict[str, Any]]:
    """Return the image entries by their unique ids, each with a name and a size."""
    images: list[dict[str, Any]] = []
    for place, entry in with_places(entries, where, "image"):
        text(entry, "file_name", place)
        for key in ("width", "height"):
            if not 1 <= whole_number(entry, key, place) <= MAX_PIXELS:
                expected = "a number of pixels from 1"
                raise unexpected(f"{place}: {key}", expected, entry[key], too_large(entry[key]))
        images.append(entry)
    require_unique((image["id"] for image in images), f"{where}: image")
    return {image["id"]: image for image in images}


def categories_by_id(raw: Mapping[str, Any], where: str) -> dict[int, dict[str, Any]]:
    """Return the category entries by their unique ids; `keypoints`, if any, are names."""
    categories = []
    for place, entry in with_places(json_list(raw, "categories", where), where, "category"):
        if entry.get("name") is not None:
            text(entry, "name", place)
        names = entry.get("keypoints")
        if names is not None and not (
            isinstance(names, list) and all(isinstance(name, str) for name in names)
        ):
            raise unexpected(f"{place}: keypoints", "a list of joint names", names)
        categories.append(entry)
    require_unique((entry["id"] for entry in categories), f"{where}: category")
    return {entry["id"]: entry for entry in categories}


def chosen_categories(
    categories: Mapping[int, Mapping[str, Any]],
    where: str,
    skeleton: Skeleton,
    names: Collection[str] | None = None,
) -> dict[int, Mapping[str, Any]]:
    """Return the categories to read, by id: those with the given names, or the only one with
    keypoints. Their joints must be those of the skeleton."""
    with_joints = {key: entry for key, entry in categories.items() if entry.get("keypoints")}
    if names is None:
        chosen = with_joints
        if len(chosen) != 1:
            found = ", ".join(sorted(category_name(entry) for entry in chosen.values())) or "none"
            raise UserError(
                f"{where}: categories",
                "exactly one with keypoints",
                f"{found} of {len(categories)}",
                "data.categories: [NAME, ...] chooses and merges",
            )
    else:
        chosen = {key: entry for key, entry in categories.items() if entry.get("name") in names}
        if not chosen:
            known = [category_name(entry) for entry in categories.values()]
            wanted = sorted(names)
            hint = did_you_mean(wanted[0], known)
            raise UserError(f"{where}: categories", " or ".join(wanted), "none of these", hint)
    for key, entry in chosen.items():
        place = f"{where}: category {key} ({category_name(entry)})"
        _check_joint_names(entry.get("keypoints") or [], place, skeleton)
    return chosen


def category_name(category: Mapping[str, Any]) -> str:
    return category.get("name") or str(category["id"])


def _check_joint_names(joints: Sequence[str], place: str, skeleton: Skeleton) -> None:
    first_field, count = skeleton.annotation_fields[0]
    if first_field != "keypoints":
        return  # the names in the file are those of another list of joints
    expected = list(skeleton.joints[:count])
    if joints == expected:
        return
    if len(joints) != count:
        difference = f"{len(joints)} joints"
    else:
        index = next(i for i, name in enumerate(joints) if name != expected[i])
        difference = f"{joints[index]!r} as joint {index}"
    raise UserError(
        f"{place}: keypoints",
        f"the {count} joints of {skeleton.name} in their order",
        difference,
        f"the joints are {', '.join(expected)}",
    )


def annotations_of(
    chosen: Collection[int],
    categories: Mapping[int, Mapping[str, Any]],
    entries: Sequence[Any],
    where: str,
) -> tuple[dict[str, dict[str, Any]], tuple[LeftOut, ...]]:
    """Return the annotations of the chosen categories by place, and those left out."""
    reasons = {
        key: f"category {key} ({category_name(entry)}) "
        + ("is not in data.categories" if entry.get("keypoints") else "has no keypoints")
        for key, entry in categories.items()
    }
    kept: dict[str, dict[str, Any]] = {}
    left_out: list[LeftOut] = []
    ids: list[int] = []
    for place, entry in with_places(entries, where, "annotation"):
        category, image_id = (
            whole_number(entry, key, place) for key in ("category_id", "image_id")
        )
        if category not in categories:
            known = ", ".join(f"{key} ({category_name(c)})" for key, c in categories.items())
            raise unexpected(
                f"{place}: category_id", "the id of a category of the file", category, known
            )
        if category in chosen:
            kept[place] = entry
            ids.append(entry["id"])
        else:
            left_out.append(LeftOut(image_id, reasons[category]))
    require_unique(ids, f"{where}: annotation")
    return kept, tuple(left_out)


def with_places(
    entries: Iterable[Any], where: str, what: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object of a list with its place for errors, which ends in its id."""
    for position, entry in enumerate(entries):
        place = f"{where}: {what} number {position}"
        yield f"{where}: {what} {whole_number(json_object(entry, place), 'id', place)}", entry


def require_unique(ids: Iterable[int], place: str) -> None:
    counts = Counter(ids)
    if counts and (most := counts.most_common(1)[0])[1] > 1:
        raise UserError(f"{place} {shown(most[0])}", "a unique id", f"it {most[1]} times")
