"""Persons with keypoints from COCO annotation files, checked when they are opened."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco_annotations import check_parts, complete_annotation
from vipnas.data.formats.coco_checks import (
    LeftOut,
    annotations_of,
    categories_by_id,
    category_name,
    chosen_categories,
    images_by_id,
    read_document,
)
from vipnas.data.formats.image_entries import bad_images_of, named_as_on_disk
from vipnas.data.formats.reading import DEFAULT_READING, Reading
from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError

log = logging.getLogger(__name__)

D = TypeVar("D", bound="PoseData")

# The id of COCO's person category, for persons that come from no annotation file.
PERSON_CATEGORY = 1


@dataclass(frozen=True)
class Person:
    """One labelled person.

    Attributes:
        annotation_id: Id of the annotation, unique in a data set.
        image_id: Id of the image.
        image_path: Path of the image file.
        box_xywh: Bounding box in image pixels, inside the image.
        area: Segmented area in square pixels, which OKS scales by.
        keypoints_K3: x and y in image pixels, and visibility (0 not labelled, 1 hidden, 2 visible).
        image_hw: Height and width in the annotation file, checked when the image is read.
        ignore_exif: Whether all of this refers to the image as stored, before its EXIF orientation
            is applied.
        category_id: Id of the category in the annotation file.
        weight: Weight of the labels in the loss, above 0, up to 1.
        is_pseudo: Whether a model labelled the person (`vipnas label`).
    """

    annotation_id: int
    image_id: int
    image_path: Path
    box_xywh: tuple[float, float, float, float]
    area: float
    keypoints_K3: NDArray[np.float32]
    image_hw: tuple[int, int] | None = None
    ignore_exif: bool = False
    category_id: int = PERSON_CATEGORY
    weight: float = 1.0
    is_pseudo: bool = False


@dataclass(frozen=True)
class PoseData:
    """Persons for training or evaluation.

    Attributes:
        skeleton: The joints of every person.
        image_root: Folder that the file names of the images start from.
        persons: Persons with at least one labelled joint, without crowds, in the order of the file.
        ground_truth: COCO dict (images, annotations, categories) of the same images for evaluation,
            with the category ids of the file. It keeps crowds and persons without labelled joints,
            which the protocol ignores.
        skipped_images: What is wrong with each bad image that was left out, by image id.
        ignore_exif: Whether labels refer to images as stored, as in `Person`.
        left_out: Annotations of other categories.
        source: The annotation file, for errors.
    """

    skeleton: Skeleton
    image_root: Path
    persons: tuple[Person, ...]
    ground_truth: dict[str, Any]
    skipped_images: Mapping[int, str] = field(default_factory=dict)
    ignore_exif: bool = False
    left_out: tuple[LeftOut, ...] = ()
    source: str = ""

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Ids of the categories that are read. They are scored as one."""
        return tuple(category["id"] for category in self.ground_truth["categories"])

    @property
    def category_names(self) -> str:
        """The categories that are read, as in `1 (person)`."""
        categories = self.ground_truth["categories"]
        return ", ".join(f"{category['id']} ({category['name']})" for category in categories)

    @property
    def image_paths(self) -> dict[int, str]:
        """The absolute path of each image by its id."""
        images, root = self.ground_truth["images"], self.image_root
        return {image["id"]: os.path.abspath(root / image["file_name"]) for image in images}

    def unit_of(self, image: Mapping[str, Any]) -> int | str:
        """Return the group of an image. Splits keep groups whole; here each image is its own."""
        image_id: int = image["id"]
        return image_id

    def restricted_to(self, image_ids: Container[int]) -> PoseData:
        """Return the data of the given images, in the order of the file."""
        truth = self.ground_truth
        ground_truth = {
            **truth,
            "images": [entry for entry in truth["images"] if entry["id"] in image_ids],
            "annotations": [e for e in truth["annotations"] if e["image_id"] in image_ids],
        }
        persons = tuple(person for person in self.persons if person.image_id in image_ids)
        left_out = tuple(entry for entry in self.left_out if entry.image_id in image_ids)
        return replace(self, persons=persons, ground_truth=ground_truth, left_out=left_out)


