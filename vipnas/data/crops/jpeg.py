"""Read the segments of JPEG files without decoding."""

from __future__ import annotations

import re
from collections.abc import Iterator

START, END = b"\xff\xd8", b"\xff\xd9"
EXIF_START = b"Exif\0\0"
HUFFMAN_TABLES, QUANTISATION_TABLES, SCAN = 0xC4, 0xDB, 0xDA
# Segments that start a frame and contain its size.
FRAMES = set(range(0xC0, 0xD0)) - {HUFFMAN_TABLES, 0xC8, 0xCC}
_MARKER, _APP1, _END = 0xFF, 0xE1, 0xD9
# In the data of a scan, 0xFF is followed by 0 or by the number of a restart.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def size_and_exif(data: bytes) -> tuple[tuple[int, int], bytes] | None:
    """Return height and width as stored, and the EXIF block, empty without one.

    Return None if `data`, the first bytes of a file, end before the size.
    """
    exif = b""
    for code, first, last in segments(data):
        if code == _APP1 and data.startswith(EXIF_START, first):
            exif = exif or data[first:last]
        elif code in FRAMES and first + 5 <= len(data):
            height, width = (
                int.from_bytes(data[at : at + 2], "big") for at in (first + 1, first + 3)
            )
            return (height, width), exif
    return None


def is_truncated(data: bytes) -> bool:
    """Whether a JPEG lacks its end marker. `data` are all of its bytes, or its first and last."""
    # Phones append a video or padding. The end marker cannot occur in the data of a scan.
    return not data.endswith(END) and END not in data[scan_start(data) :]


def scan_start(data: bytes) -> int:
    """Return the start of the first scan. The thumbnail before it has its own end marker."""
    ends = (end for code, _, end in segments(data) if code == SCAN)
    return next(ends, len(data))


def scan_end(data: bytes, start: int) -> int:
    """Return the position of the marker that follows the data of a scan."""
    marker = _NEXT_MARKER.search(data, start)
    return marker.start() if marker else len(data)


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker codes, with start and end of their contents, up to the end marker.

    The data of a scan follow the contents of its segment.
    """
    position = len(START)
    while position + 4 <= len(data) and data[position] == _MARKER:
        code = data[position + 1]
        if code == _END:
            return
        if code == _MARKER:  # fill bytes may precede any marker
            position += 1
            continue
        end = position + 2 + max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
        yield code, position + 4, end
        position = scan_end(data, end) if code == SCAN else end
