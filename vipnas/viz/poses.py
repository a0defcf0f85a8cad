"""Draw poses onto images."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.sides import side_of
from vipnas.data.formats.skeletons import Skeleton

UINT8 = NDArray[np.uint8]

# RGB of joints on the person's left and right, and of joints without a side.
LEFT, RIGHT, MIDDLE = (80, 220, 80), (255, 140, 40), (90, 170, 255)


def draw_pose(image_HW3: UINT8, keypoints_K3: NDArray[np.floating], skeleton: Skeleton) -> UINT8:
    """Return a copy of the image with limbs and joints.

    Args:
        image_HW3: RGB image.
        keypoints_K3: x and y in image pixels, and visibility. Joints are discs if visible (above 1)
            and rings if hidden (above 0 up to 1).
        skeleton: The joints.
    """
    drawn = image_HW3.copy()
    places = [(round(float(x)), round(float(y))) for x, y, _ in keypoints_K3]
    labelled = keypoints_K3[:, 2] > 0
    for first, second in skeleton.limbs:
        if labelled[first] and labelled[second]:
            colour = _colour(skeleton.joints[first], skeleton.joints[second])
            cv2.line(drawn, places[first], places[second], colour, 1, cv2.LINE_AA)
    for joint, name in enumerate(skeleton.joints):
        if labelled[joint]:
            thickness = cv2.FILLED if keypoints_K3[joint, 2] > 1 else 1
            cv2.circle(drawn, places[joint], 3, _colour(name), thickness, cv2.LINE_AA)
    return drawn


def _colour(*names: str) -> tuple[int, int, int]:
    sides = {side_of(name) for name in names}
    if sides == {"left"}:
        return LEFT
    return RIGHT if sides == {"right"} else MIDDLE
