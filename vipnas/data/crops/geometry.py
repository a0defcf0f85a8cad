"""Affine maps between a person's box and the network's input.

The pixel convention of the whole project: an integer coordinate is the centre of a pixel, x to the
right and y down. The centre of a crop maps to (width / 2, height / 2) of the input. A heatmap
coordinate is the input coordinate divided by the stride, as in the published networks. Mirroring a
crop therefore maps x to width - x.

A matrix is 2 x 3, float64, and named TARGET_from_SOURCE: `input_from_image` maps image pixels to
pixels of the network's input.

With one pixel less in height and width (the `span_hw` of the codec `udp`), the same functions map
the edges of a crop's region to the centres of the outermost pixels. Mirroring then maps x to
width - 1 - x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vipnas.config.data import BoxFit

FloatArray = NDArray[np.float64]
Pair = tuple[float, float]

PUBLISHED_FIT = BoxFit()
# Regions whose aspect ratio differs from that of the input by rounding only are not stretched.
SAME_ASPECT = 1e-9


def crop_region(
    box_xywh: Sequence[float], input_hw: tuple[int, int], fit: BoxFit = PUBLISHED_FIT
) -> tuple[Pair, Pair]:
    """Return centre (x, y) and size (width, height) of the region of a crop, in image pixels.

    The region may exceed the image; the crop is black there.
    """
    x, y, width, height = box_xywh
    centre_xy = x + width / 2, y + height / 2
    if fit.aspect == "stretch":
        return centre_xy, (width * fit.padding, height * fit.padding)
    aspect_ratio = input_hw[1] / input_hw[0]
    padded_width = max(width, height * aspect_ratio) * fit.padding
    padded_height = max(height, width / aspect_ratio) * fit.padding
    return centre_xy, (padded_width, padded_height)


def input_from_image(
    centre_xy: Pair,
    size_wh: Pair,
    input_hw: tuple[int, int],
    rotation_deg: float = 0.0,
    flip: bool = False,
) -> FloatArray:
    """Return the affine of a crop, with scale, rotation and flip.

    A region of another aspect ratio is stretched to the input, after the rotation.

    Args:
        centre_xy: Centre of the region in image pixels.
        size_wh: Size of the region in image pixels.
        input_hw: Height and width of the input.
        rotation_deg: Clockwise rotation of the picture about the centre, as seen.
        flip: Mirror the rotated picture left to right.
    """
    input_h, input_w = input_hw
    centre_x, centre_y = centre_xy
    scale = input_w / size_wh[0]
    cos = scale * math.cos(math.radians(rotation_deg))
    sin = scale * math.sin(math.radians(rotation_deg))
    sign = -1.0 if flip else 1.0
    stretch = input_h / (size_wh[1] * scale)
    if abs(stretch - 1) < SAME_ASPECT:
        stretch = 1.0
    sin_y, cos_y = stretch * sin, stretch * cos
    return np.array(
        (
            (sign * cos, -sign * sin, input_w / 2 - sign * (cos * centre_x - sin * centre_y)),
            (sin_y, cos_y, input_h / 2 - (sin_y * centre_x + cos_y * centre_y)),
        )
    )


def invert(matrix_23: FloatArray) -> FloatArray:
    """Return the inverse of an affine (..., 2, 3)."""
    linear = np.linalg.inv(matrix_23[..., :2])
    offset = -linear @ matrix_23[..., 2:]
    return np.concatenate((linear, offset), axis=-1)


def transform(matrix_23: FloatArray, xy: NDArray[np.floating]) -> FloatArray:
    """Apply an affine (..., 2, 3) to points (..., N, 2)."""
    return np.asarray(xy @ np.swapaxes(matrix_23[..., :2], -1, -2) + matrix_23[..., None, :, 2])


def from_upright(input_from_image_N23: FloatArray, xy_NK2: NDArray[np.floating]) -> FloatArray:
    """Map points (N, K, 2) of crops without rotation to the image.

    The same as `transform` by the inverses, in fewer calls: for one crop, these take the time.
    """
    shares_N2 = 1 / input_from_image_N23[:, (0, 1), (0, 1)]
    offsets_N2 = shares_N2 * input_from_image_N23[..., 2]
    return np.asarray(xy_NK2 * shares_N2[:, None] - offsets_N2[:, None])


def heatmap_warp(
    before_23: FloatArray,
    now_23: FloatArray,
    stride_xy: tuple[float, float],
    heatmap_hw: tuple[int, int],
) -> FloatArray:
    """Return the affine (..., 2, 3) for PyTorch's `affine_grid` that warps heatmaps between crops.

    It maps a position on the heatmaps now to the position before that shows the same place of the
    image, both in -1..1 from edge to edge (`align_corners=False`):

        grid = affine_grid(warp, heatmaps_before.shape, align_corners=False)
        heatmaps_now = grid_sample(heatmaps_before, grid, align_corners=False)

    Args:
        before_23: `input_from_image` (..., 2, 3) of the crop that the heatmaps belong to.
        now_23: `input_from_image` (..., 2, 3) of the crop to warp them to.
        stride_xy: Input pixels per heatmap pixel.
        heatmap_hw: Height and width of the heatmaps.
    """
    size_wh, stride = np.array((heatmap_hw[1], heatmap_hw[0])), np.array(stride_xy)
    # input = scale * normalised + offset, by way of heatmap pixel = (normalised + 1) size / 2 - 1/2
    scale, offset = stride * size_wh / 2, stride * (size_wh - 1) / 2
    linear = before_23[..., :2] @ np.linalg.inv(now_23[..., :2])
    shift = before_23[..., 2] - np.einsum("...ij,...j->...i", linear, now_23[..., 2])
    shift = (np.einsum("...ij,j->...i", linear, offset) + shift - offset) / scale
    return np.concatenate((linear * scale / scale[:, None], shift[..., None]), axis=-1)


def box_of_joints(xy_N2: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """Return x, y, width and height of the smallest box around points, at least 1 x 1 pixel."""
    xs, ys = zip(*xy_N2, strict=True)
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    width, height = max(right - left, 1.0), max(bottom - top, 1.0)
    return (left + right - width) / 2, (top + bottom - height) / 2, width, height
