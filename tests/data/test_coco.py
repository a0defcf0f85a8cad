from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vipnas.data.formats.coco import PoseData, hold_out, read_coco, subset
from vipnas.data.formats.skeletons import COCO_17

needs_data = pytest.mark.skipif(
    "VIPNAS_DATA" not in os.environ, reason="VIPNAS_DATA does not name the folder of real data"
)
Document = dict[str, Any]


def read(tiny_coco: Any, skip_bad_images: bool = False) -> PoseData:
    return read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17, skip_bad_images)


def test_persons_are_what_the_file_says(tiny_coco: Any) -> None:
    data = read(tiny_coco)
    assert [p.annotation_id for p in data.persons] == list(range(10, 46, 3))
    raw = tiny_coco.document["annotations"][3]
    person = data.persons[3]
    assert person.image_id == raw["image_id"] == 114
    assert person.image_path == tiny_coco.image_root / "114.jpg"
    assert person.image_hw == (60, 80)
    assert person.box_xywh == pytest.approx(raw["bbox"])
    assert person.area == raw["area"]
    assert np.array_equal(
        person.keypoints_K3, np.array(raw["keypoints"], np.float32).reshape(17, 3)
    )
    assert data.ground_truth["annotations"] == tiny_coco.document["annotations"]
    assert data.ground_truth["images"] == tiny_coco.document["images"]


def test_boxes_are_cut_at_the_edge_of_the_image(tiny_coco: Any) -> None:
    tiny_coco.document["annotations"][0]["bbox"] = [-10, -5, 30, 100]
    tiny_coco.document["annotations"][1]["bbox"] = [70, 50, 30, 40]
    data = read(tiny_coco)
    assert list(data.persons[0].box_xywh) == [0, 0, 20, 60]
    assert list(data.persons[1].box_xywh) == [70, 50, 10, 10]
    assert data.ground_truth["annotations"][0]["bbox"] == [-10, -5, 30, 100]  # as annotated


def test_crowds_and_people_without_labelled_joints_are_only_in_the_ground_truth(
    tiny_coco: Any,
) -> None:
    crowd, unlabelled = tiny_coco.document["annotations"][4:6]
    crowd["iscrowd"] = 1
    unlabelled.update(keypoints=[0] * 51, num_keypoints=0, bbox=[0, 0, 0, 0], area=0)
    data = read(tiny_coco)
    assert len(data.persons) == 10
    assert {crowd["id"], unlabelled["id"]}.isdisjoint(p.annotation_id for p in data.persons)
    assert len(data.ground_truth["annotations"]) == 12


def test_what_may_be_missing_is_filled_in(tiny_coco: Any) -> None:
    entry = tiny_coco.document["annotations"][0]
    for key in ("area", "iscrowd", "num_keypoints"):
        del entry[key]
    data = read(tiny_coco)
    assert data.persons[0].area == pytest.approx(0.53 * entry["bbox"][2] * entry["bbox"][3])
    filled = data.ground_truth["annotations"][0]
    assert (filled["iscrowd"], filled["num_keypoints"]) == (0, 16)


def test_other_categories_are_left_out_and_counted(
    tiny_coco: Any, caplog: pytest.LogCaptureFixture
) -> None:
    document = tiny_coco.document
    document["categories"] = [{"id": 3, "name": "dog"}, {**document["categories"][0], "id": 7}]
    for number, entry in enumerate(document["annotations"]):
        entry["category_id"] = 3 if number < 2 else 7
    with caplog.at_level(logging.INFO):
        data = read(tiny_coco)
    assert len(data.persons) == len(data.ground_truth["annotations"]) == 10
    assert {a["category_id"] for a in data.ground_truth["annotations"]} == {1}
    assert "2 annotations of categories without keypoints left out" in caplog.text


def annotation_with(**change: Any) -> Callable[[Document], None]:
    return lambda document: document["annotations"][2].update(change)


def without(part: str, key: str) -> Callable[[Document], None]:
    return lambda document: document[part][2].pop(key)


def keypoint(place: int, value: float) -> Callable[[Document], None]:
    def spoil(document: Document) -> None:
        document["annotations"][2]["keypoints"][place] = value

    return spoil


def rename_joint(document: Document) -> None:
    document["categories"][0]["keypoints"][3] = "chin"


