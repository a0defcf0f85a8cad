"""Image files: read, and found to be missing or cut short before a run depends on them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def read_image(path: Path, image_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The picture as (H, W, 3) RGB, turned as its EXIF orientation says.

    Raises ValueError naming the file where it is missing, cut short (OpenCV alone would return
    such a JPEG half grey, without an error), not an image, or not of the size `image_hw`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    if problem := _cut_short(data):
        raise ValueError(f"{path}: {problem}")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"{path}: not an image that can be decoded")
    if image_hw is not None and image.shape[:2] != tuple(image_hw):
        found = f"{image.shape[1]} x {image.shape[0]}"
        said = f"{image_hw[1]} x {image_hw[0]}"
        raise ValueError(f"{path}: is {found} pixels, but the annotation file says {said}")
    return np.asarray(image, np.uint8)


def bad_images(paths: Mapping[int, Path]) -> dict[int, str]:
    """What is wrong with which file, by key: missing, empty, or cut short; nothing is decoded.

    Only the first and the last bytes are read, by several threads because a disk or a network
    file system makes one wait.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        problems = pool.map(_problem, paths.values(), chunksize=256)
        return {key: problem for key, problem in zip(paths, problems, strict=True) if problem}


def _problem(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(len(PNG_START))
            file.seek(0, os.SEEK_END)
            file.seek(-min(len(PNG_END), file.tell()), os.SEEK_END)
            problem = _cut_short(head + file.read())
            if problem and head.startswith(JPEG_START):  # the end may only be padded
                file.seek(0)
                problem = _cut_short(file.read())
    except OSError as error:
        return f"{path}: {error.strerror}"
    return f"{path}: {problem}" if problem else None


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
