"""The pixels that crops are cut from, and the one warp that cuts them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.data.crops.geometry import FloatArray

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
