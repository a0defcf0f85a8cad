"""Ids by hand, on synthetic videos with noise, and on an annotated one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vipnas.data.crops.boxes import xyxy_from_xywh
from vipnas.data.formats.posetrack import Frame, Video, read_posetrack
from vipnas.data.formats.skeletons import read_skeleton
from vipnas.evaluation.mota import mota
from vipnas.evaluation.posetrack_ap import posetrack_ap
from vipnas.evaluation.tracker import NEW, Tracker, optimal_pairs
from vipnas.synthetic.videos import synthesize_video

SKELETON = read_skeleton("posetrack_18")
K = SKELETON.num_joints


def person(x: float, y: float, width: float = 60, height: float = 120) -> Any:
    """Joints (K, 2) spread over a box from (x, y), and the box."""
    rng = np.random.default_rng(0)
    return (x, y) + rng.uniform(0, 1, (K, 2)) * (width, height), (x, y, x + width, y + height)


def update(tracker: Tracker, *people: Any, known_ids: Any = None) -> list[int]:
    keypoints = np.array([xy for xy, _ in people]).reshape(-1, K, 2)
    boxes = np.array([box for _, box in people], float).reshape(-1, 4)
    ids = tracker.update(keypoints, np.ones((len(people), K), np.float32), boxes, known_ids)
    return ids.tolist()


@pytest.mark.parametrize("matching", ["greedy", "hungarian"])
def test_two_people_who_walk_keep_their_ids(matching: str) -> None:
    tracker = Tracker(SKELETON, matching)
    for step in range(10):
        first, second = person(10 + 5 * step, 20), person(300 - 5 * step, 20)
        if step % 2:
            assert update(tracker, second, first) == [1, 0]
        else:
            assert update(tracker, first, second) == [0, 1]


def test_a_gap_a_return_and_an_end() -> None:
    """Within two frames anybody similar is the same; within five, whoever overlaps."""
    tracker = Tracker(SKELETON, max_gap=2, max_absence=5)
    assert update(tracker, person(0, 0)) == [0]
    assert [update(tracker) for _ in range(2)] == [[], []]
    assert update(tracker, person(300, 0), person(6, 0)) == [1, 0]
    for _ in range(3):
        assert update(tracker, person(300, 0)) == [1]
    # Three frames later another pose in the same place: its OKS is 0, its IoU is 48 / 72.
    xy, _ = person(0, 0)
    turned = xy[::-1].copy(), (12.0, 0.0, 72.0, 120.0)
    assert update(tracker, turned, person(300, 0)) == [0, 1]
    for _ in range(6):
        update(tracker, person(300, 0))
    assert update(tracker, person(12, 0)) == [2]


def test_a_return_takes_what_nobody_else_took() -> None:
    """Who was away for long comes after those who were seen in the frame before."""
    tracker = Tracker(SKELETON, max_gap=0, max_absence=5)
    assert update(tracker, person(0, 0)) == [0]
    assert update(tracker, person(300, 0)) == [1]
    assert update(tracker, person(290, 0), person(0, 0)) == [1, 0]


def test_too_far_is_a_birth_within_the_gap_too() -> None:
    tracker = Tracker(SKELETON)
    update(tracker, person(0, 0))
    assert update(tracker, person(59, 0)) == [1]


def test_similarity_by_hand() -> None:
    """The boxes overlap by half of their union, and the joints have the OKS of their distance."""
    xy, box = person(0, 0)
    moved = xy + (20, 0), (20.0, 0.0, 80.0, 120.0)
    variances = (2 * np.array(SKELETON.sigmas)) ** 2
    oks = np.exp(-(20**2) / variances / (60 * 120) / 2).mean()
    expected = 0.3 * oks + 0.7 * 40 / 80
    for min_similarity, ids in ((expected - 0.001, [0]), (expected + 0.001, [1])):
        tracker = Tracker(SKELETON, min_similarity=min_similarity, oks_weight=0.3)
        update(tracker, (xy, box))
        assert update(tracker, moved) == ids


def test_weak_joints_of_a_track_do_not_count() -> None:
    xy, box = person(0, 0)
    scores = np.ones((1, K), np.float32)
    scores[0, 5:] = 0.1
    wild = xy.copy()
    wild[5:] += 1000
    for min_joint_score, ids in ((0.2, [0]), (0.05, [1])):
        tracker = Tracker(SKELETON, min_similarity=0.9, min_joint_score=min_joint_score)
        tracker.update(wild[None], scores, np.array([box]))
        assert update(tracker, (xy, box)) == ids


def test_the_most_similar_pair_goes_first_or_the_sum_is_largest() -> None:
    """Row 0 takes column 0 at .9, and row 1 is left with .1; .8 + .7 is more than .9 + .1."""
    similarity = np.array([[0.9, 0.8], [0.7, 0.1]])
    assert optimal_pairs(similarity, 0.2) == [(0, 1), (1, 0)]
    # A pair that is too weak does not count for the sum either: .9 alone is more than .3 + .55.
    assert optimal_pairs(np.array([[0.9, 0.3], [0.55, 0.1]]), 0.35) == [(0, 0)]
    order = {"greedy": [0, 1], "hungarian": [1, 0]}
    for matching, expected in order.items():
        tracker = Tracker(SKELETON, matching, oks_weight=0, min_similarity=0.05)
        update(tracker, person(0, 0), person(8, 0))
        # IoUs 57 / 63 and 55 / 65, and 50 / 70 and 42 / 78.
        assert update(tracker, person(3, 0), person(-10, 0)) == expected


def test_known_ids_are_kept_and_others_take_what_is_free() -> None:
    tracker = Tracker(SKELETON)
    assert update(tracker, person(0, 0), person(300, 0)) == [0, 1]
    moved = person(100, 0), person(300, 0), person(0, 0)
    assert update(tracker, *moved, known_ids=[0, NEW, NEW]) == [0, 1, 2]


def test_equal_input_gives_equal_ids() -> None:
    people = [person(0, 0), person(0, 0), person(0, 0)]
    first, second = Tracker(SKELETON), Tracker(SKELETON)
    for _ in range(3):
        assert update(first, *people) == update(second, *people) == [0, 1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"matching": "greed"}, "matching: expected one of greedy, hungarian, got 'greed'"),
        ({"min_similarity": 0.0}, "min_similarity: expected above 0, to 1, got 0.0"),
        ({"min_reentry_iou": 1.5}, "min_reentry_iou: expected above 0, to 1, got 1.5"),
        ({"oks_weight": -0.1}, "oks_weight: expected 0 to 1, got -0.1"),
        ({"max_gap": -1}, "max_gap: expected 0 to max_absence"),
        ({"max_gap": 9, "max_absence": 8}, r"max_gap: expected 0 to max_absence \(8\), got 9"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tracker(SKELETON, **settings)


def test_wrong_shapes_are_refused() -> None:
    message = r"scores: expected \(1, 17\), got \(1, 16\)"
    with pytest.raises(ValueError, match=message):
        Tracker(SKELETON).update(np.zeros((1, K, 2)), np.zeros((1, 16)), np.zeros((1, 4)))


def test_ids_are_the_tracks_of_synthetic_videos(tmp_path: Path) -> None:
    """True poses with noise of 2 % of the person's size, in random order.

    Somebody of whom less than half can be seen, who comes or goes, may have other ids.
    """
    settings: dict[str, Any] = {"num_frames": 12, "people_per_video": (2, 4)}
    synthesize_video(tmp_path / "set", 2, 1, image_hw=(60, 80), **settings)
    data = read_posetrack(tmp_path / "set" / "annotations", tmp_path / "set", SKELETON)
    for video in data.videos:
        pairs = tracked_pairs(video.frames, np.random.default_rng(0))
        assert len(dict(pairs)) == len(pairs) == len({found for _, found in pairs}) >= 2


def tracked_pairs(frames: tuple[Frame, ...], rng: np.random.Generator) -> set[tuple[int, int]]:
    """True track ids and those found."""
    tracker = Tracker(SKELETON)
    pairs = set()
    for frame in frames:
        people = [frame.people[row] for row in rng.permutation(len(frame.people))]
        people = [one for one in people if (one.keypoints_K3[:, 2] > 0).sum() > K / 2]
        found = noisy_people(people, rng)
        ids = tracker.update(*found)
        pairs |= {(one.track_id, number) for one, number in zip(people, ids.tolist(), strict=True)}
    return pairs


def noisy_people(people: Any, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Keypoints, scores and boxes, each with noise; joints without a label score 0."""
    keypoints = np.array([one.keypoints_K3 for one in people], float).reshape(-1, K, 3)
    boxes = xyxy_from_xywh(np.array([one.box_xywh for one in people]).reshape(-1, 4))
    sizes = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    xy = keypoints[..., :2] + 0.02 * sizes[:, None, None] * rng.normal(size=(len(people), K, 2))
    boxes = boxes + 0.02 * sizes[:, None] * rng.normal(size=boxes.shape)
    scores = np.where(keypoints[..., 2] > 0, rng.uniform(0.5, 1, (len(people), K)), 0)
    return xy, scores, boxes


