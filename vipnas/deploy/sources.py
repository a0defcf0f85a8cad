"""Frames of images, videos, cameras and streams, one at a time.

with open_source("clip.mp4") as source:
    for frame in source:
        poses = model.predict(frame.image)
"""

from __future__ import annotations

import glob
import logging
import math
import mimetypes
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.data.crops.images import read_image
from vipnas.data.skipped import log_skipped

log = logging.getLogger(__name__)

# FFmpeg prints nothing: what is wrong is said in one line. It is read when a video is first opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

UINT8 = NDArray[np.uint8]
Kind = Literal["image", "folder", "glob", "video", "camera", "stream"]

# Of images, and of videos and cameras that do not say it.
DEFAULT_FPS = 25.0
TIMEOUT_S = 10.0
# Image formats that may hold a video.
_ANIMATED = (".gif", ".apng")
# Containers count frames that cannot all be decoded: a few, or this share of them.
_UNCOUNTED_FRAMES, _UNCOUNTED_SHARE = 2, 0.02
_MAX_FPS, _MAX_FRAMES = 1000.0, 1e8


@dataclass(frozen=True)
class SourceFrame:
    """One picture of a source.

    Attributes:
        index: Its number in the source, from 0. Images that cannot be read and frames that a live
            source drops are counted too.
        time_s: Seconds since the first frame.
        image: (H, W, 3), RGB.
        file_name: As annotation files name it: below the folder of all images, or that of a video.
        name: The same without suffix, unless a suffix tells it from another. Unique in the source.
        path: The file of an image; None for a frame of a video.
    """

    index: int
    time_s: float
    image: UINT8
    file_name: str
    name: str
    path: Path | None = None


