"""Persons in an image as boxes, and detectors without a model.

N boxes, H W height and width.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco import PERSON_CATEGORY
from vipnas.data.formats.detections import read_boxes
from vipnas.deploy.candidates import Candidates, FloatArray, SizeHW
from vipnas.deploy.description import UINT8
from vipnas.errors import UserError

# In how many frames a detector must have found something that it can have found.
FIRST_FRAMES = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectedBoxes:
    """Persons in one image, the best first.

    Attributes:
        boxes_xyxy: (N, 4), left, top, right and bottom in pixels, within the image.
        scores: (N,), in 0..1.
    """

    boxes_xyxy: FloatArray
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes_xyxy)


class Detector(Protocol):
    """Find the persons in an image."""

    def __call__(self, image: UINT8, name: str = "", index: int = 0) -> DetectedBoxes:
        """Find the persons.

        Args:
            image: uint8 RGB (H, W, 3).
            name: The image's file name; empty for a frame of a video.
            index: The frame's number, from 0.
        """
        ...


def within(found: Candidates, image_hw: SizeHW) -> DetectedBoxes:
    """Return the parts of boxes within the image, but for those without area there."""
    limits = np.array(image_hw[::-1] * 2, np.float64)
    boxes_N4 = np.clip(found.boxes_xyxy, 0, limits)
    has_area = (boxes_N4[:, 2:] > boxes_N4[:, :2]).all(axis=1)
    order = np.flatnonzero(has_area)[np.argsort(-found.scores[has_area], kind="stable")]
    return DetectedBoxes(boxes_N4[order], found.scores[order].astype(np.float32))


def whole_image(image: UINT8, name: str = "", index: int = 0) -> DetectedBoxes:
    """Take the image for one person.

    >>> whole_image(image).boxes_xyxy
    array([[ 0.,  0., 64., 64.]])
    """
    height, width = image.shape[:2]
    return DetectedBoxes(np.array([[0.0, 0.0, width, height]]), np.ones(1, np.float32))


class BoxesOfFile:
    """Boxes of a COCO results file (`image_id`, `bbox`, `score`, maybe `category_id`).

    An image is found by its file name, with or without the suffix, or by the number that the name
    ends with: `000000000036.jpg` is image 36. A frame of a video is found by its number.

    Raises:
        UserError: The file is not such a list, or no person in it scores enough.
    """

    def __init__(self, path: Path, score_threshold: float) -> None:
        self._path = path
        self._rows: defaultdict[int | str, list[tuple[float, ...]]] = defaultdict(list)
        for entry in read_boxes(path):
            if entry.get("category_id", PERSON_CATEGORY) != PERSON_CATEGORY:
                continue
            if entry["score"] >= score_threshold:
                self._rows[entry["image_id"]].append((*entry["bbox"], entry["score"]))
        if not self._rows:
            raise UserError(str(path), f"persons that score {score_threshold:g}", "none")
        self._num_missed: int | None = 0

    def __call__(self, image: UINT8, name: str = "", index: int = 0) -> DetectedBoxes:
        key = next((key for key in _keys(name, index) if key in self._rows), None)
        self._warn_if_all_are_missed(key)
        rows_N5 = np.array(self._rows[key] if key is not None else np.empty((0, 5)))
        boxes_N4 = rows_N5[:, [0, 1, 0, 1]]
        boxes_N4[:, 2:] += rows_N5[:, 2:4]
        return within(Candidates(boxes_N4, rows_N5[:, 4]), (image.shape[0], image.shape[1]))

    def _warn_if_all_are_missed(self, key: int | str | None) -> None:
        if key is not None:
            self._num_missed = None
        if self._num_missed is None:
            return
        self._num_missed += 1
        if self._num_missed == FIRST_FRAMES:
            some = ", ".join(map(str, list(self._rows)[:3]))
            log.warning(
                "%s: no boxes for the first %d images; its image_id are such as %s",
                self._path,
                FIRST_FRAMES,
                some,
            )


def _keys(name: str, index: int) -> list[int | str]:
    if not name:
        return [index]
    path = Path(name)
    number = re.search(r"\d+$", path.stem)
    return [name, path.name, path.stem, *([int(number.group())] if number else [])]
