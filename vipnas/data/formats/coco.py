"""People with keypoints from COCO annotation files, checked when they are opened."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco_checks import (
    annotations_of,
    check_annotations,
    images_by_id,
    keypoints_of,
    person_category,
    read_document,
)
from vipnas.data.formats.skeletons import Skeleton
from vipnas.data.image_entries import bad_images_of, named_as_on_disk

log = logging.getLogger(__name__)

PERSON_CATEGORY = 1
# Where a file gives no area: what COCO's person masks cover of their boxes, as CrowdPose does it.
AREA_OF_BOX = 0.53


@dataclass(frozen=True)
class Person:
    """One labelled person: what the network is shown and what it should find.

    `box_xywh` is in image pixels and lies inside the image; `area` in square pixels is the
    segmented area that the keypoint similarity is measured by; `keypoints_K3` is float32: x, y in
    image pixels and the visibility (0 not labelled, 1 hidden, 2 visible). `image_hw` is what the
    annotation file says of the image, checked when the image is read. With `ignore_exif`, all this
    is of the image as stored, before its EXIF orientation is applied.
    """

    annotation_id: int
    image_id: int
    image_path: Path
    box_xywh: tuple[float, float, float, float]
    area: float
    keypoints_K3: NDArray[np.float32]
    image_hw: tuple[int, int] | None = None
    ignore_exif: bool = False


@dataclass(frozen=True)
class PoseData:
    """People to train on or to be measured by.

    `persons` are those with at least one labelled joint, no crowds, in the order of the file.
    `ground_truth` is the COCO dict (images, annotations, categories) of the same images for
    scoring; it keeps crowds and people without labelled joints, which the protocol ignores.
    `skipped_images` are the problems of those that were left out, by id. `ignore_exif` is that of
    its persons.
    """

    skeleton: Skeleton
    image_root: Path
    persons: tuple[Person, ...]
    ground_truth: dict[str, Any]
    skipped_images: Mapping[int, str] = field(default_factory=dict)
    ignore_exif: bool = False

    def unit_of(self, image: Mapping[str, Any]) -> int | str:
        """What must stay together when data are split: each image is alone."""
        image_id: int = image["id"]
        return image_id

    def restricted_to(self, image_ids: Container[int]) -> PoseData:
        """The same of some of the images, in the order of the file."""
        truth = self.ground_truth
        ground_truth = {
            **truth,
            "images": [entry for entry in truth["images"] if entry["id"] in image_ids],
            "annotations": [e for e in truth["annotations"] if e["image_id"] in image_ids],
        }
        persons = tuple(person for person in self.persons if person.image_id in image_ids)
        return replace(self, persons=persons, ground_truth=ground_truth)


def read_coco(
    annotation_file: Path,
    image_root: Path,
    skeleton: Skeleton,
    skip_bad_images: bool = False,
    ignore_exif: bool = False,
) -> PoseData:
    """Open a COCO keypoint file: persons, and the ground truth to score them by.

    Everything that can be checked without decoding is checked here, so that a run does not stop
    after hours. Missing and truncated images, and those of another size than the file says, are
    errors. With `skip_bad_images` all images are decoded, and the bad ones are logged and left out
    of both the persons and the ground truth. Images are turned as their EXIF orientation says, or
    taken as stored with `ignore_exif`. Annotations of categories without keypoints are left out,
    and counted in the log.

    Raises ValueError, one line: the file, the id, what was found, what is allowed.
    """
    raw = read_document(annotation_file)
    return pose_data(raw, str(annotation_file), image_root, skeleton, skip_bad_images, ignore_exif)


def pose_data(
    raw: dict[str, Any],
    where: str,
    image_root: Path,
    skeleton: Skeleton,
    skip_bad_images: bool = False,
    ignore_exif: bool = False,
) -> PoseData:
    """What `read_coco` makes of a document that is in memory; `where` begins its errors."""
    images = named_as_on_disk(images_by_id(raw["images"], where), image_root, where)
    annotations = _annotations_of_persons(raw, where, images, skeleton)
    bad = bad_images_of(images, image_root, where, skip_bad_images, ignore_exif)
    ground_truth = {
        "images": [image for image_id, image in images.items() if image_id not in bad],
        "annotations": [entry for entry in annotations if entry["image_id"] not in bad],
        "categories": [
            {"id": PERSON_CATEGORY, "name": "person", "keypoints": list(skeleton.joints)}
        ],
    }
    persons = tuple(
        person_of(entry, images[entry["image_id"]], image_root, ignore_exif)
        for entry in ground_truth["annotations"]
        if entry["num_keypoints"] > 0 and not entry["iscrowd"]
    )
    if not persons:
        raise ValueError(f"{where}: no person with a labelled joint; allowed: at least one")
    return PoseData(skeleton, image_root, persons, ground_truth, bad, ignore_exif)


def _annotations_of_persons(
    raw: dict[str, Any], where: str, images: dict[int, Any], skeleton: Skeleton
) -> list[dict[str, Any]]:
    """Checked copies of the annotations that have joints, complete with what the scoring needs."""
    category = person_category(raw, where, skeleton)
    entries = annotations_of(category, raw["annotations"], where, skeleton)
    if others := len(raw["annotations"]) - len(entries):
        log.info("%s: %d annotations of categories without keypoints left out", where, others)
    check_annotations(entries, where, images, skeleton)
    if without_area := sum("area" not in entry for entry in entries):
        log.info("%s: %d annotations without area: %g of the box", where, without_area, AREA_OF_BOX)
    return [_complete(entry, keypoints_of(entry, skeleton)) for entry in entries]


def _complete(entry: dict[str, Any], keypoints: list[float]) -> dict[str, Any]:
    return {
        "id": entry["id"],
        "image_id": entry["image_id"],
        "category_id": PERSON_CATEGORY,
        "iscrowd": entry.get("iscrowd", 0),
        "bbox": entry["bbox"],
        "area": entry.get("area", AREA_OF_BOX * entry["bbox"][2] * entry["bbox"][3]),
        "keypoints": keypoints,
        "num_keypoints": sum(visibility > 0 for visibility in keypoints[2::3]),
    }


def person_of(
    entry: dict[str, Any], image: dict[str, Any], image_root: Path, ignore_exif: bool = False
) -> Person:
    """The person of an annotation of `PoseData.ground_truth`, with its box cut at the edge."""
    x, y, width, height = entry["bbox"]
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = min(image["width"], x + width), min(image["height"], y + height)
    return Person(
        annotation_id=entry["id"],
        image_id=entry["image_id"],
        image_path=image_root / image["file_name"],
        box_xywh=(left, top, right - left, bottom - top),
        area=float(entry["area"]),
        keypoints_K3=np.asarray(entry["keypoints"], np.float32).reshape(-1, 3),
        image_hw=(image["height"], image["width"]),
        ignore_exif=ignore_exif,
    )


def hold_out(data: PoseData, num_persons: int, seed: int) -> tuple[PoseData, PoseData]:
    """Split into the rest and a held-out part of at least `num_persons` people.

    Whole images (of video: whole videos, whose frames are much alike) are drawn in an order that
    depends on the seed and their ids only, until they hold enough people; nothing is in both parts,
    and both keep the order of the file.
    """
    counts = _persons_in_units(data)
    drawn: set[int | str] = set()
    num_drawn = 0
    for unit in _shuffled(counts, seed):
        if num_drawn >= num_persons:
            break
        drawn.add(unit)
        num_drawn += counts[unit]
    if num_persons < 1 or num_drawn == len(data.persons):
        raise ValueError(
            f"cannot hold out {num_persons} of {len(data.persons)} persons in {len(counts)} "
            "images or videos; allowed: 1 or more, and at least one image or video must remain"
        )
    images = data.ground_truth["images"]
    held_out = {image["id"] for image in images if data.unit_of(image) in drawn}
    rest = {image["id"] for image in images} - held_out
    return data.restricted_to(rest), data.restricted_to(held_out)


def subset(data: PoseData, max_persons: int, seed: int) -> PoseData:
    """At most `max_persons` people in whole images (of video: whole videos), drawn by the seed; all
    of them if they fit."""
    if len(data.persons) <= max_persons:
        return data
    counts = _persons_in_units(data)
    chosen: set[int | str] = set()
    room = max_persons
    for unit in _shuffled(counts, seed):
        if counts[unit] <= room:
            chosen.add(unit)
            room -= counts[unit]
    if not chosen:
        raise ValueError(
            f"no image or video has as few as {max_persons} persons; allowed: a larger number"
        )
    images = data.ground_truth["images"]
    return data.restricted_to({image["id"] for image in images if data.unit_of(image) in chosen})


def _persons_in_units(data: PoseData) -> Counter[int | str]:
    units = {image["id"]: data.unit_of(image) for image in data.ground_truth["images"]}
    return Counter(units[person.image_id] for person in data.persons)


def _shuffled(units: Counter[int | str], seed: int) -> list[int | str]:
    ordered = sorted(units)  # of one data set: all numbers, or all names
    return [ordered[place] for place in np.random.default_rng(seed).permutation(len(ordered))]
