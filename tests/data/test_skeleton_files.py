"""The shipped skeletons against the facts, and one's own file against its mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vipnas.data.formats.skeletons import COCO_17, SKELETONS, read_skeleton

NUM_JOINTS = {
    "coco_17": 17,
    "posetrack_18": 17,
    "lsp_14": 14,
    "mpii_16": 16,
    "crowdpose_14": 14,
    "coco_wholebody_133": 133,
}


def test_all_that_is_shipped_is_known_here() -> None:
    assert {path.stem for path in SKELETONS.glob("*.yaml")} == NUM_JOINTS.keys()


@pytest.mark.parametrize("name", NUM_JOINTS)
def test_a_shipped_skeleton_is_whole(name: str) -> None:
    skeleton = read_skeleton(name)
    assert skeleton.name == name
    assert skeleton.num_joints == NUM_JOINTS[name]
    mirrored = [skeleton.joints[joint] for joint in skeleton.flip_order]
    for joint, other in zip(skeleton.joints, mirrored, strict=True):
        if joint.startswith(("left", "right")):
            swapped = joint.replace("left", "?").replace("right", "left").replace("?", "right")
            assert other == swapped
            one, two = skeleton.joints.index(joint), skeleton.joints.index(other)
            if not joint.endswith(("toe", "heel")):  # the official ones of the feet differ
                assert skeleton.sigmas[one] == skeleton.sigmas[two]
        elif not joint.startswith("face"):
            assert other == joint
    assert set(skeleton.upper_body) < set(range(skeleton.num_joints))
    assert all("ankle" not in skeleton.joints[joint] for joint in skeleton.upper_body)
    in_limbs = {joint for limb in skeleton.limbs for joint in limb}
    outside = {skeleton.joints[joint] for joint in range(skeleton.num_joints)} - {
        skeleton.joints[joint] for joint in in_limbs
    }
    assert all(name.startswith("face_") or "ear" in name for name in outside)


def test_whole_body_begins_with_coco_and_mirrors_the_face() -> None:
    whole = read_skeleton("coco_wholebody_133")
    assert whole.joints[:17] == COCO_17.joints
    assert whole.sigmas[:17] == pytest.approx(COCO_17.sigmas, abs=1e-15)
    assert dict(whole.annotation_fields) == {
        "keypoints": 17,
        "foot_kpts": 6,
        "face_kpts": 68,
        "lefthand_kpts": 21,
        "righthand_kpts": 21,
    }
    face = [whole.joints[joint] for joint in whole.flip_order[23:91]]
    # On the midline of the 68 points: chin, bridge and tip of the nose, middles of the lips.
    middle = [number for number in range(68) if face[number] == f"face_{number}"]
    assert middle == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]


def test_lsp_order_is_that_of_the_real_labels(vipnas_data: Path) -> None:
    """`lsp14` of the real data against the same joints in COCO's order."""
    lsp = read_skeleton("lsp_14")
    annotations = json.loads((vipnas_data / "lspet" / "test.json").read_text())["annotations"]
    for annotation in annotations[:50]:
        fourteen = np.array(annotation["lsp14"]).reshape(14, 3)
        seventeen = np.array(annotation["keypoints"]).reshape(17, 3)
        for number, joint in enumerate(lsp.joints[:12]):
            assert np.array_equal(
                fourteen[number, :2], seventeen[COCO_17.joints.index(joint), :2]
            ), joint


def test_posetrack_order_is_that_of_the_real_file(vipnas_data: Path) -> None:
    raw = json.loads((vipnas_data / "bonn_video" / "060470979.json").read_text())
    assert tuple(raw["categories"][0]["keypoints"]) == read_skeleton("posetrack_18").joints


def test_crowdpose_order_is_that_of_the_real_file(vipnas_data: Path) -> None:
    raw = json.loads((vipnas_data / "cocoeval" / "example_crowdpose_val.json").read_text())
    assert tuple(raw["categories"][0]["keypoints"]) == read_skeleton("crowdpose_14").joints


OWN: dict[str, Any] = {
    "name": "hand_4",
    "joints": ["palm", "left_tip", "right_tip", "thumb"],
    "flip_pairs": [["left_tip", "right_tip"]],
    "sigmas": [0.1, 0.05, 0.05, 0.07],
    "limbs": [["palm", "thumb"]],
}


def own(tmp_path: Path, **change: Any) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**OWN, **change}))
    return path


