"""Decoding of image files to 8-bit RGB, with what the codecs print tied to the file."""

from __future__ import annotations

import io
import logging
import os
import re
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import EXTRASAMPLES

from vipnas.data import jpeg
from vipnas.data.headers import orientation_in, pillow_silenced

log = logging.getLogger(__name__)

UINT8 = NDArray[np.uint8]

# JPEGs can be decoded at a half or less of their size in a fraction of the time, as BGR only.
JPEG_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_OPENCV_PREFIX = re.compile(r"^\[ *[A-Z]+:[^]]*\] (global \S+ \w+ )?|^.*error: \([^)]*\) ")
_NUMBERS = re.compile("[0-9]+")
_NOT_FOR_PILLOW = (
    *(OSError, SyntaxError, ValueError),
    *(Image.DecompressionBombError, ImageCms.PyCMSError),
)
# Of 12 bits. Cameras and scanners store them in 16, in which they are nearly black.
_TWELVE_BITS = 4095


def decode_jpeg(path: Path, data: bytes, reduction: int, ignore_exif: bool) -> UINT8:
    """Decode a JPEG to RGB (H, W, 3), its sides divided by `reduction` (1, 2, 4 or 8).

    Raises ValueError for data that cannot be decoded, and for damage that libjpeg passes over. Its
    other complaints are logged once each.
    """
    flags = JPEG_FLAGS[reduction] | (cv2.IMREAD_IGNORE_ORIENTATION if ignore_exif else 0)
    image, messages = _imdecode(path, data, flags)
    if damage := jpeg.damage(data, messages):
        raise ValueError(f"{path}: a damaged JPEG: {damage}")
    if messages:
        _warn_once(path, _first_line(messages))
    if reduction > 1:
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return image.astype(np.uint8, copy=False)


def decode_other(path: Path, data: bytes, ignore_exif: bool) -> UINT8:
    """Decode an image that is not a JPEG to RGB (H, W, 3).

    16-bit images that use 8 or 12 bits only are scaled to their range. Transparent pixels become
    black, like everything outside of an image. Both are logged once.

    Raises ValueError for data that cannot be decoded, or not without errors.
    """
    ignore = cv2.IMREAD_IGNORE_ORIENTATION if ignore_exif else 0
    image, messages = _imdecode(path, data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | ignore)
    if "[ERROR" in messages:
        raise ValueError(f"{path}: a damaged image: {_first_line(messages)}")
    if messages:
        _warn_once(path, _first_line(messages))
    if image.dtype == np.uint16 and 0 < image.max() <= _TWELVE_BITS:
        image = _scaled_to_eight_bits(path, image)
    elif image.dtype != np.uint8:
        image, _ = _imdecode(path, data, cv2.IMREAD_COLOR | ignore)
    rgb_HW3 = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    try:
        with pillow_silenced(), Image.open(io.BytesIO(data)) as header:
            exif_block = header.info.get("exif", b"")
            if header.mode == "LAB":  # OpenCV mistakes its white
                return np.asarray(_lab_to_rgb(header))
            alpha_HW = _alpha(header)
    except _NOT_FOR_PILLOW:
        return rgb_HW3
    if alpha_HW is None:
        return rgb_HW3
    orientation = 1 if ignore_exif else orientation_in(exif_block)
    return _over_black(path, rgb_HW3, _turned(alpha_HW, orientation))


def _alpha(image: Image.Image) -> UINT8 | None:
    """The alpha channel (H, W) that OpenCV drops, or None."""
    # libtiff applies what a TIFF declares to be alpha.
    if not image.has_transparency_data or EXTRASAMPLES in getattr(image, "tag_v2", ()):
        return None
    return np.asarray(image.convert("RGBA").getchannel("A"))


def _over_black(path: Path, rgb_HW3: UINT8, alpha_HW: UINT8) -> UINT8:
    if alpha_HW.shape != rgb_HW3.shape[:2] or alpha_HW.min() == 255:
        return rgb_HW3
    _warn_once(path, "transparent pixels are shown black")
    alpha_HW3 = np.dstack([alpha_HW] * 3)
    return np.asarray(cv2.multiply(rgb_HW3, alpha_HW3, scale=1 / 255), np.uint8)


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    rgb = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    assert rgb is not None  # it is not made in place
    return rgb


def _turned(stored_HW: UINT8, orientation: int) -> UINT8:
    """Apply an EXIF orientation."""
    turned_HW = stored_HW.T if orientation >= 5 else stored_HW
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else None)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else None)
    return turned_HW[rows, columns]


def _scaled_to_eight_bits(path: Path, image: NDArray[Any]) -> UINT8:
    used = 255 if int(image.max()) <= 255 else _TWELVE_BITS
    _warn_once(path, f"16-bit numbers of which none is above {used}: scaled to the full range")
    return np.asarray(cv2.convertScaleAbs(image, alpha=255 / used), np.uint8)


def silent_codecs() -> AbstractContextManager[None]:
    """Drop what OpenCV's codecs print meanwhile, in all threads."""
    return _codecs(os.getpid()).silenced()


def _imdecode(path: Path, data: bytes, flags: int) -> tuple[NDArray[Any], str]:
    """OpenCV's image, and what its codecs printed. Raises ValueError where there is no image."""
    image, messages = _codecs(os.getpid()).imdecode(data, flags)
    if image is None:
        reason = f" ({_first_line(messages)})" if messages else ""
        raise ValueError(f"{path}: not an image that can be decoded{reason}")
    return image, messages


class _Codecs:
    """OpenCV's codecs, with what they print to file descriptor 2.

    libjpeg has no other way to tell of damage, and its messages do not name the file.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._warned: set[str] = set()
        with TemporaryFile(buffering=0) as file:
            self._output = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._output)

    def imdecode(self, data: bytes, flags: int) -> tuple[NDArray[Any] | None, str]:
        """The image, or None, and the messages."""
        image, error = None, ""
        with self._lock:
            try:
                with self._redirected():
                    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            except cv2.error as refused:  # such as a size beyond OpenCV's limit
                error = str(refused)
            return image, self._printed() or error

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Drop what is printed meanwhile."""
        with self._lock:
            try:
                with self._redirected():
                    yield
            finally:
                self._printed()

    @contextmanager
    def _redirected(self) -> Iterator[None]:
        stderr = os.dup(2)
        os.dup2(self._output, 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)

    def _printed(self) -> str:
        length = os.lseek(self._output, 0, os.SEEK_CUR)
        if length == 0:
            return ""
        os.lseek(self._output, 0, os.SEEK_SET)
        messages = os.read(self._output, length).decode(errors="replace").strip()
        os.lseek(self._output, 0, os.SEEK_SET)
        os.ftruncate(self._output, 0)
        return messages

    def warn_once(self, path: Path, message: str) -> None:
        """Log a message of a kind for the first file only."""
        kind = _NUMBERS.sub("", message)
        if kind not in self._warned:
            self._warned.add(kind)
            log.warning("%s: %s (said once, of the first such file)", path, message)


@lru_cache(maxsize=1)
def _codecs(process_id: int) -> _Codecs:
    """Those of this process: after a fork, both would write to the same file."""
    return _Codecs()


def _warn_once(path: Path, message: str) -> None:
    _codecs(os.getpid()).warn_once(path, message)


def _first_line(messages: str) -> str:
    """Without what OpenCV's log puts before the reason."""
    return _OPENCV_PREFIX.sub("", messages.splitlines()[0]).strip()
