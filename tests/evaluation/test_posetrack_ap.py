from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from posetrack_frames import POSETRACK_18, random_frames, random_results, truth_as_results
from tool_fixture import tool

from vipnas.data.formats.posetrack import read_posetrack
from vipnas.evaluation.posetrack_ap import (
    average_precision,
    inside_polygon,
    posetrack_ap,
    without_weak_joints,
)


@pytest.mark.parametrize("seed", range(12))
def test_the_rule_word_by_word_gives_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = random_frames(rng, num_frames=12, max_people=4)
    results = random_results(rng, frames)
    found = posetrack_ap(frames, results, POSETRACK_18)
    by_index = tool("fuzz.posetrack_rule").average_precisions(frames, results)
    expected = {POSETRACK_18.joints[joint]: ap for joint, ap in by_index.items()}
    assert found.by_joint == pytest.approx(expected, abs=1e-12)
    assert found.mean == pytest.approx(np.mean(list(expected.values())))
    assert 0.05 < found.mean < 0.95


def test_ground_truth_is_perfect_and_nothing_is_zero() -> None:
    frames = random_frames(np.random.default_rng(5), 10, 4)
    assert posetrack_ap(frames, truth_as_results(frames), POSETRACK_18).mean == 1.0
    nothing = posetrack_ap(frames, [], POSETRACK_18)
    assert nothing.mean == 0.0 and set(nothing.by_joint.values()) == {0.0}


def test_real_ground_truth_is_perfect(vipnas_data: Path) -> None:
    folder = vipnas_data / "bonn_video"
    data = read_posetrack(folder / "060470979.json", folder, POSETRACK_18)
    found = posetrack_ap(data.frames, truth_as_results(data.frames), POSETRACK_18)
    assert found.mean == 1.0
    assert len(found.by_joint) == 14  # nose and ears are never labelled there
    assert "mAP 1.000 (head_bottom 1.000" in str(found)


def test_area_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, np.nan, 0.6])
    correct = np.array([True, False, True, True, False])
    # Of 4: recall 1/4 at precision 1, 2/4 at 2/3; the NaN is not there.
    assert average_precision(scores, correct, 4) == pytest.approx(1 / 4 + 2 / 3 / 4)
    assert average_precision(scores[:0], correct[:0], 4) == 0


def test_a_joint_at_exactly_half_the_head_size_is_right() -> None:
    frame = random_frames(np.random.default_rng(1), 1, 1)
    rng = np.random.default_rng(0)
    while not frame[0].people:
        frame = random_frames(rng, 1, 1)
    person = dataclasses.replace(
        frame[0].people[0],
        keypoints_K3=np.tile(np.array([100, 100, 2], np.float32), (17, 1)),
        head_box_xywh=(0.0, 0.0, 30.0, 40.0),  # size 30: within 15 pixels
    )
    one = dataclasses.replace(frame[0], people=(person,), ignore_regions=())
    for offset, expected in ((15.0, 1.0), (15.01, 0.0)):
        keypoints = np.tile(np.array([100 + offset, 100, 0.5]), (17, 1))
        result = {"image_id": one.image_id, "keypoints": keypoints.ravel().tolist(), "score": 1}
        assert posetrack_ap([one], [result], POSETRACK_18).mean == expected


def test_inside_a_polygon_by_hand() -> None:
    triangle = np.array([[0, 0], [10, 0], [0, 10.0]])
    x, y = np.array([1, 6, 4.9, -1, 1]), np.array([1, 6, 4.9, 1, -1])
    assert inside_polygon(x, y, triangle).tolist() == [True, False, True, False, False]


def test_weak_joints_become_not_predicted() -> None:
    keypoints = [5.0, 6.0, 0.2] * 8 + [7.0, 8.0, 0.3] * 9
    cut = without_weak_joints([{"image_id": 1, "keypoints": keypoints}], 0.25)
    assert cut == [{"image_id": 1, "keypoints": [0.0] * 24 + [7.0, 8.0, 0.3] * 9}]


def test_what_cannot_be_scored_is_named() -> None:
    frames = random_frames(np.random.default_rng(5), 4, 3)
    results = truth_as_results(frames)
    with pytest.raises(
        ValueError, match="expected an image of the 4 frames, got 1 others, such as 5"
    ):
        posetrack_ap(frames, [{**results[0], "image_id": 5}], POSETRACK_18)
    with pytest.raises(ValueError, match="result 0: keypoints: expected 51 numbers, got 3"):
        posetrack_ap(frames, [{**results[0], "keypoints": [0, 0, 0]}], POSETRACK_18)
    with pytest.raises(ValueError, match="keypoints: expected finite numbers"):
        posetrack_ap(frames, [{**results[0], "keypoints": [math.nan] * 51}], POSETRACK_18)
    empty = tuple(dataclasses.replace(frame, people=()) for frame in frames)
    with pytest.raises(ValueError, match="frames: expected at least one annotated joint"):
        posetrack_ap(empty, [], POSETRACK_18)
    number = next(n for n, f in enumerate(frames) if f.people)
    headless = dataclasses.replace(frames[number].people[0], head_box_xywh=None)
    frame = dataclasses.replace(frames[number], people=(headless,))
    with pytest.raises(
        ValueError, match=f"annotation {headless.annotation_id}: bbox_head: expected a head box"
    ):
        posetrack_ap([frame], [], POSETRACK_18)
