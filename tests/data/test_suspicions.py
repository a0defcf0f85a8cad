from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vipnas.data.formats.coco import PoseData, pose_data, read_coco
from vipnas.data.formats.reading import Reading
from vipnas.data.formats.sides import side_of
from vipnas.data.formats.skeletons import COCO_17, Skeleton, read_skeleton
from vipnas.data.formats.suspicions import suspicions

NUM_PERSONS, BOX_WH = 20, (100, 200)
Entry = dict[str, Any]


def entry(number: int, skeleton: Skeleton) -> Entry:
    """Somebody who faces the camera, in a box that is not at the origin."""
    rng = np.random.default_rng(number)
    left, top = rng.uniform(50, 380), rng.uniform(50, 230)
    keypoints = np.full((skeleton.num_joints, 3), 2.0)
    keypoints[:, 1] = top + np.linspace(5, 195, skeleton.num_joints)
    for joint, name in enumerate(skeleton.joints):
        share = {"left": 0.8, "right": 0.2, None: 0.5}[side_of(name)]
        keypoints[joint, 0] = left + BOX_WH[0] * share
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "bbox": [left, top, *BOX_WH],
        "area": 10_000.0,
        "keypoints": keypoints.ravel().tolist(),
    }


def read(change: Callable[[Entry], Any] | None = None, skeleton: Skeleton = COCO_17) -> PoseData:
    entries = [entry(number, skeleton) for number in range(NUM_PERSONS)]
    for changed in entries if change else ():
        assert change is not None
        change(changed)
    document = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": 640, "height": 480}
            for number in range(NUM_PERSONS)
        ],
        "annotations": entries,
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.joints)}],
    }
    return pose_data(document, "people.json", Path(), skeleton, Reading(check_images=False))


def suspected(data: PoseData) -> list[str]:
    lines = [line for line in suspicions(data) if line.startswith("suspicion: ")]
    return [line.removeprefix("suspicion: ") for line in lines]


def xy(keypoints: list[float]) -> Any:
    return np.array(keypoints).reshape(-1, 3)


def scaled_joints(scale: Callable[[Any], Any]) -> Callable[[Entry], None]:
    def change(entry: Entry) -> None:
        keypoints = xy(entry["keypoints"])
        keypoints[:, :2] = scale(keypoints[:, :2])
        entry["keypoints"] = keypoints.ravel().tolist()

    return change


def scaled_boxes(share: float) -> Callable[[Entry], None]:
    return lambda entry: entry.update(
        bbox=[
            value * share / side for value, side in zip(entry["bbox"], (640, 480) * 2, strict=True)
        ]
    )


def corners(entry: Entry) -> None:
    x, y, width, height = entry["bbox"]
    entry["bbox"] = [x, y, x + width, y + height]
    entry["area"] = 30_000.0


def swapped(*names: str) -> Callable[[Entry], None]:
    """The two sides of these joints, or of all, change places."""

    def change(entry: Entry) -> None:
        keypoints = xy(entry["keypoints"])
        order = list(range(17))
        for first, second in COCO_17.flip_pairs:
            if not names or COCO_17.joints[first] in names:
                order[first], order[second] = second, first
        entry["keypoints"] = keypoints[order].ravel().tolist()

    return change


def joint_at_zero(entry: Entry) -> None:
    if entry["id"] % 2:
        entry["keypoints"][:2] = 0, 0


def some(change: Callable[[Entry], Any], every: int) -> Callable[[Entry], Any]:
    return lambda entry: change(entry) if entry["id"] % every == 0 else None


