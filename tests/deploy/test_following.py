"""Births, deaths, losses and doubles by hand, with a runner that knows where people are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from vipnas.data.formats.skeletons import read_skeleton
from vipnas.deploy.clip_runner import FoundPoses, ImageRunner
from vipnas.deploy.detected_boxes import DetectedBoxes
from vipnas.deploy.following import FollowRule, TrackedFrame, follow
from vipnas.evaluation.key_frames import ClipMemory
from vipnas.evaluation.tracker import Tracker

SKELETON = read_skeleton("coco_17")
K = SKELETON.num_joints
HW = (200, 400)
SHAPE_K2 = np.random.default_rng(0).uniform(0, 1, (K, 2)) * (40, 90)
SHAPE_K2[:4] = (0, 0), (40, 0), (0, 90), (40, 90)

Places = Sequence[tuple[float, float]]


def box_at(x: float, y: float) -> list[float]:
    """The box that a pose at x, y gives: 40 x 90, padded."""
    return [x - 5, y - 11.25, x + 45, y + 101.25]


def found(boxes: Any, scores: Any = None) -> DetectedBoxes:
    boxes_N4 = np.array(boxes, float)
    if scores is None:
        scores = np.ones(len(boxes_N4))
    return DetectedBoxes(boxes_N4, np.array(scores, np.float32))


class Scene:
    """People at known places in each frame, found by a runner and by a detector."""

    def __init__(self, frames: Sequence[Places], weak_frames: Sequence[int] = ()) -> None:
        self.frames, self.weak_frames = frames, weak_frames
        self.number = -1
        self.asked: list[int] = []
        self.key_frames: list[list[bool]] = []

    def images(self) -> Iterator[Any]:
        for number in range(len(self.frames)):
            self.number = number
            yield np.zeros((*HW, 3), np.uint8)

    def runner(
        self, image: Any, boxes_xyxy: Any, memories: Sequence[ClipMemory | None]
    ) -> FoundPoses:
        """The pose of whoever is nearest to the centre of a box; each clip is never over."""
        places = self.frames[self.number]
        self.key_frames.append([memory is None for memory in memories])
        keypoints = np.zeros((len(boxes_xyxy), K, 2))
        scores = np.full((len(boxes_xyxy), K), 0.9, np.float32)
        for row, box in enumerate(boxes_xyxy):
            centre = (box[:2] + box[2:]) / 2
            far = [np.hypot(*(centre - (x + 20, y + 45))) for x, y in places]
            if far and min(far) < 60 and self.number not in self.weak_frames:
                keypoints[row] = SHAPE_K2 + places[int(np.argmin(far))]
            else:
                keypoints[row], scores[row] = centre, 0.1
        memory = ClipMemory(1, torch.zeros(1, 1, 1), np.zeros((2, 3)), 0.9)
        distances = np.array([0 if memory is None else 1 for memory in memories], np.int64)
        return FoundPoses(keypoints, scores, (memory,) * len(boxes_xyxy), distances)

    def detect(self, image: Any) -> Any:
        self.asked.append(self.number)
        return found([box_at(*place) for place in self.frames[self.number]])

    def run(self, detect: Any = None, **rule: Any) -> list[TrackedFrame]:
        tracker = Tracker(SKELETON)
        return list(follow(self.images(), self.runner, tracker, detect, FollowRule(**rule)))


def ids(frames: Sequence[TrackedFrame]) -> list[list[int]]:
    return [frame.ids.tolist() for frame in frames]


def test_a_person_is_followed_between_detections() -> None:
    scene = Scene([[(50 + 6 * step, 50)] for step in range(7)])
    frames = scene.run(scene.detect, detect_every=3)
    assert ids(frames) == [[0]] * 7
    assert scene.asked == [0, 3, 6]
    assert [frame.is_detected for frame in frames] == [True, False, False] * 2 + [True]
    for step, frame in enumerate(frames):
        assert np.allclose(frame.keypoints[0], SHAPE_K2 + (50 + 6 * step, 50))
        # Detected where the person is; else where the pose was in the frame before.
        at = step if step % 3 == 0 else step - 1
        assert frame.boxes_xyxy[0] == pytest.approx(box_at(50 + 6 * at, 50))
    assert scene.key_frames == [[True]] + [[False]] * 6


def test_a_person_keeps_the_score_of_the_last_detection() -> None:
    scene = Scene([[(50, 50)]] * 5)
    answers = iter([([[0, 0, 5, 5], box_at(50, 50)], [0.9, 0.75]), ([box_at(50, 50)], [0.5])])
    frames = scene.run(lambda _: found(*next(answers)), detect_every=3)
    assert [frame.box_scores.tolist() for frame in frames] == [[0.75]] * 3 + [[0.5]] * 2


def test_after_somebody_was_dropped_the_detector_looks_again() -> None:
    """Person 1 is hidden in frame 3, and found again before the next run is due."""
    hidden = [[(50, 50), (250, 50)]] * 3 + [[(50, 50)]] + [[(50, 50), (250, 50)]] * 4
    scene = Scene(hidden)
    frames = scene.run(scene.detect, detect_every=5, max_lost_frames=0)
    assert scene.asked == [0, 4]
    assert ids(frames) == [[0, 1]] * 8


def test_weak_detections_confirm_but_start_nobody() -> None:
    scene = Scene([[(50, 50), (250, 50)]] * 3)
    boxes = [box_at(50, 50), box_at(250, 50)]
    answers = iter([(boxes, [0.6, 0.4]), (boxes, [0.4, 0.4]), (boxes, [0.4, 0.5])])
    frames = scene.run(lambda _: found(*next(answers)), detect_every=1, max_missed_detections=0)
    assert ids(frames) == [[0], [0], [0, 1]]


def test_a_detection_that_matches_nobody_is_born_with_a_key_frame() -> None:
    scene = Scene([[(50, 50)]] * 2 + [[(250, 50), (50, 50)]] * 4)
    frames = scene.run(scene.detect, detect_every=3)
    assert ids(frames) == [[0]] * 3 + [[0, 1]] * 3
    assert frames[3].is_key_frame.tolist() == [False, True]
    assert frames[4].is_key_frame.tolist() == [False, False]


def test_a_lost_person_gets_key_frames_and_is_dropped() -> None:
    """The box stays where it is; whoever is back in time goes on."""
    back = Scene([[(50, 50)]] * 7, weak_frames=(2, 3))
    frames = back.run(back.detect, detect_every=100, max_lost_frames=2)
    assert ids(frames) == [[0]] * 7
    assert back.key_frames == [[k] for k in (True, False, False, True, True, False, False)]
    assert all(frame.boxes_xyxy[0] == pytest.approx(box_at(50, 50)) for frame in frames)
    gone = Scene([[(50, 50)]] * 2 + [[]] * 5)
    frames = gone.run(gone.detect, detect_every=100, max_lost_frames=2)
    assert ids(frames) == [[0]] * 5 + [[]] * 2
    assert gone.asked == [0, 5, 6]  # where nobody is followed the detector looks each time


def test_who_comes_back_has_the_old_id() -> None:
    scene = Scene([[(50, 50)]] * 2 + [[]] * 5 + [[(60, 50)]] * 2)
    frames = scene.run(scene.detect, detect_every=100, max_lost_frames=0)
    assert ids(frames) == [[0]] * 3 + [[]] * 4 + [[0]] * 2
    assert frames[7].is_key_frame.tolist() == [True]


def test_whom_the_detector_does_not_confirm_is_dropped() -> None:
    scene = Scene([[(50, 50)]] * 8)
    answers = iter([[box_at(50, 50)], [], [], []])
    frames = scene.run(
        lambda _: found(next(answers, [])),
        detect_every=2,
        max_missed_detections=2,
    )
    assert ids(frames) == [[0]] * 6 + [[]] * 2


def test_two_boxes_on_one_person_are_one() -> None:
    """A double detection is born once; somebody who jumps onto another one goes, the other stays.

    Person 0 leaves from beside person 1, onto whom the box of 0 then falls.
    """
    double = Scene([[(50, 50)]] * 2)
    frames = double.run(lambda _: found([box_at(50, 50), box_at(70, 60)]))
    assert ids(frames) == [[0]] * 2
    jump = Scene([[(50, 50), (95, 50)]] * 2 + [[(95, 50)]] * 2)
    frames = jump.run(jump.detect, detect_every=100)
    assert ids(frames) == [[0, 1]] * 2 + [[1]] * 2


def test_who_leaves_the_image_is_dropped() -> None:
    scene = Scene([[(340 + 12 * step, 50)] for step in range(6)])
    frames = scene.run(scene.detect, detect_every=100)
    # The centre, at 360 + 12 step, is out of 400 pixels after the frame 4 and its pose.
    assert ids(frames[:5]) == [[0]] * 5 and frames[5].is_detected


def test_without_a_detector_the_whole_image_is_looked_at_until_there_is_somebody() -> None:
    scene = Scene([[]] + [[(180, 55)]] * 3)
    frames = scene.run(max_lost_frames=0)
    assert [frame.is_detected for frame in frames] == [True, True, False, False]
    assert [frame.boxes_xyxy[0].tolist() for frame in frames[:2]] == [[0, 0, 400, 200]] * 2
    assert frames[2].boxes_xyxy[0] == pytest.approx(box_at(180, 55))


def test_boxes_without_anything_to_see_are_left_out() -> None:
    scene = Scene([[(50, 50)]])
    boxes = [[50, 50, 50, 90], [60, 90, 40, 50], [50, 50, 54, 54], box_at(50, 50)]
    (frame,) = scene.run(lambda _: found(boxes))
    assert frame.boxes_xyxy.tolist() == [box_at(50, 50)]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.zeros((2, 5)), r"boxes: expected \(N, 4\), got \(2, 5\)"),
        (np.array([[0, 0, np.nan, 9]]), "boxes: expected finite numbers"),
    ],
)
def test_boxes_of_another_form_are_refused(boxes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scene([[(50, 50)]]).run(lambda _: found(boxes))


def test_models_of_images_run_the_same_way() -> None:
    scene = Scene([[(50 + 6 * step, 50)] for step in range(5)])
    memory_free = ImageRunner(
        lambda image, boxes: scene.runner(image, boxes, (None,) * len(boxes))[:2]
    )
    frames = list(follow(scene.images(), memory_free, Tracker(SKELETON), scene.detect))
    assert ids(frames) == [[0]] * 5
    assert all(frame.is_key_frame.all() for frame in frames)
    assert np.allclose(frames[4].keypoints[0], SHAPE_K2 + (74, 50))


def test_a_frame_is_given_out_before_the_next_is_read() -> None:
    scene = Scene([[(50, 50)]] * 5)
    for number, _ in enumerate(follow(scene.images(), scene.runner, Tracker(SKELETON))):
        assert scene.number == number


def test_what_was_given_out_may_be_changed() -> None:
    scene = Scene([[(50, 50)]] * 4)
    found = []
    for frame in follow(scene.images(), scene.runner, Tracker(SKELETON), scene.detect):
        found.append(frame.boxes_xyxy[0].tolist())
        for values in frame[:6]:
            values[:] = 0
    assert found == [box_at(50, 50)] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detect_every": 0}, "detect_every: expected 1 or more, got 0"),
        ({"max_lost_frames": -1}, "max_lost_frames: expected 0 or more, got -1"),
        ({"max_missed_detections": -1}, "max_missed_detections: expected 0 or more, got -1"),
        ({"min_birth_score": 1.5}, "min_birth_score: expected 0 to 1, got 1.5"),
        ({"min_iou": 0.0}, "min_iou: expected above 0, to 1, got 0.0"),
        ({"max_similarity": 1.1}, "max_similarity: expected above 0, to 1, got 1.1"),
    ],
)
def test_wrong_rules_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FollowRule(**settings)
