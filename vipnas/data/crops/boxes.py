"""Crops of the boxes of one image that is in memory, and how boxes are written.

N boxes, H W height and width of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vipnas.data.crops.geometry import BOX_PADDING, FloatArray, crop_region, input_from_image
from vipnas.data.crops.pictures import Picture, crop_into


def box_crops(
    image_HW3: NDArray[np.uint8],
    boxes_xyxy: FloatArray,
    input_hw: tuple[int, int],
    span_hw: tuple[int, int],
    padding: float = BOX_PADDING,
) -> tuple[Tensor, FloatArray]:
    """Crop each box of an image.

    Args:
        image_HW3: uint8, RGB.
        boxes_xyxy: (N, 4), left, top, right and bottom in pixels.
        input_hw: Size of the crops.
        span_hw: That of the codec.
        padding: How much wider and higher than its box a crop is.

    Returns:
        uint8 crops (N, 3, H, W), and the affines (N, 2, 3) from the image to them.
    """
    crops_NHW3 = np.empty((len(boxes_xyxy), *input_hw, 3), np.uint8)
    input_from_image_N23 = np.empty((len(boxes_xyxy), 2, 3))
    picture = Picture(image_HW3)
    for row, box_xywh in enumerate(xywh_from_xyxy(boxes_xyxy).tolist()):
        region = crop_region(box_xywh, span_hw, padding)
        input_from_image_N23[row] = input_from_image(*region, span_hw)
        crop_into(crops_NHW3[row], picture, input_from_image_N23[row])
    return torch.from_numpy(crops_NHW3).permute(0, 3, 1, 2), input_from_image_N23


def xywh_from_xyxy(boxes_N4: NDArray[np.floating]) -> FloatArray:
    """Left, top, width and height (..., 4) of left, top, right and bottom."""
    boxes = np.asarray(boxes_N4, np.float64)
    return np.concatenate((boxes[..., :2], boxes[..., 2:] - boxes[..., :2]), axis=-1)


def xyxy_from_xywh(boxes_N4: NDArray[np.floating] | Sequence[float]) -> FloatArray:
    """Left, top, right and bottom (..., 4) of left, top, width and height."""
    boxes = np.asarray(boxes_N4, np.float64)
    return np.concatenate((boxes[..., :2], boxes[..., :2] + boxes[..., 2:]), axis=-1)


def box_ious(first_N4: FloatArray, second_M4: FloatArray) -> FloatArray:
    """Intersection over union (N, M) of boxes given by left, top, right and bottom; 0 where both
    are empty."""
    first_N14, second_1M4 = first_N4[:, None], second_M4[None]
    low = np.maximum(first_N14[..., :2], second_1M4[..., :2])
    high = np.minimum(first_N14[..., 2:], second_1M4[..., 2:])
    common_NM = np.prod(np.maximum(high - low, 0), axis=2)
    areas_N, areas_M = (
        np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first_N4, second_M4)
    )
    union_NM = areas_N[:, None] + areas_M[None] - common_NM
    return np.asarray(common_NM / np.maximum(union_NM, 1e-9))
