"""The One-Euro filter by hand, its lag, and what it does to noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from vipnas.deploy.smoothing import OneEuroFilter

BOX = np.array([[0.0, 0.0, 60.0, 140.0]])  # its size is 100
FPS = 25


def smoothed(smoother: OneEuroFilter, positions: Any) -> Any:
    """The x of one joint of one track; y stays where it is."""
    found = [
        smoother(number / FPS, [3], np.array([[[x, 7.0]]]), BOX)
        for number, x in enumerate(positions)
    ]
    assert all(xy[0, 0, 1] == pytest.approx(7) for xy in found)
    return np.array([xy[0, 0, 0] for xy in found])


def test_three_frames_by_hand() -> None:
    smoother = OneEuroFilter(min_cutoff_hz=1.0, beta=2.0, speed_cutoff_hz=1.0)
    first, second, third = smoothed(smoother, [10.0, 20.0, 20.0])

    def share(cutoff: float) -> float:
        return 1 / (1 + FPS / (2 * math.pi * cutoff))

    assert first == 10
    speed = share(1) * (20 - 10) * FPS / 100
    expected = 10 + share(1 + 2 * speed) * (20 - 10)
    assert second == pytest.approx(expected)
    speed *= 1 - share(1)
    assert third == pytest.approx(expected + share(1 + 2 * speed) * (20 - expected))


@pytest.mark.parametrize(("speed", "lag_s"), [(0.01, 0.187), (0.1, 0.0198), (1.0, 0.00199)])
def test_lag_of_a_steady_joint_is_what_is_said(speed: float, lag_s: float) -> None:
    smoother = OneEuroFilter()
    positions = speed * 100 / FPS * np.arange(200)
    behind = positions[-1] - smoothed(smoother, positions)[-1]
    assert behind / (speed * 100) == pytest.approx(lag_s, rel=0.01)
    assert smoother.lag_s(speed) == pytest.approx(lag_s, rel=0.01)


def test_a_joint_at_rest_trembles_less() -> None:
    """Noise of 0.5 % of the person's size."""
    noisy = 50 + np.random.default_rng(0).normal(0, 0.5, 200)
    assert smoothed(OneEuroFilter(), noisy)[50:].std() < 0.6 * noisy[50:].std()


def test_tracks_are_apart_and_a_gap_starts_afresh() -> None:
    smoother = OneEuroFilter(max_gap_s=0.5)
    first = np.array([[[0.0, 0.0]], [[100.0, 0.0]]])
    boxes = np.repeat(BOX, 2, axis=0)
    smoother(0.0, [0, 1], first, boxes)
    found = smoother(0.04, [1, 0], first[::-1] + 1, boxes)
    assert (np.abs(found - first[::-1]) < 1).all()
    again = smoother(0.58, [0, 2], first + 40, boxes)
    assert again.tolist() == (first + 40).tolist()
    smoother(2.0, [2], first[:1], boxes[:1])
    assert list(smoother._states) == [2]  # memory does not grow with the video


def test_input_is_not_changed_and_nobody_is_fine() -> None:
    smoother = OneEuroFilter()
    keypoints = np.array([[[1.0, 2.0]]])
    for time_s in (0.0, 0.04):
        smoother(time_s, [0], keypoints, BOX)[:] = 99
    assert keypoints.tolist() == [[[1, 2]]]
    assert smoother(0.08, [0], keypoints, BOX).tolist() == [[[1, 2]]]
    assert smoother(0.12, [], np.zeros((0, 1, 2)), np.zeros((0, 4))).shape == (0, 1, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_cutoff_hz": 0.0}, "min_cutoff_hz: expected a number above 0, got 0.0"),
        ({"speed_cutoff_hz": math.inf}, "speed_cutoff_hz: expected a number above 0, got inf"),
        ({"max_gap_s": math.nan}, "max_gap_s: expected a number above 0, got nan"),
        ({"beta": -1.0}, "beta: expected 0 or more, got -1.0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OneEuroFilter(**settings)
