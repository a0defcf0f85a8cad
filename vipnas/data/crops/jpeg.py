"""Find truncation and damage in JPEG files that decoders tolerate."""

from __future__ import annotations

import re
from collections.abc import Iterator

START, END = b"\xff\xd8", b"\xff\xd9"
EXIF_START = b"Exif\0\0"
_MARKER, _TABLES, _SCAN, _APP1 = 0xFF, 0xC4, 0xDA, 0xE1
_BASELINE = {0xC0, 0xC1}
# Segments that start a frame and contain its size.
_FRAMES = set(range(0xC0, 0xD0)) - {_TABLES, 0xC8, 0xCC}

# With the standard tables, this is 42 coefficients of -1 in a row, which no picture has.
_ZEROS = bytes(16)
# Messages of libjpeg about damage to the picture. Its other messages are harmless.
_DAMAGE = re.compile(
    "[Pp]remature end|bad Huffman code|bad arithmetic code|instead of RST"
    "|(?P<extra>[0-9]+) extraneous bytes before marker 0xd[0-9]"
)


def size_and_exif(data: bytes) -> tuple[tuple[int, int], bytes] | None:
    """Return height and width as stored, and the EXIF block, empty without one.

    Return None if `data`, the first bytes of a file, end before the size.
    """
    exif = b""
    for code, first, last in _segments(data):
        if code == _APP1 and data.startswith(EXIF_START, first):
            exif = exif or data[first:last]
        elif code in _FRAMES and first + 5 <= len(data):
            height, width = (
                int.from_bytes(data[at : at + 2], "big") for at in (first + 1, first + 3)
            )
            return (height, width), exif
    return None


def is_truncated(data: bytes) -> bool:
    """Whether a JPEG lacks its end marker. `data` are all of its bytes, or its first and last."""
    # Phones append a video or padding. The end marker cannot occur in the data of a scan.
    return not data.endswith(END) and END not in data[_scan_start(data) :]


def damage(data: bytes, messages: str) -> str | None:
    """Describe the damage of a JPEG that could be decoded, or return None.

    Args:
        data: The whole file.
        messages: Output of libjpeg while decoding.
    """
    found = _DAMAGE.search(messages)
    if found and not (found["extra"] and _is_padding(data, int(found["extra"]))):
        return found[0]
    return "a run of zeros in its data" if _is_zeroed(data) else None


def _is_padding(data: bytes, length: int) -> bool:
    """Whether the bytes before the end marker are padding: some encoders align the marker."""
    end = data.find(END, _scan_start(data))
    return not data[max(end - length, 0) : end].strip(b"\0\xff")


def _is_zeroed(data: bytes) -> bool:
    """Whether bytes were replaced by zeros, which decoders accept as picture content.

    Runs of zeros are valid if the code of all zeros ends a block, as in flat regions with optimised
    tables. For progressive scans, the decoder's messages must do.
    """
    start = _scan_start(data)
    place = data.find(_ZEROS, start)
    if place < 0:
        return False
    end = data.find(END, start)
    if place >= end or not data[place:end].strip(b"\0"):
        return False
    first_symbols: dict[int, int] = {}
    is_baseline = False
    for code, first, last in _segments(data):
        if code in _FRAMES:
            is_baseline = code in _BASELINE
        elif code == _TABLES:
            first_symbols |= _first_ac_symbols(data[first:last])
        elif code == _SCAN and is_baseline:
            tables = {choice & 0x0F for choice in data[first + 2 : last - 3 : 2]}
            return any(first_symbols.get(table) for table in tables)
    return False


def _first_ac_symbols(content: bytes) -> dict[int, int]:
    """Return the symbol whose code is all zeros, by table number. Symbol 0 ends a block."""
    symbols: dict[int, int] = {}
    while len(content) > 17:
        kind, number = divmod(content[0], 16)
        count = sum(content[1:17])
        if kind == 1:
            symbols[number] = content[17]
        content = content[17 + count :]
    return symbols


def _scan_start(data: bytes) -> int:
    """Return the start of the first scan. The thumbnail before it has its own end marker."""
    ends = (end for code, _, end in _segments(data) if code == _SCAN)
    return next(ends, len(data))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker codes, with start and end of their contents, up to the first scan's header."""
    position = len(START)
    while position + 4 <= len(data) and data[position] == _MARKER:
        code = data[position + 1]
        if code == _MARKER:  # fill bytes may precede any marker
            position += 1
            continue
        end = position + 2 + max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
        yield code, position + 4, end
        if code == _SCAN:
            return
        position = end
