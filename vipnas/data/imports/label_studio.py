"""Read exports of Label Studio in its format JSON.

A person is a rectangle and the key points that belong to it: by `parentID`, by a relation, or
because no other rectangle holds them. Without rectangles, all key points of an image are of one
person. Positions are in percent of the image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from vipnas.data.formats.json_values import MAX_PIXELS, json_list, json_object, number
from vipnas.data.imports.labels import Joint, LabelledImage, LabelledPerson, Labels
from vipnas.data.imports.table import Source
from vipnas.errors import UserError, shown
from vipnas.files import read_json

CATEGORY = "person"  # of people without a rectangle
_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # that Label Studio gives to uploaded files

Box = tuple[float, float, float, float]


def read(source: Source) -> Labels:
    tasks = read_json(source.path)
    if not isinstance(tasks, list):
        hint = "export the project in the format JSON"
        raise UserError(str(source.path), "a list of tasks", shown(tasks), hint)
    left_out: Counter[str] = Counter()
    images = []
    for position, raw in enumerate(tasks):
        place = f"{source.path}: task number {position}"
        task = json_object(raw, place)
        regions = _regions(task, place, left_out)
        if regions is None:
            continue
        image_hw = _image_hw(regions, place)
        file_name = _file_name(_url(task, place), source.images)
        images.append(LabelledImage(file_name, image_hw, tuple(_persons(regions, place))))
    joints: dict[str, dict[str, None]] = {}
    for person in (person for image in images for person in image.persons):
        joints.setdefault(person.category, {}).update(dict.fromkeys(person.joints))
    orders = {category: tuple(names) for category, names in joints.items()}
    return Labels(tuple(images), orders, source.images, left_out)


@dataclass(frozen=True)
class _Region:
    """A rectangle or a key point: its label, its values in pixels, and what it belongs to."""

    key: str
    label: str
    image_hw: tuple[int, int]
    xywh_px: Box
    is_box: bool
    parent: str | None

    def holds(self, point: _Region) -> bool:
        x, y, width, height = self.xywh_px
        return x <= point.xywh_px[0] <= x + width and y <= point.xywh_px[1] <= y + height


def _regions(task: Mapping[str, Any], place: str, left_out: Counter[str]) -> list[_Region] | None:
    """The regions of a task's first annotation; None without an annotation."""
    if "annotations" not in task:
        hint = "export the project in the format JSON, not JSON-MIN"
        raise UserError(f"{place}: annotations", "a list", "none", hint)
    found = [json_object(raw, place) for raw in json_list(task, "annotations", place)]
    valid = [annotation for annotation in found if not annotation.get("was_cancelled")]
    if not valid:
        left_out["tasks without annotation"] += 1
        return None
    left_out["further annotations of a task"] += len(valid) - 1
    results = json_list(valid[0], "result", place)
    entries = [json_object(raw, f"{place}: result") for raw in results]
    parents: dict[str, str] = {}
    for entry in entries:
        if entry.get("type") == "relation":
            ends = str(entry.get("from_id")), str(entry.get("to_id"))
            parents |= {ends[0]: ends[1], ends[1]: ends[0]}
    regions = []
    for entry in entries:
        if entry.get("type") in ("keypointlabels", "rectanglelabels"):
            regions.append(_region(entry, place, parents))
        elif entry.get("type") != "relation":
            left_out[f"results of type {entry.get('type')}"] += 1
    if not regions:
        left_out["tasks without key points"] += 1
        return None
    return regions