def test_a_real_video_without_a_switch(vipnas_data: Path) -> None:
    """All mistakes are made by the noise, and none by the tracker: four persons, four tracks."""
    pytest.importorskip("motmetrics")
    directory = vipnas_data / "bonn_video"
    data = read_posetrack(directory / "060470979.json", directory, SKELETON)
    (video,) = data.videos
    results = tracked_results(video, np.random.default_rng(0))
    assert len({result["track_id"] for result in results}) == 4
    found = mota(data.videos, results, SKELETON)
    assert found.num_switches == 0 and found.mean > 0.95
    assert posetrack_ap(data.frames, results, SKELETON).mean > 0.95


def tracked_results(video: Video, rng: np.random.Generator) -> list[dict[str, Any]]:
    tracker = Tracker(SKELETON)
    results = []
    for frame in video.frames:
        people = [frame.people[row] for row in rng.permutation(len(frame.people))]
        xy, scores, boxes = noisy_people(people, rng)
        ids = tracker.update(xy, scores, boxes)
        joints = np.concatenate((xy, scores[..., None]), axis=2) * (scores[..., None] > 0)
        results += [
            {
                "image_id": frame.image_id,
                "keypoints": keypoints.ravel().tolist(),
                "score": 1.0,
                "track_id": number,
            }
            for keypoints, number in zip(joints, ids.tolist(), strict=True)
        ]
    return results
