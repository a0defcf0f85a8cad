"""Decode image files to 8-bit RGB, with messages of the codecs attributed to the file."""

from __future__ import annotations

import io
import logging
import os
import re
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import EXTRASAMPLES

from vipnas.data.crops import jpeg_damage
from vipnas.data.crops.depth import to_eight_bits
from vipnas.data.crops.headers import (
    PNG_START,
    has_extra_channels,
    orientation_in,
    pillow_silenced,
    read_header,
    read_other_header,
)

log = logging.getLogger(__name__)

UINT8 = NDArray[np.uint8]

# Reduced JPEGs decode in a fraction of the time, but to BGR only.
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
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# EXIF orientations that another one undoes; the others undo themselves.
_INVERSE = {6: 8, 8: 6}


def decode_jpeg(path: Path, data: bytes, reduction: int, ignore_exif: bool) -> UINT8:
    """Decode a JPEG to RGB (H, W, 3).

    Harmless warnings of libjpeg are logged once each.

    Args:
        path: The file, for messages.
        data: Its content.
        reduction: Divide the sides by this: 1, 2, 4 or 8.
        ignore_exif: Do not apply the EXIF orientation.

    Raises:
        ValueError: The data cannot be decoded, or are damaged.
    """
    flags = JPEG_FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    image, messages = _imdecode(path, data, flags)
    if damage := jpeg_damage.damage(data, messages):
        raise ValueError(f"{path}: expected a whole image, got a damaged JPEG ({damage})")
    if messages:
        _warn_once(path, _first_line(messages))
    if reduction > 1:
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return _upright(image.astype(np.uint8, copy=False), data, ignore_exif)


