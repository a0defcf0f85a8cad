from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vipnas.config.data import Augmentation
from vipnas.data.codecs.heatmap import make_codec
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.formats.coco import PoseData, read_coco
from vipnas.data.formats.skeletons import COCO_17
from vipnas.viz.inspect import contact_sheet, describe, inspect_data
from vipnas.viz.pose_style import LEFT, MIDDLE, RIGHT
from vipnas.viz.poses import draw_pose

INPUT_HW, HEATMAP_HW = (64, 48), (16, 12)
CODEC = make_codec("quarter", INPUT_HW, HEATMAP_HW)


@pytest.fixture
def data(tiny_coco: Any) -> PoseData:
    first, second = tiny_coco.document["annotations"][:2]
    first["bbox"] = [0, 0, 20, 40]
    second["keypoints"][:3] = [300, 5, 1]
    second["num_keypoints"] = sum(v > 0 for v in second["keypoints"][2::3])
    return read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17)


def test_counts_by_hand(data: PoseData) -> None:
    lines = describe(data)
    assert "images: 6, of them 6 with labelled persons" in lines
    assert (
        "persons with labelled joints: 12 of 12 annotations, 0 of them crowds; at most 3 in an "
        "image" in lines
    )
    assert "persons with a labelled joint outside the image: 1, such as annotation 13" in lines
    widths = np.array([person.box_xywh[2] for person in data.persons])
    line = next(line for line in lines if line.startswith("box width"))
    assert f"median {np.median(widths):g}," in line and "range 20 to" in line
    nose = next(line for line in lines if line.strip().startswith("nose"))
    counts = [int(word) for word in nose.split()[1:]]
    visibilities = [int(person.keypoints_K3[0, 2]) for person in data.persons]
    assert counts == [visibilities.count(value) for value in range(3)]
    assert counts[1] == 1 and sum(counts) == 12


def test_what_is_left_out_is_counted_by_reason(tiny_coco: Any) -> None:
    document = tiny_coco.document
    document["categories"].append({"id": 3, "name": "dog"})
    for entry in document["annotations"][:6]:
        entry["category_id"] = 3
    document["annotations"][6]["iscrowd"] = 1
    document["annotations"][7].update(keypoints=[], num_keypoints=0)
    lines = describe(read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17))
    assert lines[2].startswith("persons with labelled joints: 4 of 12 annotations, 1 of them cr")
    assert lines[3:6] == [
        "annotations left out: 6, category 3 (dog) has no keypoints",
        "annotations left out: 1, crowds are not scored",
        "annotations left out: 1, no joint is labelled",
    ]


def test_suspicions_are_among_the_lines(tiny_coco: Any) -> None:
    for entry in tiny_coco.document["annotations"]:
        entry["area"] = 1
    lines = describe(read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17))
    assert "areas under 0.02 or over 1.2 of their box: 12 of 12 (100.0%)" in lines
    assert any(line.startswith("suspicion: areas do not look like areas") for line in lines)


def test_joints_are_drawn_where_they_are_in_the_colour_of_their_side() -> None:
    keypoints = np.zeros((17, 3))
    places = {"left_wrist": (10, 20, 2), "right_wrist": (30, 40, 2), "nose": (20, 8, 2)}
    for name, place in places.items():
        keypoints[COCO_17.joints.index(name)] = place
    black = np.zeros((*INPUT_HW, 3), np.uint8)
    drawn = draw_pose(black, keypoints, COCO_17)
    for (x, y, _), colour in zip(places.values(), (LEFT, RIGHT, MIDDLE), strict=True):
        assert tuple(drawn[y, x].tolist()) == colour
    assert not black.any()
    keypoints[:, 2] = np.minimum(keypoints[:, 2], 1)  # hidden: a ring
    ring = draw_pose(black, keypoints, COCO_17)
    assert not ring[20, 10].any() and ring[20, 13].any()
    keypoints[:, 2] = 0
    assert not draw_pose(black, keypoints, COCO_17).any()


def test_the_heatmap_lies_over_the_joint(data: PoseData) -> None:
    crops = fixed_crops(data.persons[:1], COCO_17, INPUT_HW)
    keypoints = crops.keypoints_BK3[0]
    keypoints[:, 2] = 0
    keypoints[4] = keypoints.new_tensor((21.0, 37.0, 2.0))
    right = contact_sheet(crops, COCO_17, CODEC)[:, 48:].astype(float)
    coloured = right.max(axis=2) - right.min(axis=2)  # all else is grey
    rows, columns = np.indices(coloured.shape)
    centre = [(where * coloured).sum() / coloured.sum() for where in (columns, rows)]
    assert centre == pytest.approx([21, 37], abs=0.7)


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
@pytest.mark.parametrize(("num_persons", "sheet_hw"), [(1, (64, 96)), (7, (128, 576))])
def test_the_sheet_is_written(
    data: PoseData,
    tmp_path: Path,
    augmentation: Augmentation | None,
    num_persons: int,
    sheet_hw: tuple[int, int],
) -> None:
    path = tmp_path / "look" / "sheet.png"
    said = inspect_data(data, CODEC, path, num_persons, augmentation)
    assert said.splitlines()[-1] == f"contact sheet of {num_persons} persons: {path}"
    sheet = cv2.imread(str(path))
    assert sheet is not None and sheet.shape[:2] == sheet_hw
    again = tmp_path / "again.png"
    inspect_data(data, CODEC, again, num_persons, augmentation)
    assert again.read_bytes() == path.read_bytes()
    inspect_data(data, CODEC, again, num_persons, augmentation, seed=6)
    assert again.read_bytes() != path.read_bytes()


def test_nobody_cannot_be_shown(data: PoseData, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_persons: expected 1 or more, got 0"):
        inspect_data(data, CODEC, tmp_path / "sheet.png", 0)
