"""Motion of synthetic people: smooth curves of joint angles over time, and paths walked.

Angles are in degrees, times in seconds at natural speed. A curve maps a time to the A angles of a
part of the body, in the order of the fields of `Pose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from vipnas.synthetic.body import ArmPose, LegPose, Pose
from vipnas.synthetic.poses import (
    Range,
    arms_up,
    bending,
    crouching,
    gait,
    random_arm,
    random_pose,
    sitting,
    sport,
    standing,
    within_limits,
)

Angles = NDArray[np.float64]
Curve = Callable[[float], Angles]
DrawPose = Callable[[np.random.Generator], Pose]

# Seconds of a movement, and of the rest after it: of the arms, and of trunk and legs.
ARM_TIMES: tuple[Range, Range] = ((0.3, 0.8), (0.0, 0.3))
BODY_TIMES: tuple[Range, Range] = ((0.5, 1.2), (0.0, 0.4))
# Limit of the mean speed of a movement. The highest speed is 15/8 of the mean.
FASTEST_DEG_PER_S = 350.0
# Gait cycles per second; swing of the thigh, flexion of knee and elbow in degrees.
WALK: tuple[Range, Range, Range, Range] = ((0.75, 1.1), (16, 30), (35, 60), (5, 45))
RUN: tuple[Range, Range, Range, Range] = ((1.2, 1.6), (35, 55), (70, 110), (70, 115))
WAVES_PER_SECOND: Range = (1.2, 2.6)
LEG_LENGTH = 0.485  # of the stature
FAST_TURN_CHANCE = 0.2
TRUNK_FIELDS = [name for name, value in vars(Pose()).items() if isinstance(value, float)]


def _draw(rng: np.random.Generator, limits: Range) -> float:
    return float(rng.uniform(*limits))


def _angles(*parts: ArmPose | LegPose) -> Angles:
    return np.array([angle for part in parts for angle in astuple(part)])


@dataclass(frozen=True)
class Keyed:
    """Minimum-jerk movements between keys, as people reach (Flash & Hogan, 1985).

    Speed and acceleration are 0 at each key. The highest speed is 15/8 of the mean.
    """

    times_N: Angles
    keys_NA: Angles

    def __call__(self, seconds: float) -> Angles:
        last = len(self.times_N) - 2
        key = min(max(int(np.searchsorted(self.times_N, seconds)) - 1, 0), last)
        start, stop = self.times_N[key : key + 2]
        share = min(max((seconds - start) / (stop - start), 0.0), 1.0)
        smooth = share**3 * (10 - 15 * share + 6 * share**2)
        return np.asarray(self.keys_NA[key] + smooth * (self.keys_NA[key + 1] - self.keys_NA[key]))


@dataclass(frozen=True)
class Wave:
    """A sinusoidal oscillation about a middle."""

    middle_A: Angles
    reach_A: Angles
    hertz: float
    phase: float

    def __call__(self, seconds: float) -> Angles:
        turn = math.sin(2 * math.pi * self.hertz * seconds + self.phase)
        return np.asarray(self.middle_A + self.reach_A * turn)


@dataclass(frozen=True)
class Gait:
    """Walking or running: legs in alternation, arms in opposite phase."""

    hertz: float
    phase: float
    swing: float
    knee: float
    elbow: float

    def phase_at(self, seconds: float) -> float:
        return self.phase + 2 * math.pi * self.hertz * seconds

    def side(self, seconds: float, offset: float) -> tuple[LegPose, ArmPose]:
        return gait(self.phase_at(seconds) + offset, self.swing, self.knee, self.elbow)

    def legs(self, seconds: float) -> Angles:
        return _angles(*(self.side(seconds, offset)[0] for offset in (0.0, math.pi)))

    def left_arm(self, seconds: float) -> Angles:
        return _angles(self.side(seconds, 0.0)[1])

    def right_arm(self, seconds: float) -> Angles:
        return _angles(self.side(seconds, math.pi)[1])

    @property
    def metres_per_second(self) -> float:
        """Speed for a stature of 1 m: two steps per cycle, as wide as the thighs swing."""
        return 4 * self.hertz * LEG_LENGTH * math.sin(math.radians(self.swing))


@dataclass(frozen=True)
class Motion:
    """A pose for every moment, and the path walked.

    Attributes:
        kind: One of `KINDS`.
        body: Curve of trunk and legs.
        left_arm, right_arm: Curves of the arms.
        gait: Motion of the legs that replaces that of `body`, or None.
        yaw: Yaw at second 0.
        yaw_per_s: Turning, on the spot or along the path.
        metres_per_s: Walking speed for a stature of 1 m, 0 on the spot or on a treadmill.
        speed: Factor of all speeds, 1 is natural.
    """

    kind: str
    body: Curve
    left_arm: Curve
    right_arm: Curve
    gait: Gait | None
    yaw: float
    yaw_per_s: float
    metres_per_s: float
    speed: float

    def pose_at(self, seconds: float) -> Pose:
        time = seconds * self.speed
        body = self.body(time)
        trunk = dict(zip(TRUNK_FIELDS, body.tolist(), strict=False))
        trunk["yaw"] = self.yaw + self.yaw_per_s * time
        legs = body[len(TRUNK_FIELDS) :].tolist()
        if self.gait is not None:
            legs = self.gait.legs(time).tolist()
            # The shoulders turn in the opposite direction of the hips.
            trunk["turn"] -= 0.3 * self.gait.swing * math.sin(self.gait.phase_at(time))
        half = len(fields(LegPose))
        pose = Pose(
            **trunk,
            left_arm=ArmPose(*self.left_arm(time).tolist()),
            right_arm=ArmPose(*self.right_arm(time).tolist()),
            left_leg=LegPose(*legs[:half]),
            right_leg=LegPose(*legs[half:]),
        )
        return within_limits(pose)

    def way_at(self, seconds: float) -> tuple[float, float]:
        """Return metres to the left and ahead (of yaw 0) since second 0, for a stature of 1 m."""
        time = seconds * self.speed
        start, rate = math.radians(self.yaw), math.radians(self.yaw_per_s)
        if abs(rate * time) < 1e-4:
            reach = self.metres_per_s * time
            return reach * math.sin(start), reach * math.cos(start)
        stop, radius = start + rate * time, self.metres_per_s / rate
        return radius * (math.cos(start) - math.cos(stop)), radius * (
            math.sin(stop) - math.sin(start)
        )


def random_motion(
    rng: np.random.Generator, difficulty: float, speed: float, seconds: float
) -> Motion:
    """Sample a motion: walking, running, gesturing, changing between poses, or sitting.

    Args:
        rng: Source of randomness.
        difficulty: 0 to 1. At 0, people walk or are upright and gesture, seen from the front.
        speed: Factor of all speeds, 1 is natural.
        seconds: Length of the motion.
    """
    natural = seconds * speed
    kind = KINDS[int(rng.choice(len(KINDS), p=_chances(difficulty)))]
    stride = {"walking": WALK, "running": RUN}.get(kind)
    draw_pose = BODIES.get(kind, standing)
    body = _random_keys(rng, BODY_TIMES, natural, lambda: _body_angles(rng, draw_pose))
    if stride is None:
        metres_per_s, walk = 0.0, None
        arms = [_random_arm_curve(rng, natural) for _ in range(2)]
    else:
        hertz, swing, knee, elbow = (_draw(rng, limits) for limits in stride)
        walk = Gait(hertz, _draw(rng, (0, 2 * math.pi)), swing, knee, elbow)
        treadmill = rng.random() < 0.25
        metres_per_s = 0.0 if treadmill else walk.metres_per_second
        arms = [
            swinging if rng.random() < 0.8 else _random_arm_curve(rng, natural)
            for swinging in (walk.left_arm, walk.right_arm)
        ]
    fast = rng.random() < FAST_TURN_CHANCE * difficulty
    yaw_per_s = float(rng.normal(0, 90 if fast else 15 * (0.3 + difficulty)))
    yaw = random_pose(rng, difficulty).yaw
    return Motion(kind, body, arms[0], arms[1], walk, yaw, yaw_per_s, metres_per_s, speed)


def _any_upright(rng: np.random.Generator) -> Pose:
    return (standing, arms_up)[int(rng.integers(2))](rng)


def _any_sport(rng: np.random.Generator) -> Pose:
    return (standing, arms_up, crouching, bending, sport, sport)[int(rng.integers(6))](rng)


# Poses that a kind of motion without gait moves between. Below: probabilities of the kinds at
# difficulty 0 and 1.
BODIES: dict[str, DrawPose] = {
    "standing": standing,
    "gesturing": _any_upright,
    "sporting": _any_sport,
    "sitting": sitting,
}
KINDS = ("walking", "running", "standing", "gesturing", "sporting", "sitting")
EASY, HARD = (0.4, 0.0, 0.35, 0.25, 0.0, 0.0), (0.26, 0.2, 0.1, 0.12, 0.22, 0.1)


def _chances(difficulty: float) -> Angles:
    return np.asarray((1 - difficulty) * np.array(EASY) + difficulty * np.array(HARD))


def _body_angles(rng: np.random.Generator, draw_pose: DrawPose) -> Angles:
    """Sample the angles of trunk and legs, which move together."""
    pose = within_limits(draw_pose(rng))
    # Heads move less between keys than they differ between images.
    pose = replace(pose, look=0.6 * pose.look, tilt=0.6 * pose.tilt)
    trunk = [getattr(pose, name) for name in TRUNK_FIELDS]
    return np.concatenate((trunk, _angles(pose.left_leg, pose.right_leg)))


def _random_arm_curve(rng: np.random.Generator, seconds: float) -> Curve:
    """Sample a curve between gestures, or waving about one."""
    if rng.random() < 0.3:
        middle = _angles(random_arm(rng))
        reach = rng.uniform(-1, 1, len(middle)) * (25, 20, 20, 35)
        return Wave(middle, reach, _draw(rng, WAVES_PER_SECOND), _draw(rng, (0, 2 * math.pi)))
    return _random_keys(rng, ARM_TIMES, seconds, lambda: _angles(random_arm(rng)))


def _random_keys(
    rng: np.random.Generator,
    limits: tuple[Range, Range],
    seconds: float,
    draw_angles: Callable[[], Angles],
) -> Keyed:
    """Sample keys from before 0 until after `seconds`. A repeated key is a rest."""
    move, rest = limits
    times, keys = [-_draw(rng, (0, move[1]))], [draw_angles()]
    while times[-1] <= seconds:
        keys.append(draw_angles())
        furthest = float(np.abs(keys[-1] - keys[-2]).max())
        times.append(times[-1] + max(_draw(rng, move), furthest / FASTEST_DEG_PER_S))
        if (pause := _draw(rng, rest)) > 0.02:
            keys.append(keys[-1])
            times.append(times[-1] + pause)
    return Keyed(np.array(times), np.array(keys))
