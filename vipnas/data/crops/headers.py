"""Read sizes and EXIF orientations of image files without decoding.

Pillow is seven times slower, which matters for large data sets. It is used for rare cases only.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, NamedTuple

from PIL import Image
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import (
    EXTRASAMPLES,
    IMAGELENGTH,
    IMAGEWIDTH,
    ImageFileDirectory_v2,
    TiffImageFile,
)

from vipnas.data.crops import jpeg

PNG_START = b"\x89PNG\r\n\x1a\n"
_SILENCING = Lock()  # all threads share the filters of warnings
_BROKEN = (
    *(OSError, SyntaxError, ValueError, KeyError, TypeError),
    *(struct.error, Image.DecompressionBombError),
)


class Header(NamedTuple):
    """Height and width as stored, and EXIF orientation from 1 (upright) to 8."""

    stored_hw: tuple[int, int]
    orientation: int = 1

    @property
    def turned_hw(self) -> tuple[int, int]:
        """Height and width after the orientation is applied."""
        height, width = self.stored_hw
        return (width, height) if self.orientation >= 5 else (height, width)


def read_header(data: bytes) -> Header | None:
    """Return the header of a JPEG or PNG from its first bytes, or None if they are too few."""
    if data.startswith(jpeg.START) and (found := jpeg.size_and_exif(data)):
        stored_hw, exif = found
        return Header(stored_hw, orientation_in(exif))
    if data.startswith(PNG_START):
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        return Header((height, width), _png_orientation(data))
    return None


def read_other_header(file: Path | IO[bytes]) -> Header | None:
    """Return the header of an image that is neither a JPEG nor a PNG, or None if it is unknown.

    The orientation is that which OpenCV applies.
    """
    try:
        with pillow_silenced(), Image.open(file) as image:
            if isinstance(image, TiffImageFile):  # its size may be that of the turned image
                tags = image.tag_v2
                stored_hw = tags[IMAGELENGTH], tags[IMAGEWIDTH]
                return Header(stored_hw, _valid(tags.get(Base.Orientation)))
            width, height = image.size
            exif = image.info.get("exif", b"") if image.format == "WEBP" else b""
    except _BROKEN:
        return None
    return Header((height, width), orientation_in(exif))


def _png_orientation(data: bytes) -> int:
    if b"eXIf" not in data:
        return 1
    try:
        with pillow_silenced():
            image = PngImageFile(io.BytesIO(data))
            if "exif" not in image.info:
                image.load()  # the block may follow the picture
            exif_block = image.info.get("exif", b"")
    except _BROKEN:
        return 1
    return orientation_in(exif_block)


def orientation_in(exif_block: bytes) -> int:
    """Return the orientation in an EXIF block, or 1 without a valid one."""
    if not exif_block:
        return 1
    exif = Image.Exif()
    try:
        with pillow_silenced():
            exif.load(exif_block)
            orientation = exif.get(Base.Orientation)
    except _BROKEN:
        return 1
    return _valid(orientation)


def has_extra_channels(data: bytes) -> bool:
    """Return whether a TIFF says that it has more channels than colours, such as alpha.

    It may be of a kind that Pillow does not open.
    """
    try:
        is_big = 43 in data[2:4]
        directory, file = ImageFileDirectory_v2(data[: 16 if is_big else 8]), io.BytesIO(data)
        file.seek(directory.next)
        with pillow_silenced():
            directory.load(file)
    except _BROKEN:
        return False
    return EXTRASAMPLES in directory


def _valid(orientation: object) -> int:
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


@contextmanager
def pillow_silenced() -> Iterator[None]:
    """Silence warnings of Pillow, which name no file. Other checks find broken files."""
    with _SILENCING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
