"""A short video of two bright spots that move, and where they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vipnas.deploy.detected_boxes import DetectedBoxes

NUM_FRAMES, FPS = 7, 20.0
IMAGE_HW = 96, 128
BOXES_N4 = np.array([[4.0, 10.0, 50.0, 90.0], [70.0, 8.0, 120.0, 92.0]])


def two_persons(image: np.ndarray, name: str = "", index: int = 0) -> DetectedBoxes:
    return DetectedBoxes(BOXES_N4, np.array([1, 0.5], np.float32))


def picture(number: int) -> np.ndarray:
    """Two bright spots that move, on noise; BGR."""
    image = np.random.default_rng(number).integers(0, 60, (*IMAGE_HW, 3), np.uint8)
    for x in (20 + number, 90 + number):
        image[40 + number : 50 + number, x : x + 10] = 255
    return image


def write_walk(path: Path) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, IMAGE_HW[::-1])
    for number in range(NUM_FRAMES):
        writer.write(picture(number))
    writer.release()
    return path
