"""Cache decoded pixels of persons in a memory-mapped file, for later epochs and runs.

The file stores, for each person, every pixel that a training crop may show, decoded but not
warped. A crop from the cache differs from one without by the rounding of the warp only: one grey
level in few pixels. It does not depend on earlier contents of the file. The name of the file is a
digest of annotations, boxes, image files, input size and augmentation.

Any number of processes may share a file. A slot is valid if its checksum is right, so that a
killed process does no harm; two processes write the same bytes to a slot. On a RAM disk (/dev/shm)
the cache is kept in memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Sequence
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.config.data import Augmentation, BoxFit
from vipnas.data.crops.augmentation import decode_reduction, possible_regions
from vipnas.data.crops.geometry import PUBLISHED_FIT
from vipnas.data.crops.images import JPEG_START
from vipnas.data.crops.pictures import Picture, with_fourth_channel
from vipnas.data.formats.coco import Person
from vipnas.data.formats.skeletons import Skeleton
from vipnas.files import to_plain

log = logging.getLogger(__name__)

FORMAT = 1  # part of the name of the file
_ALIGNMENT = 4096
_MARGIN_PX = 4  # more than the interpolation of the warp needs


class CropCache:
    """A file with one slot per person. `get` reads a slot, `keep` writes it."""

    def __init__(self, path: Path, rects_N4: NDArray[np.int64], reductions_N: NDArray[np.int64]):
        """Open a file that exists with its full size.

        Args:
            path: The file.
            rects_N4: Left, top, right and bottom of each person's part, in reduced pixels.
            reductions_N: Factor that decoding reduces each person's image by.
        """
        self.path = path
        self._rects = rects_N4
        self._reductions = reductions_N
        areas = (rects_N4[:, 2] - rects_N4[:, 0]) * (rects_N4[:, 3] - rects_N4[:, 1])
        first = -(-4 * len(rects_N4) // _ALIGNMENT) * _ALIGNMENT
        self._offsets = first + np.concatenate(([0], np.cumsum(4 * areas)))
        self._is_full = False
        self._forget()

    def __len__(self) -> int:
        return len(self._rects)

    @property
    def num_bytes(self) -> int:
        """Size of the file, which has room for all persons."""
        return int(self._offsets[-1])

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments with which another process opens the file."""
        return {"path": self.path, "rects_N4": self._rects, "reductions_N": self._reductions}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _forget(self) -> None:
        self._map: NDArray[np.uint8] | None = None
        self._verified = bytearray(len(self._rects))

    def get(self, index: int) -> Picture | None:
        """Return the person's pixels (four channels), or None if the slot is empty or invalid."""
        content = self._content()
        start, end = int(self._offsets[index]), int(self._offsets[index + 1])
        pixels = content[start:end]
        if not self._verified[index]:
            checksum = int(content[4 * index : 4 * index + 4].view("<u4")[0])
            if checksum == 0 or checksum != _checksum(pixels):
                return None
            self._verified[index] = 1
        left, top, right, bottom = self._rects[index].tolist()
        return Picture(
            pixels.reshape(bottom - top, right - left, 4),
            int(self._reductions[index]),
            (left, top),
        )

    def keep(self, index: int, picture: Picture) -> Picture:
        """Write the person's part of a decoded image, and return it."""
        left, top, right, bottom = self._rects[index].tolist()
        height, width = picture.pixels.shape[:2]
        if picture.reduction != self._reductions[index] or right > width or bottom > height:
            return picture  # the image file has changed since the cache was opened
        part = with_fourth_channel(picture.part(left, top, right, bottom))
        if not self._is_full:
            try:
                self._write(index, np.ascontiguousarray(part.pixels).reshape(-1))
            except OSError as error:
                self._is_full = True
                log.warning("%s: no more pixels are cached: %s", self.path, error.strerror)
        return part

    def _write(self, index: int, pixels: NDArray[np.uint8]) -> None:
        # Not through the memory map: on a full disk that would kill the process.
        with self.path.open("r+b") as file:
            file.seek(int(self._offsets[index]))
            file.write(pixels.data)
            file.seek(4 * index)
            file.write(_checksum(pixels).to_bytes(4, "little"))

    def _content(self) -> NDArray[np.uint8]:
        if self._map is None:
            self._map = np.asarray(np.memmap(self.path, np.uint8, "r", shape=(self.num_bytes,)))
        return self._map


