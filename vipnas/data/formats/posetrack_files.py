"""Convert PoseTrack18 files to COCO form, with image sizes and visibilities."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vipnas.data.crops.images import image_size
from vipnas.data.formats.coco_checks import with_places
from vipnas.data.formats.file_names import names_on_disk, plain_name
from vipnas.data.formats.json_values import (
    MAX_PIXELS,
    json_list,
    json_object,
    shown,
    text,
    unexpected,
    whole_number,
)
from vipnas.data.formats.reading import DEFAULT_READING, Reading
from vipnas.errors import UserError
from vipnas.files import read_json


def merged_document(
    annotations: Path,
    image_root: Path,
    reading: Reading = DEFAULT_READING,
    skipped_images: Container[int] = (),
) -> dict[str, Any]:
    """Return one document in COCO form of a folder of per-video files, or of one file.

    The categories are those of the first file. Images whose ids are in `skipped_images` are left
    out, with their annotations.
    """
    merged: dict[str, Any] = {"categories": None, "images": [], "annotations": []}
    for _, document in documents(annotations, image_root, reading):
        merged["categories"] = merged["categories"] or document["categories"]
        for key, image_id in (("images", "id"), ("annotations", "image_id")):
            merged[key] += [e for e in document[key] if e[image_id] not in skipped_images]
    return merged


def documents(
    annotations: Path, image_root: Path, reading: Reading
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each file, in the order of their names, and its document in COCO form.

    Images get their names on disk. A missing `width` or `height` is read from the first image of
    the video that can be read. Without `reading.check_images` no image is opened, and such images
    count as larger than any box.

    Raises:
        UserError: A file is not as expected.
    """
    paths = annotation_files(annotations)
    if not paths:
        raise UserError(str(annotations), "a .json file for each video", "none")
    found = [(path, _read(path)) for path in paths]
    for key in ("images", "annotations"):
        if not any(document[key] for _, document in found):
            raise UserError(f"{annotations}: {key}", "entries", "an empty list")
    for path, document in found:
        _check_images(document["images"], str(path))
    if reading.check_images:
        _name_as_on_disk(found, image_root, str(annotations))
    for path, document in found:
        _fill_in_sizes(document["images"], image_root, reading)
        for entry in document["annotations"]:
            _fill_in_annotation(entry, f"{path}: annotation {shown(entry.get('id'))}")
        yield path, document


def annotation_files(annotations: Path) -> list[Path]:
    """Return the files of a folder, one a video, in the order of their names; or the one file."""
    return sorted(annotations.glob("*.json")) if annotations.is_dir() else [annotations]


def video_name(image: Mapping[str, Any]) -> str:
    """Return the video of an image: its `vid_id`, or the folder in its file name."""
    return str(image.get("vid_id", Path(plain_name(image["file_name"])).parent.name))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(str(path), "an annotation file or a folder of them", "none")
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise unexpected(str(path), "an object in PoseTrack18 form", raw)
    for key in ("images", "annotations", "categories"):
        for position, entry in enumerate(json_list(raw, key, str(path))):
            json_object(entry, f"{path}: {key}[{position}]")
    return raw


def _check_images(images: Sequence[Any], where: str) -> None:
    for place, image in with_places(images, where, "image"):
        text(image, "file_name", place)


def _name_as_on_disk(
    found: Sequence[tuple[Path, dict[str, Any]]], image_root: Path, where: str
) -> None:
    """Rename the images of all files together, with one warning."""
    images = [image for _, document in found for image in document["images"]]
    renamed = names_on_disk((image["file_name"] for image in images), image_root, where)
    for image in images:
        image["file_name"] = renamed.get(image["file_name"], image["file_name"])


def _fill_in_sizes(images: Sequence[dict[str, Any]], image_root: Path, reading: Reading) -> None:
    without_size: dict[str, list[dict[str, Any]]] = {}
    for image in images:
        if image.get("width") is None or image.get("height") is None:
            without_size.setdefault(video_name(image), []).append(image)
    for frames in without_size.values():
        height, width = _first_size(frames, image_root, reading)
        for image in frames:
            image["height"], image["width"] = height, width


def _first_size(
    frames: Sequence[Mapping[str, Any]], image_root: Path, reading: Reading
) -> tuple[int, int]:
    """Return height and width of the first frame that can be read.

    If images are not checked, or all are bad and skipped later, return a size larger than any box.
    """
    problems: list[ValueError] = []
    for image in frames if reading.check_images else ():
        try:
            return image_size(image_root / image["file_name"], reading.ignore_exif)
        except ValueError as error:
            problems.append(error)
    if problems and not reading.skip_bad_images:
        raise problems[0]
    return MAX_PIXELS, MAX_PIXELS


def _fill_in_annotation(entry: dict[str, Any], place: str) -> None:
    whole_number(entry, "track_id", place)
    entry["keypoints"] = _with_hidden_joints(entry.get("keypoints"))
    entry.pop("num_keypoints", None)  # recounted: it may leave out hidden joints


def _with_hidden_joints(flat: Any) -> Any:
    """Set the visibility to 1 where a joint of visibility 0 has coordinates.

    Anything but a list of joints is returned unchanged, for the checks that follow.
    """
    if not isinstance(flat, list) or len(flat) % 3:
        return flat
    triples = zip(flat[0::3], flat[1::3], flat[2::3], strict=True)
    return [value for x, y, v in triples for value in (x, y, 1 if v == 0 and (x or y) else v)]
