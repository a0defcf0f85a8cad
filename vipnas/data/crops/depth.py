"""Convert pixels of other depths than 8 bits: 10 to 16 bits, few grey levels, floating point."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# What cameras and scanners store in 16 bits, which is then too dark.
_BITS_IN_SIXTEEN = (8, 10, 12, 14)
# Width, height and highest value of a binary PGM or PPM file, with comments between them. OpenCV
# applies that of plain text.
_SPACE = rb"(?:\s+|#[^\n]*\n)+"
_PNM = re.compile(rb"P[56]" + _SPACE + rb"\d+" + _SPACE + rb"\d+" + _SPACE + rb"(\d{1,5})\s")


class EightBits(NamedTuple):
    """The pixels, and what was guessed about their range, if anything."""

    pixels: NDArray[np.uint8]
    guess: str | None = None


def to_eight_bits(pixels: NDArray[Any], data: bytes) -> EightBits | None:
    """Scale pixels to 8 bits by the range of their values.

    Args:
        pixels: As OpenCV decoded them, of any type.
        data: Content of the file. PGM and PPM files say their highest value.

    Returns:
        None for 16-bit pixels that use their full range.

    Raises:
        ValueError: The range of such values is unknown. The message names no file.
    """
    if stated := _PNM.match(data):
        return EightBits(_scaled(pixels, max(int(stated[1]), 1)))
    if pixels.dtype == np.uint8:
        return EightBits(pixels)
    if pixels.dtype == np.uint16:
        highest = int(pixels.max())
        bits = next((bits for bits in _BITS_IN_SIXTEEN if 0 < highest < 1 << bits), None)
        if bits is None:
            return None
        used = (1 << bits) - 1
        guess = f"16-bit values of at most {used} are scaled to the full range"
        return EightBits(_scaled(pixels, used), guess)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(f"expected 8 or 16 bits without sign, got {pixels.dtype}")
    low, high = float(pixels.min()), float(pixels.max())  # NaN where there is any
    if not 0 <= low <= high <= 1:
        found = f"{low:g} to {high:g}"
        raise ValueError(f"expected floating point values from 0 to 1, got {found}")
    return EightBits(_scaled(pixels, 1.0), "floating point values from 0 to 1 are scaled")


def _scaled(pixels: NDArray[Any], highest: float) -> NDArray[np.uint8]:
    if highest == 255 and pixels.dtype == np.uint8:
        return pixels
    return np.asarray(cv2.convertScaleAbs(pixels, alpha=255 / highest), np.uint8)
