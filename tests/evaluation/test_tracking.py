from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from posetrack_frames import POSETRACK_18, random_frames, truth_as_results

from vipnas.data.formats.posetrack import Frame, Video, read_posetrack
from vipnas.evaluation import mota as tracking
from vipnas.evaluation.mota import MotaRule, mota, track


def pose(x: float, y: float) -> Any:
    """A person 60 wide and 120 high whose joints spread from (x, y)."""
    rng = np.random.default_rng(0)
    keypoints = np.ones((17, 3))
    keypoints[:, :2] = (x, y) + rng.uniform(0, 1, (17, 2)) * (60, 120)
    return keypoints


def tracked(people_by_frame: Sequence[Sequence[Any]], **settings: Any) -> list[list[int]]:
    """The track ids of the people in each frame."""
    frames = random_frames(np.random.default_rng(0), len(people_by_frame), 0)
    results = [
        {"image_id": frame.image_id, "keypoints": person.ravel().tolist()}
        for frame, people in zip(frames, people_by_frame, strict=True)
        for person in people
    ]
    found = track([Video("walk", tuple(frames))], results, POSETRACK_18, **settings)
    by_image: dict[int, list[int]] = {frame.image_id: [] for frame in frames}
    for result in found:
        by_image[result["image_id"]].append(result["track_id"])
    return list(by_image.values())


def test_tracks_begin_wait_and_end() -> None:
    back = pose(300, 0), pose(2, 0)
    people = [[pose(0, 0)], [], [], back, [], [], [], [pose(2, 0)]]
    assert tracked(people, max_gap=2) == [[0], [], [], [1, 0], [], [], [], [2]]


@pytest.mark.parametrize("similarity", ["oks", "iou"])
def test_the_most_similar_pair_goes_first(similarity: str) -> None:
    people = [[pose(0, 0)], [pose(6, 0), pose(1, 0)]]
    assert tracked(people, similarity=similarity) == [[0], [1, 0]]


def test_a_joint_that_is_not_predicted_is_not_compared() -> None:
    first, second, single = pose(0, 0), pose(3, 0), np.zeros((17, 3))
    first[5:9], second[5:12] = 0, 0  # else all of these would be far
    single[0] = (400, 0, 1)
    assert tracked([[first, single], [single, second]]) == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"similarity": "ciou"}, "similarity: expected .* got 'ciou' .did you mean 'iou'"),
        ({"min_similarity": 0.0}, "min_similarity: expected above 0, to 1, got 0.0"),
        ({"max_gap": -1}, "max_gap: expected 0 to max_absence .-1., got -1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tracked([[pose(0, 0)]], **settings)


def walking_video(num_frames: int) -> Video:
    frames: list[Frame] = []
    empty = random_frames(np.random.default_rng(0), num_frames, 0)
    some = random_frames(np.random.default_rng(3), 1, 3)[0].people[:1]
    rng = np.random.default_rng(4)
    while not some or some[0].keypoints_K3[:, 2].sum() < 20:
        some = random_frames(rng, 1, 3)[0].people[:1]
    for step, frame in enumerate(empty):
        people = []
        for number, start in enumerate((0, 400)):
            keypoints = some[0].keypoints_K3.copy()
            keypoints[:, 0] += start + (2 * step if number == 0 else -2 * step)
            keypoints[keypoints[:, 2] == 0] = 0
            people.append(
                dataclasses.replace(
                    some[0], image_id=frame.image_id, keypoints_K3=keypoints, track_id=number
                )
            )
        frames.append(dataclasses.replace(frame, people=tuple(people), ignore_regions=()))
    return Video("walk", tuple(frames))


@pytest.mark.parametrize(("rule", "counted"), [("poseval", 9), ("all-frames", 10)])
def test_mota_by_hand(rule: MotaRule, counted: int) -> None:
    """Of ten annotated frames, the official kit counts nine."""
    pytest.importorskip("motmetrics")
    mota = partial(tracking.mota, rule=rule)
    video = walking_video(10)
    results = truth_as_results(video.frames)
    assert mota([video], results, POSETRACK_18).mean == 1.0
    # One person of two is never found: half of the joints are missed.
    half = [result for result in results if result["track_id"] == 0]
    assert mota([video], half, POSETRACK_18).mean == pytest.approx(0.5)
    # Identities change places once: each joint of both people makes one switch.
    switched = [
        {**result, "track_id": 1 - result["track_id"]} if result["image_id"] >= 1005 else result
        for result in results
    ]
    found = mota([video], switched, POSETRACK_18)
    assert found.mean == pytest.approx(1 - 1 / counted)
    assert found.rule == rule
    assert found.num_switches == 2 * len(found.by_joint)
    # A third that is not there, in every frame: as many false positives as annotated people / 2.
    far = [
        {**result, "track_id": 9, "keypoints": (np.array(result["keypoints"]) + 3000).tolist()}
        for result in half
    ]
    per_frame = mota([video], results + far, POSETRACK_18)
    assert per_frame.mean == pytest.approx(0.5)
    assert str(per_frame) == "MOTA 0.500, 0 switches of identity"


def test_real_people_keep_their_ids(vipnas_data: Path) -> None:
    pytest.importorskip("motmetrics")
    folder = vipnas_data / "bonn_video"
    data = read_posetrack(folder / "060470979.json", folder, POSETRACK_18)
    untracked = [
        {key: value for key, value in result.items() if key != "track_id"}
        for result in truth_as_results(data.frames)
    ]
    for similarity in ("oks", "iou"):
        tracked = track(data.videos, untracked, POSETRACK_18, similarity)
        assert len(tracked) == 164
        assert mota(data.videos, tracked, POSETRACK_18).mean >= 0.99
    with pytest.raises(ValueError, match="result 0: track_id: expected a number"):
        mota(data.videos, untracked, POSETRACK_18)


def test_without_motmetrics_the_error_says_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "motmetrics", None)
    video = walking_video(2)
    with pytest.raises(ValueError, match=r"pip install 'vipnas\[posetrack\]'"):
        mota([video], truth_as_results(video.frames), POSETRACK_18)


def test_videos_without_people_cannot_be_scored() -> None:
    pytest.importorskip("motmetrics")
    frames = random_frames(np.random.default_rng(0), 3, 0)
    with pytest.raises(ValueError, match="videos: expected at least one annotated joint"):
        mota([Video("empty", frames)], [], POSETRACK_18)
