"""Sizes of image files and their EXIF orientations, read without decoding.

Pillow reads whole headers in seven times the time, which a large data set would feel; it is asked
for what is rare.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple

from PIL import Image
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngImageFile

from vipnas.data.crops import jpeg

PNG_START = b"\x89PNG\r\n\x1a\n"
_SILENCING = Lock()  # the filters of warnings are those of all threads
_BROKEN = (OSError, SyntaxError, ValueError, KeyError, TypeError)


class Header(NamedTuple):
    """Height and width as stored; and the EXIF orientation, 1 (upright) to 8."""

    stored_hw: tuple[int, int]
    orientation: int = 1

    @property
    def turned_hw(self) -> tuple[int, int]:
        """Height and width after the orientation is applied."""
        height, width = self.stored_hw
        return (width, height) if self.orientation >= 5 else (height, width)


def read_header(data: bytes) -> Header | None:
    """The header of a JPEG or PNG from its first bytes, or None where they do not settle it."""
    if data.startswith(jpeg.START) and (found := jpeg.size_and_exif(data)):
        stored_hw, exif = found
        return Header(stored_hw, orientation_in(exif))
    if data.startswith(PNG_START):
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        return Header((height, width), _png_orientation(data))
    return None


def _png_orientation(data: bytes) -> int:
    if b"eXIf" not in data:
        return 1
    try:
        with pillow_silenced():
            exif_block = PngImageFile(io.BytesIO(data)).info.get("exif", b"")
    except _BROKEN:
        return 1
    return orientation_in(exif_block)


def orientation_in(exif_block: bytes) -> int:
    """The orientation, 1 where the block has none that is valid."""
    if not exif_block:
        return 1
    exif = Image.Exif()
    try:
        with pillow_silenced():
            exif.load(exif_block)
            orientation = exif.get(Base.Orientation)
    except _BROKEN:
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


@contextmanager
def pillow_silenced() -> Iterator[None]:
    """Drop Pillow's warnings, which name no file; what is broken is found otherwise."""
    with _SILENCING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
