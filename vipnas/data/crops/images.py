"""Image files: read, written, and found to be missing or cut short before a run depends on them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.files import write_atomically

# JPEGs can be decoded at a half or a quarter of their size in a fraction of the time.
REDUCTIONS = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
# Segments that begin a frame and hold its size: all from C0 to CF but tables (C4, C8, CC).
JPEG_FRAMES = {bytes((0xFF, code)) for code in range(0xC0, 0xD0)} - {
    *(b"\xff\xc4", b"\xff\xc8", b"\xff\xcc")
}
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
# So much of a file is looked at for its size; few have more before the picture.
HEAD_BYTES = 4096


def read_image(path: Path, image_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The picture as (H, W, 3) RGB, turned as its EXIF orientation says.

    Raises ValueError naming the file where it is missing, cut short (OpenCV alone would return
    such a JPEG half grey, without an error), not an image, or not of the size `image_hw`.
    """
    image, _ = read_reduced(path, 1, image_hw)
    return image


def write_png(path: Path, picture_HW3: NDArray[np.uint8]) -> None:
    """An RGB picture, whole or not at all."""
    done, png = cv2.imencode(".png", cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2BGR))
    assert done
    write_atomically(path, png.tobytes())


def read_reduced(
    path: Path, reduction: int, image_hw: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8], int]:
    """The picture made smaller by `reduction` (1, 2 or 4) while it is decoded, if it is a JPEG, and
    the factor by which it was. Pixel (x, y) is the mean of the image's r x r pixels from (r x, r y)
    on. Errors are those of `read_image`; `image_hw` is the size of the whole picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if problem := _cut_short(data):
        raise ValueError(f"{path}: {problem}")
    reduction = reduction if data.startswith(JPEG_START) else 1
    flags = REDUCTIONS.get(reduction, cv2.IMREAD_COLOR_RGB)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError(f"{path}: not an image that can be decoded")
    if image_hw is not None and image.shape[:2] != tuple(-(-n // reduction) for n in image_hw):
        found_hw = [n * reduction for n in image.shape[:2]]
        raise ValueError(f"{path}: {_other_size(found_hw, image_hw)}")
    if reduction > 1:  # OpenCV gives these as BGR only
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return np.asarray(image, np.uint8), reduction


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of the picture as `read_image` gives it, from its first bytes if they say.

    Raises ValueError naming the file.
    """
    try:
        with path.open("rb") as file:
            size_hw = _size_in_head(file.read(HEAD_BYTES))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if size_hw is None:
        height, width = read_image(path).shape[:2]
        return height, width
    return size_hw


def _other_size(found_hw: Sequence[int], said_hw: Sequence[int]) -> str:
    return (
        f"is {found_hw[1]} x {found_hw[0]} pixels, but the annotation file says "
        f"{said_hw[1]} x {said_hw[0]}"
    )


def bad_images(
    paths: Mapping[int, Path], sizes_hw: Mapping[int, tuple[int, int]] | None = None
) -> dict[int, str]:
    """What is wrong with which file, by key: missing, empty, cut short, or not of the size that
    `sizes_hw` says; nothing is decoded.

    Only the first and the last bytes are read, by several threads because a disk or a network
    file system makes one wait. A size that the first bytes do not tell is left to `read_image`.
    """
    names = [(key, path, (sizes_hw or {}).get(key)) for key, path in paths.items()]
    parts = [names[first : first + 256] for first in range(0, len(names), 256)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        return {key: problem for found in pool.map(_problems, parts) for key, problem in found}


def _problems(
    names: Sequence[tuple[int, Path, tuple[int, int] | None]],
) -> list[tuple[int, str]]:
    found = [(key, _problem(path, size_hw)) for key, path, size_hw in names]
    return [(key, problem) for key, problem in found if problem]


def _problem(path: Path, size_hw: tuple[int, int] | None) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(0, os.SEEK_END)
            file.seek(-min(len(PNG_END), file.tell()), os.SEEK_END)
            problem = _cut_short(head[: len(PNG_START)] + file.read())
            if problem and head.startswith(JPEG_START):  # the end may only be padded
                file.seek(0)
                problem = _cut_short(file.read())
    except OSError as error:
        return f"{path}: {error.strerror}"
    if not problem and size_hw:
        found_hw = _size_in_head(head)
        problem = _other_size(found_hw, size_hw) if found_hw and found_hw != size_hw else None
    return f"{path}: {problem}" if problem else None


def _size_in_head(head: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG or PNG, or None where the first bytes do not settle it."""
    if head.startswith(PNG_START):
        width, height = (int.from_bytes(head[at : at + 4], "big") for at in (16, 20))
        return (height, width) if b"eXIf" not in head else None
    if not head.startswith(JPEG_START):
        return None
    position = len(JPEG_START)
    while head[position : position + 1] == b"\xff" and position + 10 <= len(head):
        if head[position + 4 : position + 8] == b"Exif":
            return None  # it may say that the picture is to be turned
        if head[position : position + 2] in JPEG_FRAMES:
            height, width = (
                int.from_bytes(head[at : at + 2], "big") for at in (position + 5, position + 7)
            )
            return height, width
        position += 2 + max(2, int.from_bytes(head[position + 2 : position + 4], "big"))
    return None


def _cut_short(data: bytes) -> str | None:
    """What a file, or its first and last bytes, lacks to be whole."""
    if not data:
        return "an empty file"
    if data.startswith(JPEG_START) and not data.endswith(JPEG_END):
        # Phones append a film or padding. Within the picture's data the end marker cannot occur.
        return None if JPEG_END in data[_jpeg_scan(data) :] else "a truncated JPEG"
    if data.startswith(PNG_START) and not data.endswith(PNG_END):
        return "a truncated PNG"
    return None


def _jpeg_scan(data: bytes) -> int:
    """Where the first scan begins: behind the thumbnail, which has an end marker of its own."""
    position = len(JPEG_START)
    while data[position : position + 1] == b"\xff" and position + 4 <= len(data):
        if data[position : position + 2] == JPEG_SCAN:
            return position
        position += 2 + max(2, int.from_bytes(data[position + 2 : position + 4], "big"))
    return len(data)
