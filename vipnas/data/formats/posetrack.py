"""Persons in video from PoseTrack18 files: one per video, or one merged file."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco import (
    Person,
    PoseData,
    checked_whole,
    is_pseudo_labelled,
    person_of,
    pose_data,
)
from vipnas.data.formats.coco_checks import require_unique
from vipnas.data.formats.file_names import plain_name
from vipnas.data.formats.joined import join
from vipnas.data.formats.json_values import box, flag, is_coordinate, too_large, unexpected
from vipnas.data.formats.posetrack_files import documents, video_name
from vipnas.data.formats.reading import DEFAULT_READING, Reading
from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError

log = logging.getLogger(__name__)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class TrackedPerson(Person):
    """A person in one frame of a video.

    Attributes:
        track_id: Id of the person, the same in all frames of a video.
        head_box_xywh: Head box in image pixels, which PoseTrack scales distances by, or None.
    """

    track_id: int = -1
    head_box_xywh: Box | None = None


@dataclass(frozen=True)
class Frame:
    """One image of a video.

    Attributes:
        image_id: Id of the image.
        number: Number of the frame, from its file name.
        image_path: Path of the image file.
        image_hw: Height and width.
        is_labelled: Whether persons in this frame are annotated.
        people: All annotated persons, with or without labelled joints.
        ignore_regions: Polygons (N, 2) in image pixels in which persons are not annotated.
        ignore_exif: As in `Person`.
    """

    image_id: int
    number: int
    image_path: Path
    image_hw: tuple[int, int]
    is_labelled: bool
    people: tuple[TrackedPerson, ...]
    ignore_regions: tuple[NDArray[np.float64], ...] = ()
    ignore_exif: bool = False


@dataclass(frozen=True)
class Video:
    """All frames of a video in order, labelled or not."""

    name: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class PoseTrackData(PoseData):
    """Videos, and the same persons as a data set of single images.

    Attributes:
        videos: All frames, with all annotated persons. `persons` are the `TrackedPerson`s among
            them that have a labelled joint.
    """

    videos: tuple[Video, ...] = ()

    @property
    def frames(self) -> tuple[Frame, ...]:
        return tuple(frame for video in self.videos for frame in video.frames)

    def unit_of(self, image: Mapping[str, Any]) -> int | str:
        """Return the video of an image. Splits keep videos whole: nearby frames are similar."""
        return video_name(image)

    def restricted_to(self, image_ids: Container[int]) -> PoseTrackData:
        """Return the data of the given images, without videos that have none of them."""
        kept = (
            replace(video, frames=tuple(f for f in video.frames if f.image_id in image_ids))
            for video in self.videos
        )
        people = super().restricted_to(image_ids)
        assert isinstance(people, PoseTrackData)
        return replace(people, videos=tuple(video for video in kept if video.frames))


def read_posetrack(
    annotations: Path,
    image_root: Path,
    skeleton: Skeleton,
    reading: Reading = DEFAULT_READING,
) -> PoseTrackData:
    """Read PoseTrack18 annotations, with the checks of `read_coco`.

    As in the official kit, a joint is labelled unless x, y and visibility are all 0. Labelled
    joints of visibility 0 are hidden (1). Missing image sizes are read from the first image of each
    video.

    Args:
        annotations: Folder with one file per video, or one merged file.
        image_root: Folder that the file names of the images start from.
        skeleton: The joints that the category must have, in this order.
        reading: As in `read_coco`.

    Raises:
        UserError: A file is not as expected. The place is file and id.
        ValueError: An image is not as expected.
    """
    parts: list[PoseData] = []
    videos: dict[str, list[Frame]] = {}
    for path, raw in documents(annotations, image_root, reading):
        where = str(path)
        part = pose_data(raw, where, image_root, skeleton, reading)
        parts.append(part)
        people = _tracked_people(part, raw, where)
        for image in part.ground_truth["images"]:
            frame = _frame(image, people.get(image["id"], ()), part, where)
            videos.setdefault(video_name(image), []).append(frame)
    require_unique(
        (entry["id"] for part in parts for entry in part.ground_truth["annotations"]),
        f"{annotations}: annotation",
    )
    whole = checked_whole(replace(join(parts), source=str(annotations)), reading)
    frames = [frame for in_video in videos.values() for frame in in_video]
    tracked = {person.annotation_id: person for frame in frames for person in frame.people}
    return PoseTrackData(
        skeleton,
        image_root,
        tuple(tracked[person.annotation_id] for person in whole.persons),
        whole.ground_truth,
        whole.skipped_images,
        whole.ignore_exif,
        whole.left_out,
        whole.source,
        tuple(_video(name, in_video) for name, in_video in videos.items()),
    )


def _video(name: str, frames: Sequence[Frame]) -> Video:
    return Video(name, tuple(sorted(frames, key=lambda frame: frame.number)))


def _tracked_people(
    data: PoseData, raw: Mapping[str, Any], where: str
) -> dict[int, tuple[TrackedPerson, ...]]:
    """Return the persons of each image, in the order of the file."""
    images = {image["id"]: image for image in data.ground_truth["images"]}
    extras = {e["id"]: e for e in raw["annotations"] if e["category_id"] in data.category_ids}
    is_pseudo = is_pseudo_labelled(raw)
    tracked: dict[int, tuple[TrackedPerson, ...]] = {}
    for entry in data.ground_truth["annotations"]:
        image = images[entry["image_id"]]
        person = person_of(entry, image, data.image_root, data.ignore_exif, is_pseudo)
        one = _tracked(person, extras[entry["id"]], f"{where}: annotation {entry['id']}")
        tracked[person.image_id] = (*tracked.get(person.image_id, ()), one)
    _warn_of_shared_tracks(tracked, where)
    return tracked


def _tracked(person: Person, entry: Mapping[str, Any], place: str) -> TrackedPerson:
    """Add the fields that PoseTrack has and COCO does not."""
    shared = {field.name: getattr(person, field.name) for field in fields(person)}
    return TrackedPerson(
        **shared, track_id=entry["track_id"], head_box_xywh=_head_box(entry, place)
    )


def _head_box(entry: Mapping[str, Any], place: str) -> Box | None:
    if entry.get("bbox_head") is not None:
        key, corners = "bbox_head", False
    elif entry.get("head_rect_xyxy") is not None:
        key, corners = "head_rect_xyxy", True
    else:
        return None
    left, top, width, height = map(float, box(entry, key, place))
    if corners:
        width, height = width - left, height - top
    if width <= 0 or height <= 0:
        raise unexpected(f"{place}: {key}", "a head box with an area, or none", entry[key])
    return left, top, width, height


def _frame(
    image: Mapping[str, Any], people: tuple[TrackedPerson, ...], data: PoseData, where: str
) -> Frame:
    place = f"{where}: image {image['id']}"
    stem = Path(plain_name(image["file_name"])).stem
    if not stem.isdecimal():
        raise unexpected(f"{place}: file_name", "the number of the frame", image["file_name"])
    has_flag = image.get("is_labeled") is not None
    return Frame(
        image_id=image["id"],
        number=int(stem),
        image_path=data.image_root / image["file_name"],
        image_hw=(image["height"], image["width"]),
        is_labelled=bool(flag(image, "is_labeled", place)) if has_flag else bool(people),
        people=people,
        ignore_regions=_ignore_regions(image, place),
        ignore_exif=data.ignore_exif,
    )


def _ignore_regions(image: Mapping[str, Any], place: str) -> tuple[NDArray[np.float64], ...]:
    xs, ys = (image.get(f"ignore_regions_{axis}") or [] for axis in "xy")
    for columns in (xs, ys):
        if not isinstance(columns, list) or not all(isinstance(column, list) for column in columns):
            raise unexpected(f"{place}: ignore_regions", "lists of polygons", columns)
        if wrong := [v for column in columns for v in column if not is_coordinate(v)]:
            expected = "finite numbers of pixels"
            raise unexpected(f"{place}: ignore_regions", expected, wrong[0], too_large(wrong[0]))
    if list(map(len, xs)) != list(map(len, ys)):
        found = f"{list(map(len, xs))} and {list(map(len, ys))}"
        raise UserError(f"{place}: ignore_regions", "as many x as y in each polygon", found)
    return tuple(
        np.column_stack((x, y)).astype(np.float64) for x, y in zip(xs, ys, strict=True) if x
    )


def _warn_of_shared_tracks(tracked: Mapping[int, Iterable[TrackedPerson]], where: str) -> None:
    """Warn if two persons in a frame have the same track, which MOTA cannot tell apart."""
    for image_id, people in tracked.items():
        track_ids = [person.track_id for person in people]
        if len(set(track_ids)) < len(track_ids):
            log.warning("%s: image %d: two persons have the same track id", where, image_id)