def test_ones_own_skeleton_by_hand(tmp_path: Path) -> None:
    skeleton = read_skeleton(str(own(tmp_path)))
    assert skeleton.joints == ("palm", "left_tip", "right_tip", "thumb")
    assert skeleton.flip_order == (0, 2, 1, 3)
    assert skeleton.limbs == ((0, 3),)
    assert skeleton.upper_body == ()
    assert skeleton.annotation_fields == (("keypoints", 4),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limb": []}, "one of the keys .* got 'limb' .did you mean 'limbs'"),
        ({"joints": ["palm", "palm"]}, "joints: expected each name once, got 'palm' 2 times"),
        ({"sigmas": [0.1]}, "sigmas: expected 4 numbers above 0"),
        ({"sigmas": [0.1, 0.1, 0.1, -1.0]}, "above 0"),
        ({"sigmas": "wide"}, "sigmas: .* got 'wide'"),
        (
            {"flip_pairs": []},
            r"flip_pairs: expected \[left_tip, right_tip\], got no pair \(or sides: none\)",
        ),
        ({"flip_pairs": [["left_tip", "tip"]]}, "flip_pairs"),
        (
            {"limbs": [["palm", "thum"]]},
            r"limbs: expected a joint .*, got 'thum' \(did you mean 'thumb'",
        ),
        ({"limbs": [["palm"]]}, r"limbs\[0\]"),
        ({"upper_body": ["elbow"]}, "upper_body: expected a joint of the skeleton, got 'elbow'"),
        (
            {"annotation_fields": [["keypoints", 3]]},
            "annotation_fields: expected 4 joints in all, got 3",
        ),
    ],
)
def test_mistakes_are_named_in_one_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = own(tmp_path, **change)
    with pytest.raises(ValueError, match=message) as caught:
        read_skeleton(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"coco_71: expected .* got 'coco_71' \(did you mean 'coco_17'"
    ):
        read_skeleton("coco_71")


def with_joints(tmp_path: Path, pairs: list[list[str]], *joints: str, **more: Any) -> Path:
    return own(
        tmp_path,
        joints=list(joints),
        flip_pairs=pairs,
        sigmas=[0.1] * len(joints),
        limbs=[],
        **more,
    )


SPELLINGS = (
    *(("left_wing", "right_wing"), ("LeftWing", "RightWing"), ("Left Wing", "Right Wing")),
    *(("L_wing", "R_wing"), ("l_wing", "r_wing"), ("wing-l", "wing-r"), ("wing.L", "wing.R")),
    *(("lWing", "rWing"), ("WingL", "WingR"), ("LWING", "RWING"), ("lwing", "rwing")),
    *(("wing left 2", "wing right 2"), ("LEFT-WING", "RIGHT-WING"), ("L1", "R1")),
    *(("LF_paw", "RF_paw"), ("paw_BL", "paw_BR"), ("frontLPaw", "frontRPaw")),
)


@pytest.mark.parametrize("left_right", SPELLINGS)
def test_sides_are_known_in_the_usual_spellings(
    tmp_path: Path, left_right: tuple[str, str]
) -> None:
    left, right = left_right
    skeleton = read_skeleton(with_joints(tmp_path, [[right, left]], left, "tail", right))
    assert skeleton.flip_order == (2, 1, 0)
    for pairs in ([], [[left, "tail"]], [["tail", right]]):
        path = with_joints(tmp_path, pairs, left, "tail", right)
        with pytest.raises(
            ValueError, match=re.escape(f"expected [{left}, {right}], got")
        ) as caught:
            read_skeleton(path)
        assert str(caught.value).startswith(f"{path}: flip_pairs: ")
        skeleton = read_skeleton(with_joints(tmp_path, pairs, left, "tail", right, sides="none"))
        assert len(skeleton.flip_pairs) == len(pairs)


def test_a_side_is_not_paired_with_what_has_none(tmp_path: Path) -> None:
    path = with_joints(tmp_path, [["left_wing", "tail"]], "left_wing", "tail")
    with pytest.raises(ValueError, match=r"expected left_wing with its mirror image on the right"):
        read_skeleton(path)


@pytest.mark.parametrize(
    "joints", [("lip", "tip"), ("upper_neck", "pelvis"), ("face_0", "face_1"), ("ball", "barrel")]
)
def test_letters_without_their_mirror_image_are_no_sides(
    tmp_path: Path, joints: tuple[str, str]
) -> None:
    assert read_skeleton(with_joints(tmp_path, [], *joints)).flip_order == (0, 1)
    assert read_skeleton(with_joints(tmp_path, [list(joints)], *joints)).flip_order == (1, 0)


def test_other_words_for_sides_are_not_allowed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sides: expected one of named, none, got 'no'"):
        read_skeleton(own(tmp_path, sides="no"))
