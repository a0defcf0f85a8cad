"""The tools that check downloaded data, and the page that shows how to bring one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from posetrack_fixture import Tree
from tool_fixture import ROOT, tool

from vipnas.config.data import PoseFiles
from vipnas.data.formats.coco import read_coco
from vipnas.data.formats.posetrack import read_posetrack
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.files import parse


@pytest.fixture
def coco_tree(tiny_coco: Any, tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    tiny_coco.image_root.rename(root / "val2017")
    tiny_coco.write().rename(root / "annotations" / "person_keypoints_val2017.json")
    return root


def test_a_whole_coco_tree_is_indexed(coco_tree: Path) -> None:
    assert tool("prepare_coco").main([str(coco_tree), "--splits", "val2017"]) == 0
    entry = json.loads((coco_tree / "index.json").read_text())["val2017"]
    assert (entry["num_images"], entry["num_persons"], entry["num_crowds"]) == (6, 12, 0)
    assert entry["num_labelled_joints"] == 12 * 16
    assert len(entry["sha256"]) == 64


def test_what_is_missing_of_coco_is_said(
    coco_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool("prepare_coco").main([str(coco_tree)]) == 1
    said = capsys.readouterr().err
    assert "person_keypoints_train2017.json: missing; it is in annotations_trainval2017.zip" in said
    assert "train2017: no images; they are in train2017.zip" in said
    assert not (coco_tree / "index.json").exists()


def test_what_is_wrong_with_coco_is_said(
    coco_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((coco_tree / "val2017").glob("*.jpg"))
    image.write_bytes(image.read_bytes()[:200])
    prepare = tool("prepare_coco").main
    assert prepare([str(coco_tree), "--splits", "val2017"]) == 1
    assert f"{image.name}: expected a whole image, got a truncated JPEG" in capsys.readouterr().err
    assert prepare([str(coco_tree), "--splits", "val2017", "--skip-bad-images"]) == 0
    entry = json.loads((coco_tree / "index.json").read_text())["val2017"]
    assert entry["num_images"] == 5


def test_posetrack_is_merged_and_indexed(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    expected = tree.read()
    assert tool("prepare_posetrack18").main([str(tmp_path), "--splits", "val"]) == 0
    merged = read_posetrack(
        tmp_path / "posetrack18_val.json", tmp_path, read_skeleton("posetrack_18")
    )
    assert merged.ground_truth == expected.ground_truth
    for video, other in zip(merged.videos, expected.videos, strict=True):
        assert [f.number for f in video.frames] == [f.number for f in other.frames]
    entry = json.loads((tmp_path / "index.json").read_text())["val"]
    assert (entry["num_videos"], entry["num_frames"], entry["num_labelled_frames"]) == (2, 6, 4)
    assert entry["videos"]["000522"] == {
        "num_frames": 3,
        "num_labelled_frames": 2,
        "num_tracks": 2,
        "num_ignore_regions": 1,
    }


def test_bad_images_are_left_out_of_the_merged_file(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.read()
    (tmp_path / "images/val/000342_mpii_test/000001.jpg").write_bytes(b"")
    for path in (tmp_path / "images/val/000522").iterdir():
        path.unlink()
    arguments = [str(tmp_path), "--splits", "val"]
    assert tool("prepare_posetrack18").main(arguments) == 1
    assert tool("prepare_posetrack18").main([*arguments, "--skip-bad-images"]) == 0
    merged = read_posetrack(
        tmp_path / "posetrack18_val.json", tmp_path, read_skeleton("posetrack_18")
    )
    assert [(v.name, [f.number for f in v.frames]) for v in merged.videos] == [("000342", [0, 2])]
    assert len(merged.persons) == 2


def test_what_is_missing_of_posetrack_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Tree(tmp_path)
    tree.read()
    (tmp_path / "images/val/000522").rename(tmp_path / "elsewhere")
    assert tool("prepare_posetrack18").main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "no folder for 1 of 2 videos, such as 000522" in said
    assert "train: no .json file; allowed: one per video" in said


def test_the_page_about_ones_own_data_says_what_works(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "custom_data.md").read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["yaml", "json", "yaml", "yaml"]
    (tmp_path / "hand.yaml").write_text(blocks[0][1])
    (tmp_path / "train.json").write_text(blocks[1][1])
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.jpg"), np.zeros((480, 640, 3), np.uint8))
    data = read_coco(
        tmp_path / "train.json", tmp_path / "images", read_skeleton(tmp_path / "hand.yaml")
    )
    assert len(data.persons) == 1
    assert data.persons[0].keypoints_K3[:, 2].tolist() == [2, 2, 1, 0]
    assert data.persons[0].area == pytest.approx(0.53 * 200 * 300)
    assert yaml.safe_load(blocks[2][1])["skeleton"] == "hand.yaml"
    train = parse(PoseFiles, yaml.safe_load(blocks[3][1])["data"]["train"], "page")
    assert train.coco_files == (("a.json", "images_a"), ("b.json", "images_b"))


def test_joints_in_several_lists_become_one_row(tiny_coco: Any, tmp_path: Path) -> None:
    skeleton_file = tmp_path / "parts.yaml"
    plain = yaml.safe_load((ROOT / "vipnas/data/formats/skeletons/coco_17.yaml").read_text())
    plain["joints"] += ["left_toe", "right_toe"]
    plain["sigmas"] += [0.08, 0.08]
    plain["flip_pairs"].append(["left_toe", "right_toe"])
    plain["annotation_fields"] = [["keypoints", 17], ["foot_kpts", 2]]
    skeleton_file.write_text(yaml.safe_dump(plain))
    for number, entry in enumerate(tiny_coco.document["annotations"]):
        entry["foot_kpts"] = [number, 7, 2, 0, 0, 0]
    skeleton = read_skeleton(skeleton_file)
    data = read_coco(tiny_coco.write(), tiny_coco.image_root, skeleton)
    for number, person in enumerate(data.persons):
        assert person.keypoints_K3.shape == (19, 3)
        assert person.keypoints_K3[17:].tolist() == [[number, 7, 2], [0, 0, 0]]
    assert data.ground_truth["annotations"][3]["num_keypoints"] == 17
    tiny_coco.document["annotations"][2]["foot_kpts"] = [1.0, 2.0]
    with pytest.raises(ValueError, match="annotation 16: foot_kpts: expected a list of 6 numbers"):
        read_coco(tiny_coco.write(), tiny_coco.image_root, skeleton)
    del tiny_coco.document["annotations"][2]["foot_kpts"]
    data = read_coco(tiny_coco.write(), tiny_coco.image_root, skeleton)
    assert data.persons[2].keypoints_K3[17:].tolist() == [[0, 0, 0]] * 2
    for entry in tiny_coco.document["annotations"]:
        entry.pop("foot_kpts", None)
    with pytest.raises(ValueError, match="annotations: expected foot_kpts, as coco_17 has it, got"):
        read_coco(tiny_coco.write(), tiny_coco.image_root, skeleton)


def test_a_list_of_another_name_can_be_read(vipnas_data: Path, tmp_path: Path) -> None:
    """The fourteen joints of the real LSP labels, which stand beside those in COCO's order."""
    plain = yaml.safe_load((ROOT / "vipnas/data/formats/skeletons/lsp_14.yaml").read_text())
    plain["annotation_fields"] = [["lsp14", 14]]
    (tmp_path / "lsp.yaml").write_text(yaml.safe_dump(plain))
    data = read_coco(
        vipnas_data / "lspet" / "test.json",
        vipnas_data / "lspet" / "images",
        read_skeleton(tmp_path / "lsp.yaml"),
    )
    labelled = sum(int((person.keypoints_K3[:, 2] > 0).sum()) for person in data.persons)
    assert len(data.persons) == 500 and labelled > 500 * 12
