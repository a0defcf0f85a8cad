"""Skeletons lie where their joints are, and only where joints were seen."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vipnas.data.formats.coco import read_coco
from vipnas.data.formats.skeletons import COCO_17
from vipnas.synthetic.images import ANNOTATIONS, synthesize
from vipnas.viz.sheets import TILE_HW, prediction_sheet


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