def _region(entry: Mapping[str, Any], place: str, parents: Mapping[str, str]) -> _Region:
    where = f"{place}: result {shown(entry.get('id'))}"
    value, kind = json_object(entry.get("value"), f"{where}: value"), entry["type"]
    labels = value.get(kind)
    if not isinstance(labels, list) or not labels or not isinstance(labels[0], str):
        raise UserError(f"{where}: {kind}", "a label", shown(labels))
    if entry.get("image_rotation"):
        raise UserError(f"{where}: image_rotation", "0", shown(entry["image_rotation"]))
    sizes = [entry.get(f"original_{side}") for side in ("height", "width")]
    if not all(type(size) is int and 1 <= size <= MAX_PIXELS for size in sizes):
        raise UserError(f"{where}: original_width and original_height", "pixels", shown(sizes))
    height, width = (int(size) for size in sizes if size is not None)
    is_box = kind == "rectanglelabels"
    x, y = _pixels(value, "x", width, where), _pixels(value, "y", height, where)
    xywh: Box = (x, y, 0.0, 0.0)
    if is_box and not value.get("rotation"):  # the box of the joints replaces one that is turned
        box_width = _pixels(value, "width", width, where)
        xywh = (x, y, box_width, _pixels(value, "height", height, where))
    key = str(entry.get("id"))
    parent = entry["parentID"] if entry.get("parentID") else parents.get(key)
    return _Region(key, labels[0], (height, width), xywh, is_box, parent and str(parent))


def _pixels(value: Mapping[str, Any], key: str, size: int, place: str) -> float:
    percent = number(value, key, place)
    if not -100 <= percent <= 200:
        raise UserError(f"{place}: {key}", "percent of the image", shown(percent))
    return percent / 100 * size


def _persons(regions: Sequence[_Region], place: str) -> Iterator[LabelledPerson]:
    boxes = {region.key: region for region in regions if region.is_box}
    joints: dict[str, dict[str, Joint]] = {key: {} for key in boxes or ("",)}
    for point in (region for region in regions if not region.is_box):
        of_person = joints[_box_of(point, boxes, place)]
        if point.label in of_person:
            hint = "draw a rectangle for each person, with its key points inside it in the tree"
            raise UserError(f"{place}: {point.label}", "one for each person", "several", hint)
        of_person[point.label] = Joint(*point.xywh_px[:2])
    for key, of_person in joints.items():
        if key not in boxes:
            yield LabelledPerson(CATEGORY, of_person)
        else:
            box = boxes[key].xywh_px
            yield LabelledPerson(boxes[key].label, of_person, box if box[2] and box[3] else None)


def _box_of(point: _Region, boxes: Mapping[str, _Region], place: str) -> str:
    if not boxes:
        return ""
    if point.parent in boxes:
        return str(point.parent)
    holding = [key for key, box in boxes.items() if box.holds(point)]
    if len(holding) != 1:
        hint = "move it below the rectangle of its person in the tree"
        where = f"{place}: key point {point.key} ({point.label})"
        raise UserError(where, "one rectangle around it", str(len(holding)), hint)
    return holding[0]


def _image_hw(regions: Sequence[_Region], place: str) -> tuple[int, int]:
    sizes = {region.image_hw for region in regions}
    if len(sizes) != 1:
        raise UserError(f"{place}: original_width and original_height", "one size", shown(sizes))
    return sizes.pop()


def _url(task: Mapping[str, Any], place: str) -> str:
    """The image of a task: the value `image` of its data, or the only string in it."""
    data = json_object(task.get("data"), f"{place}: data")
    texts = [value for value in data.values() if isinstance(value, str)]
    url = data.get("image", texts[0] if len(texts) == 1 else None)
    if not isinstance(url, str) or not url:
        raise UserError(f"{place}: data: image", "the URL of an image", shown(url))
    return url


def _file_name(url: str, images: Path | None) -> str:
    """The file below the folder of images that the longest end of the URL's path names.

    Files that Label Studio stored have eight digits and a dash before their name.
    """
    parts = urlsplit(url.replace("\\", "/"))
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0].strip("/").split("/")
    if images is not None:
        for start in range(len(path)):
            name = "/".join(path[start:])
            if (images / name).is_file():
                return name
        if (images / _PREFIX.sub("", path[-1])).is_file():
            return _PREFIX.sub("", path[-1])
    return path[-1]
