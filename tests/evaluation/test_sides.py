"""Left and right joints that are lost or found at one place are named, by hand; others are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vipnas.arch.skeleton import Skeleton
from vipnas.evaluation.sides import LostJoint, lost_joints, merged_pairs

SKELETON = Skeleton(
    "legs",
    ("nose", "left_knee", "right_knee", "left_ankle", "right_ankle"),
    flip_pairs=((1, 2), (3, 4)),
    limbs=(),
    sigmas=(0.1,) * 5,
)
AREA = 10_000.0


def people(num: int, apart_px: float = 20.0) -> NDArray[np.float64]:
    """Labels (num, 5, 3) of people whose knees and ankles are so far apart."""
    right = 50 + apart_px
    person = [[50, 10, 2], [50, 60, 2], [right, 60, 2], [50, 90, 2], [right, 90, 2]]
    return np.array([person] * num, dtype=np.float64)


def named(found: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[tuple[str, str], float]:
    areas = np.full(len(truth), AREA)
    return {pair.joints: pair.share for pair in merged_pairs(found, truth, areas, SKELETON)}


def test_ankles_on_one_leg_are_named_with_their_share_and_knees_are_not() -> None:
    """Of 30 people 12 have both ankles on the left one, 4 px apart: 0.4 of them."""
    truth = people(30)
    found = truth[:, :, :2].copy()
    found[:12, 4] = found[:12, 3] + [4, 0]
    assert named(found, truth) == {("left_ankle", "right_ankle"): pytest.approx(0.4)}
    found[:12, 4] = found[:12, 3] + [6, 0]  # more than a quarter of 20 px
    assert not named(found, truth)


def test_a_pair_is_not_named_where_labels_are_near_or_missing_or_people_few() -> None:
    near = people(30, apart_px=9.0)  # less than a tenth of 100 px
    unlabelled = people(30)
    unlabelled[:, 2::2, 2] = 0
    for truth in (near, unlabelled, people(19)):
        found = truth[:, :, :2].copy()
        found[:, 2::2] = found[:, 1::2]
        assert not named(found, truth)


def test_the_line_names_joints_share_and_what_may_help() -> None:
    truth = people(20)
    found = np.repeat(truth[:, :1, :2], 5, axis=1)
    lines = [str(pair) for pair in merged_pairs(found, truth, np.full(20, AREA), SKELETON)]
    assert len(lines) == 2
    assert lines[0].startswith("left_knee and right_knee are found at one place in 100% of")
    assert "sigma_px" in lines[0]


def test_a_joint_is_lost_where_its_mirrored_one_is_found() -> None:
    aps = {"nose": 0.0, "left_knee": 0.57, "right_knee": 0.01, "left_ankle": 0.01}
    assert list(lost_joints(aps, SKELETON)) == [LostJoint("right_knee", "left_knee", 0.01, 0.57)]
    assert str(next(lost_joints(aps, SKELETON))).startswith(
        "right_knee has an AP of 0.01, left_knee of 0.57; "
    )
    assert not list(lost_joints(aps | {"left_knee": 0.2}, SKELETON))
    assert not list(lost_joints(aps | {"right_knee": 0.06, "right_ankle": 0.2}, SKELETON))