SPOILED: dict[str, tuple[Callable[[Document], Any], str]] = {
    "no images": (lambda d: d.pop("images"), "images: missing or empty"),
    "empty": (lambda d: d.update(annotations=[]), "annotations: missing or empty"),
    "no keypoints": (without("annotations", "keypoints"), "annotation 16: keypoints is missing"),
    "no box": (without("annotations", "bbox"), "annotation 16: bbox is missing"),
    "no file name": (without("images", "file_name"), "image 114: file_name is missing"),
    "no object": (lambda d: d["images"].append("x"), "image: found 'x'; allowed: an object"),
    "size": (lambda d: d["images"][2].update(width=0), "image 114: size 0 x 60"),
    "text size": (
        lambda d: d["images"][2].update(height="60"),
        "image 114: height is '60'; allowed: a whole number",
    ),
    "null box": (annotation_with(bbox=None), "annotation 16: bbox is None; allowed: a list"),
    "no annotation": (lambda d: d["annotations"].append(7), "annotation: found 7; allowed: an obj"),
    "no category": (without("annotations", "category_id"), "annotation 16: category_id is missing"),
    "joint count": (
        annotation_with(keypoints=[1.0] * 48),
        "annotation 16: 48 keypoint numbers; allowed: 51",
    ),
    "NaN": (keypoint(4, math.nan), "annotation 16: keypoints hold something that is not a finite"),
    "text": (keypoint(4, "7"), "annotation 16: keypoints hold something"),  # type: ignore[arg-type]
    "visibility": (keypoint(5, 3), "annotation 16: visibility 3; allowed: 0, 1 or 2"),
    "count": (annotation_with(num_keypoints=9), "num_keypoints is 9, but 16 joints are labelled"),
    "duplicate": (annotation_with(id=10), "annotation 10: this id is there 2 times"),
    "duplicate image": (lambda d: d["images"][2].update(id=107), "image 107: this id is there 2"),
    "text id": (annotation_with(id="a"), "annotation a: id is 'a'; allowed: a whole number"),
    "no image": (annotation_with(image_id=5), "annotation 16: points to image 5, which is not in"),
    "zero area": (annotation_with(bbox=[3, 3, 0, 9]), r"annotation 16: bbox \[3, 3, 0, 9\] has no"),
    "outside": (annotation_with(bbox=[80, 3, 9, 9]), "annotation 16: .* outside its image of 80 x"),
    "box NaN": (annotation_with(bbox=[0, 0, math.inf, 1]), "four finite numbers"),
    "box of three": (annotation_with(bbox=[0, 0, 1]), "four finite numbers"),
    "area": (annotation_with(area=0), "annotation 16: area 0; allowed: a number above 0"),
    "joint names": (rename_joint, "joint 3 is 'chin'; allowed: the 17 joints of coco_17"),
    "joints": (
        lambda d: d["categories"][0].update(keypoints=["nose"]),
        "categories: 1 joints; allowed: the 17 joints",
    ),
    "categories": (lambda d: d.pop("categories"), "0 of 0 have keypoints; allowed: exactly one"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_bad_annotations_are_named_in_one_line(tiny_coco: Any, case: str) -> None:
    spoil, message = SPOILED[case]
    spoil(tiny_coco.document)
    with pytest.raises(ValueError, match=message) as caught:
        read(tiny_coco)
    assert str(caught.value).startswith(str(tiny_coco.annotation_file))
    assert "\n" not in str(caught.value)


def test_nobody_to_train_on_is_an_error(tiny_coco: Any) -> None:
    for entry in tiny_coco.document["annotations"]:
        entry["iscrowd"] = 1
    with pytest.raises(ValueError, match="no person with a labelled joint"):
        read(tiny_coco)


@pytest.mark.parametrize(
    ("content", "message"), [("[1", "valid JSON"), ("[]", "found a list; allowed: an object")]
)
def test_a_file_that_is_no_coco_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "people.json"
    with pytest.raises(ValueError, match="no such file"):
        read_coco(path, tmp_path, COCO_17)
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_coco(path, tmp_path, COCO_17)


def test_bad_images_are_named_or_left_out(tiny_coco: Any, caplog: pytest.LogCaptureFixture) -> None:
    tiny_coco.image_path(1).unlink()
    whole = tiny_coco.image_path(4).read_bytes()
    tiny_coco.image_path(4).write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match=r"image 107: .*107\.jpg: No such file .*\(2 such of 6"):
        read(tiny_coco)
    data = read(tiny_coco, skip_bad_images=True)
    assert "image 107 left out" in caplog.text
    assert "128.jpg: a truncated JPEG" in caplog.text
    assert {p.image_id for p in data.persons} == {100, 114, 121, 135}
    assert {a["image_id"] for a in data.ground_truth["annotations"]} == {100, 114, 121, 135}
    assert [i["id"] for i in data.ground_truth["images"]] == [100, 114, 121, 135]


def check_split(data: PoseData, parts: tuple[PoseData, PoseData]) -> None:
    images = [{p.image_id for p in part.persons} for part in parts]
    assert images[0].isdisjoint(images[1])
    together = sorted(p.annotation_id for part in parts for p in part.persons)
    assert together == [p.annotation_id for p in data.persons]
    for part, ids in zip(parts, images, strict=True):
        assert {i["id"] for i in part.ground_truth["images"]} == ids
        truth = [a["id"] for a in part.ground_truth["annotations"]]
        assert truth == [p.annotation_id for p in part.persons] == sorted(truth)


@pytest.mark.parametrize("num_persons", [1, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_hold_out_splits_by_image(tiny_coco: Any, num_persons: int, seed: int) -> None:
    data = read(tiny_coco)
    rest, held_out = hold_out(data, num_persons, seed)
    check_split(data, (rest, held_out))
    assert num_persons <= len(held_out.persons) < num_persons + 3
    again = hold_out(data, num_persons, seed)[1]
    assert [p.annotation_id for p in again.persons] == [p.annotation_id for p in held_out.persons]


def test_hold_out_depends_on_the_seed(tiny_coco: Any) -> None:
    data = read(tiny_coco)
    drawn = {tuple(p.image_id for p in hold_out(data, 4, seed)[1].persons) for seed in range(9)}
    assert len(drawn) > 3


@pytest.mark.parametrize("num_persons", [0, 12, 13])
def test_hold_out_must_leave_something_on_both_sides(tiny_coco: Any, num_persons: int) -> None:
    data = read(tiny_coco)
    with pytest.raises(ValueError, match=f"cannot hold out {num_persons} of 12 persons"):
        hold_out(data, num_persons, seed=0)


@pytest.mark.parametrize("max_persons", [1, 4, 11])
def test_subset_is_whole_images_up_to_the_number(tiny_coco: Any, max_persons: int) -> None:
    data = read(tiny_coco)
    part = subset(data, max_persons, seed=1)
    assert max_persons - 3 < len(part.persons) <= max_persons
    kept = {p.image_id for p in part.persons}
    expected = [p.annotation_id for p in data.persons if p.image_id in kept]
    assert [p.annotation_id for p in part.persons] == expected
    assert {i["id"] for i in part.ground_truth["images"]} == kept
    assert subset(data, 12, seed=1) is data


def test_subset_of_nobody_is_refused(tiny_coco: Any) -> None:
    with pytest.raises(ValueError, match="as few as 0 persons"):
        subset(read(tiny_coco), 0, seed=0)


@needs_data
@pytest.mark.parametrize(
    ("annotation_file", "image_root", "num_persons"),
    [
        ("lspet/train.json", "lspet/images", 2500),
        ("coco_sample/person_keypoints_train2017.json", "coco_sample/train2017", 388),
    ],
)
def test_real_data_opens(annotation_file: str, image_root: str, num_persons: int) -> None:
    root = Path(os.environ["VIPNAS_DATA"])
    data = read_coco(root / annotation_file, root / image_root, COCO_17)
    assert len(data.persons) == num_persons
    raw = json.loads((root / annotation_file).read_text())
    assert len(data.ground_truth["annotations"]) == len(raw["annotations"])


def test_an_image_of_another_size_is_found_when_the_set_is_opened(
    tiny_coco: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_coco.document["images"][2]["width"] = 90
    message = r"image 114: .*114\.jpg: is 80 x 60 pixels, but the annotation file says 90 x 60"
    with pytest.raises(ValueError, match=message):
        read(tiny_coco)
    data = read(tiny_coco, skip_bad_images=True)
    assert 114 not in {person.image_id for person in data.persons}
    assert "image 114 left out" in caplog.text
