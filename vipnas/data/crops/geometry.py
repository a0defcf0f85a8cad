"""From a person's box to the network's input and back, by one affine.

The pixel convention, stated here for the whole project: an integer coordinate is the centre of a
pixel, x to the right and y down. The centre of a crop maps to (width / 2, height / 2) of the input,
and a heatmap coordinate is the input coordinate divided by the stride, as in the published
networks. Mirroring a crop therefore takes x to width - x.

A matrix is 2 x 3, float64, and is named after what it makes of what: `input_from_image` takes image
pixels to pixels of the network's input.

The region of a crop is mapped onto `input_hw` pixels, its centre to their middle. Given one pixel
less each way (the `span_hw` of the codec `udp`), the same functions put the region's edges onto the
centres of the outermost pixels, and mirroring takes x to width - 1 - x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Pair = tuple[float, float]

BOX_PADDING = 1.25  # of the published networks: a quarter more than the annotated box


def crop_region(
    box_xywh: Sequence[float], input_hw: tuple[int, int], padding: float = BOX_PADDING
) -> tuple[Pair, Pair]:
    """Centre (x, y) and size (width, height) in image pixels of the region shown to the network.

    The box is widened or heightened to the aspect ratio of the input, then padded; it may reach
    over the edge of the image (the crop is black there).
    """
    x, y, width, height = box_xywh
    aspect_ratio = input_hw[1] / input_hw[0]
    padded_width = max(width, height * aspect_ratio) * padding
    padded_height = max(height, width / aspect_ratio) * padding
    return (x + width / 2, y + height / 2), (padded_width, padded_height)


def input_from_image(
    centre_xy: Pair,
    size_wh: Pair,
    input_hw: tuple[int, int],
    rotation_deg: float = 0.0,
    flip: bool = False,
) -> FloatArray:
    """The affine for crop, scale, rotation and flip at once.

    `rotation_deg` turns the picture clockwise as one sees it, about the crop's centre; `flip`
    mirrors the turned picture left to right. `size_wh` must have the aspect ratio of the input.
    """
    input_h, input_w = input_hw
    centre_x, centre_y = centre_xy
    scale = input_w / size_wh[0]
    cos = scale * math.cos(math.radians(rotation_deg))
    sin = scale * math.sin(math.radians(rotation_deg))
    sign = -1.0 if flip else 1.0
    return np.array(
        (
            (sign * cos, -sign * sin, input_w / 2 - sign * (cos * centre_x - sin * centre_y)),
            (sin, cos, input_h / 2 - (sin * centre_x + cos * centre_y)),
        )
    )


def invert(matrix_23: FloatArray) -> FloatArray:
    """The affine that undoes `matrix_23` (..., 2, 3)."""
    linear = np.linalg.inv(matrix_23[..., :2])
    offset = -linear @ matrix_23[..., 2:]
    return np.concatenate((linear, offset), axis=-1)


def transform(matrix_23: FloatArray, xy: NDArray[np.floating]) -> FloatArray:
    """Apply (..., 2, 3) to points (..., N, 2)."""
    return np.asarray(xy @ np.swapaxes(matrix_23[..., :2], -1, -2) + matrix_23[..., None, :, 2])


def heatmap_warp(
    before_23: FloatArray,
    now_23: FloatArray,
    stride_xy: tuple[float, float],
    heatmap_hw: tuple[int, int],
) -> FloatArray:
    """How the heatmaps of one crop are seen from another: (..., 2, 3) for PyTorch's `affine_grid`.

    `before_23` and `now_23` (..., 2, 3) are `input_from_image` of the crop that the heatmaps are of
    and of the crop that wants them. The affine takes a place on the heatmaps now to the same place
    of the image on those before, both in -1..1 from edge to edge (`align_corners=False`):

        grid = affine_grid(warp, heatmaps_before.shape, align_corners=False)
        heatmaps_now = grid_sample(heatmaps_before, grid, align_corners=False)
    """
    size_wh, stride = np.array((heatmap_hw[1], heatmap_hw[0])), np.array(stride_xy)
    # input = scale * normalised + offset, by way of heatmap pixel = (normalised + 1) size / 2 - 1/2
    scale, offset = stride * size_wh / 2, stride * (size_wh - 1) / 2
    linear = before_23[..., :2] @ np.linalg.inv(now_23[..., :2])
    shift = before_23[..., 2] - np.einsum("...ij,...j->...i", linear, now_23[..., 2])
    shift = (np.einsum("...ij,j->...i", linear, offset) + shift - offset) / scale
    return np.concatenate((linear * scale / scale[:, None], shift[..., None]), axis=-1)


def box_of_joints(xy_N2: NDArray[np.floating]) -> tuple[float, float, float, float]:
    """x, y, width and height of the smallest box around points, at least one pixel each way."""
    low, high = xy_N2.min(axis=0), xy_N2.max(axis=0)
    width, height = (float(side) for side in np.maximum(high - low, 1))
    x, y = (float(value) for value in (low + high - (width, height)) / 2)
    return x, y, width, height
