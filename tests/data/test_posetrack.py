from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from posetrack_fixture import CATEGORY, POSETRACK_18, Tree

from vipnas.data.formats.posetrack import PoseTrackData, read_posetrack
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.splits import hold_out, subset
from vipnas.evaluation.protocols import protocols_for


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_official_files_by_hand(tree: Tree) -> None:
    data = tree.read()
    assert [video.name for video in data.videos] == ["000342", "000522"]
    video = data.videos[0]
    assert [frame.number for frame in video.frames] == [0, 1, 2]
    assert [frame.is_labelled for frame in video.frames] == [True, True, False]
    assert [len(frame.people) for frame in video.frames] == [2, 1, 0]
    assert video.frames[0].image_hw == (60, 80)  # read from the image
    assert video.frames[1].ignore_regions[0].tolist() == [[1, 2], [9, 3], [5, 8]]
    assert video.frames[0].ignore_regions == ()
    person = video.frames[1].people[0]
    assert (person.track_id, person.head_box_xywh) == (4, (15, 13, 6, 8))
    assert person.box_xywh == (14, 12, 20, 30)
    assert person.area == pytest.approx(0.53 * 600)
    assert person.image_path == tree.root / "images/val/000342_mpii_test/000001.jpg"
    assert person.keypoints_K3[5].tolist() == [19, 20, 1]
    assert len(data.persons) == 6
    assert len(data.ground_truth["images"]) == 6
    assert len(data.frames) == 6


def test_hidden_joints_missing_boxes_and_people_without_joints(tree: Tree) -> None:
    first, second, third = tree.documents["000522"]["annotations"]
    first["keypoints"][3 * 5 + 2] = 0  # has coordinates: labelled, hidden
    del second["bbox"]
    third["keypoints"] = [0.0] * 51
    del third["bbox"], third["bbox_head"]
    frames = tree.read().videos[1].frames
    assert frames[0].people[0].keypoints_K3[5].tolist() == [15, 20, 1]
    # Joints from (19, 20) to (30, 42): 11 x 22, made 1.3 times as large about the same centre.
    assert frames[0].people[1].box_xywh == pytest.approx((17.35, 16.7, 14.3, 28.6))
    assert len(frames[1].people) == 1 and frames[1].people[0].head_box_xywh is None


def test_pseudo_labels_of_a_video_are_not_held_out(tree: Tree) -> None:
    tree.documents["000522"]["info"] = {"pseudo_labels": True}
    data = tree.read()
    assert [person.is_pseudo for person in data.persons] == [False] * 3 + [True] * 3
    _, val = hold_out(data, 1, seed=0)
    assert {person.is_pseudo for person in val.persons} == {False}


def test_one_merged_file_gives_the_same(tree: Tree) -> None:
    expected = tree.read()
    merged = {"categories": [CATEGORY], "images": [], "annotations": []}
    for document in tree.documents.values():
        merged["images"] += document["images"]
        merged["annotations"] += document["annotations"]
    path = tree.root / "all.json"
    path.write_text(json.dumps(merged))
    found = read_posetrack(path, tree.root, POSETRACK_18)
    assert found.ground_truth == expected.ground_truth
    assert [len(video.frames) for video in found.videos] == [3, 3]


def test_the_real_video_opens(vipnas_data: Path) -> None:
    folder = vipnas_data / "bonn_video"
    data = read_posetrack(folder / "060470979.json", folder, POSETRACK_18)
    assert [(video.name, len(video.frames)) for video in data.videos] == [("060470979", 41)]
    assert len(data.persons) == sum(len(frame.people) for frame in data.frames) == 164
    assert {p.track_id for f in data.frames for p in f.people} == {0, 1, 2, 3}
    head = data.frames[0].people[0].head_box_xywh
    assert head == pytest.approx((370.17, 77.59, 408.12 - 370.17, 134.95 - 77.59))


def entry_with(**change: Any) -> Callable[[Tree], None]:
    return lambda tree: tree.documents["000522"]["annotations"][1].update(change)


def image_with(**change: Any) -> Callable[[Tree], None]:
    return lambda tree: tree.documents["000522"]["images"][1].update(change)


def without_track(tree: Tree) -> None:
    del tree.documents["000522"]["annotations"][1]["track_id"]


def other_joints(tree: Tree) -> None:
    tree.documents["000522"]["categories"] = [{**CATEGORY, "keypoints": ["nose"]}]


