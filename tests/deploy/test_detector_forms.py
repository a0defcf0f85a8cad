"""Every output form of a detector gives the boxes that are worked out by hand.

The input is 64 x 64: 64 cells of stride 8, 16 of stride 16, 4 of stride 32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from vipnas.deploy.candidates import Candidates, cells
from vipnas.deploy.detector_forms import FORMS, DetectorForm
from vipnas.files import parse

INPUT_HW = (64, 64)
LEVELS = (64, 16, 4)
NUM_CELLS = sum(LEVELS)
# Stride 16, row 1, column 2; and stride 32, row 1, column 1.
MIDDLE, LAST = 64 + 1 * 4 + 2, 83


def form(name: str, **options: Any) -> DetectorForm:
    return parse(FORMS[name], options, "test")


def persons(
    name: str, outputs: Mapping[str, np.ndarray], person_class: int = 0, **options: Any
) -> Candidates:
    return form(name, **options).persons(outputs, INPUT_HW, person_class)


def f32(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def check(found: Candidates, row: int, box_xyxy: tuple[float, ...], score: float) -> None:
    np.testing.assert_allclose(found.boxes_xyxy[row], box_xyxy, atol=1e-4)
    assert found.scores[row] == pytest.approx(score, abs=1e-6)


def test_cells_are_level_by_level_and_row_by_row() -> None:
    points, strides = cells((16, 24), (8, 16), 0.5)
    expected = [(4, 4), (12, 4), (20, 4), (4, 12), (12, 12), (20, 12), (8, 8), (24, 8)]
    np.testing.assert_array_equal(points, expected)
    np.testing.assert_array_equal(strides[:, 0], [8] * 6 + [16] * 2)


def test_yolox() -> None:
    output = f32(1, NUM_CELLS, 5 + 3)
    output[0, MIDDLE] = (0.5, 0.25, math.log(2), math.log(1.5), 0.8, 0.1, 0.5, 0.9)
    found = persons("yolox", {"output": output}, person_class=1)
    check(found, MIDDLE, (24, 8, 56, 32), 0.8 * 0.5)  # 32 x 24 around (40, 20)
    assert len(found.scores) == NUM_CELLS


def test_yolox_decoded_as_by_yolov5_with_logits() -> None:
    output = f32(1, 252, 5 + 2)
    output[0, 7] = (40, 20, 32, 24, 0, math.log(3), 9)
    found = persons("yolox", {"output": output}, decoded=True, activation="sigmoid")
    check(found, 7, (24, 8, 56, 32), 0.5 * 0.75)


def test_yolov8() -> None:
    output = f32(1, 4 + 80, NUM_CELLS)
    output[0, :5, MIDDLE] = (40, 20, 32, 24, 0.7)
    found = persons("yolov8", {"output0": output})
    check(found, MIDDLE, (24, 8, 56, 32), 0.7)


def distributions() -> dict[str, np.ndarray]:
    """Two outputs a level; left is half of a stride, top 1, right 2 and bottom 0."""
    scores = {f"scores{n}": f32(1, n, 80) for n in LEVELS}
    sides = {f"sides{n}": f32(1, n, 4 * 3) for n in LEVELS}
    scores["scores4"][0, 3, 0] = 0.6
    sides["sides4"][0, 3] = (50, 50, 0, 0, 50, 0, 0, 0, 50, 50, 0, 0)
    return {**scores, **sides}


def test_distances_in_bins_as_by_nanodet() -> None:
    found = persons("distances", distributions(), unit="bins", offset=0.5)
    check(found, LAST, (48 - 16, 48 - 32, 48 + 64, 48), 0.6)  # from the cell's middle


def test_distances_take_outputs_in_any_order() -> None:
    levels = distributions()
    names = ("sides16", "scores4", "scores64", "sides4", "scores16", "sides64")
    found = persons("distances", {name: levels[name] for name in names}, unit="bins")
    check(found, LAST, (32, 16, 112, 48), 0.6)


def test_distances_in_one_output_as_by_nanodet_plus() -> None:
    levels = distributions()
    both = [np.concatenate((levels[f"scores{n}"], levels[f"sides{n}"]), axis=2) for n in LEVELS]
    found = persons("distances", {"out": np.concatenate(both, axis=1)}, unit="bins", offset=0)
    check(found, LAST, (32 - 16, 32 - 32, 32 + 64, 32), 0.6)  # from the cell's corner


def test_distances_of_one_class_are_told_by_num_classes() -> None:
    outputs = {f"{kind}{n}": f32(1, n, c) for n in LEVELS for kind, c in (("d", 4), ("s", 1))}
    outputs["s16"][0, 6], outputs["d16"][0, 6] = 0.5, (1, 2, 0.5, 0.25)
    found = persons("distances", outputs, unit="strides", num_classes=1)
    check(found, MIDDLE, (40 - 16, 24 - 32, 40 + 8, 24 + 4), 0.5)


def test_distances_in_pixels_from_maps_as_by_rtmdet() -> None:
    sides = (8, 4, 2)
    outputs = {f"scores{n}": f32(1, 80, n, n) - 20 for n in sides}
    outputs |= {f"sides{n}": f32(1, 4, n, n) for n in sides}
    outputs["scores4"][0, 0, 1, 2] = 0  # row 1, column 2
    outputs["sides4"][0, :, 1, 2] = (5, 6, 7, 8)
    found = persons("distances", outputs, unit="pixels", offset=0, activation="sigmoid")
    check(found, MIDDLE, (32 - 5, 16 - 6, 32 + 7, 16 + 8), 0.5)
    assert found.scores.argmax() == MIDDLE


def test_boxes_as_by_ssd() -> None:
    outputs = {"scores": f32(1, 30, 21), "boxes": f32(1, 30, 4)}
    outputs["scores"][0, 9, 15], outputs["boxes"][0, 9] = 0.9, (0.25, 0.5, 0.75, 1)
    check(persons("boxes", outputs, person_class=15), 9, (16, 32, 48, 64), 0.9)


def test_boxes_by_centre_with_logits_as_by_detr() -> None:
    outputs = {"logits": f32(1, 10, 3), "pred_boxes": f32(1, 10, 4)}
    outputs["logits"][0, 2] = (math.log(2), 0, 0)
    outputs["pred_boxes"][0, 2] = (0.5, 0.25, 0.5, 0.125)
    columns = ["centre_x", "centre_y", "width", "height"]
    found = persons("boxes", outputs, columns=columns, activation="softmax")
    check(found, 2, (16, 12, 48, 20), 0.5)


def test_boxes_are_the_first_output_where_there_are_four_classes() -> None:
    outputs = {"boxes": f32(1, 5, 4), "scores": f32(1, 5, 4)}
    outputs["boxes"][0, 1], outputs["scores"][0, 1] = (1, 2, 3, 4), (0.1, 0.2, 0.3, 0.4)
    check(persons("boxes", outputs, person_class=2, normalised=False), 1, (1, 2, 3, 4), 0.3)


def test_end_to_end_in_one_output_keeps_persons_only() -> None:
    output = f32(1, 3, 6)
    output[0] = [(1, 2, 3, 4, 0.9, 0), (5, 6, 7, 8, 0.8, 16), (2, 3, 4, 5, 0.7, 0)]
    found = persons("end_to_end", {"output0": output})
    np.testing.assert_array_equal(found.boxes_xyxy, [(1, 2, 3, 4), (2, 3, 4, 5)])
    np.testing.assert_allclose(found.scores, (0.9, 0.7), atol=1e-6)


def test_end_to_end_in_dets_and_labels_as_by_mmdeploy() -> None:
    outputs = {"dets": f32(1, 2, 5), "labels": np.array([[7, 0]])}
    outputs["dets"][0] = [(1, 2, 3, 4, 0.9), (5, 6, 7, 8, 0.8)]
    found = persons("end_to_end", outputs)
    assert len(found.scores) == 1
    check(found, 0, (5, 6, 7, 8), 0.8)


def test_end_to_end_in_named_columns_as_by_tensorflow() -> None:
    boxes = np.array([[(0.5, 0.25, 1, 0.75), (0, 0, 0, 0)]], np.float32)
    outputs: dict[str, Any] = {"boxes": boxes, "scores": f32(1, 2) + 0.5}
    outputs["classes"] = f32(1, 2) + (1, 3)
    columns = ["top", "left", "bottom", "right", "score", "class"]
    found = persons("end_to_end", outputs, person_class=1, columns=columns, normalised=True)
    assert len(found.scores) == 1
    check(found, 0, (16, 32, 48, 64), 0.5)


def test_end_to_end_without_the_axis_of_the_batch_and_with_one_detection() -> None:
    outputs = {"boxes": f32(1, 4) + (1, 2, 3, 4), "labels": np.array([1]), "scores": f32(1) + 0.5}
    columns = ["left", "top", "right", "bottom", "class", "score"]
    check(persons("end_to_end", outputs, person_class=1, columns=columns), 0, (1, 2, 3, 4), 0.5)


def test_end_to_end_of_persons_only_and_with_a_column_to_ignore() -> None:
    columns = ["ignored", "left", "top", "right", "bottom", "score"]
    output = np.array([(0, 1, 2, 3, 4, 0.5)], np.float32)
    check(persons("end_to_end", {"out": output}, columns=columns), 0, (1, 2, 3, 4), 0.5)


def test_end_to_end_may_find_nobody() -> None:
    found = persons("end_to_end", {"output0": f32(1, 0, 6)})
    assert found.boxes_xyxy.shape == (0, 4) and found.scores.shape == (0,)


@pytest.mark.parametrize(
    ("name", "options", "outputs", "expected"),
    [
        ("yolox", {}, {"a": f32(1, 85, 84)}, r"\(1, 84, 5 \+ classes\), got a \(1, 85, 84\)"),
        ("yolox", {}, {"a": f32(1, 84, 5), "b": f32(1)}, r"got a \(1, 84, 5\), b \(1\)"),
        ("yolox", {"decoded": True}, {"a": f32(1, 84, 5)}, r"one \(1, cells, 5 \+ classes\)"),
        ("yolov8", {}, {"a": f32(1, 84, 85)}, r"\(1, 4 \+ classes, 84\), got a \(1, 84, 85\)"),
        ("yolov8", {}, {"a": f32(1, 300, 6)}, r"one \(1, 4 \+ classes, 84\)"),
        ("distances", {"unit": "pixels"}, distributions(), r"\(1, cells, 80\) and \(1, cells, 4\)"),
        ("distances", {"unit": "bins", "strides": [8, 16]}, distributions(), "cells 64, 16, or"),
        ("distances", {"unit": "bins", "num_classes": 3}, distributions(), r"\(1, cells, 3\)"),
        ("distances", {"unit": "bins"}, {"a": f32(1, 84, 83)}, r"or one \(1, 84, 80 \+ 4 x bins\)"),
        ("boxes", {}, {"a": f32(1, 9, 4)}, r"boxes \(1, N, 4\) and scores"),
        ("boxes", {}, {"a": f32(1, 9, 5), "b": f32(1, 9, 3)}, r"boxes \(1, N, 4\) and scores"),
        ("boxes", {}, {"a": f32(1, 9, 4), "b": f32(1, 8, 3)}, "as many boxes as scores"),
        ("end_to_end", {}, {"a": f32(1, 9, 5)}, "rows of left, top, right, bottom, score, class"),
        ("end_to_end", {}, {"a": f32(1, 9, 5), "b": f32(1, 8)}, "rows of left"),
    ],
)  # fmt: skip
def test_outputs_of_another_form_are_one_line(
    name: str, options: dict[str, Any], outputs: dict[str, np.ndarray], expected: str
) -> None:
    with pytest.raises(ValueError, match=f"outputs: expected .*{expected}"):
        persons(name, outputs, **options)


@pytest.mark.parametrize("person_class", [-1, 2])
def test_a_class_that_the_model_has_not_is_refused(person_class: int) -> None:
    with pytest.raises(ValueError, match=f"person_class: expected 0 to 1.*got {person_class}"):
        persons("yolov8", {"a": f32(1, 6, NUM_CELLS)}, person_class=person_class)


@pytest.mark.parametrize(
    ("name", "columns", "expected"),
    [
        ("boxes", ["left", "top", "width", "height"], "columns: expected left, top"),
        ("boxes", ["left", "top", "right"], "columns: expected left, top"),
        ("end_to_end", ["left", "top", "right", "bottom"], "columns: expected a score"),
        ("end_to_end", ["left", "top", "right", "score"], "columns: expected one box"),
        ("end_to_end", ["left", "left", "top", "right", "bottom", "score"], "each column once"),
        ("end_to_end", ["left", "top", "right", "botom", "score"], "did you mean 'bottom'"),
    ],
)
def test_columns_that_are_no_box_are_refused(name: str, columns: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=f"test: .*{expected}"):
        form(name, columns=columns)