def _checksum(pixels: NDArray[np.uint8]) -> int:
    """Return a checksum that is not 0, the mark of an empty slot."""
    return zlib.crc32(pixels.data) or 1


def open_crop_cache(
    directory: Path,
    persons: Sequence[Person],
    skeleton: Skeleton,
    span_hw: tuple[int, int],
    augmentation: Augmentation,
    fit: BoxFit = PUBLISHED_FIT,
) -> CropCache:
    """Open the cache of these training crops, from an earlier run or new.

    A new file uses disk space only as it fills.

    Args:
        directory: Folder of cache files.
        persons: The training persons.
        skeleton: Their joints.
        span_hw: That of the codec: the input size, except for `udp`.
        augmentation: How training crops vary.
        fit: How the region of a crop is made from the box.

    Raises:
        ValueError: The image size of a person is unknown.
    """
    rects, reductions, stamps = [], [], []
    files: dict[Path, tuple[int, int, bool]] = {}
    for person in persons:
        if person.image_path not in files:
            files[person.image_path] = _stamp(person.image_path)
        size, modified, is_jpeg = files[person.image_path]
        reduction = decode_reduction(person, skeleton, span_hw, augmentation, fit) if is_jpeg else 1
        rects.append(_visible(person, skeleton, span_hw, augmentation, fit, reduction))
        reductions.append(reduction)
        key = (person.annotation_id, person.box_xywh, str(person.image_path), size, modified)
        stamps.append((*key, rects[-1], reduction))
    facts: list[Any] = [FORMAT, span_hw, to_plain(augmentation), skeleton.name, stamps]
    if fit != PUBLISHED_FIT:
        facts.append(to_plain(fit))
    if any(person.ignore_exif for person in persons):
        facts.append("as stored")
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    cache = CropCache(directory / f"crops-{digest}.cache", np.array(rects), np.array(reductions))
    _create(cache.path, cache.num_bytes)
    return cache


def _stamp(path: Path) -> tuple[int, int, bool]:
    """Return size and time of a file, and whether it is a JPEG; zeros if it cannot be read."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            return status.st_size, status.st_mtime_ns, file.read(len(JPEG_START)) == JPEG_START
    except OSError:
        return 0, 0, False


def _create(path: Path, num_bytes: int) -> None:
    """Create a file of zeros with this size, unless it exists."""
    if path.is_file() and path.stat().st_size == num_bytes:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with aside.open("wb") as file:
        file.truncate(num_bytes)
    # If two processes create it at once, one of them fills a file that nobody else sees.
    aside.replace(path)


def _visible(
    person: Person,
    skeleton: Skeleton,
    span_hw: tuple[int, int],
    augmentation: Augmentation,
    fit: BoxFit,
    reduction: int,
) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of all that crops may show, in reduced pixels."""
    if person.image_hw is None:
        raise ValueError(
            f"annotation {person.annotation_id}: expected an image of known size, got none "
            "(read_coco and read_posetrack give it)"
        )
    furthest = 1 + augmentation.scale_factor
    lows, highs = [], []
    for (x, y), (width, height) in possible_regions(person, skeleton, span_hw, augmentation, fit):
        # Every rotation of a crop is inside its circumscribed circle.
        radius = hypot(width, height) / 2 * furthest
        lows.append((x - radius, y - radius))
        highs.append((x + radius, y + radius))
    low, high = np.min(lows, axis=0) / reduction, np.max(highs, axis=0) / reduction
    height, width = (-(-side // reduction) for side in person.image_hw)
    left, top = (
        min(max(int(value) - _MARGIN_PX, 0), last - 1)
        for value, last in zip(low, (width, height), strict=True)
    )
    right, bottom = (int(value) + _MARGIN_PX for value in high)
    return left, top, max(min(right, width), left + 1), max(min(bottom, height), top + 1)
