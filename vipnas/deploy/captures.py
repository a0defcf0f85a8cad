"""Videos, cameras and streams, decoded by OpenCV frame by frame."""

from __future__ import annotations

import glob
import logging
import math
import mimetypes
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.deploy.source import DEFAULT_FPS, MAX_FPS, Kind, Source, SourceFrame
from vipnas.errors import UserError

log = logging.getLogger(__name__)

# FFmpeg prints nothing, since one line tells the error. It is read when a video is first opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

UINT8 = NDArray[np.uint8]

# Image formats that may hold a video.
_ANIMATED = (".gif", ".apng")
# Containers count frames that cannot all be decoded: a few, or this share of them.
_UNCOUNTED_FRAMES, _UNCOUNTED_SHARE = 2, 0.02
_MAX_FRAMES = 1e8


class CaptureSource(Source):
    """A video, camera or stream, decoded by OpenCV frame by frame.

    A live source gives the newest frame. Frames that arrive during processing are dropped.
    """

    def __init__(self, kind: Kind, place: str, name: str, capture: cv2.VideoCapture) -> None:
        self.kind, self.place, self._name, self._capture = kind, place, name, capture
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= MAX_FPS else DEFAULT_FPS
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if kind != "camera" and 0 < count < _MAX_FRAMES:
            self.total = int(count)
        self._first = self._read()
        if self._first is None:
            self.close()
            raise UserError(place, f"a {kind} with frames", "none")
        height, width = self._first.shape[:2]
        self.image_hw = height, width

    def __iter__(self) -> Iterator[SourceFrame]:
        image_bgr, self._first = self._first, None
        is_live = self.total is None and self.kind != "video"
        begin_s, shown_s = time.monotonic(), self._position_s()
        index, time_s, num_read = 0, 0.0, 0
        while image_bgr is not None:
            num_read += 1
            name = f"{self._name}/{index:06d}"
            image = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
            yield SourceFrame(index, time_s, image, f"{name}.jpg", name, scratch_bgr=image_bgr)
            if is_live:
                self._drop_late_frames(time.monotonic() - begin_s - time_s)
            image_bgr = self._read()
            if image_bgr is None:
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
        done, image_bgr = self._capture.read()
        return np.asarray(image_bgr, np.uint8) if done and image_bgr is not None else None

    def _position_s(self) -> float:
        """Return the presentation time of the last frame read, in seconds."""
        position_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        return position_ms / 1000 if math.isfinite(position_ms) else 0.0

    def _drop_late_frames(self, worked_s: float) -> None:
        """Drop frames that have arrived meanwhile, until none is waiting."""
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


def open_video(path: Path) -> CaptureSource | None:
    """Open a video file; return None if it is not a video."""
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
    if not capture.isOpened():
        return None
    source = CaptureSource("video", str(path), path.stem, capture)
    source.files = (path,)
    return source


def open_camera(number: int) -> Source:
    place = f"camera {number}"
    with _quiet():
        capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        devices = sorted(glob.glob("/dev/video*"), key=lambda name: (len(name), name))
        hint = f"devices: {', '.join(devices)}" if devices else ""
        raise UserError(place, "a camera", "none that opens", hint)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return CaptureSource("camera", place, f"camera_{number}", capture)


def open_stream(address: str, timeout_s: float) -> Source:
    place = re.sub("//[^/]*@", "//", address)  # without a password
    timeout_ms = round(timeout_s * 1000)
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms]
    timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    begin_s = time.monotonic()
    with _quiet():
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)
    if not capture.isOpened():
        waited = time.monotonic() - begin_s > 0.9 * timeout_s
        found = f"no answer within {timeout_s:g} s" if waited else "none that opens"
        raise UserError(place, "a stream", found)
    return CaptureSource("stream", place, "stream", capture)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence OpenCV on the terminal, where one line tells the error."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
