from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vipnas.data.formats.coco import PoseData, read_coco
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.skeletons import COCO_17, read_skeleton
from vipnas.data.formats.splits import hold_out, subset

needs_data = pytest.mark.skipif(
    "VIPNAS_DATA" not in os.environ, reason="VIPNAS_DATA does not name the folder of real data"
)
Document = dict[str, Any]


def read(tiny_coco: Any, skip_bad_images: bool = False) -> PoseData:
    return read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17, Reading(skip_bad_images))


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
    data = read(tiny_coco)
    assert len(data.persons) == len(data.ground_truth["annotations"]) == 10
    assert {a["category_id"] for a in data.ground_truth["annotations"]} == {7}
    assert {person.category_id for person in data.persons} == {7}
    assert (data.category_ids, data.category_names) == ((7,), "7 (person)")
    assert data.left_out == ((100, "category 3 (dog) has no keypoints"),) + (
        (107, "category 3 (dog) has no keypoints"),
    )
    assert "2 of 12 annotations left out: category 3 (dog) has no keypoints" in caplog.text
    rest, held_out = hold_out(data, 4, seed=0)
    assert sorted(rest.left_out + held_out.left_out) == list(data.left_out)


def test_flags_and_null_are_what_they_mean(tiny_coco: Any) -> None:
    entries = tiny_coco.document["annotations"]
    for entry, value in zip(entries, (0, 1, False, True, None), strict=False):
        entry["iscrowd"] = value
    entries[5].update(area=None, num_keypoints=None)
    data = read(tiny_coco)
    flags = [entry["iscrowd"] for entry in data.ground_truth["annotations"]]
    assert flags == [0, 1, 0, 1, 0, *[0] * 7]
    assert [type(value) for value in flags] == [int] * 12
    assert [p.annotation_id for p in data.persons] == [10, 16, *range(22, 46, 3)]
    _, _, width, height = entries[5]["bbox"]
    assert data.ground_truth["annotations"][5]["area"] == pytest.approx(0.53 * width * height)


UNLABELLED: dict[str, Document] = {
    "no keypoints": {},
    "null": {"keypoints": None},
    "empty": {"keypoints": []},
    "null coordinates": {"keypoints": [None, None, 0] * 17},
    "rubbish coordinates": {"keypoints": ["", math.nan, 0, math.inf, [], 0] * 8 + [{}, 1e99, 0]},
}


@pytest.mark.parametrize("case", UNLABELLED)
@pytest.mark.parametrize("rest", [{}, {"bbox": None, "area": None}, {"bbox": [], "area": 0}])
def test_people_without_labels_need_neither_keypoints_nor_box(
    tiny_coco: Any, case: str, rest: Document
) -> None:
    entries = tiny_coco.document["annotations"]
    identity = {key: entries[3][key] for key in ("id", "image_id", "category_id")}
    entries[3] = {**identity, **UNLABELLED[case], **rest}
    data = read(tiny_coco)
    assert len(data.persons) == 11
    assert data.ground_truth["annotations"][3] == {
        **identity,
        "iscrowd": 0,
        "bbox": [0, 0, 0, 0],
        "area": 0,
        "keypoints": [0] * 51,
        "num_keypoints": 0,
    }


def test_coordinates_of_unlabelled_joints_do_not_matter(tiny_coco: Any) -> None:
    entry = tiny_coco.document["annotations"][3]
    entry["keypoints"][3:9] = [None, "x", 0, 7, 8.5, 0]
    entry["num_keypoints"] = sum(v > 0 for v in entry["keypoints"][2::3])
    expected = [*entry["keypoints"][:3], 0, 0, 0, 7, 8.5, 0, *entry["keypoints"][9:]]
    assert read(tiny_coco).ground_truth["annotations"][3]["keypoints"] == expected


def test_a_missing_box_is_that_of_the_joints(tiny_coco: Any) -> None:
    first, second = tiny_coco.document["annotations"][:2]
    first["keypoints"] = [20, 10, 2, 40, 30, 1, *[0] * 45]
    second["keypoints"] = [20, 10, 2, *[0] * 48]
    for entry in (first, second):
        for key in ("bbox", "area", "num_keypoints"):
            del entry[key]
    data = read(tiny_coco)
    assert data.persons[0].box_xywh == pytest.approx((17, 7, 26, 26))  # 20 x 20, 1.3 times
    assert data.persons[0].area == pytest.approx(0.53 * 26 * 26)
    assert data.persons[1].box_xywh == pytest.approx((19.35, 9.35, 1.3, 1.3))  # of one pixel


