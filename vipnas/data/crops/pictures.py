"""Decoded pixels, and the warp that crops are made by."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.config.data import BoxFit
from vipnas.data.crops.geometry import (
    PUBLISHED_FIT,
    FloatArray,
    crop_region,
    input_from_image,
)

# OpenCV warps four channels twice as fast as three, with equal results. Up to this many values of
# the picture, and up to this many times those of the crop, adding a channel costs less.
_WORTH_CONVERTING, _TIMES_THE_CROP = 3 * 640 * 640, 8


@dataclass(frozen=True)
class Picture:
    """A decoded image, possibly reduced, or a part of it.

    Attributes:
        pixels: (H, W, 3 or 4), uint8 RGB. A fourth channel is ignored.
        reduction: Each pixel is the mean of `reduction` x `reduction` pixels of the image.
        left_top_xy: Position of the part in the reduced image.
    """

    pixels: NDArray[np.uint8]
    reduction: int = 1
    left_top_xy: tuple[int, int] = (0, 0)

    def part(self, left: int, top: int, right: int, bottom: int) -> Picture:
        """Return the part between these columns and rows, which must exist."""
        x, y = self.left_top_xy
        return Picture(self.pixels[top:bottom, left:right], self.reduction, (x + left, y + top))

    def input_from_pixels(self, matrix_23: FloatArray) -> FloatArray:
        """Convert a matrix, input from image, to input from pixels of this picture."""
        if self.reduction == 1 and self.left_top_xy == (0, 0):
            return matrix_23
        (a, b, x), (c, d, y) = matrix_23.tolist()
        r = self.reduction
        left, top = (r * offset + (r - 1) / 2 for offset in self.left_top_xy)
        return np.array(
            ((r * a, r * b, x + a * left + b * top), (r * c, r * d, y + c * left + d * top))
        )


def crop_into(
    crop_HW3: NDArray[np.uint8],
    picture: Picture,
    matrix_23: FloatArray,
    scratch_HW4: NDArray[np.uint8] | None = None,
) -> None:
    """Warp a picture into a crop. Every crop is made by this function.

    Args:
        crop_HW3: The crop to fill, black outside of the picture.
        picture: The source.
        matrix_23: Affine, input from image.
        scratch_HW4: Buffer to reuse between calls.
    """
    height, width = crop_HW3.shape[:2]
    most_values = min(_WORTH_CONVERTING, _TIMES_THE_CROP * crop_HW3.size)
    if picture.pixels.shape[2] == 3 and picture.pixels.size <= most_values:
        picture = with_fourth_channel(picture)
    matrix = picture.input_from_pixels(matrix_23)
    if picture.pixels.shape[2] == 3:
        cv2.warpAffine(picture.pixels, matrix, (width, height), dst=crop_HW3)
        return
    crop_HW4 = cv2.warpAffine(picture.pixels, matrix, (width, height), dst=scratch_HW4)
    cv2.cvtColor(crop_HW4, cv2.COLOR_RGBA2RGB, dst=crop_HW3)


def with_fourth_channel(picture: Picture) -> Picture:
    pixels = cv2.cvtColor(picture.pixels, cv2.COLOR_RGB2RGBA)
    return Picture(np.asarray(pixels, np.uint8), picture.reduction, picture.left_top_xy)


def box_crops(
    image_HW3: NDArray[np.uint8],
    boxes_xyxy: FloatArray,
    input_hw: tuple[int, int],
    span_hw: tuple[int, int],
    fit: BoxFit = PUBLISHED_FIT,
) -> tuple[NDArray[np.uint8], FloatArray]:
    """Crop each box of an image that is in memory.

    Args:
        image_HW3: uint8, RGB.
        boxes_xyxy: (N, 4), left, top, right and bottom in pixels.
        input_hw: Size of the crops.
        span_hw: That of the codec.
        fit: How the region of a crop is made from the box.

    Returns:
        uint8 crops (N, H, W, 3), and the affines (N, 2, 3) from the image to them.
    """
    crops_NHW3 = np.empty((len(boxes_xyxy), *input_hw, 3), np.uint8)
    input_from_image_N23 = np.empty((len(boxes_xyxy), 2, 3))
    picture = Picture(image_HW3)
    for row, (left, top, right, bottom) in enumerate(boxes_xyxy.tolist()):
        region = crop_region((left, top, right - left, bottom - top), span_hw, fit)
        input_from_image_N23[row] = input_from_image(*region, span_hw)
        crop_into(crops_NHW3[row], picture, input_from_image_N23[row])
    return crops_NHW3, input_from_image_N23
