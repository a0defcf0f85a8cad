"""PoseTrack18 files brought into the form of COCO's: merged, with sizes, boxes and visibilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vipnas.data.crops.geometry import box_of_joints
from vipnas.data.crops.images import image_size
from vipnas.data.file_names import names_on_disk
from vipnas.data.skipped import log_skipped
from vipnas.files import read_json

# A person without a box gets that of the joints, made larger as by the official converter.
BOX_OF_JOINTS = 1.3


def merged_document(
    annotations: Path,
    image_root: Path,
    skip_bad_images: bool = False,
    ignore_exif: bool = False,
) -> dict[str, Any]:
    """One document in COCO form of a folder of per-video files, or of one file.

    Images get `width` and `height`, where the file says none those of the first image of their
    video that can be read; people without a box get one around their joints. With
    `skip_bad_images`, a video that needs that and has none is left out. Raises ValueError in one
    line.
    """
    raw = _merged(annotations)
    where = str(annotations)
    if lost := _fill_in_images(raw["images"], image_root, where, skip_bad_images, ignore_exif):
        raw["images"] = [image for image in raw["images"] if image.get("id") not in lost]
        entries = raw["annotations"]
        raw["annotations"] = [entry for entry in entries if entry.get("image_id") not in lost]
    for entry in raw["annotations"]:
        _fill_in_annotation(entry, f"{where}: annotation {entry.get('id', '(no id)')}")
    return raw


def annotation_files(annotations: Path) -> list[Path]:
    """Return the files of a folder, one a video, in the order of their names; or the one file."""
    return sorted(annotations.glob("*.json")) if annotations.is_dir() else [annotations]


def video_name(image: Mapping[str, Any]) -> str:
    return str(image.get("vid_id", Path(image["file_name"]).parent.name))


def _merged(annotations: Path) -> dict[str, Any]:
    """One document of all files, in the order of their names."""
    paths = annotation_files(annotations)
    if not paths:
        raise ValueError(f"{annotations}: no .json file in this folder; allowed: one per video")
    documents = [_read(path) for path in paths]
    categories = documents[0]["categories"]
    for path, document in zip(paths, documents, strict=True):
        if _joint_names(document) != _joint_names(documents[0]):
            raise ValueError(f"{path}: categories: joints differ from those of {paths[0].name}")
    merged: dict[str, Any] = {"categories": categories, "images": [], "annotations": []}
    for document in documents:
        merged["images"] += document["images"]
        merged["annotations"] += document["annotations"]
    for key in ("images", "annotations"):
        if not merged[key]:
            raise ValueError(f"{annotations}: {key}: empty; allowed: a list with entries")
    return merged


def _read(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"{path}: no such annotation file or folder")
    raw = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(raw, dict) or not isinstance(raw.get(key), list):
            raise ValueError(f"{path}: {key}: missing; allowed: a file in PoseTrack18 form")
        if not all(isinstance(entry, dict) for entry in raw[key]):
            raise ValueError(f"{path}: {key}: not all entries are objects")
    return raw


def _joint_names(document: Mapping[str, Any]) -> list[Any]:
    return [category.get("keypoints") for category in document["categories"]]


def _fill_in_images(
    images: list[dict[str, Any]],
    image_root: Path,
    where: str,
    skip_bad_images: bool,
    ignore_exif: bool,
) -> list[Any]:
    """Return the ids of the images of videos without a size, which are skipped."""
    for image in images:
        if not isinstance(image.get("file_name"), str):
            raise ValueError(f"{where}: image {image.get('id', '(no id)')}: file_name is missing")
    renamed = names_on_disk((image["file_name"] for image in images), image_root, where)
    without_size: dict[str, list[dict[str, Any]]] = {}
    for image in images:
        image["file_name"] = renamed.get(image["file_name"], image["file_name"])
        if "width" not in image or "height" not in image:
            without_size.setdefault(video_name(image), []).append(image)
    lost: list[Any] = []
    for name, frames in without_size.items():
        paths = [image_root / image["file_name"] for image in frames]
        try:
            height, width = _first_size(paths, ignore_exif)
        except ValueError as error:
            if not skip_bad_images:
                raise
            log_skipped(str(error), "%s: video %s left out: %s", where, name, error)
            lost += [image.get("id") for image in frames]
        else:
            for image in frames:
                image["height"], image["width"] = height, width
    return lost


def _first_size(paths: Sequence[Path], ignore_exif: bool) -> tuple[int, int]:
    """Height and width of the first image that can be read. Raises the ValueError of the first."""
    first_error = None
    for path in paths:
        try:
            return image_size(path, ignore_exif)
        except ValueError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def _fill_in_annotation(entry: dict[str, Any], place: str) -> None:
    if not isinstance(entry.get("track_id"), int):
        raise ValueError(f"{place}: track_id is {entry.get('track_id')!r}; allowed: a whole number")
    if not isinstance(entry.get("keypoints"), list) or len(entry["keypoints"]) % 3:
        raise ValueError(
            f"{place}: keypoints; allowed: a list of x, y and visibility of each joint"
        )
    entry["keypoints"] = _with_hidden_joints(entry["keypoints"], place)
    entry.pop("num_keypoints", None)  # counted anew: it may leave out what is hidden
    if "bbox" not in entry:
        entry["bbox"] = _box_of_joints(entry["keypoints"])


def _with_hidden_joints(flat: Sequence[Any], place: str) -> list[Any]:
    if not all(isinstance(value, (int, float)) for value in flat):
        raise ValueError(f"{place}: keypoints hold something that is not a finite number")
    triples = zip(flat[0::3], flat[1::3], flat[2::3], strict=True)
    return [value for x, y, v in triples for value in (x, y, v if v or not (x or y) else 1)]


def _box_of_joints(flat: Sequence[float]) -> list[float]:
    labelled = [(x, y) for x, y, v in zip(flat[0::3], flat[1::3], flat[2::3], strict=True) if v > 0]
    if not labelled:
        return [0.0, 0.0, 0.0, 0.0]
    x, y, width, height = box_of_joints(np.array(labelled, np.float64))
    more = BOX_OF_JOINTS - 1
    return [
        x - width * more / 2,
        y - height * more / 2,
        width * BOX_OF_JOINTS,
        height * BOX_OF_JOINTS,
    ]