def nothing(tree: Tree) -> None:
    for document in tree.documents.values():
        document["annotations"] = []


SPOILED: dict[str, tuple[Callable[[Tree], None], str]] = {
    "no track": (without_track, "track_id: expected a whole number, got nothing"),
    "track text": (entry_with(track_id="4"), 'track_id: expected a whole number, got "4"'),
    "joint text": (entry_with(keypoints=["a"] * 51), r"joint 0 \(nose\): visibility: .*, got \"a"),
    "joint count": (entry_with(keypoints=[1.0] * 48), "keypoints: expected a list of 51 numbers"),
    "head": (entry_with(bbox_head=[1, 2, 0, 5]), r"bbox_head: expected a head box .* 0, 5\]"),
    "head a number": (entry_with(bbox_head=7), "bbox_head: expected four finite numbers .*, got 7"),
    "corners": (
        entry_with(bbox_head=None, head_rect_xyxy=[9, 9, 3, 10]),
        r"head_rect_xyxy: expected a head box with an area, or none, got \[9, 9, 3, 10\]",
    ),
    "corners text": (entry_with(bbox_head=None, head_rect_xyxy="x"), 'four finite .*, got "x"'),
    "duplicate": (entry_with(id=3_000_000), "annotation 3000000: expected a unique id, got it 2"),
    "no image": (entry_with(image_id=7), "annotation 3000004: image_id: expected the id of one"),
    "flag text": (image_with(is_labeled="false"), 'is_labeled: expected 0, 1, .*, got "false"'),
    "regions": (image_with(ignore_regions_x=5), "ignore_regions: expected lists of poly.*, got 5"),
    "region text": (
        image_with(ignore_regions_x=[["1"]], ignore_regions_y=[[1]]),
        'ignore_regions: expected finite numbers of pixels, got "1"',
    ),
    "region length": (
        image_with(ignore_regions_x=[[1, 2]], ignore_regions_y=[[1]]),
        "ignore_regions: expected as many x as y",
    ),
    "file name": (image_with(file_name="images/val/000522/one.jpg"), "No such file"),
    "categories": (
        other_joints,
        "expected the 17 joints of posetrack_18 in their order, got 1 joints",
    ),
    "empty": (nothing, "annotations: expected entries, got an empty list"),
    "size": (image_with(width=90, height=60), "expected 90 x 60 pixels .*, got 80 x 60"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_bad_files_are_named_in_one_line(tree: Tree, case: str) -> None:
    spoil, message = SPOILED[case]
    spoil(tree)
    with pytest.raises(ValueError, match=message) as caught:
        tree.read()
    assert str(caught.value).startswith(str(tree.annotations))
    assert "\n" not in str(caught.value)


def test_an_error_names_the_file_of_the_folder(tree: Tree) -> None:
    entry_with(iscrowd="0")(tree)
    with pytest.raises(ValueError) as caught:
        tree.read()
    assert str(caught.value) == (
        f"{tree.annotations / '000522.json'}: annotation 3000004: iscrowd: expected 0, 1, true or "
        'false, got "0"'
    )


def test_people_without_labels_need_neither_keypoints_nor_box(tree: Tree) -> None:
    entry = tree.documents["000522"]["annotations"][0]
    for key in ("keypoints", "bbox", "bbox_head"):
        del entry[key]
    tree.documents["000342_mpii_test"]["annotations"][0]["keypoints"] = [None, None, 0] * 17
    data = tree.read()
    assert len(data.persons) == 4 and sum(len(frame.people) for frame in data.frames) == 6


def test_annotations_can_be_read_where_the_images_are_not(tree: Tree) -> None:
    expected = tree.read()
    shutil.rmtree(tree.root / "images")
    with pytest.raises(ValueError, match="No such file"):
        tree.read()
    found = read_posetrack(tree.annotations, tree.root, POSETRACK_18, Reading(check_images=False))
    truths = [data.ground_truth["annotations"] for data in (found, expected)]
    assert truths[0] == truths[1]
    assert [p.box_xywh for p in found.persons] == [p.box_xywh for p in expected.persons]


def test_the_category_is_that_of_the_file(tree: Tree) -> None:
    for document in tree.documents.values():
        document["categories"] = [{**CATEGORY, "id": 3}, {"id": 1, "name": "ball"}]
        for entry in document["annotations"]:
            entry["category_id"] = 3
        document["annotations"].append({"id": 7, "image_id": 7, "category_id": 1, "track_id": 0})
    data = tree.read()
    assert {person.category_id for person in data.persons} == {3}
    assert [entry.reason for entry in data.left_out] == ["category 1 (ball) has no keypoints"] * 2


def test_frames_must_be_numbered(tree: Tree) -> None:
    folder = tree.root / "images/val/000522"
    (folder / "000001.jpg").rename(folder / "one.jpg")
    image_with(file_name="images/val/000522/one.jpg")(tree)
    with pytest.raises(ValueError, match="file_name: expected the number of the frame, got"):
        tree.read()


def test_a_lost_image_is_left_out_of_its_video(tree: Tree) -> None:
    (tree.root / "images/val/000522/000001.jpg").unlink()
    data = tree.read(skip_bad_images=True)
    assert [frame.number for frame in data.videos[1].frames] == [0, 2]
    assert len(data.persons) == 5


def test_the_size_of_a_video_is_that_of_an_image_that_can_be_read(tree: Tree) -> None:
    folder = tree.root / "images/val/000522"
    (folder / "000002.jpg").unlink()  # the first in the file
    (folder / "000001.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"images/val/000522/00000\d\.jpg"):
        tree.read()
    video = tree.read(skip_bad_images=True).videos[1]
    assert [(frame.number, frame.image_hw) for frame in video.frames] == [(0, (60, 80))]


def test_a_video_without_an_image_is_left_out(tree: Tree) -> None:
    for path in (tree.root / "images/val/000522").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"000522/000002\.jpg: expected an image file, got none"):
        tree.read()
    data = tree.read(skip_bad_images=True)
    assert [video.name for video in data.videos] == ["000342"]
    assert len(data.ground_truth["images"]) == len(data.frames) == 3
    ids = {image["id"] for image in tree.documents["000522"]["images"]}
    assert data.skipped_images.keys() == ids  # results for them are not unknown


def test_file_names_of_another_system_are_found(tree: Tree) -> None:
    for document in tree.documents.values():
        for image in document["images"]:
            del image["vid_id"]  # the video is then that of the folder
            image["file_name"] = image["file_name"].replace("/", "\\")
    names = ["000342_mpii_test", "000522"]
    assert [video.name for video in tree.read().videos] == names
    shutil.rmtree(tree.root / "images")
    found = read_posetrack(tree.annotations, tree.root, POSETRACK_18, Reading(check_images=False))
    assert [video.name for video in found.videos] == names


def test_shared_track_ids_are_told(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    tree.documents["000522"]["annotations"][1]["track_id"] = 0
    data = tree.read()
    assert "two persons have the same track id" in caplog.text
    assert "mota" not in protocols_for(data)
    with pytest.raises(
        ValueError, match="metric mota: track_id: expected one person each in a frame"
    ):
        protocols_for(data, ["mota"])


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="expected an annotation file or a folder of them, got none"
    ):
        read_posetrack(tmp_path / "no.json", tmp_path, POSETRACK_18)
    with pytest.raises(ValueError, match=r"expected a \.json file for each video, got none"):
        read_posetrack(tmp_path, tmp_path, POSETRACK_18)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json: expected valid JSON"):
        read_posetrack(tmp_path / "broken.json", tmp_path, POSETRACK_18)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match=r"other\.json: expected an object in PoseTrack18 form"):
        read_posetrack(tmp_path / "other.json", tmp_path, POSETRACK_18)


def test_videos_are_held_out_whole(tree: Tree) -> None:
    data = tree.read()
    rest, held_out = hold_out(data, 1, seed=0)
    assert isinstance(rest, PoseTrackData) and isinstance(held_out, PoseTrackData)
    names = [[video.name for video in part.videos] for part in (rest, held_out)]
    assert sorted(names[0] + names[1]) == ["000342", "000522"] and len(names[1]) == 1
    for part in (rest, held_out):
        (video,) = part.videos
        assert len(video.frames) == 3 and len(part.persons) == 3
        assert {p.image_id for p in part.persons} <= {f.image_id for f in part.frames}
        assert {image["id"] for image in part.ground_truth["images"]} == {
            frame.image_id for frame in part.frames
        }
    assert subset(data, 5, seed=0).persons in (rest.persons, held_out.persons)