SIZE = np.array((640, 480))
CASES: dict[str, tuple[Callable[[Entry], Any], str]] = {
    "fractions": (
        scaled_joints(lambda values: values / SIZE),
        "keypoints look like fractions of the image (0 to 1); expected pixels",
    ),
    "percent": (
        scaled_joints(lambda values: 100 * values / SIZE),
        "keypoints look like percent of the image (0 to 100); expected pixels",
    ),
    "boxes in fractions": (scaled_boxes(1), "boxes look like fractions of the image (0 to 1)"),
    "boxes in percent": (scaled_boxes(100), "boxes look like percent of the image (0 to 100)"),
    "corners": (corners, "boxes look like corners x1, y1, x2, y2; expected x, y, width, height"),
    "centres": (
        lambda entry: entry["bbox"].__setitem__(
            slice(2), [entry["bbox"][0] + BOX_WH[0] / 2, entry["bbox"][1] + BOX_WH[1] / 2]
        ),
        "boxes look like centre x, centre y, width, height; expected the corner",
    ),
    "half resolution": (
        scaled_joints(lambda values: values / 2),
        "boxes and keypoints look like labels of other persons or in other units",
    ),
    "unlabelled at zero": (
        lambda entry: entry["keypoints"].__setitem__(slice(15, 51), [0, 0, 2] * 12),
        "joints at (0, 0) look unlabelled; expected visibility 0",
    ),
    "zero": (joint_at_zero, "joints at (0, 0) look unlabelled; expected visibility 0"),
    "small boxes": (
        some(lambda entry: entry.update(bbox=[*entry["bbox"][:2], 1, 1], area=1), 10),
        "boxes look too small for persons; expected pixels",
    ),
    "area 1": (lambda entry: entry.update(area=1), "areas do not look like areas of these"),
    "hips": (
        swapped("left_hip"),
        "left_hip and right_hip look swapped: against the other pairs in 20 of 20 (100.0%) persons",
    ),
    "all": (swapped(), "left and right look like sides of the image; expected sides of the person"),
    "some": (
        some(swapped(), 3),
        "left and right look swapped in 7 of 20 (35.0%) persons whose nose is visible",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_labels_are_suspected(case: str) -> None:
    change, expected = CASES[case]
    first = suspected(read(change))[0]
    assert first.startswith(expected)


@pytest.mark.parametrize("name", ["coco_17", "posetrack_18", "lsp_14", "crowdpose_14"])
def test_right_labels_are_not_suspected(name: str) -> None:
    skeleton = read_skeleton(name)
    data = read(skeleton=skeleton)
    assert suspected(data) == []
    assert all(" 0 of " in line for line in suspicions(data))


def test_counts_by_hand() -> None:
    def change(entry: Entry) -> None:
        if entry["id"] == 3:
            entry["keypoints"][:3] = 0, 0, 2
            entry["keypoints"][3] = entry["bbox"][0] + BOX_WH[0] + 2  # beyond the pixel's grace
            entry["area"] = 100
        if entry["id"] == 4:
            swapped()(entry)

    lines = suspicions(read(change))
    assert lines[:4] == [
        f"labelled joints outside of their box: 2 of {17 * NUM_PERSONS} (0.6%)",
        f"labelled joints at exactly (0, 0): 1 of {17 * NUM_PERSONS} (0.3%)",
        "boxes under 2 pixels wide or high: 0 of 20",
        "areas under 0.02 or over 1.2 of their box: 1 of 20 (5.0%)",
    ]
    assert lines[4].endswith(": 1 of 20 (5.0%) (seen from behind, or swapped)")
    assert lines[5].endswith("whose left is on the left of the image: 1 of 20 (5.0%)")


def test_joints_without_sides_have_none() -> None:
    skeleton = Skeleton("two", ("head", "tail"), (), (), (0.1, 0.1))
    assert len(suspicions(read(skeleton=skeleton))) == 4


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("coco_sample/person_keypoints_train2017.json", "coco_sample/train2017"),
        ("lspet/test.json", "lspet/images"),
    ],
)
def test_real_labels_are_not_suspected(vipnas_data: Path, annotations: str, images: str) -> None:
    path = vipnas_data / annotations
    data = read_coco(path, vipnas_data / images, COCO_17, Reading(check_images=False))
    assert suspected(data) == []
