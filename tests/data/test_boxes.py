from __future__ import annotations

import numpy as np
import pytest

from vipnas.config.data import BoxFit
from vipnas.data.crops.boxes import box_ious, xywh_from_xyxy, xyxy_from_xywh
from vipnas.data.crops.pictures import box_crops


def test_overlaps_by_hand() -> None:
    first = np.array([[0.0, 0, 10, 10], [5, 5, 5, 5]])
    second = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    assert box_ious(first, second) == pytest.approx(np.array([[1, 50 / 150, 0], [0, 0, 0]]))
    assert box_ious(first[:0], second).shape == (0, 3)


def test_forms_of_boxes_are_inverse() -> None:
    boxes = np.array([[1.0, 2, 4, 8], [-3, 0, 3, 1]])
    assert xywh_from_xyxy(boxes).tolist() == [[1, 2, 3, 6], [-3, 0, 6, 1]]
    assert xyxy_from_xywh(xywh_from_xyxy(boxes)).tolist() == boxes.tolist()


def test_a_box_of_the_input_size_is_cut_out_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    boxes = np.array([[10.0, 4, 26, 28], [0, 0, 16, 24]])
    crops, matrices = box_crops(image, boxes, (24, 16), (24, 16), BoxFit(1.0))
    assert np.array_equal(crops[0], image[4:28, 10:26])
    assert np.array_equal(crops[1], image[:24, :16])
    assert matrices[0] == pytest.approx(np.array([[1, 0, -10], [0, 1, -4]]))
