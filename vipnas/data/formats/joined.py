"""Read several annotation files as one data set."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vipnas.data.formats.coco import PoseData, checked_whole, pose_data
from vipnas.data.formats.coco_checks import read_document
from vipnas.data.formats.reading import DEFAULT_READING, Reading
from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError

log = logging.getLogger(__name__)


def read_parts(
    files: Sequence[tuple[Path, Path]],
    skeleton: Skeleton,
    reading: Reading = DEFAULT_READING,
    weights: Sequence[float] | None = None,
) -> list[PoseData]:
    """Read several COCO keypoint files, each by itself.

    Args:
        files: Each annotation file and the folder of its images.
        skeleton: As in `read_coco`.
        reading: As in `read_coco`, but for what is asked of all files together; see `joined`.
        weights: Weight in the loss of the labels of each file; all 1 by default.

    Raises:
        UserError: As in `read_coco`.
    """
    parts = []
    for (file, images), weight in zip(files, weights or [1.0] * len(files), strict=True):
        part = pose_data(read_document(file), str(file), images, skeleton, reading)
        persons = tuple(replace(person, weight=weight) for person in part.persons)
        parts.append(replace(part, persons=persons))
    return parts


def joined(
    parts: Sequence[PoseData], reading: Reading = DEFAULT_READING, renumber: bool = False
) -> PoseData:
    """Return files that were read as one data set, in their order.

    An image that is in a file of `vipnas label` and in another one has the other's labels only.

    Args:
        parts: The files, by `read_parts`.
        reading: That of the files.
        renumber: If an image id occurs in several files, number all images from 1. Do not use it
            for data whose ids appear in files of results or detections.

    Raises:
        UserError: As in `read_coco`, or an image is in several files.
    """
    return checked_whole(join(with_real_labels_first(parts), renumber), reading)


def with_real_labels_first(parts: Sequence[PoseData]) -> list[PoseData]:
    """Leave images out of the pseudo-labelled parts that another part has."""
    real = {path for part in parts if not _is_pseudo(part) for path in part.image_paths.values()}
    kept = []
    for part in parts:
        if _is_pseudo(part):
            paths = part.image_paths
            own = {image_id for image_id, path in paths.items() if path not in real}
            if len(own) < len(paths):
                number = len(paths) - len(own)
                log.warning("%s: %d images have labels in another file", part.source, number)
            part = part.restricted_to(own)
        kept.append(part)
    return kept


def _is_pseudo(part: PoseData) -> bool:
    return any(person.is_pseudo for person in part.persons)


def join(parts: Sequence[PoseData], renumber: bool = False) -> PoseData:
    """Return the union of data sets with the same skeleton.

    Annotations are numbered from 1 if an id occurs in several parts; images only with `renumber`.

    Raises:
        UserError: An image is in several parts; or an image id is, without `renumber`.
    """
    if len(parts) == 1:
        return parts[0]
    paths = [list(part.image_paths.values()) for part in parts]
    if shared := _shared_image(parts, paths):
        hint = "merge the two files into one"
        raise UserError(shared.place, shared.expected, shared.found, hint)
    image_ids, annotation_ids = _ids(parts, "images"), _ids(parts, "annotations")
    for part, ids in zip(parts, image_ids, strict=True):
        ids += part.skipped_images
    shared = _shared_image(parts, image_ids)
    if shared and not renumber:
        hint = "files of results name images by their ids"
        raise UserError(shared.place, shared.expected, shared.found, hint)
    if shared:
        log.warning("%s; all images are numbered from 1", shared)
    new_images = _numbered(image_ids, from_one=shared is not None)
    all_annotation_ids = list(itertools.chain(*annotation_ids))
    is_repeated = len(set(all_annotation_ids)) < len(all_annotation_ids)
    new_annotations = _numbered(annotation_ids, from_one=is_repeated)
    root = _common_root([part.image_root for part in parts])
    renamed = [
        _renamed(part, root, images, annotations)
        for part, images, annotations in zip(parts, new_images, new_annotations, strict=True)
    ]
    return PoseData(
        parts[0].skeleton,
        root,
        tuple(person for part in renamed for person in part.persons),
        _joined_documents(renamed),
        {key: text for part in renamed for key, text in part.skipped_images.items()},
        parts[0].ignore_exif,
        tuple(entry for part in renamed for entry in part.left_out),
        ", ".join(part.source for part in parts),
    )


def _joined_documents(parts: Sequence[PoseData]) -> dict[str, Any]:
    categories = itertools.chain(*_entries(parts, "categories"))
    return {
        "images": list(itertools.chain(*_entries(parts, "images"))),
        "annotations": list(itertools.chain(*_entries(parts, "annotations"))),
        "categories": list({category["id"]: category for category in categories}.values()),
    }


def _entries(parts: Sequence[PoseData], key: str) -> list[list[dict[str, Any]]]:
    return [part.ground_truth[key] for part in parts]


def _ids(parts: Sequence[PoseData], key: str) -> list[list[int]]:
    return [[entry["id"] for entry in entries] for entries in _entries(parts, key)]


def _shared_image(
    parts: Sequence[PoseData], names: Sequence[Sequence[Hashable]]
) -> UserError | None:
    """Return the error of the first name that several parts have, or None."""
    owners: dict[Hashable, PoseData] = {}
    for part, own_names in zip(parts, names, strict=True):
        for name in own_names:
            owner = owners.setdefault(name, part)
            if owner is not part:
                where = f"{part.source}: image {name}"
                return UserError(where, "in one file only", f"also in {owner.source}")
    return None


def _numbered(ids: Sequence[Sequence[int]], from_one: bool) -> list[dict[int, int]]:
    """Return the new id of each id of each part."""
    numbers = itertools.count(1)
    return [{old: next(numbers) if from_one else old for old in part} for part in ids]


def _common_root(roots: Sequence[Path]) -> Path:
    if len(set(roots)) == 1:
        return roots[0]
    return Path(os.path.commonpath([os.path.abspath(root) for root in roots]))


def _renamed(
    part: PoseData, root: Path, images: Mapping[int, int], annotations: Mapping[int, int]
) -> PoseData:
    """Return the data set with new ids, its file names relative to another folder."""
    truth = part.ground_truth
    folder = "" if part.image_root == root else os.path.relpath(part.image_root, root)
    ground_truth = {
        **truth,
        "images": [
            {
                **image,
                "id": images[image["id"]],
                "file_name": os.path.join(folder, image["file_name"]),
            }
            for image in truth["images"]
        ],
        "annotations": [
            {**entry, "id": annotations[entry["id"]], "image_id": images[entry["image_id"]]}
            for entry in truth["annotations"]
        ],
    }
    persons = tuple(
        replace(
            person,
            annotation_id=annotations[person.annotation_id],
            image_id=images[person.image_id],
        )
        for person in part.persons
    )
    left_out = tuple(
        entry._replace(image_id=images.get(entry.image_id, entry.image_id))
        for entry in part.left_out
    )
    skipped = {images[key]: problem for key, problem in part.skipped_images.items()}
    return replace(
        part,
        persons=persons,
        ground_truth=ground_truth,
        skipped_images=skipped,
        left_out=left_out,
    )
