"""The pixels that crops are cut from, and the one warp that cuts them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.data.crops.boxes import xywh_from_xyxy
from vipnas.data.crops.geometry import BOX_PADDING, FloatArray, crop_region, input_from_image

# OpenCV warps four channels in half the time that it takes for three, to the same numbers. For
# pictures of so many numbers the fourth costs less than that.
_WORTH_CONVERTING = 3 * 640 * 640


@dataclass(frozen=True)
class Picture:
    """A whole image, one made smaller when it was decoded, or a part of either.

    `pixels` (H, W, 3 or 4) are uint8 RGB, a fourth channel meaning nothing. A pixel (x, y) is the
    mean of `reduction` x `reduction` pixels of the image; `left_top_xy` is where the part lies, in
    the picture's own pixels.
    """

    pixels: NDArray[np.uint8]
    reduction: int = 1
    left_top_xy: tuple[int, int] = (0, 0)

    def part(self, left: int, top: int, right: int, bottom: int) -> Picture:
        """What lies between these columns and rows, which exist."""
        x, y = self.left_top_xy
        return Picture(self.pixels[top:bottom, left:right], self.reduction, (x + left, y + top))

    def input_from_pixels(self, matrix_23: FloatArray) -> FloatArray:
        """What `matrix_23` (input from image) is for these pixels."""
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
    """The one warp: fill the crop with what `matrix_23` (input from image) shows, black outside.

    `scratch_HW4` saves making one for every crop.
    """
    height, width = crop_HW3.shape[:2]
    if picture.pixels.shape[2] == 3 and picture.pixels.size <= _WORTH_CONVERTING:
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
    padding: float = BOX_PADDING,
) -> tuple[NDArray[np.uint8], FloatArray]:
    """Crop each box of an image that is in memory.

    Args:
        image_HW3: uint8, RGB.
        boxes_xyxy: (N, 4), left, top, right and bottom in pixels.
        input_hw: Size of the crops.
        span_hw: That of the codec.
        padding: How much wider and higher than its box a crop is.

    Returns:
        uint8 crops (N, H, W, 3), and the affines (N, 2, 3) from the image to them.
    """
    crops_NHW3 = np.empty((len(boxes_xyxy), *input_hw, 3), np.uint8)
    input_from_image_N23 = np.empty((len(boxes_xyxy), 2, 3))
    picture = Picture(image_HW3)
    for row, box_xywh in enumerate(xywh_from_xyxy(boxes_xyxy).tolist()):
        region = crop_region(box_xywh, span_hw, padding)
        input_from_image_N23[row] = input_from_image(*region, span_hw)
        crop_into(crops_NHW3[row], picture, input_from_image_N23[row])
    return crops_NHW3, input_from_image_N23