def test_several_categories_of_one_skeleton_are_chosen_or_merged(tiny_coco: Any) -> None:
    document = tiny_coco.document
    person = document["categories"][0]
    document["categories"] = [person, {**person, "id": 18, "name": "dog"}, {"id": 3, "name": "cat"}]
    for entry in document["annotations"][:4]:
        entry["category_id"] = 18

    def chosen(*names: str) -> PoseData:
        return read_coco(
            tiny_coco.write(), tiny_coco.image_root, COCO_17, Reading(categories=names)
        )

    with pytest.raises(ValueError, match="expected exactly one with keypoints, got dog, person of"):
        read(tiny_coco)
    assert [p.annotation_id for p in chosen("dog").persons] == [10, 13, 16, 19]
    assert {p.category_id for p in chosen("dog").persons} == {18}
    assert {e.reason for e in chosen("dog").left_out} == {
        "category 1 (person) is not in data.categories"
    }
    merged = chosen("dog", "person")
    assert len(merged.persons) == 12 and not merged.left_out
    assert [p.category_id for p in merged.persons] == [18] * 4 + [1] * 8
    assert merged.category_names == "1 (person), 18 (dog)"
    with pytest.raises(ValueError, match=r"expected doge, got none of these \(did you mean 'dog'"):
        chosen("doge")
    with pytest.raises(ValueError, match="expected doge, person, got no doge"):
        chosen("person", "doge")
    with pytest.raises(ValueError, match=r"category 3 \(cat\): keypoints: expected the 17 .* 0 j"):
        chosen("person", "cat")


def test_annotations_can_be_read_where_the_images_are_not(tiny_coco: Any) -> None:
    expected = read(tiny_coco)
    for number in range(6):
        tiny_coco.image_path(number).unlink()
    found = read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17, Reading(check_images=False))
    assert found.ground_truth == expected.ground_truth


def annotation_with(**change: Any) -> Callable[[Document], None]:
    return lambda document: document["annotations"][2].update(change)


def without(part: str, key: str) -> Callable[[Document], None]:
    return lambda document: document[part][2].pop(key)


def image_with(**change: Any) -> Callable[[Document], None]:
    return lambda document: document["images"][2].update(change)


def category_with(**change: Any) -> Callable[[Document], None]:
    return lambda document: document["categories"][0].update(change)


def keypoint(place: int, value: Any) -> Callable[[Document], None]:
    def spoil(document: Document) -> None:
        document["annotations"][2]["keypoints"][place] = value

    return spoil


def rename_joint(document: Document) -> None:
    document["categories"][0]["keypoints"][3] = "chin"


