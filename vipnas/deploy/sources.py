"""Frames of images, videos, cameras and streams, one at a time.

    with open_source("clip.mp4") as source:
        for frame in source:
            poses = model.predict(frame.image)

Frames are decoded one at a time; none is kept.
"""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import cv2

from vipnas.data.crops.images import read_image
from vipnas.data.crops.skipped import log_skipped
from vipnas.deploy.captures import open_camera, open_stream, open_video
from vipnas.deploy.source import DEFAULT_FPS, MAX_FPS, Kind, Source, SourceFrame
from vipnas.errors import UserError

__all__ = ["DEFAULT_FPS", "ImageSource", "Kind", "Source", "SourceFrame", "open_source"]

log = logging.getLogger(__name__)

# How long to wait for a stream.
TIMEOUT_S = 10.0


def open_source(
    spec: str | Path | Sequence[str | Path],
    *,
    output: Path | None = None,
    fps: float | None = None,
    skip_bad_images: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Source:
    """Open a source of images.

    Args:
        spec: An image, a folder (with all images below it), a glob, a video, the number of a
            camera, or an address such as `rtsp://...`; several images, folders and globs in a
            sequence.
        output: Where results go. Images in this folder are skipped.
        fps: Frames a second of images; default 25.
        skip_bad_images: Log images that cannot be read, and skip them.
        timeout_s: How long to wait for the answer of a stream, and for each of its frames.

    Raises:
        UserError: The source does not exist, or nothing in it can be read.
    """
    if fps is not None and not 0 < fps <= MAX_FPS:
        raise UserError("fps", f"a number above 0 and up to {MAX_FPS:g}", str(fps))
    specs = [spec] if isinstance(spec, (str, Path)) else list(spec)
    if not specs:
        raise UserError("source", "an image, a video or another source", "none")
    if len(specs) == 1:
        (place,) = map(str, specs)
        if re.fullmatch("[0-9]+", place):
            return open_camera(int(place))
        if "://" in place:
            return open_stream(place, timeout_s)
        if video := open_video(Path(place)):
            return video
    else:
        _check_no_video(specs)
    kinds, files = zip(*(_image_files(str(place), output) for place in specs), strict=True)
    flat = tuple(dict.fromkeys(path for part in files for path in part))
    kind: Kind = kinds[0] if len(kinds) == 1 else "glob"
    return ImageSource(kind, str(specs[0]), flat, fps or DEFAULT_FPS, skip_bad_images)


class ImageSource(Source):
    """Image files, read when their turn comes."""

    def __init__(
        self, kind: Kind, place: str, files: tuple[Path, ...], fps: float, skip_bad_images: bool
    ) -> None:
        self.kind, self.place, self.files, self.fps = kind, place, files, fps
        self.total = len(files)
        self._skip_bad_images = skip_bad_images

    def __iter__(self) -> Iterator[SourceFrame]:
        first_error = None
        num_read = 0
        file_names = _file_names(self.files)
        names = _names(file_names)
        for index, path in enumerate(self.files):
            try:
                image = read_image(path)
            except ValueError as error:
                if not self._skip_bad_images:
                    raise
                first_error = first_error or error
                log_skipped(str(error), "image left out: %s", error)
                continue
            num_read += 1
            time_s = index / self.fps
            yield SourceFrame(index, time_s, image, file_names[index], names[index], path)
        if first_error and not num_read:
            raise UserError(self.place, "images", "none that can be read") from first_error


def _check_no_video(specs: Iterable[str | Path]) -> None:
    for spec in specs:
        if video := open_video(Path(spec)):
            video.close()
            raise UserError(str(spec), "images", "a video", "give one video, and nothing else")


def _image_files(place: str, output: Path | None) -> tuple[Kind, list[Path]]:
    """Return the images of a file, folder or glob, in natural order."""
    path = Path(place)
    kind: Kind
    below: Iterable[Path]
    if path.is_dir():
        kind, below = "folder", path.rglob("*")
    elif not path.exists() and glob.has_magic(place):
        kind, below = "glob", map(Path, glob.iglob(place, recursive=True))
    else:
        _check_image(path)
        return "image", [path]
    files = [file for file in below if file.is_file()]
    if output is not None:
        files = [file for file in files if output.resolve() not in file.resolve().parents]
    images = [file for file in files if cv2.haveImageReader(str(file))]
    if not images:
        found = f"{len(files)} other files" if files else "none"
        raise UserError(place, f"images in this {kind}", found)
    if len(images) < len(files):
        other = min(set(files) - set(images))
        number = len(files) - len(images)
        log.warning("%s: %d files that are no images left out, such as %s", place, number, other)
    return kind, sorted(images, key=_natural_order)


def _check_image(path: Path) -> None:
    """Raise UserError for a file that is not an image."""
    if not path.exists():
        raise UserError(
            str(path),
            "an image, a folder, a glob, a video, a camera's number or a stream",
            "no such file",
        )
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(str(path), "a file that can be read", reason) from error
    if cv2.haveImageReader(str(path)):
        return
    if not head:
        raise UserError(str(path), "an image, or one video", "an empty file")
    # The index of such a file is at its end, unless it was made for streaming.
    hint = "if it was cut short, its index is lost" if head[4:8] == b"ftyp" else ""
    raise UserError(str(path), "an image, or one video", "neither", hint)


def _file_names(files: Sequence[Path]) -> list[str]:
    """Return the paths below the folder that holds all."""
    folder = os.path.commonpath([path.absolute().parent for path in files])
    return [path.absolute().relative_to(folder).as_posix() for path in files]


def _names(file_names: Sequence[str]) -> Sequence[str]:
    """Without suffixes, if these tell no two files apart, whether or not case counts."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in file_names]
    return stems if len({stem.casefold() for stem in stems}) == len(stems) else file_names


def _natural_order(path: Path) -> list[tuple[int | str, ...]]:
    """Return the sort key by which 2.jpg is before 10.jpg."""
    return [_split(part) for part in path.parts]


def _split(text: str) -> tuple[int | str, ...]:
    parts: Iterable[str] = re.split("([0-9]+)", text)
    return tuple(int(part) if number % 2 else part for number, part in enumerate(parts))
