"""Find damage in JPEG files that decoders tolerate.

Names and rules are those of ITU-T T.81.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from vipnas.data.crops import jpeg

# Messages of libjpeg about damage to the picture. Its other messages are harmless.
_DAMAGE = re.compile(
    "[Pp]remature end|bad Huffman code|bad arithmetic code|instead of RST"
    "|Inconsistent progression sequence"
    "|(?P<extra>[0-9]+) extraneous bytes before marker 0x[0-9a-f]+"
)
# With the standard tables, this is 42 coefficients of -1 in a row, which no picture has.
_ZEROS = bytes(16)
_SEQUENTIAL, _PROGRESSIVE = {0xC0, 0xC1}, {0xC2}
# Symbols of progressive scans that end up to 2 ** 15 blocks at once.
_ENDS_OF_SEVERAL_BLOCKS = set(range(0x10, 0xF0, 0x10))
# Of one end of blocks; libjpeg has no more. All are 0 only in synthetic pictures.
_MAX_CORRECTION_BITS = 1000
_DC, _AC = 0x00, 0x10
_BLOCK_PX = 8
_MIN_SCAN_BYTES = 6  # one component, with its tables and coefficients


class _HuffmanTable(NamedTuple):
    """The code of all zeros: its length in bits, and its symbol, None in an empty table.

    `ends_several_blocks` and `has_duplicates` are facts about all symbols.
    """

    num_bits: int
    symbol: int | None
    ends_several_blocks: bool
    has_duplicates: bool


def damage(data: bytes, messages: str) -> str | None:
    """Describe the damage of a JPEG that could be decoded, or return None.

    Args:
        data: The whole file.
        messages: Output of libjpeg while decoding.
    """
    found = _DAMAGE.search(messages)
    start = jpeg.scan_start(data)
    if found and not (found["extra"] and _is_harmless(data, start, int(found["extra"]))):
        return found[0]
    may_be_zeroed = data.find(_ZEROS, start) >= 0
    frame_code, frame = 0, b""
    tables: dict[int, _HuffmanTable] = {}
    for code, first, last in jpeg.segments(data):
        content = data[first:last]
        if code in jpeg.FRAMES:
            frame_code, frame = code, content
            if _has_zeroed_end(frame[8::3]):
                return "colours with different quantisation tables"
        elif code == jpeg.QUANTISATION_TABLES and _has_zero_step(content):
            return "a quantisation step of 0"
        elif code == jpeg.HUFFMAN_TABLES:
            tables |= (new := _huffman_tables(content))
            if any(table.has_duplicates for table in new.values()):
                return "a symbol with two Huffman codes"
        elif code == jpeg.SCAN and _has_zeroed_end(content[2:-3:2]):
            return "colours with different Huffman tables"
        elif code == jpeg.SCAN and len(content) >= _MIN_SCAN_BYTES and may_be_zeroed:
            picture = data[last : jpeg.scan_end(data, last)].rstrip(b"\0")
            num_zeros = _num_impossible_zeros(frame_code, frame, content, tables)
            if num_zeros is not None and bytes(num_zeros) in picture:
                return "a run of zeros in its data"
    return None


def _has_zeroed_end(tables: bytes) -> bool:
    """Whether the last of three components has table 0, and the second another one.

    Encoders give both colours the same tables. Zeroed bytes at the end of a header do not.
    """
    return len(tables) == 3 and tables[2] == 0 < tables[1]


def _is_harmless(data: bytes, scan_start: int, num_extra: int) -> bool:
    """Whether extra bytes lie between segments of the header, or are padding before the end
    marker, which some encoders align."""
    if scan_start == len(data):  # the segments of the header do not follow each other
        return True
    end = data.find(jpeg.END, scan_start)
    return not data[max(end - num_extra, 0) : end].strip(b"\0\xff")


def _has_zero_step(content: bytes) -> bool:
    """Whether a quantisation table has a step of 0. Steps are at least 1 (B.2.4.1)."""
    while content:
        size = 2 if content[0] & 0xF0 else 1
        steps, content = content[1 : 1 + 64 * size], content[1 + 64 * size :]
        if 0 in steps and (size == 1 or (0, 0) in zip(steps[::2], steps[1::2], strict=False)):
            return True
    return False


@lru_cache(maxsize=64)  # most files have the tables of the standard
def _huffman_tables(content: bytes) -> dict[int, _HuffmanTable]:
    """Return tables by class (_DC or _AC) plus number."""
    tables = {}
    while len(content) > 17:
        counts, end = content[1:17], 17 + sum(content[1:17])
        symbols, all_different = content[17:end], set(content[17:end])
        tables[content[0]] = _HuffmanTable(
            num_bits=next((bits for bits, count in enumerate(counts, 1) if count), 1),
            symbol=next(iter(symbols), None),
            ends_several_blocks=not _ENDS_OF_SEVERAL_BLOCKS.isdisjoint(all_different),
            has_duplicates=len(all_different) < len(symbols),
        )
        content = content[end:]
    return tables


def _num_impossible_zeros(
    frame_code: int, frame: bytes, scan: bytes, tables: dict[int, _HuffmanTable]
) -> int | None:
    """Return how many zero bytes in a row no picture has in the data of a scan; None if any number
    may be valid, as in flat regions.

    Decoders accept zeros, so that replaced bytes become picture content.

    Args:
        frame_code: The code of the frame's marker.
        frame: Content of the frame's segment.
        scan: Content of the scan's segment.
        tables: Huffman tables by class and number.
    """
    is_progressive, is_refinement = frame_code in _PROGRESSIVE, scan[-1] & 0xF0 > 0
    if is_progressive and scan[-3] == 0:  # means of blocks; refinements have one bit for each
        return None if is_refinement else _num_zeros_in_a_row(frame, scan, tables)
    chosen = [tables.get(_AC | choice & 0x0F) for choice in scan[2:-3:2]]
    zeros_are_coefficients = any(table and table.symbol for table in chosen)
    if is_progressive:  # an encoder that can end several blocks at once would do so
        zeros_are_coefficients |= any(table and table.ends_several_blocks for table in chosen)
    if not zeros_are_coefficients or frame_code not in _SEQUENTIAL | _PROGRESSIVE:
        return None
    return len(_ZEROS) + (_MAX_CORRECTION_BITS // 8 if is_refinement else 0)


def _num_zeros_in_a_row(frame: bytes, scan: bytes, tables: dict[int, _HuffmanTable]) -> int | None:
    """Return the number of zero bytes with which the means of blocks fall in equal steps through
    more than a row of blocks; None if zeros mean equal blocks."""
    width = int.from_bytes(frame[3:5], "big")
    sampling = {frame[at]: divmod(frame[at + 1], 16) for at in range(6, len(frame) - 2, 3)}
    num_bits, falls = 0, False
    for component, choice in zip(scan[1:-3:2], scan[2:-3:2], strict=False):
        table = tables.get(_DC | choice >> 4)
        if table is None or table.symbol is None or component not in sampling:
            return None
        across, down = sampling[component]
        num_bits += across * down * (table.num_bits + table.symbol)
        falls = falls or table.symbol > 0
    most_across = max((across for across, _ in sampling.values()), default=1)
    num_units = -(-width // (_BLOCK_PX * most_across))
    return len(_ZEROS) + num_units * num_bits // 8 if falls else None
