"""Contact sheets of predictions, and of training crops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.data.crops.geometry import crop_region, input_from_image, transform
from vipnas.data.crops.images import read_image, write_png
from vipnas.data.formats.coco import Person
from vipnas.data.formats.skeletons import Skeleton
from vipnas.viz.poses import draw_pose, draw_poses

TILE_HW = (256, 192)
COLUMNS = 8


def prediction_sheet(
    path: Path,
    persons: Sequence[Person],
    xy_NK2: NDArray[np.floating],
    scores_NK: NDArray[np.floating],
    skeleton: Skeleton,
    min_score: float = 0.2,
) -> None:
    """Write a PNG with two crops per person: labels, and predictions below.

    Args:
        path: The PNG file.
        persons: The persons.
        xy_NK2: Predicted joints in image pixels.
        scores_NK: Scores of the joints.
        skeleton: The joints.
        min_score: Lowest score of a joint that is drawn.
    """
    tiles = [
        _pair(person, xy_K2, scores_K, skeleton, min_score)
        for person, xy_K2, scores_K in zip(persons, xy_NK2, scores_NK, strict=True)
    ]
    write_png(path, _grid(tiles))


def crop_sheet(
    path: Path,
    images_N3HW: NDArray[np.uint8],
    keypoints_NK3: NDArray[np.floating],
    skeleton: Skeleton,
) -> None:
    """Write a PNG of crops as a training sees them, with their labels.

    Args:
        path: The PNG file.
        images_N3HW: RGB crops.
        keypoints_NK3: Labels in input pixels: x, y, and 0 for a joint without a label.
        skeleton: The joints.
    """
    pairs = zip(images_N3HW.transpose(0, 2, 3, 1), keypoints_NK3, strict=True)
    tiles = [draw_pose(np.ascontiguousarray(crop), labels, skeleton) for crop, labels in pairs]
    write_png(path, _grid(tiles))


def _grid(tiles: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return the tiles in rows; the last row is filled up with black ones."""
    columns = min(COLUMNS, len(tiles))
    tiles = tiles + [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def _pair(
    person: Person,
    xy_K2: NDArray[np.floating],
    scores_K: NDArray[np.floating],
    skeleton: Skeleton,
    min_score: float,
) -> NDArray[np.uint8]:
    matrix = input_from_image(*crop_region(person.box_xywh, TILE_HW), TILE_HW)
    image = read_image(person.image_path, person.image_hw, person.ignore_exif)
    crop = np.asarray(cv2.warpAffine(image, matrix, TILE_HW[::-1]), np.uint8)
    labels_K3 = np.array(person.keypoints_K3, np.float64)
    labels_K3[:, :2] = transform(matrix, person.keypoints_K3[:, :2])
    found_K2 = transform(matrix, xy_K2)
    found = draw_poses(crop, found_K2[None], scores_K[None], skeleton, min_score=min_score)
    return np.vstack((draw_pose(crop, labels_K3, skeleton), found))
