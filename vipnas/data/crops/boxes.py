"""How boxes are written, and how much two of them overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vipnas.data.crops.geometry import FloatArray


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
    are empty.

    >>> box_ious(np.array([[0.0, 0, 4, 2]]), np.array([[2.0, 0, 4, 2], [4, 0, 6, 2]]))
    array([[0.5, 0. ]])
    """
    first_N14, second_1M4 = first_N4[:, None], second_M4[None]
    low = np.maximum(first_N14[..., :2], second_1M4[..., :2])
    high = np.minimum(first_N14[..., 2:], second_1M4[..., 2:])
    common_NM = np.prod(np.maximum(high - low, 0), axis=2)
    areas_N, areas_M = (
        np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first_N4, second_M4)
    )
    union_NM = areas_N[:, None] + areas_M[None] - common_NM
    return np.asarray(common_NM / np.maximum(union_NM, 1e-9))
