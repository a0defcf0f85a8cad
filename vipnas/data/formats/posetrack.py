"""People in video from PoseTrack18 files: the official one per video, or one merged file."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco import Person, PoseData, person_of, pose_data
from vipnas.data.formats.posetrack_files import merged_document, video_name
from vipnas.data.formats.skeletons import Skeleton

log = logging.getLogger(__name__)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class TrackedPerson(Person):
    """A person in one frame of a video: `track_id` is the same in all its frames.

    `head_box_xywh`, in image pixels, is what PoseTrack measures distances by; None where the file
    has none.
    """

    track_id: int = -1
    head_box_xywh: Box | None = None


@dataclass(frozen=True)
class Frame:
    """One image of a video.

    `number` is that of its file name. `people` are all annotated ones, also those without a
    labelled joint. Each of `ignore_regions` is a polygon (N, 2) in image pixels in which people
    are not annotated.
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
    """All frames of a video in their order, labelled or not."""

    name: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class PoseTrackData(PoseData):
    """Videos; and the same people as a data set of single images.

    `persons`, all of them `TrackedPerson`, are those with a labelled joint; `videos` holds every
    frame and everybody in it.
    """

    videos: tuple[Video, ...] = ()

    @property
    def frames(self) -> tuple[Frame, ...]:
        return tuple(frame for video in self.videos for frame in video.frames)

    def unit_of(self, image: Mapping[str, Any]) -> int | str:
        """Whole videos stay together: neighbouring frames are much alike."""
        return video_name(image)

    def restricted_to(self, image_ids: Container[int]) -> PoseTrackData:
        """The same of some of the images; a video of which none is left is left out."""
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
    skip_bad_images: bool = False,
    ignore_exif: bool = False,
) -> PoseTrackData:
    """Open PoseTrack18: `annotations` is a folder of the official per-video files, or one file.

    Joints are labelled unless x, y and visibility are all 0, as in the official kit; those with
    visibility 0 are hidden (1). Sizes that the files do not give are read from the first image of
    each video. Checks, `skip_bad_images` and `ignore_exif` are those of `read_coco`.

    Raises ValueError, one line: the file, the id, what was found, what is allowed.
    """
    where = str(annotations)
    raw = merged_document(annotations, image_root, skip_bad_images, ignore_exif)
    people = pose_data(raw, where, image_root, skeleton, skip_bad_images, ignore_exif)
    images = {image["id"]: image for image in people.ground_truth["images"]}
    extras = {entry["id"]: entry for entry in raw["annotations"]}
    tracked: dict[int, list[TrackedPerson]] = {image_id: [] for image_id in images}
    for entry in people.ground_truth["annotations"]:
        person = person_of(entry, images[entry["image_id"]], image_root, ignore_exif)
        tracked[person.image_id].append(_tracked(person, extras[entry["id"]], where))
    _warn_of_shared_tracks(tracked, where)
    by_id = {person.annotation_id: person for frame in tracked.values() for person in frame}
    videos: dict[str, list[Frame]] = {}
    for image_id, image in images.items():
        frame = _frame(image, tuple(tracked[image_id]), image_root, where, ignore_exif)
        videos.setdefault(video_name(image), []).append(frame)
    in_order = {
        name: sorted(frames, key=lambda frame: frame.number) for name, frames in videos.items()
    }
    return PoseTrackData(
        skeleton,
        image_root,
        tuple(by_id[person.annotation_id] for person in people.persons),
        people.ground_truth,
        people.skipped_images,
        ignore_exif,
        tuple(Video(name, tuple(frames)) for name, frames in in_order.items()),
    )


def _tracked(person: Person, entry: Mapping[str, Any], where: str) -> TrackedPerson:
    """With what PoseTrack adds; head boxes are called and written in two ways."""
    head: Any = entry.get("bbox_head")
    if head is None and "head_rect_xyxy" in entry:
        left, top, right, bottom = entry["head_rect_xyxy"]
        head = [left, top, right - left, bottom - top]
    if head is not None and not (len(head) == 4 and np.isfinite(head).all() and min(head[2:]) > 0):
        raise ValueError(
            f"{where}: annotation {person.annotation_id}: head box {head}; allowed: four finite "
            "numbers x, y, width, height with an area, or none given"
        )
    if head is not None:
        left, top, width, height = map(float, head)
        head = left, top, width, height
    shared = {field.name: getattr(person, field.name) for field in fields(person)}
    return TrackedPerson(**shared, track_id=entry["track_id"], head_box_xywh=head)


def _frame(
    image: Mapping[str, Any],
    people: tuple[TrackedPerson, ...],
    image_root: Path,
    where: str,
    ignore_exif: bool,
) -> Frame:
    stem = Path(image["file_name"]).stem
    if not stem.isdecimal():
        raise ValueError(
            f"{where}: image {image['id']}: file name {image['file_name']!r}; allowed: names that "
            "are the number of the frame"
        )
    columns = zip(image.get("ignore_regions_x", ()), image.get("ignore_regions_y", ()), strict=True)
    return Frame(
        image_id=image["id"],
        number=int(stem),
        image_path=image_root / image["file_name"],
        image_hw=(image["height"], image["width"]),
        is_labelled=bool(image.get("is_labeled", people)),
        people=people,
        ignore_regions=tuple(np.column_stack((x, y)).astype(np.float64) for x, y in columns if x),
        ignore_exif=ignore_exif,
    )


def _warn_of_shared_tracks(tracked: Mapping[int, Iterable[TrackedPerson]], where: str) -> None:
    """Two people of one track in a frame: the tracking measure cannot tell them apart."""
    for image_id, people in tracked.items():
        track_ids = [person.track_id for person in people]
        if len(set(track_ids)) < len(track_ids):
            log.warning("%s: image %d: two people have the same track id", where, image_id)