class Source(ABC):
    """Frames in their order; a context manager. A source is iterated once.

    Attributes:
        kind: What it is.
        place: Where it is, for messages.
        fps: Frames a second.
        image_hw: Height and width of the first frame; None for images.
        total: Number of frames where it is known.
        files: The files that are read, which nothing may overwrite.
    """

    kind: Kind
    place: str
    fps: float
    image_hw: tuple[int, int] | None = None
    total: int | None = None
    files: tuple[Path, ...] = ()

    @abstractmethod
    def __iter__(self) -> Iterator[SourceFrame]: ...

    def close(self) -> None:  # noqa: B027 (images hold nothing open)
        """Give the file or the device back."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_source(
    spec: str | Path | Sequence[str | Path],
    *,
    output: Path | None = None,
    fps: float | None = None,
    skip_bad_images: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Source:
    """Open whatever holds pictures.

    Args:
        spec: An image, a folder (with all images below it), a glob, a video, the number of a
            camera, or an address such as `rtsp://...`; several images, folders and globs in a
            sequence.
        output: Where results go. Images in this folder are no part of a folder or glob.
        fps: Frames a second of images; default 25.
        skip_bad_images: Log images that cannot be read, and go on without them.
        timeout_s: How long to wait for the answer of a stream, and for each of its frames.

    Raises:
        ValueError: There is no such source, or nothing in it can be read. One line.
    """
    if fps is not None and not 0 < fps <= _MAX_FPS:
        raise ValueError(f"fps: expected a number above 0 and up to {_MAX_FPS:g}, got {fps}")
    specs = [spec] if isinstance(spec, (str, Path)) else list(spec)
    if not specs:
        raise ValueError("source: expected an image, a video or another source, got none")
    if len(specs) == 1:
        (place,) = map(str, specs)
        if re.fullmatch("[0-9]+", place):
            return _open_camera(int(place))
        if "://" in place:
            return _open_stream(place, timeout_s)
        if capture := _video_capture(Path(place)):
            source = CaptureSource("video", place, Path(place).stem, capture)
            source.files = (Path(place),)
            return source
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
            raise ValueError(f"{self.place}: expected images, got none that can be read") from (
                first_error
            )


class CaptureSource(Source):
    """What OpenCV decodes frame by frame: a video, a camera, a stream.

    A live source gives the newest frame: what arrives while a frame is worked on is dropped.
    """

    def __init__(self, kind: Kind, place: str, name: str, capture: cv2.VideoCapture) -> None:
        self.kind, self.place, self._name, self._capture = kind, place, name, capture
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= _MAX_FPS else DEFAULT_FPS
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if kind != "camera" and 0 < count < _MAX_FRAMES:
            self.total = int(count)
        self._first = self._read()
        if self._first is None:
            self.close()
            raise ValueError(f"{place}: expected a {kind} with frames, got none")
        height, width = self._first.shape[:2]
        self.image_hw = height, width

    def __iter__(self) -> Iterator[SourceFrame]:
        image, self._first = self._first, None
        is_live = self.total is None and self.kind != "video"
        begin_s, shown_s = time.monotonic(), self._position_s()
        index, time_s, num_read = 0, 0.0, 0
        while image is not None:
            num_read += 1
            name = f"{self._name}/{index:06d}"
            yield SourceFrame(index, time_s, image, f"{name}.jpg", name)
            if is_live:
                self._drop_late_frames(time.monotonic() - begin_s - time_s)
            image = self._read()
            if image is None:
                break
            if is_live:
                time_s = time.monotonic() - begin_s
                index = max(index + 1, round(time_s * self.fps))
            else:
                index += 1
                position_s = self._position_s() - shown_s
                time_s = position_s if position_s > time_s else max(time_s, index / self.fps)
        self._log_early_end(num_read, time_s)

    def close(self) -> None:
        self._first = None
        self._capture.release()

    def _read(self) -> UINT8 | None:
        done, image = self._capture.read()
        if not done or image is None:
            return None
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)

    def _position_s(self) -> float:
        """When the frame that was read last is shown, by the file."""
        position_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        return position_ms / 1000 if math.isfinite(position_ms) else 0.0

    def _drop_late_frames(self, worked_s: float) -> None:
        """Take what has arrived meanwhile, until a frame has to be waited for."""
        for _ in range(int(worked_s * self.fps) - 1):
            begin_s = time.monotonic()
            if not self._capture.grab() or time.monotonic() - begin_s > 0.5 / self.fps:
                return

    def _log_early_end(self, num_read: int, time_s: float) -> None:
        if self.kind == "camera":
            log.warning("%s: gave no more frames after %d (%.1f s)", self.place, num_read, time_s)
        elif self.total is None:
            if self.kind == "stream":
                what = "%s: ended or stopped to answer after %d frames (%.1f s)"
                log.warning(what, self.place, num_read, time_s)
        elif self.total - num_read > max(_UNCOUNTED_FRAMES, _UNCOUNTED_SHARE * self.total):
            log.warning(
                "%s: truncated or damaged: %d of %d frames could be read, up to %.1f s",
                *(self.place, num_read, self.total, num_read / self.fps),
            )


def _image_files(place: str, output: Path | None) -> tuple[Kind, list[Path]]:
    """The images that a place stands for, in natural order."""
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
        raise ValueError(f"{place}: expected images in this {kind}, got {found}")
    if len(images) < len(files):
        other = min(set(files) - set(images))
        number = len(files) - len(images)
        log.warning("%s: %d files that are no images left out, such as %s", place, number, other)
    return kind, sorted(images, key=_natural_order)


def _check_image(path: Path) -> None:
    """Raise ValueError in one line for what is no image."""
    if not path.exists():
        raise ValueError(
            f"{path}: expected an image, a folder, a glob, a video, a camera's number or a stream,"
            " got no such file"
        )
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if cv2.haveImageReader(str(path)):
        return
    if not head:
        raise ValueError(f"{path}: expected an image, or one video, got an empty file")
    # The index of such a file is at its end, unless it was made for streaming.
    hint = " (if it was cut short, its index is lost)" if head[4:8] == b"ftyp" else ""
    raise ValueError(f"{path}: expected an image, or one video, got neither{hint}")


def _video_capture(path: Path) -> cv2.VideoCapture | None:
    """The opened video; None for what is no video."""
    if not path.is_file():
        return None
    is_image = cv2.haveImageReader(str(path))
    if path.suffix.lower() in _ANIMATED:
        is_image = is_image and cv2.imcount(str(path)) == 1
    elif "image/" in str(mimetypes.guess_type(path.name)[0]):
        is_image = True  # a damaged one, in which FFmpeg would still see a video
    if is_image:
        return None
    with _quiet():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    return capture if capture.isOpened() else None


def _open_camera(number: int) -> Source:
    place = f"camera {number}"
    with _quiet():
        capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        devices = sorted(glob.glob("/dev/video*"), key=lambda name: _natural_order(Path(name)))
        hint = f" (there are {', '.join(devices)})" if devices else ""
        raise ValueError(f"{place}: expected a camera, got none that opens{hint}")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return CaptureSource("camera", place, f"camera_{number}", capture)


def _open_stream(address: str, timeout_s: float) -> Source:
    place = re.sub("//[^/@]*@", "//", address)  # without a password
    timeout_ms = round(timeout_s * 1000)
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms]
    timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    begin_s = time.monotonic()
    with _quiet():
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)
    if not capture.isOpened():
        waited = time.monotonic() - begin_s > 0.9 * timeout_s
        found = f"no answer within {timeout_s:g} s" if waited else "none that opens"
        raise ValueError(f"{place}: expected a stream, got {found}")
    return CaptureSource("stream", place, "stream", capture)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of OpenCV on the terminal: what is wrong is said in one line."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _file_names(files: Sequence[Path]) -> list[str]:
    """Paths below the folder that holds all."""
    folder = os.path.commonpath([path.absolute().parent for path in files])
    return [path.absolute().relative_to(folder).as_posix() for path in files]


def _names(file_names: Sequence[str]) -> Sequence[str]:
    """Without suffixes, if these tell no two files apart, whether or not case counts."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in file_names]
    return stems if len({stem.casefold() for stem in stems}) == len(stems) else file_names


def _natural_order(path: Path) -> list[tuple[int | str, ...]]:
    """2.jpg before 10.jpg."""
    return [_split(part) for part in path.parts]


def _split(text: str) -> tuple[int | str, ...]:
    parts: Iterable[str] = re.split("([0-9]+)", text)
    return tuple(int(part) if number % 2 else part for number, part in enumerate(parts))
