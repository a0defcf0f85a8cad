from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from vipnas.data.formats.skeletons import COCO_17


def test_mirror_of_coco_swaps_left_and_right_by_name() -> None:
    mirrored = [COCO_17.joints[joint] for joint in COCO_17.flip_order]
    swap = {"left": "right", "right": "left"}
    expected = [
        "_".join(swap.get(word, word) for word in name.split("_")) for name in COCO_17.joints
    ]
    assert mirrored == expected


def test_mirroring_twice_is_nothing() -> None:
    order = COCO_17.flip_order
    assert [order[joint] for joint in order] == list(range(17))


def test_the_upper_body_is_all_but_hips_knees_and_ankles() -> None:
    lower = [joint for joint in range(17) if joint not in COCO_17.upper_body]
    assert [COCO_17.joints[joint] for joint in lower] == [
        *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle")
    ]


def test_sigmas_are_bit_for_bit_those_of_pycocotools() -> None:
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    official = evaluation.Params("keypoints").kpt_oks_sigmas
    assert np.array_equal(np.array(COCO_17.sigmas), official)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": ("nose",) * 17}, "joints: expected unique names, at least one"),
        ({"sigmas": (0.1,) * 16}, "sigmas: expected 17 numbers above 0"),
        ({"sigmas": (0.1,) * 16 + (0.0,)}, "above 0"),
        ({"sigmas": (0.1,) * 16 + (1e308,)}, "at most 1000"),
        ({"flip_pairs": ((1, 2), (2, 3))}, r"expected each joint once, got \[2\] again"),
        ({"limbs": ((0, 17),)}, r"expected joints 0 to 16, got \[17\]"),
        ({"upper_body": (-1,)}, r"expected joints 0 to 16, got \[-1\]"),
    ],
)
def test_a_wrong_skeleton_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(COCO_17, **change)
