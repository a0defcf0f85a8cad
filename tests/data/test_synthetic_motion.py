from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipnas.synthetic.body import Camera, Pose, Proportions, pose_body
from vipnas.synthetic.motion import KINDS, Gait, Keyed, Motion, random_motion
from vipnas.synthetic.poses import within_limits

SECONDS = 2.0


def flat(pose: Pose) -> np.ndarray:
    return np.array([angle for part in astuple(pose) for angle in np.ravel(part)])


def motion(seed: int, difficulty: float = 1.0, speed: float = 1.0) -> Motion:
    return random_motion(np.random.default_rng(seed), difficulty, speed, SECONDS)


@given(st.integers(0, 10**6), st.sampled_from([0.0, 1.0]))
def test_bodies_move_smoothly_and_within_their_limits(seed: int, difficulty: float) -> None:
    """No point of a body of 1.72 m is faster than 12 m/s against the hips, or jumps."""
    moving = motion(seed, difficulty)
    camera = Camera(500.0, (160.0, 120.0))
    times = np.linspace(0, SECONDS, 101)
    poses = [moving.pose_at(float(time)) for time in times]
    assert all(pose == within_limits(pose) for pose in poses)
    points = np.array(
        [list(pose_body(Proportions(), pose, (0, 0, 5), camera).points.values()) for pose in poses]
    )
    speeds = np.linalg.norm(np.diff(points, axis=0), axis=-1) * 50
    assert speeds.max() < 12
    finely = np.array([flat(moving.pose_at(0.7 + step * 1e-4)) for step in range(3)])
    assert np.abs(np.diff(finely, axis=0)).max() < 0.5


def test_all_kinds_come_and_at_difficulty_0_only_easy_ones() -> None:
    assert {motion(seed).kind for seed in range(80)} == set(KINDS)
    easy = {motion(seed, difficulty=0).kind for seed in range(80)}
    assert easy == {"walking", "standing", "gesturing"}


def test_speed_is_the_rate_of_time() -> None:
    """But for what is drawn for a longer time: so of one motion, sped up."""
    slow = motion(11)
    fast = replace(slow, speed=3.0)
    np.testing.assert_allclose(flat(fast.pose_at(0.25)), flat(slow.pose_at(0.75)))
    np.testing.assert_allclose(fast.way_at(0.25), slow.way_at(0.75))


def test_a_motion_is_a_function_of_the_seed() -> None:
    np.testing.assert_array_equal(flat(motion(5).pose_at(0.4)), flat(motion(5).pose_at(0.4)))
    assert (flat(motion(5).pose_at(0.4)) != flat(motion(6).pose_at(0.4))).any()


def test_keys_are_met_at_rest_and_half_way_is_half_way() -> None:
    curve = Keyed(np.array((0.0, 2.0, 3.0)), np.array(((0.0, 10.0), (8.0, 10.0), (4.0, 0.0))))
    assert curve(0).tolist() == curve(-1).tolist() == [0, 10]
    assert curve(1).tolist() == [4, 10] and curve(2.5).tolist() == [6, 5]
    assert curve(2).tolist() == [8, 10] and curve(3).tolist() == curve(9).tolist() == [4, 0]
    fastest = (curve(1.001) - curve(0.999))[0] / 0.002
    assert fastest == pytest.approx(15 / 8 * 8 / 2, rel=1e-4)
    for key in (0.0, 2.0, 3.0):
        assert np.abs(curve(key + 1e-3) - curve(key - 1e-3)).max() < 1e-5


def test_a_gait_repeats_and_its_sides_take_turns() -> None:
    gait = Gait(hertz=0.8, phase=0.3, swing=25, knee=50, elbow=20)
    np.testing.assert_allclose(gait.legs(0.4), gait.legs(0.4 + 1 / 0.8), atol=1e-9)
    half_later = gait.legs(0.4 + 0.5 / 0.8)
    np.testing.assert_allclose(gait.legs(0.4), np.roll(half_later, 5), atol=1e-9)
    assert gait.left_arm(0.4)[0] * (gait.legs(0.4)[0] - 0.3 * 25) < 0  # against its leg
    # A stature of 1.72 m walks at 1.12 m/s: 4 * 0.8 * 0.485 * sin(25 degrees) * 1.72.
    assert gait.metres_per_second * 1.72 == pytest.approx(1.128, abs=1e-3)


@pytest.mark.parametrize("yaw_per_s", [0.0, 40.0])
def test_the_way_leads_where_the_person_looks(yaw_per_s: float) -> None:
    walking = replace(motion(1), yaw=30.0, yaw_per_s=yaw_per_s, metres_per_s=2.0, speed=1.5)
    assert walking.way_at(0) == (0, 0)
    for seconds in (0.0, 0.6, 1.7):
        step = np.subtract(walking.way_at(seconds + 1e-5), walking.way_at(seconds - 1e-5)) / 2e-5
        yaw = np.radians(walking.pose_at(seconds).yaw)
        np.testing.assert_allclose(step, 3.0 * np.array((np.sin(yaw), np.cos(yaw))), atol=1e-4)
