from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from vipnas.data.crops.crops import fixed_crops
from vipnas.data.formats.coco import PoseData, read_coco
from vipnas.data.formats.detections import read_detections
from vipnas.data.formats.skeletons import COCO_17


@pytest.fixture
def data(tiny_coco: Any) -> PoseData:
    return read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17)


def detection(image_id: Any = 100, score: Any = 0.5, **change: Any) -> dict[str, Any]:
    box = [10.0, 5.0, 30.0, 20.0]
    return {"image_id": image_id, "category_id": 1, "bbox": box, "score": score, **change}


def written(tmp_path: Path, *entries: Any) -> Path:
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(entries))
    return path


def test_detections_are_persons_without_labels(tmp_path: Path, data: PoseData) -> None:
    path = written(tmp_path, detection(107, 0.9), detection(100, 0.2, bbox=[-10, 50, 30, 20]))
    found = read_detections(path, data)
    assert found.scores_N.tolist() == [0.9, 0.2]
    first, second = found.persons
    assert (first.image_id, first.image_path) == (107, data.image_root / "107.jpg")
    assert (first.box_xywh, first.area) == ((10, 5, 30, 20), 600)
    assert second.box_xywh == (0, 50, 20, 10)  # cut at the edge of the image of 80 x 60
    assert (second.annotation_id, second.image_hw) == (1, (60, 80))
    assert not first.keypoints_K3.any() and first.keypoints_K3.shape == (17, 3)
    assert len(fixed_crops(found.persons, COCO_17, (64, 48))) == 2


def test_what_is_left_out_is_counted(
    tmp_path: Path, data: PoseData, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [
        detection(score=0.30),
        detection(score=0.29),
        detection(score=0.1),
        detection(image_id=999),
        detection(category_id=3),
        detection(bbox=[90, 5, 10, 10]),
        detection(bbox=[5, 5, 0, 10]),
    ]
    found = read_detections(written(tmp_path, *entries), data, score_threshold=0.3)
    assert found.scores_N.tolist() == [0.30]
    for line in (
        "2 of 7 detections left out: scores below 0.3",
        "1 of 7 detections left out: images that are not in the data",
        "1 of 7 detections left out: other categories than 1 (person)",
        "2 of 7 detections left out: boxes without area inside the image",
        "no detection on 5 of 6 images",
    ):
        assert line in caplog.text


def test_the_category_is_that_of_the_annotation_file(tmp_path: Path, tiny_coco: Any) -> None:
    for entry in (*tiny_coco.document["annotations"], *tiny_coco.document["categories"]):
        entry["category_id" if "category_id" in entry else "id"] = 3
    data = read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17)
    without, null = detection(107), detection(107, category_id=None)
    del without["category_id"]
    path = written(tmp_path, detection(category_id=3), detection(), without, null)
    found = read_detections(path, data)
    assert [person.annotation_id for person in found.persons] == [0, 2, 3]
    assert {person.category_id for person in found.persons} == {3}
    with pytest.raises(ValueError, match=r"\(1 other categories than 3 \(person\)\)"):
        read_detections(written(tmp_path, detection()), data)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (7, "detection 1: expected an object, got 7"),
        ({"image_id": 100, "bbox": [0, 0, 1, 1]}, "detection 1: score: expected a .*, got nothing"),
        (detection(score=math.nan), "detection 1: score: expected a finite number, got NaN"),
        (detection(score="0.9"), 'detection 1: score: expected a finite number, got "0.9"'),
        (detection(score=None), "detection 1: score: expected a finite number, got null"),
        (detection(score=[1]), r"detection 1: score: expected a finite number, got \[1\]"),
        (detection(bbox=[0, 0, math.inf, 1]), r"detection 1: bbox: .*, got \[0, 0, Infinity, 1\]"),
        (detection(bbox=[0, 0, 1]), "four finite numbers"),
        (detection(bbox=None), "four finite numbers x, y, width, height in pixels, got null"),
        (detection(image_id="1"), 'detection 1: image_id: expected a whole number, got "1"'),
        (detection(image_id=[1]), r"detection 1: image_id: expected a whole number, got \[1\]"),
        (detection(category_id=[1]), r"detection 1: category_id: expected a whole .*, got \[1\]"),
        (detection(category_id="1"), 'detection 1: category_id: expected a whole number, got "1"'),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, data: PoseData, entry: Any, message: str) -> None:
    path = written(tmp_path, detection(), entry)
    with pytest.raises(ValueError, match=message) as caught:
        read_detections(path, data)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_file_for_other_images_is_refused(tmp_path: Path, data: PoseData) -> None:
    path = written(tmp_path, detection(1), detection(2))
    with pytest.raises(
        ValueError,
        match=r"expected detections on the 6 images of .*people\.json, got 2 of which none "
        r"can be used \(2 images that are not in the data\)",
    ):
        read_detections(path, data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "valid JSON"),
        ("[]", r"expected a list of detections in COCO results form, got \[\]"),
        ("{}", "expected a list of detections in COCO results form, got {}"),
    ],
)
def test_a_file_that_is_no_detections_file(
    tmp_path: Path, data: PoseData, content: str, message: str
) -> None:
    path = tmp_path / "detections.json"
    with pytest.raises(ValueError, match="no such file"):
        read_detections(path, data)
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_detections(path, data)
