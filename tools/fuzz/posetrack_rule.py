"""The rules of the official PoseTrack kit, restated from their description, one joint at a time.

They share nothing with `vipnas.evaluation` but the frames and results that they are given.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from vipnas.data.formats.posetrack import Frame, TrackedPerson, Video

NUM_JOINTS = 17
HEAD_SHARE = 0.5  # of the head size: how near a joint must be
HEAD_SIZE_OF_DIAGONAL = 0.6
IMPOSSIBLE = 1e6

Results = Sequence[Mapping[str, Any]]
Scored = dict[int, tuple[float, float, float]]  # joint: x, y, score, of the joints that are there
Joints = dict[int, tuple[float, float]]
Tracked = tuple[int, float, Joints]  # track, head size, joints


def average_precisions(frames: Sequence[Frame], results: Results) -> dict[int, float]:
    """Return the AP of each annotated joint by its index, as a fraction."""
    detections: dict[int, list[tuple[float, bool]]] = {n: [] for n in range(NUM_JOINTS)}
    num_annotated = dict.fromkeys(range(NUM_JOINTS), 0)
    for frame in frames:
        if not frame.people:
            continue
        truths = [_scored(person.keypoints_K3, frame, True) for person in frame.people]
        heads = [_head_size(person) for person in frame.people]
        predictions = [
            _scored(result["keypoints"], frame, False)
            for result in results
            if result["image_id"] == frame.image_id
        ]
        for truth in truths:
            for joint in truth:
                num_annotated[joint] += 1
        right = _right_joints(truths, heads, predictions)
        for number, prediction in enumerate(predictions):
            for joint, (_, _, score) in prediction.items():
                detections[joint].append((score, (number, joint) in right))
    return {
        joint: _area(detections[joint], count) for joint, count in num_annotated.items() if count
    }


def mota(videos: Sequence[Video], results: Results, left_out: Collection[int] = ()) -> float:
    """Return the mean MOTA of all joints but those that are left out.

    The last annotated frame of a video does not count. A frame without people or predictions is,
    for each joint, an object and a guess that do not match.
    """
    errors, objects = np.zeros(NUM_JOINTS), np.zeros(NUM_JOINTS)
    for video in videos:
        counts = [_JointErrors() for _ in range(NUM_JOINTS)]
        for frame in [frame for frame in video.frames if frame.people][:-1]:
            annotated = [(p.track_id, _head_size(p), p.keypoints_K3) for p in frame.people]
            predicted = [
                (result["track_id"], 0.0, result["keypoints"])
                for result in results
                if result["image_id"] == frame.image_id
            ]
            truth, found = _tracked(frame, annotated), _tracked(frame, predicted)
            for joint, count in enumerate(counts):
                if truth and found:
                    count.see(truth, found, joint)
                else:
                    count.errors, count.objects = count.errors + 2, count.objects + 1
        errors += [count.errors for count in counts]
        objects += [count.objects for count in counts]
    kept = [joint for joint in range(NUM_JOINTS) if joint not in left_out and objects[joint]]
    return float(np.mean(1 - errors[kept] / objects[kept]))


def _head_size(person: TrackedPerson) -> float:
    assert person.head_box_xywh is not None
    return HEAD_SIZE_OF_DIAGONAL * math.hypot(*person.head_box_xywh[2:])


def _scored(keypoints: Any, frame: Frame, is_truth: bool) -> Scored:
    """Return the joints that are there and not ignored."""
    joints = {}
    for number, (x, y, third) in enumerate(np.reshape(keypoints, (-1, 3)).tolist()):
        there = third > 0 if is_truth else (x, y, third) != (0, 0, 0)
        if there and not any(_is_inside(x, y, region) for region in frame.ignore_regions):
            joints[number] = (x, y, third)
    return joints


def _is_inside(x: float, y: float, polygon: Any) -> bool:
    inside = False
    for number in range(len(polygon)):
        (x1, y1), (x2, y2) = polygon[number - 1], polygon[number]
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            inside = not inside
    return inside


def _right_joints(
    truths: Sequence[Scored], heads: Sequence[float], predictions: Sequence[Scored]
) -> set[tuple[int, int]]:
    """Return the predictions and joints that are near those of the person assigned to them."""

    def near(prediction: int, person: int, joint: int) -> bool:
        if joint not in predictions[prediction] or joint not in truths[person]:
            return False
        one, other = predictions[prediction][joint], truths[person][joint]
        return math.dist(one[:2], other[:2]) / heads[person] <= HEAD_SHARE

    people = range(len(truths))
    share = [
        [sum(near(p, g, n) for n in range(NUM_JOINTS)) / max(len(truths[g]), 1) for g in people]
        for p in range(len(predictions))
    ]
    favourites = [max(people, key=row.__getitem__) for row in share]
    right = set()
    for person in people:
        best, best_share = None, 0.0
        for prediction, favourite in enumerate(favourites):
            if favourite == person and share[prediction][person] > best_share:
                best, best_share = prediction, share[prediction][person]
        if best is not None:
            right |= {(best, n) for n in range(NUM_JOINTS) if near(best, person, n)}
    return right


def _area(detections: Sequence[tuple[float, bool]], num_annotated: int) -> float:
    """Walk down the recall levels with the best precision at or beyond each."""
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


def _tracked(frame: Frame, raw: Sequence[tuple[int, float, Any]]) -> list[Tracked]:
    """In a frame with ignore regions, only people of whom a joint is left."""
    polygons = [np.asarray(polygon, np.float32) for polygon in frame.ignore_regions]
    people = []
    for track, head, keypoints in raw:
        flat = np.asarray(keypoints, np.float64).reshape(NUM_JOINTS, 3)
        joints = {
            joint: (float(x), float(y))
            for joint, (x, y, seen) in enumerate(flat)
            if (x, y, seen) != (0, 0, 0)
            and not any(cv2.pointPolygonTest(one, (x, y), False) > 0 for one in polygons)
        }
        if joints or not polygons:
            people.append((track, head, joints))
    return people


class _JointErrors:
    """CLEAR MOT of one joint in one video."""

    def __init__(self) -> None:
        self.errors, self.objects, self.partner = 0, 0, dict[int, int]()

    def see(self, truth: Sequence[Tracked], found: Sequence[Tracked], joint: int) -> None:
        objects = [person for person in truth if joint in person[2]]
        guesses = [person for person in found if joint in person[2]]
        costs = np.full((len(objects), len(guesses)), IMPOSSIBLE)
        for row, (_, head, joints) in enumerate(objects):
            for column, (_, _, others) in enumerate(guesses):
                distance = math.dist(joints[joint], others[joint]) / head
                if distance <= HEAD_SHARE:
                    costs[row, column] = distance
        pairs: dict[int, int] = {}
        for row, (track, _, _) in enumerate(objects):  # who was matched stays matched
            for column, (guess, _, _) in enumerate(guesses):
                if self.partner.get(track) == guess and costs[row, column] < IMPOSSIBLE:
                    pairs[row] = column
        rows = [row for row in range(len(objects)) if row not in pairs]
        columns = [column for column in range(len(guesses)) if column not in pairs.values()]
        for row, column in zip(*linear_sum_assignment(costs[np.ix_(rows, columns)]), strict=True):
            if costs[rows[row], columns[column]] < IMPOSSIBLE:
                pairs[rows[row]] = columns[column]
        for row, column in pairs.items():
            track, guess = objects[row][0], guesses[column][0]
            self.errors += self.partner.get(track, guess) != guess
            self.partner[track] = guess
        self.errors += len(objects) + len(guesses) - 2 * len(pairs)
        self.objects += len(objects)
