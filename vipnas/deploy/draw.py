"""Pictures that one can look at: skeletons over people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.data.coco import Person
from vipnas.data.geometry import crop_region, input_from_image, transform
from vipnas.data.images import read_image
from vipnas.data.skeletons import Skeleton
from vipnas.files import write_atomically

# RGB: the person's own left and right side, and what lies between them.
LEFT, RIGHT, MIDDLE = (255, 150, 40), (60, 170, 255), (120, 230, 120)
LABELLED = (255, 255, 255)
TILE_HW = (256, 192)
COLUMNS = 8


def draw_skeleton(
    image_HW3: NDArray[np.uint8],
    xy_K2: NDArray[np.floating],
    seen_K: NDArray[np.bool_],
    skeleton: Skeleton,
    colour: tuple[int, int, int] | None = None,
) -> None:
    """Draw limbs and joints in place, in pixels of the image; a limb needs both its joints."""
    # Fixed-point coordinates: sixteenths of a pixel.
    points = [(int(round(x * 16)), int(round(y * 16))) for x, y in xy_K2]
    for first, second in skeleton.limbs:
        if seen_K[first] and seen_K[second]:
            side = colour or _side_colour(skeleton, first, second)
            cv2.line(image_HW3, points[first], points[second], side, 2, cv2.LINE_AA, 4)
    for joint, point in enumerate(points):
        if seen_K[joint]:
            side = colour or _side_colour(skeleton, joint, joint)
            cv2.circle(image_HW3, point, 3 * 16, side, -1, cv2.LINE_AA, 4)


def prediction_sheet(
    path: Path,
    persons: Sequence[Person],
    xy_NK2: NDArray[np.floating],
    scores_NK: NDArray[np.floating],
    skeleton: Skeleton,
    min_score: float = 0.2,
) -> None:
    """Write a PNG of the persons' crops: what was labelled (white), below it what was predicted.

    `xy_NK2` is in image pixels. Joints whose score is below `min_score` are left out.
    """
    tiles = [
        _pair(person, xy_K2, scores_K > min_score, skeleton)
        for person, xy_K2, scores_K in zip(persons, xy_NK2, scores_NK, strict=True)
    ]
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % min(COLUMNS, len(tiles)))
    columns = min(COLUMNS, len(tiles))
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    done, png = cv2.imencode(".png", cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))
    assert done
    write_atomically(path, png.tobytes())


def _pair(
    person: Person, xy_K2: NDArray[np.floating], seen_K: NDArray[np.bool_], skeleton: Skeleton
) -> NDArray[np.uint8]:
    matrix = input_from_image(*crop_region(person.box_xywh, TILE_HW), TILE_HW)
    image = read_image(person.image_path, person.image_hw)
    crop = np.asarray(cv2.warpAffine(image, matrix, TILE_HW[::-1]), np.uint8)
    above, below = crop.copy(), crop
    labelled = person.keypoints_K3[:, 2] > 0
    draw_skeleton(
        above, transform(matrix, person.keypoints_K3[:, :2]), labelled, skeleton, LABELLED
    )
    draw_skeleton(below, transform(matrix, xy_K2), seen_K, skeleton)
    return np.vstack((above, below))


def _side_colour(skeleton: Skeleton, first: int, second: int) -> tuple[int, int, int]:
    left = {pair[0] for pair in skeleton.flip_pairs}
    right = {pair[1] for pair in skeleton.flip_pairs}
    if first in left and second in left:
        return LEFT
    return RIGHT if first in right and second in right else MIDDLE
