"""Candidate persons of a detector: boxes and scores, and what the forms of outputs share.

N candidates, C classes; boxes are left, top, right, bottom in pixels of the model's input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vipnas.deploy.description import Array
from vipnas.errors import UserError

FloatArray = NDArray[np.float64]
SizeHW = tuple[int, int]

CORNERS = ("left", "top", "right", "bottom")
CENTRE = ("centre_x", "centre_y", "width", "height")


@dataclass(frozen=True)
class Candidates:
    """Boxes (N, 4) and the scores (N,) that they are persons."""

    boxes_xyxy: FloatArray
    scores: FloatArray


def cells(input_hw: SizeHW, strides: Sequence[int], offset: float) -> tuple[FloatArray, FloatArray]:
    """Return the points (N, 2) of all cells in pixels, and their strides (N, 1).

    Cells are in order level by level and row by row; `offset` is in strides.
    """
    points, stride_of = [], []
    for stride in strides:
        rows, columns = (math.ceil(side / stride) for side in input_hw)
        y, x = np.mgrid[:rows, :columns].reshape(2, -1)
        points.append((np.stack((x, y), axis=1) + offset) * stride)
        stride_of.append(np.full((rows * columns, 1), float(stride)))
    return np.concatenate(points), np.concatenate(stride_of)


def rows_of(array: Array, num_cells: int) -> FloatArray | None:
    """Return an output of so many cells as (cells, channels); None for another."""
    if array.ndim == 4 and array.shape[2] * array.shape[3] == num_cells:
        return np.asarray(array[0].reshape(array.shape[1], -1).T, np.float64)
    if array.ndim == 3 and array.shape[1] == num_cells:
        return np.asarray(array[0], np.float64)
    return None


def of_class(scores_NC: FloatArray, person_class: int) -> FloatArray:
    """Return the scores (N,) of a class; raise UserError if there is no such class."""
    if not 0 <= person_class < scores_NC.shape[1]:
        raise UserError(
            "person_class", f"0 to {scores_NC.shape[1] - 1}, the model's classes", str(person_class)
        )
    return scores_NC[:, person_class]


def around(centres_N2: FloatArray, sizes_N2: FloatArray) -> FloatArray:
    """Return the boxes (N, 4) of centres (x, y) and sizes (width, height)."""
    return np.concatenate((centres_N2 - sizes_N2 / 2, centres_N2 + sizes_N2 / 2), axis=1)


def boxes_of(values: Mapping[str, FloatArray]) -> FloatArray:
    """Return the boxes (N, 4) of columns by name: `CORNERS` or `CENTRE`."""
    if CORNERS[0] in values:
        return np.stack([values[name] for name in CORNERS], axis=1)
    x, y, width, height = (values[name] for name in CENTRE)
    return around(np.stack((x, y), axis=1), np.stack((width, height), axis=1))
