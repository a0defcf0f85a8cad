"""Output forms of detectors in ONNX: one class each, by its name in `FORMS`.

The attributes of a class are the options of its form in a description.

N candidates, C classes; boxes are left, top, right, bottom in pixels of the model's input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from scipy.special import expit, softmax

from vipnas.deploy.candidates import (
    CENTRE,
    CORNERS,
    Candidates,
    FloatArray,
    SizeHW,
    around,
    boxes_of,
    cells,
    of_class,
    rows_of,
)
from vipnas.deploy.described_model import unlike
from vipnas.deploy.description import Outputs
from vipnas.errors import UserError
from vipnas.files import Strict
from vipnas.tables import check_known

Activation = Literal["none", "sigmoid", "softmax"]

ACTIVATIONS: dict[Activation, Callable[[FloatArray], FloatArray]] = {
    "none": lambda values: values,
    "sigmoid": expit,
    "softmax": lambda values: softmax(values, axis=-1),
}


class DetectorForm(Protocol):
    """Read persons from the outputs of one image.

    Attributes:
        is_dense: Whether every cell of the image gives a candidate, most of them bad and many of
            them of the same person.
    """

    is_dense: ClassVar[bool]

    def persons(self, outputs: Outputs, input_hw: SizeHW, person_class: int) -> Candidates:
        """Return the candidates; raise UserError for outputs of another form."""
        ...


@dataclass(frozen=True)
class Yolox(Strict):
    """One output (1, cells, 5 + C): centre, size, objectness, class scores.

    Attributes:
        strides: Of the levels, whose cells follow one another, row by row.
        decoded: Boxes are in pixels, from any number of cells. Otherwise centres are offsets from
            their cell and sizes logarithms, both in strides.
        activation: Of objectness and class scores, unless the model has applied it.
    """

    strides: tuple[int, ...] = (8, 16, 32)
    decoded: bool = False
    activation: Activation = "none"
    is_dense: ClassVar[bool] = True

    def persons(self, outputs: Outputs, input_hw: SizeHW, person_class: int) -> Candidates:
        corners_N2, stride_N1 = cells(input_hw, self.strides, 0.0)
        num_cells = "cells" if self.decoded else str(len(corners_N2))
        arrays = list(outputs.values())
        if (
            len(arrays) != 1
            or arrays[0].ndim != 3
            or arrays[0].shape[2] < 6
            or not (self.decoded or arrays[0].shape[1] == len(corners_N2))
        ):
            raise unlike(f"one (1, {num_cells}, 5 + classes)", outputs)
        rows = arrays[0][0].astype(np.float64)
        centres, sizes = rows[:, :2], rows[:, 2:4]
        if not self.decoded:
            with np.errstate(over="ignore"):  # of other outputs; infinite boxes are refused later
                centres, sizes = corners_N2 + centres * stride_N1, np.exp(sizes) * stride_N1
        scores = ACTIVATIONS[self.activation](rows[:, 4:])
        person_N = scores[:, 0] * of_class(scores[:, 1:], person_class)
        return Candidates(around(centres, sizes), person_N)


@dataclass(frozen=True)
class Yolov8(Strict):
    """One output (1, 4 + C, cells): centre and size in pixels, class scores.

    Attributes:
        strides: Of the levels, by which the number of cells is known.
        activation: Of the class scores, unless the model has applied it.
    """

    strides: tuple[int, ...] = (8, 16, 32)
    activation: Activation = "none"
    is_dense: ClassVar[bool] = True

    def persons(self, outputs: Outputs, input_hw: SizeHW, person_class: int) -> Candidates:
        num_cells = len(cells(input_hw, self.strides, 0.0)[0])
        arrays = list(outputs.values())
        if len(arrays) != 1 or arrays[0].ndim != 3 or arrays[0].shape[2] != num_cells:
            raise unlike(f"one (1, 4 + classes, {num_cells})", outputs)
        rows = arrays[0][0].T.astype(np.float64)
        scores = ACTIVATIONS[self.activation](rows[:, 4:])
        return Candidates(around(rows[:, :2], rows[:, 2:4]), of_class(scores, person_class))


@dataclass(frozen=True)
class Distances(Strict):
    """Class scores and distances from a cell's point to the four sides of the box, level by level.

    For each level two outputs, in any order: scores (1, cells, C) and distances (1, cells, 4), or
    both as maps (1, C, rows, columns). Or one output of all levels, (1, cells, C + 4).

    Attributes:
        unit: Of the distances: `pixels`, `strides`, or `bins`, where each is a distribution over
            0, 1, 2 ... strides and its mean is taken.
        strides: Of the levels, whose cells are in order row by row.
        offset: Of a cell's point from its top left corner, in strides.
        num_classes: C, by which scores are told from distances.
        activation: Of the class scores, unless the model has applied it.
    """

    unit: Literal["pixels", "strides", "bins"]
    strides: tuple[int, ...] = (8, 16, 32)
    offset: float = 0.5
    num_classes: int = 80
    activation: Activation = "none"
    is_dense: ClassVar[bool] = True

    def persons(self, outputs: Outputs, input_hw: SizeHW, person_class: int) -> Candidates:
        points_N2, stride_N1 = cells(input_hw, self.strides, self.offset)
        scores_NC, sides = self._scores_and_sides(outputs, input_hw)
        if self.unit == "bins":
            bins_N4B = sides.reshape(len(sides), 4, -1)
            sides = softmax(bins_N4B, axis=2) @ np.arange(bins_N4B.shape[2])
        if self.unit != "pixels":
            sides = sides * stride_N1
        boxes_N4 = np.concatenate((points_N2 - sides[:, :2], points_N2 + sides[:, 2:]), axis=1)
        scores_NC = ACTIVATIONS[self.activation](scores_NC)
        return Candidates(boxes_N4, of_class(scores_NC, person_class))

    def _scores_and_sides(
        self, outputs: Outputs, input_hw: SizeHW
    ) -> tuple[FloatArray, FloatArray]:
        """Class scores (N, C) and distances (N, 4 or more) of all levels."""
        levels = [len(cells(input_hw, (stride,), 0.0)[0]) for stride in self.strides]
        if len(outputs) == 1:
            pairs = [self._split(rows_of(array, sum(levels))) for array in outputs.values()]
        else:
            rows = [[rows_of(array, count) for array in outputs.values()] for count in levels]
            pairs = [self._pair([one for one in level if one is not None]) for level in rows]
        found = [pair for pair in pairs if pair is not None]
        if len(found) != len(pairs) or len(outputs) not in (1, 2 * len(levels)):
            sides = "4 x bins" if self.unit == "bins" else "4"
            raise unlike(
                f"(1, cells, {self.num_classes}) and (1, cells, {sides}) of each level, cells"
                f" {', '.join(map(str, levels))}, or one (1, {sum(levels)},"
                f" {self.num_classes} + {sides})",
                outputs,
            )
        scores, sides_of_levels = zip(*found, strict=True)
        return np.concatenate(scores), np.concatenate(sides_of_levels)

    def _split(self, rows: FloatArray | None) -> tuple[FloatArray, FloatArray] | None:
        if rows is None:
            return None
        return self._pair([rows[:, : self.num_classes], rows[:, self.num_classes :]])

    def _pair(self, arrays: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray] | None:
        """Scores and distances among the two outputs of a level; None unless they are those."""
        orders = (arrays, arrays[::-1]) if len(arrays) == 2 else ()
        for scores, sides in orders:
            if scores.shape[1] == self.num_classes and self._are_sides(sides.shape[1]):
                return scores, sides
        return None

    def _are_sides(self, channels: int) -> bool:
        return channels > 4 and channels % 4 == 0 if self.unit == "bins" else channels == 4


@dataclass(frozen=True)
class Boxes(Strict):
    """Two outputs in any order: boxes (1, N, 4) and class scores (1, N, C).

    Attributes:
        columns: What the four numbers of a box are.
        normalised: Whether they are in 0..1 of the input, rather than in pixels.
        activation: Of the class scores, unless the model has applied it.
    """

    columns: tuple[str, ...] = CORNERS
    normalised: bool = True
    activation: Activation = "none"
    is_dense: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if set(self.columns) not in (set(CORNERS), set(CENTRE)) or len(self.columns) != 4:
            raise UserError(
                "columns",
                f"{', '.join(CORNERS)} or {', '.join(CENTRE)} in some order",
                str(list(self.columns)),
            )

    def persons(self, outputs: Outputs, input_hw: SizeHW, person_class: int) -> Candidates:
        arrays = [array[0].astype(np.float64) for array in outputs.values() if array.ndim == 3]
        boxes_at = [number for number, array in enumerate(arrays) if array.shape[1] == 4]
        if len(outputs) != 2 or len(arrays) != 2 or not boxes_at:
            raise unlike("boxes (1, N, 4) and scores (1, N, classes)", outputs)
        boxes, scores = arrays[boxes_at[0]], arrays[1 - boxes_at[0]]
        if len(boxes) != len(scores):
            raise unlike("as many boxes as scores", outputs)
        scores = ACTIVATIONS[self.activation](scores)
        boxes_N4 = boxes_of(dict(zip(self.columns, boxes.T, strict=True)))
        scale = np.array(input_hw[::-1] * 2) if self.normalised else 1
        return Candidates(boxes_N4 * scale, of_class(scores, person_class))


@dataclass(frozen=True)
class EndToEnd(Strict):
    """A list of detections, after non-maximum suppression or without need of it.

    One output (1, N, columns), or several of which each has one or more of the columns: (1, N) and
    (1, N, 4), with or without the leading 1.

    Attributes:
        columns: What the numbers of a detection are, through all outputs: the four of a box (see
            `Boxes`), `score`, `class` unless all are persons, `ignored`.
        normalised: Whether boxes are in 0..1 of the input, rather than in pixels.
    """

    columns: tuple[str, ...] = (*CORNERS, "score", "class")
    normalised: bool = False
    is_dense: ClassVar[bool] = False

    def __post_init__(self) -> None:
        named = [column for column in self.columns if column != "ignored"]
        for column in named:
            check_known(column, (*CORNERS, *CENTRE, "score", "class", "ignored"), "columns")
        box = set(named) - {"score", "class"}
        if len(set(named)) != len(named) or box not in (set(CORNERS), set(CENTRE)):
            raise UserError("columns", "one box, each column once", str(list(self.columns)))
        if "score" not in named:
            raise UserError("columns", "a score", str(list(self.columns)))

    def persons(self, outputs: Outputs, input_hw: SizeHW, person_class: int) -> Candidates:
        most = max((array.ndim for array in outputs.values()), default=0)
        parts = [
            array.reshape(-1, array.shape[-1]) if array.ndim == most else array.reshape(-1, 1)
            for array in outputs.values()
        ]
        if (
            most < 2
            or len({len(part) for part in parts}) != 1
            or sum(part.shape[1] for part in parts) != len(self.columns)
        ):
            raise unlike(f"rows of {', '.join(self.columns)}", outputs)
        rows = np.concatenate([part.astype(np.float64) for part in parts], axis=1)
        values = dict(zip(self.columns, rows.T, strict=True))
        is_person = np.isclose(values.get("class", np.full(len(rows), person_class)), person_class)
        boxes_N4 = boxes_of(values) * (np.array(input_hw[::-1] * 2) if self.normalised else 1)
        return Candidates(boxes_N4[is_person], values["score"][is_person])


FORMS: dict[str, type[DetectorForm]] = {
    "yolox": Yolox,
    "yolov8": Yolov8,
    "distances": Distances,
    "boxes": Boxes,
    "end_to_end": EndToEnd,
}