def read_coco(
    annotation_file: Path,
    image_root: Path,
    skeleton: Skeleton,
    reading: Reading = DEFAULT_READING,
) -> PoseData:
    """Read a COCO keypoint file.

    Everything that can be checked without decoding images is checked here, so that no run stops
    after hours. Annotations of other categories are left out and counted in the log.

    Args:
        annotation_file: COCO JSON with images, annotations and categories.
        image_root: Folder that the file names of the images start from.
        skeleton: The joints that the category must have, in this order.
        reading: Which categories are read, and how bad images are treated.

    Raises:
        UserError: The file is not as expected. The place is file and id.
        ValueError: An image is not as expected.
    """
    data = pose_data(
        read_document(annotation_file), str(annotation_file), image_root, skeleton, reading
    )
    return checked_whole(data, reading)


def pose_data(
    raw: dict[str, Any],
    where: str,
    image_root: Path,
    skeleton: Skeleton,
    reading: Reading = DEFAULT_READING,
) -> PoseData:
    """Return the data of a COCO document in memory, with the checks of `read_coco`.

    The document may be one part of a data set: it need not have a labelled person, nor all
    categories. `where` names it in errors.
    """
    images = images_by_id(raw["images"], where)
    if reading.check_images:
        images = named_as_on_disk(images, image_root, where)
    known = categories_by_id(raw, where)
    chosen = chosen_categories(known, where, skeleton, reading.categories)
    kept, left_out = annotations_of(chosen, known, raw["annotations"], where)
    for reason, count in Counter(entry.reason for entry in left_out).items():
        total = len(raw["annotations"])
        log.warning("%s: %d of %d annotations left out: %s", where, count, total, reason)
    check_parts(kept.values(), where, skeleton)
    annotations = [
        complete_annotation(entry, place, images, skeleton) for place, entry in kept.items()
    ]
    bad = bad_images_of(images, image_root, where, reading) if reading.check_images else {}
    ground_truth = {
        "images": [image for image_id, image in images.items() if image_id not in bad],
        "annotations": [entry for entry in annotations if entry["image_id"] not in bad],
        "categories": [
            {"id": key, "name": category_name(entry), "keypoints": list(skeleton.joints)}
            for key, entry in chosen.items()
        ],
    }
    is_pseudo = is_pseudo_labelled(raw)
    persons = tuple(
        person_of(entry, images[entry["image_id"]], image_root, reading.ignore_exif, is_pseudo)
        for entry in ground_truth["annotations"]
        if entry["num_keypoints"] > 0 and not entry["iscrowd"]
    )
    return PoseData(
        skeleton, image_root, persons, ground_truth, bad, reading.ignore_exif, left_out, where
    )


def is_pseudo_labelled(raw: Mapping[str, Any]) -> bool:
    """Whether `vipnas label` wrote a COCO document."""
    info = raw.get("info")
    return isinstance(info, Mapping) and info.get("pseudo_labels") is True


def checked_whole(data: D, reading: Reading) -> D:
    """Return `data` if it is complete.

    Raises:
        UserError: All images were skipped, a category of `reading` is missing, or no person has a
            labelled joint.
    """
    if data.skipped_images and not data.ground_truth["images"]:
        count = len(data.skipped_images)
        image_id, problem = next(iter(data.skipped_images.items()))
        found, hint = f"{count} bad ones of {count}", f"image {image_id}: {problem}"
        raise UserError(f"{data.source}: images", "at least one that can be used", found, hint)
    categories = sorted(reading.categories or ())
    known = {category["name"] for category in data.ground_truth["categories"]}
    if missing := [name for name in categories if name not in known]:
        found = f"no {' and no '.join(missing)}"
        raise UserError(f"{data.source}: categories", ", ".join(categories), found)
    if not data.persons:
        raise UserError(data.source, "a person with a labelled joint", "none")
    return data


def person_of(
    entry: dict[str, Any],
    image: dict[str, Any],
    image_root: Path,
    ignore_exif: bool = False,
    is_pseudo: bool = False,
) -> Person:
    """Return the person of an annotation, with the box clipped to the image."""
    return Person(
        annotation_id=entry["id"],
        image_id=entry["image_id"],
        image_path=image_root / image["file_name"],
        box_xywh=inside(entry["bbox"], image),
        area=float(entry["area"]),
        keypoints_K3=np.asarray(entry["keypoints"], np.float32).reshape(-1, 3),
        image_hw=(image["height"], image["width"]),
        ignore_exif=ignore_exif,
        category_id=entry["category_id"],
        is_pseudo=is_pseudo,
    )


def inside(
    box_xywh: Sequence[float], image: Mapping[str, Any]
) -> tuple[float, float, float, float]:
    """Return the part of a box within its image; width or height is not above 0 without one."""
    x, y, width, height = map(float, box_xywh)
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = min(image["width"], x + width), min(image["height"], y + height)
    return left, top, right - left, bottom - top