SPOILED: dict[str, tuple[Callable[[Document], Any], str]] = {
    "no images": (lambda d: d.pop("images"), "images: expected a list, got nothing"),
    "null images": (lambda d: d.update(images=None), "images: expected a list, got null"),
    "empty": (lambda d: d.update(annotations=[]), "annotations: expected entries, got an empty"),
    "no id": (
        without("annotations", "id"),
        "annotation number 2: id: expected a whole number, got",
    ),
    "no file name": (
        without("images", "file_name"),
        "image 114: file_name: expected a string, got",
    ),
    "no object": (lambda d: d["images"].append("x"), 'image number 6: expected an object, got "x"'),
    "size": (image_with(width=0), "image 114: width: expected a number of pixels from 1, got 0"),
    "huge size": (image_with(width=10**30), "image 114: width: expected a whole number, got 1000"),
    "text size": (image_with(height="60"), 'image 114: height: expected a whole number, got "60"'),
    "float size": (image_with(height=60.0), "image 114: height: expected a whole number, got 60.0"),
    "list as size": (image_with(width=[80]), r"image 114: width: expected a whole .* got \[80\]"),
    "image id list": (image_with(id=[1]), r"image number 2: id: expected a whole .* got \[1\]"),
    "image id true": (image_with(id=True), "image number 2: id: expected a whole number, got true"),
    "no annotation": (
        lambda d: d["annotations"].append(7),
        "annotation number 12: expected an object, got 7",
    ),
    "no category": (
        without("annotations", "category_id"),
        "annotation 16: category_id: expected a",
    ),
    "category list": (annotation_with(category_id=[1]), r"category_id: .* whole number, got \[1\]"),
    "category text": (annotation_with(category_id="1"), 'category_id: .* whole number, got "1"'),
    "category unknown": (
        annotation_with(category_id=9),
        r"annotation 16: category_id: expected the id of a category of the file, got 9 "
        r"\(1 \(person\)\)",
    ),
    "joint count": (
        annotation_with(keypoints=[1.0] * 48),
        "annotation 16: keypoints: expected a list of 51 numbers",
    ),
    "keypoints 7": (annotation_with(keypoints=7), "annotation 16: keypoints: .* numbers .*, got 7"),
    "keypoints text": (
        annotation_with(keypoints="[]"),
        r'keypoints: expected a list .* got "\[\]"',
    ),
    "NaN": (
        keypoint(7, math.nan),
        r"annotation 16: keypoints: joint 2 \(right_eye\): y: expected a finite number .* got NaN",
    ),
    "infinite": (keypoint(6, math.inf), r"joint 2 \(right_eye\): x: .*, got Infinity"),
    "too far": (keypoint(6, 1e39), r"joint 2 \(right_eye\): x: expected a finite .*, got 1e\+39"),
    "text": (keypoint(7, "7"), r'joint 2 \(right_eye\): y: expected a finite number .*, got "7"'),
    "null joint": (keypoint(7, None), r"joint 2 \(right_eye\): y: expected .*, got null"),
    "nested": (keypoint(7, [1]), r"joint 2 \(right_eye\): y: expected .*, got \[1\]"),
    "visibility": (keypoint(5, 3), r"joint 1 \(left_eye\): visibility: expected 0, 1 or 2, got 3"),
    "visibility below 0": (keypoint(5, -0.5), "visibility: expected 0, 1 or 2, got -0.5"),
    "confidence": (keypoint(5, 0.5), "visibility: expected 0, 1 or 2, got 0.5"),
    "visibility text": (keypoint(5, "2"), 'visibility: expected 0, 1 or 2, got "2"'),
    "count": (
        annotation_with(num_keypoints=17),
        "annotation 16: num_keypoints: expected 1 to 16, as joints are labelled, got 17",
    ),
    "count 0": (annotation_with(num_keypoints=0), "num_keypoints: expected 1 to 16, .*, got 0"),
    "count text": (annotation_with(num_keypoints="16"), 'num_keypoints: .* number, got "16"'),
    "count list": (annotation_with(num_keypoints=[16]), r"num_keypoints: .*, got \[16\]"),
    "count without joints": (
        annotation_with(keypoints=None),
        "num_keypoints: expected 0, as joints are labelled, got 16",
    ),
    "duplicate": (annotation_with(id=10), "annotation 10: expected a unique id, got it 2 times"),
    "duplicate image": (image_with(id=107), "image 107: expected a unique id, got it 2 times"),
    "text id": (
        annotation_with(id="a"),
        'annotation number 2: id: expected a whole number, got "a"',
    ),
    "huge id": (annotation_with(id=10**30), "annotation number 2: id: expected a whole number"),
    "no image": (
        annotation_with(image_id=5),
        "annotation 16: image_id: expected the id of one .* 5",
    ),
    "image list": (annotation_with(image_id=[1]), r"annotation 16: image_id: .* got \[1\]"),
    "image text": (annotation_with(image_id="114"), 'annotation 16: image_id: .*, got "114"'),
    "crowd text": (
        annotation_with(iscrowd="0"),
        'annotation 16: iscrowd: expected 0, 1, true or false, got "0"',
    ),
    "crowd 2": (annotation_with(iscrowd=2), "annotation 16: iscrowd: expected .*, got 2"),
    "crowd list": (annotation_with(iscrowd=[0]), r"annotation 16: iscrowd: .*, got \[0\]"),
    "zero area": (annotation_with(bbox=[3, 3, 0, 9]), "bbox: expected a width and height above 0"),
    "outside": (
        annotation_with(bbox=[80, 3, 9, 9]),
        "annotation 16: bbox: .* its image of 80 x 60",
    ),
    "box NaN": (annotation_with(bbox=[0, 0, math.inf, 1]), "bbox: expected four finite numbers"),
    "box too far": (annotation_with(bbox=[0, 0, 1e300, 1]), "bbox: expected four finite numbers"),
    "box of three": (annotation_with(bbox=[0, 0, 1]), "bbox: expected four finite numbers"),
    "box text": (annotation_with(bbox=[0, 0, "9", 9]), r'bbox: .*, got \[0, 0, "9", 9\]'),
    "box an object": (
        annotation_with(bbox={"x": 1}),
        'bbox: expected four finite .*, got {"x": 1}',
    ),
    "area": (
        annotation_with(area=0),
        "annotation 16: area: expected a number of square pixels above",
    ),
    "area text": (
        annotation_with(area="300"),
        'annotation 16: area: expected a finite .* got "300"',
    ),
    "area list": (annotation_with(area=[300]), r"annotation 16: area: .*, got \[300\]"),
    "area true": (
        annotation_with(area=True),
        "annotation 16: area: expected a finite .*, got true",
    ),
    "joint names": (rename_joint, "expected the 17 joints of coco_17 .*, got 'chin' as joint 3"),
    "joints": (
        category_with(keypoints=["nose"]),
        r"category 1 \(person\): keypoints: expected the 17 joints .*, got 1 joints",
    ),
    "joints a number": (
        category_with(keypoints=4),
        "category 1: keypoints: expected a list of joint names, got 4",
    ),
    "joints numbers": (category_with(keypoints=[1]), r"expected a list of joint names, got \[1\]"),
    "category name": (category_with(name=[1]), r"category 1: name: expected a string, got \[1\]"),
    "category id": (
        category_with(id="1"),
        'category number 0: id: expected a whole number, got "1"',
    ),
    "categories": (lambda d: d.pop("categories"), "categories: expected a list, got nothing"),
    "null categories": (
        lambda d: d.update(categories=None),
        "categories: expected a list, got null",
    ),
    "no joints": (
        category_with(keypoints=[]),
        "expected exactly one with keypoints, got none of 1",
    ),
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
    with pytest.raises(ValueError, match="expected a person with a labelled joint, got none"):
        read(tiny_coco)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1", "valid JSON"), ("[]", r"expected an object in COCO form, got \[\]")],
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
    with pytest.raises(
        ValueError,
        match=r"image 107: .*107\.jpg: .*\(No such file .*\(2 such of 6",
    ):
        read(tiny_coco)
    data = read(tiny_coco, skip_bad_images=True)
    assert "image 107 left out" in caplog.text
    assert "128.jpg: expected a whole image, got a truncated JPEG" in caplog.text
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
    message = rf"people\.json: data\.val_persons: expected at least 1, .*, got {num_persons} of 12"
    with pytest.raises(ValueError, match=message):
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
    with pytest.raises(
        ValueError, match=r"people\.json: data\.max_train_persons: expected at least 1, .* got 0"
    ):
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
    message = r"image 114: .*114\.jpg: expected 90 x 60 pixels .*, got 80 x 60"
    with pytest.raises(ValueError, match=message):
        read(tiny_coco)
    data = read(tiny_coco, skip_bad_images=True)
    assert 114 not in {person.image_id for person in data.persons}
    assert "image 114 left out" in caplog.text


@needs_data
@pytest.mark.parametrize(
    ("name", "skeleton", "num_persons"),
    [
        ("coco", "coco_17", 12),
        ("crowdpose", "crowdpose_14", 9),
        ("wholebody", "coco_wholebody_133", 24),
    ],
)
def test_official_files_of_the_shipped_skeletons_open(
    name: str, skeleton: str, num_persons: int
) -> None:
    """CrowdPose counts only the 12 joints of limbs; COCO-WholeBody's hands have confidences."""
    path = Path(os.environ["VIPNAS_DATA"]) / "cocoeval" / f"example_{name}_val.json"
    data = read_coco(path, path.parent, read_skeleton(skeleton), Reading(check_images=False))
    assert len(data.persons) == num_persons
    raw = {entry["id"]: entry for entry in json.loads(path.read_text())["annotations"]}
    for person in data.persons:
        entry = raw[person.annotation_id]
        fields = [entry[field] for field, _ in read_skeleton(skeleton).annotation_fields]
        labelled = [value > 0 for field in fields for value in field[2::3]]
        assert (person.keypoints_K3[:, 2] > 0).tolist() == labelled
        assert {*person.keypoints_K3[:, 2].tolist()} <= {0, 1, 2}
