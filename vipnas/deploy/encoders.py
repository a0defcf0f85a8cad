"""Videos written by OpenCV, and H.264 by PyAV.

H W height and width of a picture.
"""

from __future__ import annotations

import importlib.util
import os
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.data.crops.decoding import silent_codecs
from vipnas.errors import UserError

UINT8 = NDArray[np.uint8]
Codec = Literal["mp4v", "h264"]

# Of OpenCV, by suffix.
_FOURCC = {".mp4": "mp4v", ".webm": "VP90"}
# Constant quality of x264, from 0 (lossless) to 51.
_X264_QUALITY = "20"


class Encoder(Protocol):
    """Write pictures (H, W, 3), BGR, of one size into a video. `image_hw` is even."""

    image_hw: tuple[int, int]

    def write(self, picture_HW3: UINT8) -> None: ...

    def close(self) -> None:
        """Complete the file; raise OSError if it cannot be written completely."""


def check_codec(codec: Codec) -> None:
    """Raise UserError for a codec whose package is missing."""
    if codec == "h264" and importlib.util.find_spec("av") is None:
        raise UserError(
            "codec h264",
            "PyAV",
            "no package av",
            "pip install 'vipnas[h264]', whose wheels bundle libraries under the GPL",
        )


def open_encoder(path: Path, image_hw: tuple[int, int], fps: float, codec: Codec) -> Encoder:
    """Open a video for pictures of this size; odd sides become even.

    Raises:
        OSError: The file cannot be written.
    """
    height, width = image_hw
    even_hw = height + height % 2, width + width % 2
    if codec == "h264" and path.suffix.lower() == ".mp4":
        return H264Encoder(path, even_hw, fps)
    return OpenCvEncoder(path, even_hw, fps)


def holds_video(path: Path) -> bool:
    """Return whether OpenCV can open the file."""
    with silent_codecs():
        video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        is_open = video.isOpened()
        video.release()
    return is_open


def fitted(picture_HW3: UINT8, image_hw: tuple[int, int]) -> UINT8:
    """Return the picture in another size.

    The last row or column is repeated if one is missing. Otherwise the picture is scaled and padded
    with black.
    """
    height, width = picture_HW3.shape[:2]
    below, beside = image_hw[0] - height, image_hw[1] - width
    if (below, beside) == (0, 0):
        return picture_HW3
    if 0 <= below <= 1 and 0 <= beside <= 1:
        edges = (0, below, 0, beside)
        return np.asarray(cv2.copyMakeBorder(picture_HW3, *edges, cv2.BORDER_REPLICATE), np.uint8)
    scale = min(image_hw[0] / height, image_hw[1] / width)
    size_hw = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (image_hw[0] - size_hw[0]) // 2, (image_hw[1] - size_hw[1]) // 2
    result = np.zeros((*image_hw, 3), np.uint8)
    scaled = cv2.resize(picture_HW3, size_hw[::-1], interpolation=cv2.INTER_AREA)
    result[top : top + size_hw[0], left : left + size_hw[1]] = scaled
    return result


class OpenCvEncoder:
    """MPEG-4 part 2 in .mp4, VP9 in .webm."""

    def __init__(self, path: Path, image_hw: tuple[int, int], fps: float) -> None:
        self.image_hw = image_hw
        self._path = path
        fourcc = cv2.VideoWriter.fourcc(*_FOURCC[path.suffix.lower()])
        with silent_codecs():
            self._writer = cv2.VideoWriter(
                str(path), cv2.CAP_FFMPEG, fourcc, fps, (image_hw[1], image_hw[0])
            )
        if not self._writer.isOpened():
            raise OSError(f"OpenCV opens no encoder for {path.suffix} of {image_hw} pixels here")

    def write(self, picture_HW3: UINT8) -> None:
        self._writer.write(picture_HW3)

    def close(self) -> None:
        self._writer.release()
        # OpenCV ignores failed writes, such as of the index on a full disk.
        with self._path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.write(b"room")
            file.truncate(size)
        if not holds_video(self._path):
            raise OSError("the video cannot be read back")


def _pyav() -> ModuleType:
    import av

    return cast(ModuleType, av)


class H264Encoder:
    """H.264 in .mp4, by PyAV."""

    def __init__(self, path: Path, image_hw: tuple[int, int], fps: float) -> None:
        av = _pyav()
        self.image_hw = image_hw
        self._frame_of = av.VideoFrame.from_ndarray
        self._container = av.open(str(path), "w")
        rate = Fraction(fps).limit_denominator(1001)
        self._stream: Any = self._container.add_stream("libx264", rate=rate)
        self._stream.height, self._stream.width = image_hw
        self._stream.pix_fmt = "yuv420p"  # the only one that all players show
        self._stream.options = {"crf": _X264_QUALITY}

    def write(self, picture_HW3: UINT8) -> None:
        frame = self._frame_of(np.ascontiguousarray(picture_HW3), format="bgr24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        try:
            self._container.mux(self._stream.encode())
        finally:
            self._container.close()