def decode_other(path: Path, data: bytes, ignore_exif: bool) -> UINT8:
    """Decode an image that is not a JPEG to RGB (H, W, 3).

    Values of other depths are scaled to the full range, see `to_eight_bits`. Transparent pixels
    become black, like pixels outside of an image. Both are logged once.

    Args:
        path: The file, for messages.
        data: Its content.
        ignore_exif: Do not apply the EXIF orientation.

    Raises:
        ValueError: The data cannot be decoded without errors, or not to 8 bits.
    """
    as_stored = ignore_exif or data.startswith(PNG_START)
    ignore = cv2.IMREAD_IGNORE_ORIENTATION if as_stored else 0
    image, messages = _in_colour(path, data, ignore)
    if "[ERROR" in messages:
        raise ValueError(
            f"{path}: expected a whole image, got a damaged one ({_first_line(messages)})"
        )
    if messages:
        _warn_once(path, _first_line(messages))
    try:
        scaled = to_eight_bits(image, data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if scaled is None:
        image, _ = _imdecode(path, data, cv2.IMREAD_COLOR | ignore)
    else:
        image = scaled.pixels
        if scaled.guess:
            _warn_once(path, scaled.guess, scaled.guess)
    rgb_HW3 = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    corrected_HW3 = _corrected(path, data, rgb_HW3, as_stored)
    if ignore_exif and data.startswith(TIFF_STARTS):  # OpenCV always applies it
        header = read_other_header(io.BytesIO(data))
        orientation = 1 if header is None else header.orientation
        return _turned(corrected_HW3, _INVERSE.get(orientation, orientation))
    return _upright(corrected_HW3, data, ignore_exif)


def _in_colour(path: Path, data: bytes, ignore: int) -> tuple[NDArray[Any], str]:
    """Return BGR pixels (H, W, 3) of the depth of the file, and messages of OpenCV's codecs."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | ignore
    try:
        return _imdecode(path, data, flags)
    except ValueError:
        if not data.startswith(TIFF_STARTS):
            raise
    # Of one channel, OpenCV converts only whole numbers without sign.
    image, messages = _imdecode(path, data, cv2.IMREAD_UNCHANGED)
    return (np.dstack([image] * 3) if image.ndim == 2 else image), messages


def _upright(stored: UINT8, data: bytes, ignore_exif: bool) -> UINT8:
    """Apply the orientation of a JPEG or PNG as its header is read: OpenCV reads it otherwise where
    the EXIF block is malformed. That of other formats is left to OpenCV."""
    header = None if ignore_exif else read_header(data)
    return stored if header is None else _turned(stored, header.orientation)


def _corrected(path: Path, data: bytes, rgb_HW3: UINT8, as_stored: bool) -> UINT8:
    """What OpenCV decoded, with the alpha that it drops and the white of L*a*b* set right."""
    try:
        with pillow_silenced(), Image.open(io.BytesIO(data)) as header:
            exif_block = header.info.get("exif", b"")
            if header.mode == "LAB":  # OpenCV has another white point
                return np.asarray(_lab_to_rgb(header))
            alpha_HW = _alpha(header)
    except _NOT_FOR_PILLOW:
        if has_extra_channels(data):
            _warn_once(path, "its alpha channel is ignored")
        return rgb_HW3
    if alpha_HW is None:
        return rgb_HW3
    if not as_stored:
        alpha_HW = _turned(alpha_HW, orientation_in(exif_block))
    return _over_black(path, rgb_HW3, alpha_HW)


def _alpha(image: Image.Image) -> UINT8 | None:
    """Return the alpha channel (H, W), which OpenCV drops, or None."""
    # libtiff applies the alpha channel that a TIFF declares, of colours.
    is_applied = image.mode != "LA" and EXTRASAMPLES in getattr(image, "tag_v2", ())
    if is_applied or not image.has_transparency_data:
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
    assert rgb is not None  # None is for conversion in place
    return rgb


def _turned(stored: UINT8, orientation: int) -> UINT8:
    """Apply an EXIF orientation to a picture (H, W, ...)."""
    if orientation == 1:
        return stored
    turned = stored.swapaxes(0, 1) if orientation >= 5 else stored
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else None)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else None)
    return np.ascontiguousarray(turned[rows, columns])


def silent_codecs() -> AbstractContextManager[None]:
    """Drop what OpenCV's codecs print meanwhile, in all threads."""
    return _codecs(os.getpid()).silenced()


def _imdecode(path: Path, data: bytes, flags: int) -> tuple[NDArray[Any], str]:
    """Return the image and the messages of OpenCV's codecs. Raise ValueError without an image."""
    image, messages = _codecs(os.getpid()).imdecode(data, flags)
    if image is None:
        reason = f" ({_first_line(messages)})" if messages else ""
        raise ValueError(f"{path}: expected an image, got a file that cannot be decoded{reason}")
    return image, messages


class _Codecs:
    """OpenCV's codecs, with the messages that they print to file descriptor 2.

    libjpeg reports damage in no other way, and its messages do not name the file.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._warned: set[str] = set()
        with TemporaryFile(buffering=0) as file:
            self._output = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._output)

    def imdecode(self, data: bytes, flags: int) -> tuple[NDArray[Any] | None, str]:
        """Return the image, or None, and the messages."""
        with self._lock:
            image, error = None, ""
            try:
                with _stderr_in(self._output):
                    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            except cv2.error as refused:  # such as a size beyond OpenCV's limit
                error = str(refused)
            return image, self._printed() or error

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Drop what is printed meanwhile."""
        with self._lock:
            try:
                with _stderr_in(self._output):
                    yield
            finally:
                self._printed()

    def _printed(self) -> str:
        length = os.lseek(self._output, 0, os.SEEK_CUR)
        if length == 0:
            return ""
        os.lseek(self._output, 0, os.SEEK_SET)
        messages = os.read(self._output, length).decode(errors="replace").strip()
        os.lseek(self._output, 0, os.SEEK_SET)
        os.ftruncate(self._output, 0)
        return messages

    def warn_once(self, path: Path, message: str, kind: str | None = None) -> None:
        """Log a message for the first file only. Its kind is the message without its numbers."""
        kind = kind or _NUMBERS.sub("", message)
        if kind not in self._warned:
            self._warned.add(kind)
            log.warning("%s: %s (logged once, for the first such file)", path, message)


@contextmanager
def _stderr_in(output: int) -> Iterator[None]:
    """Point file descriptor 2 to another one meanwhile."""
    try:
        stderr = os.dup(2)
    except OSError:  # closed, as some services have it
        stderr = os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


# After a fork, both processes would share a file: each has its own.
_codecs_of_processes: dict[int, _Codecs] = {}


def _codecs(process_id: int) -> _Codecs:
    """Return the codecs of this process, to all threads the same: they share descriptor 2."""
    found = _codecs_of_processes.get(process_id)
    # `setdefault` is atomic. Of threads that are here at once, the first gives its own to all.
    return found or _codecs_of_processes.setdefault(process_id, _Codecs())


def _warn_once(path: Path, message: str, kind: str | None = None) -> None:
    _codecs(os.getpid()).warn_once(path, message, kind)


def _first_line(messages: str) -> str:
    """Return the first line without the prefix of OpenCV's log."""
    return _OPENCV_PREFIX.sub("", messages.splitlines()[0]).strip()
