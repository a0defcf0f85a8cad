"""From a person's box to the network's input and back, by one affine.

The pixel convention, stated here for the whole project: an integer coordinate is the centre of a
pixel, x to the right and y down. The centre of a crop maps to (width / 2, height / 2) of the input,
and a heatmap coordinate is the input coordinate divided by the stride, as in the published
networks. Mirroring a crop therefore takes x to width - x.

A matrix is 2 x 3, float64, and is named after what it makes of what: `input_from_image` takes image
pixels to pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

BOX_PADDING = 1.25  # of the published networks: a quarter more than the annotated box


def crop_region(
    box_xywh: Sequence[float], input_hw: tuple[int, int], padding: float = BOX_PADDING
) -> tuple[FloatArray, FloatArray]:
    """Centre (x, y) and size (width, height) in image pixels of the region shown to the network.

    The box is widened or heightened to the aspect ratio of the input, then padded; it may reach
    over the edge of the image (the crop is black there).
    """
    x, y, width, height = box_xywh
    aspect_ratio = input_hw[1] / input_hw[0]
    width, height = max(width, height * aspect_ratio), max(height, width / aspect_ratio)
    centre_xy = np.array([x + box_xywh[2] / 2, y + box_xywh[3] / 2])
    return centre_xy, np.array([width, height]) * padding


def input_from_image(
    centre_xy: FloatArray,
    size_wh: FloatArray,
    input_hw: tuple[int, int],
    rotation_deg: float = 0.0,
    flip: bool = False,
) -> FloatArray:
    """The affine for crop, scale, rotation and flip at once.

    `rotation_deg` turns the picture clockwise as one sees it, about the crop's centre; `flip`
    mirrors the turned picture left to right. `size_wh` must have the aspect ratio of the input.
    """
    input_h, input_w = input_hw
    angle = np.deg2rad(rotation_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    scale = input_w / size_wh[0]
    linear = scale * np.array([[cos, -sin], [sin, cos]])
    if flip:
        linear[0] = -linear[0]
    offset = np.array([input_w / 2, input_h / 2]) - linear @ centre_xy
    return np.column_stack((linear, offset))


def invert(matrix_23: FloatArray) -> FloatArray:
    """The affine that undoes `matrix_23` (..., 2, 3)."""
    linear = np.linalg.inv(matrix_23[..., :2])
    offset = -linear @ matrix_23[..., 2:]
    return np.concatenate((linear, offset), axis=-1)


def transform(matrix_23: FloatArray, xy: NDArray[np.floating]) -> FloatArray:
    """Apply (..., 2, 3) to points (..., N, 2)."""
    return np.asarray(xy @ np.swapaxes(matrix_23[..., :2], -1, -2) + matrix_23[..., None, :, 2])
