"""Read, write and check image files."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.data.crops import jpeg
from vipnas.data.crops.decoding import decode_jpeg, decode_other
from vipnas.data.crops.headers import PNG_START, Header, read_header, read_other_header
from vipnas.files import write_atomically

JPEG_START = jpeg.START
PNG_END = b"IEND\xaeB`\x82"
# Bytes that are read for the size; few files have longer headers.
HEAD_BYTES = 4096
# Factors by which training may reduce JPEGs in decoding.
REDUCTIONS = (2, 4)
# Fast enough to decode a whole data set only to check it.
_QUICK_REDUCTION = 8


def read_image(
    path: Path, image_hw: tuple[int, int] | None = None, ignore_exif: bool = False
) -> NDArray[np.uint8]:
    """Return the image as (H, W, 3) RGB, with its EXIF orientation applied.

    Args:
        path: JPEG, PNG, or any other format of OpenCV.
        image_hw: Height and width that the image must have.
        ignore_exif: Return the image as stored, without its EXIF orientation.

    Raises:
        ValueError: The file is missing, truncated, damaged, not an image, or of another size. The
            message names it.
    """
    image, _ = read_reduced(path, 1, image_hw, ignore_exif)
    return image


def write_png(path: Path, picture_HW3: NDArray[np.uint8], bgr: bool = False) -> None:
    """Write an image atomically, RGB unless `bgr`."""
    ordered_HW3 = picture_HW3 if bgr else cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2BGR)
    done, png = cv2.imencode(".png", ordered_HW3)
    assert done
    write_atomically(path, png.tobytes())


def read_reduced(
    path: Path,
    reduction: int,
    image_hw: tuple[int, int] | None = None,
    ignore_exif: bool = False,
) -> tuple[NDArray[np.uint8], int]:
    """Return the image, reduced in decoding if it is a JPEG.

    Pixel (x, y) is the mean of r x r pixels of the whole image, from (r x, r y) on.

    Args:
        path: As in `read_image`.
        reduction: Wanted factor r: 1, 2, 4 or 8.
        image_hw: Height and width that the whole image must have.
        ignore_exif: As in `read_image`.

    Returns:
        The image (H, W, 3), and the factor: `reduction` for a JPEG, else 1.

    Raises:
        ValueError: As in `read_image`.
    """
    data = _read(path)
    if problem := _cut_short(data):
        raise ValueError(f"{path}: expected a whole image, got {problem}")
    if data.startswith(JPEG_START):
        image = decode_jpeg(path, data, reduction, ignore_exif)
    else:
        image, reduction = decode_other(path, data, ignore_exif), 1
    if image_hw is not None and image.shape[:2] != tuple(-(-n // reduction) for n in image_hw):
        height, width = (n * reduction for n in image.shape[:2])
        header = read_header(data) or read_other_header(io.BytesIO(data))
        problem = _other_size((height, width), image_hw, header, ignore_exif)
        raise ValueError(f"{path}: {problem}")
    return image, reduction


def image_size(path: Path, ignore_exif: bool = False) -> tuple[int, int]:
    """Return height and width of the image that `read_image` returns.

    Images are decoded only if the header does not tell the size.

    Raises:
        ValueError: As in `read_image`.
    """
    data = _read(path)
    if header := read_header(data) or read_other_header(io.BytesIO(data)):
        return header.stored_hw if ignore_exif else header.turned_hw
    height, width = read_image(path, ignore_exif=ignore_exif).shape[:2]
    return height, width


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: expected an image file, got none ({error.strerror})") from error
    except ValueError as error:  # of a null character in the name
        raise ValueError(f"{path}: expected an image file, got none ({error})") from error


def _other_size(
    found_hw: tuple[int, int],
    said_hw: Sequence[int],
    header: Header | None,
    ignore_exif: bool,
) -> str:
    problem = (
        f"expected {said_hw[1]} x {said_hw[0]} pixels as in the annotation file, got "
        f"{found_hw[1]} x {found_hw[0]}"
    )
    if header is None or header.orientation == 1:
        return problem
    if ignore_exif and tuple(said_hw) == header.turned_hw:
        return (
            f"{problem} (with EXIF orientation {header.orientation} applied it is as expected: "
            "remove `exif: ignore` from the experiment's data section)"
        )
    if not ignore_exif and tuple(said_hw) == header.stored_hw:
        return (
            f"{problem} (without EXIF orientation {header.orientation} it is as expected: set "
            "`exif: ignore` in the experiment's data section to read images as stored)"
        )
    return problem


class Checks(NamedTuple):
    """Results of checking image files.

    Attributes:
        problems: The error of each bad file, by key.
        turned: The header of each good file with an EXIF orientation, by key.
    """

    problems: dict[int, str]
    turned: dict[int, Header]


def check_images(
    paths: Mapping[int, Path],
    sizes_hw: Mapping[int, tuple[int, int]] | None = None,
    ignore_exif: bool = False,
    decode: bool = False,
) -> Checks:
    """Find files that are missing, empty, truncated, no images, or of another size than expected.

    Only the first and the last bytes are read, by several threads, because file systems have
    latency. If the header does not tell the size, `read_image` checks it later.

    Args:
        paths: Files by key.
        sizes_hw: Expected height and width by key.
        ignore_exif: Compare sizes as stored, without EXIF orientation.
        decode: Decode every file, which finds every error that `read_image` raises.
    """
    files = [
        _File(key, path, sizes_hw[key] if sizes_hw else None, ignore_exif)
        for key, path in paths.items()
    ]
    parts = [files[first : first + 256] for first in range(0, len(files), 256)]
    checks = Checks({}, {})
    with ThreadPoolExecutor(max_workers=8) as pool:
        for found in pool.map(_check, parts):
            checks.problems.update(found.problems)
            checks.turned.update(found.turned)
    for file in files if decode else ():
        if file.key not in checks.problems and (problem := file.decoding_problem()):
            checks.problems[file.key] = problem
            checks.turned.pop(file.key, None)
    return checks


class _File(NamedTuple):
    """One file to check."""

    key: int
    path: Path
    image_hw: tuple[int, int] | None
    ignore_exif: bool

    def check(self) -> tuple[str | None, Header | None]:
        """Return the problem in the first and last bytes, if any, and the header if it was read."""
        try:
            with self.path.open("rb") as file:
                head = file.read(HEAD_BYTES)
                file.seek(0, os.SEEK_END)
                file.seek(-min(len(PNG_END), file.tell()), os.SEEK_END)
                cut = _cut_short(head[: len(PNG_START)] + file.read())
                header = None if cut else read_header(head)
                if head.startswith((JPEG_START, PNG_START)) and header is None:
                    # Padding may follow the end, or the header is longer.
                    file.seek(0)
                    data = file.read()
                    cut, header = _cut_short(data), read_header(data)
        except OSError as error:
            return f"{self.path}: expected an image file, got none ({error.strerror})", None
        if cut:
            return f"{self.path}: expected a whole image, got {cut}", header
        if header is None:
            header, is_image = self._other_header(head)
            if not is_image:
                return f"{self.path}: expected an image, got a file that cannot be decoded", None
        problem = self._size_problem(header)
        # The orientation of a PNG may follow the picture.
        if problem and head.startswith(PNG_START):
            header = read_header(self.path.read_bytes())
            problem = self._size_problem(header)
        return f"{self.path}: {problem}" if problem else None, header

    def _other_header(self, head: bytes) -> tuple[Header | None, bool]:
        """Return the header of another file than a whole JPEG or a PNG, if it can be read, and
        whether OpenCV knows its format."""
        if head.startswith(JPEG_START) or not cv2.haveImageReader(str(self.path)):
            return None, False
        return read_other_header(self.path), True

    def _size_problem(self, header: Header | None) -> str | None:
        if header is None:
            return None
        found_hw = header.stored_hw if self.ignore_exif else header.turned_hw
        if self.image_hw is None or found_hw == self.image_hw:
            return None
        return _other_size(found_hw, self.image_hw, header, self.ignore_exif)

    def decoding_problem(self) -> str | None:
        try:
            read_reduced(self.path, _QUICK_REDUCTION, self.image_hw, self.ignore_exif)
        except ValueError as error:
            return str(error)
        return None


def _check(files: Sequence[_File]) -> Checks:
    checks = Checks({}, {})
    for file in files:
        problem, header = file.check()
        if problem:
            checks.problems[file.key] = problem
        elif header and header.orientation != 1:
            checks.turned[file.key] = header
    return checks


def _cut_short(data: bytes) -> str | None:
    """Return what is wrong with a file that is not whole, from all or its first and last bytes."""
    if not data:
        return "an empty file"
    if data.startswith(JPEG_START) and jpeg.is_truncated(data):
        return "a truncated JPEG"
    if data.startswith(PNG_START) and not data.endswith(PNG_END):
        return "a truncated PNG"
    return None
