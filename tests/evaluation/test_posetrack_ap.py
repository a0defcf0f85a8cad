from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from posetrack_frames import POSETRACK_18, random_frames, random_results, truth_as_results

from vipnas.data.formats.posetrack import Frame, read_posetrack
from vipnas.evaluation.posetrack_ap import (
    average_precision,
    inside_polygon,
    posetrack_ap,
    without_weak_joints,
)


def literal_inside(x: float, y: float, polygon: Any) -> bool:
    inside = False
    for number in range(len(polygon)):
        (x1, y1), (x2, y2) = polygon[number - 1], polygon[number]
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            inside = not inside
    return inside


def literal_joints(keypoints: Any, frame: Frame, is_truth: bool) -> dict[int, tuple[float, ...]]:
    """Joint -> x, y, score of what is there and not ignored."""
    joints = {}
    for number, (x, y, third) in enumerate(np.reshape(keypoints, (-1, 3)).tolist()):
        there = third > 0 if is_truth else (x, y, third) != (0, 0, 0)
        if there and not any(literal_inside(x, y, region) for region in frame.ignore_regions):
            joints[number] = (x, y, third)
    return joints


def literal_ap(frames: tuple[Frame, ...], results: list[dict[str, Any]]) -> dict[str, float]:
    """The rule word by word: one frame, one pair, one joint at a time."""
    detections: dict[int, list[tuple[float, bool]]] = {joint: [] for joint in range(17)}
    num_annotated = dict.fromkeys(range(17), 0)
    for frame in frames:
        if not frame.people:
            continue
        truths = [literal_joints(person.keypoints_K3, frame, True) for person in frame.people]
        heads = [0.6 * math.hypot(*person.head_box_xywh[2:]) for person in frame.people]  # type: ignore[index]
        predictions = [
            literal_joints(result["keypoints"], frame, False)
            for result in results
            if result["image_id"] == frame.image_id
        ]
        for truth in truths:
            for joint in truth:
                num_annotated[joint] += 1

        def near(
            prediction: int,
            person: int,
            joint: int,
            predictions: Any = predictions,
            truths: Any = truths,
            heads: Any = heads,
        ) -> bool:
            if joint not in predictions[prediction] or joint not in truths[person]:
                return False
            one, other = predictions[prediction][joint], truths[person][joint]
            return math.dist(one[:2], other[:2]) / heads[person] <= 0.5

        share = [
            [
                sum(near(p, g, joint) for joint in range(17)) / max(len(truths[g]), 1)
                for g in range(len(truths))
            ]
            for p in range(len(predictions))
        ]
        assigned: dict[int, int] = {}
        for g in range(len(truths)):
            best, best_share = None, 0.0
            for p in range(len(predictions)):
                favourite = max(range(len(truths)), key=lambda g: share[p][g])
                if favourite == g and share[p][g] > best_share:
                    best, best_share = p, share[p][g]
            if best is not None:
                assigned[best] = g
        for p, prediction in enumerate(predictions):
            for joint, (_, _, score) in prediction.items():
                right = p in assigned and near(p, assigned[p], joint)
                detections[joint].append((score, right))
    return {
        POSETRACK_18.joints[joint]: literal_area(detections[joint], num_annotated[joint])
        for joint in range(17)
        if num_annotated[joint]
    }


def literal_area(detections: list[tuple[float, bool]], num_annotated: int) -> float:
    """The VOC rule: walk down the recall levels with the best precision at or beyond each."""
    ordered = sorted(reversed(detections), key=lambda detection: -detection[0])
    points = [(0.0, 0.0)]
    right = 0
    for number, (_, is_right) in enumerate(ordered, start=1):
        right += is_right
        points.append((right / num_annotated, right / number))
    points.append((1.0, 0.0))
    area = 0.0
    for index in range(1, len(points)):
        step = points[index][0] - points[index - 1][0]
        if step > 0:
            area += step * max(precision for _, precision in points[index:])
    return area


@pytest.mark.parametrize("seed", range(12))
def test_the_rule_word_by_word_gives_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = random_frames(rng, num_frames=12, max_people=4)
    results = random_results(rng, frames)
    found = posetrack_ap(frames, results, POSETRACK_18)
    expected = literal_ap(frames, results)
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
