"""Skeletons lie where their joints are, and only where joints were seen."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vipnas.data.coco import read_coco
from vipnas.data.skeletons import COCO_17
from vipnas.data.synthetic import ANNOTATIONS, synthesize
from vipnas.deploy.draw import LEFT, TILE_HW, draw_skeleton, prediction_sheet

SHOULDER, ELBOW = COCO_17.joints.index("left_shoulder"), COCO_17.joints.index("left_elbow")


def drawn(seen: set[int]) -> np.ndarray:
    image = np.zeros((64, 64, 3), np.uint8)
    xy = np.full((17, 2), 5.0)
    xy[SHOULDER], xy[ELBOW] = (10, 40), (50, 40)
    draw_skeleton(image, xy, np.array([joint in seen for joint in range(17)]), COCO_17)
    return image


def test_a_limb_joins_its_two_joints_in_the_colour_of_its_side() -> None:
    image = drawn({SHOULDER, ELBOW})
    assert tuple(image[40, 30]) == LEFT
    assert not image[50:].any() and not image[:30].any()


def test_unseen_joints_and_their_limbs_are_left_out() -> None:
    image = drawn({SHOULDER})
    assert tuple(image[40, 10]) == LEFT
    assert not image[:, 20:].any()


def test_the_sheet_has_a_tile_for_each_person_with_labels_above(tmp_path: Path) -> None:
    synthesize(tmp_path / "data", 2, seed=0, people_per_image=(1, 1))
    data = read_coco(tmp_path / "data" / ANNOTATIONS, tmp_path / "data" / "images", COCO_17)
    xy = np.stack([person.keypoints_K3[:, :2] for person in data.persons])
    confident, absent = np.ones(xy.shape[:2]), np.zeros(xy.shape[:2])
    for name, scores in (("all.png", confident), ("none.png", absent)):
        prediction_sheet(tmp_path / name, data.persons, xy, scores, COCO_17)
    found, nothing = (cv2.imread(str(tmp_path / name)) for name in ("all.png", "none.png"))
    height, width = TILE_HW
    assert found.shape == (2 * height, 2 * width, 3)
    assert np.array_equal(found[:height], nothing[:height])  # the labels
    assert not np.array_equal(found[height:], nothing[height:])  # the predictions
