"""Random poses of everyday and sports movements within joint limits, and random proportions.

Angles are in degrees, as in `body`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from vipnas.synthetic.body import ArmPose, LegPose, Pose, Proportions

Range = tuple[float, float]
Limb = TypeVar("Limb", ArmPose, LegPose)

# Lowest and highest joint angles of a healthy adult, generously.
ARM_LIMITS = {"flex": (-60, 180), "abduct": (-20, 180), "twist": (-95, 95), "elbow": (0, 150)}
LEG_LIMITS = {
    "flex": (-35, 130),
    "abduct": (-15, 70),
    "twist": (-45, 45),
    "knee": (0, 150),
    "ankle": (-30, 50),
}

# Weight of each arm pose, and ranges of (flex, abduct, twist, elbow).
ARM_POSES: dict[str, tuple[float, tuple[Range, Range, Range, Range]]] = {
    "hanging": (4.0, ((-15, 25), (4, 22), (-20, 35), (4, 40))),
    "on_hip": (0.8, ((-25, 0), (30, 50), (45, 75), (75, 110))),
    "across": (0.8, ((10, 45), (-5, 15), (30, 70), (75, 115))),
    "to_face": (0.8, ((25, 70), (5, 45), (-10, 40), (115, 146))),
    "forward": (1.0, ((55, 110), (-5, 25), (-20, 30), (0, 60))),
    "sideways": (1.0, ((0, 30), (60, 110), (-60, 30), (0, 70))),
    "up": (1.0, ((120, 176), (0, 30), (-30, 30), (0, 80))),
    "waving": (0.8, ((0, 30), (65, 110), (-95, -60), (50, 120))),
    "behind": (0.3, ((-45, -20), (5, 20), (10, 50), (20, 90))),
}


def _draw(rng: np.random.Generator, limits: Range) -> float:
    return float(rng.uniform(*limits))


def random_arm(rng: np.random.Generator) -> ArmPose:
    """Sample an arm pose from the table."""
    weights = np.array([weight for weight, _ in ARM_POSES.values()])
    kind = rng.choice(len(weights), p=weights / weights.sum())
    ranges = list(ARM_POSES.values())[int(kind)][1]
    return ArmPose(*(_draw(rng, limits) for limits in ranges))


def _flat_foot(leg: LegPose) -> LegPose:
    """Level the sole. Limits of the ankle are applied later."""
    return replace(leg, ankle=leg.flex - leg.knee)


def _leg(rng: np.random.Generator, flex: Range, abduct: Range, knee: Range) -> LegPose:
    return _flat_foot(
        LegPose(
            flex=_draw(rng, flex),
            abduct=_draw(rng, abduct),
            twist=_draw(rng, (-22, 6)),
            knee=_draw(rng, knee),
        )
    )


def _trunk(rng: np.random.Generator, bend: Range = (-4, 14)) -> Pose:
    """Sample angles of chest and head, with straight limbs."""
    return Pose(
        pitch=_draw(rng, (-3, 4)),
        roll=_draw(rng, (-4, 4)),
        bend=_draw(rng, bend),
        lean=_draw(rng, (-9, 9)),
        turn=_draw(rng, (-18, 18)),
        nod=_draw(rng, (-15, 30)),
        tilt=_draw(rng, (-12, 12)),
        look=float(np.clip(rng.normal(0, 25), -65, 65)),
    )


def standing(rng: np.random.Generator) -> Pose:
    bent = _draw(rng, (0, 35)) if rng.random() < 0.3 else 0.0  # weight on one leg
    legs = [
        _leg(rng, (-8, 8), (1, 12), (0, 8)),
        _leg(rng, (bent / 2, bent / 2 + 6), (1, 14), (bent, bent + 5)),
    ]
    first, second = (0, 1) if rng.random() < 0.5 else (1, 0)
    return replace(
        _trunk(rng),
        left_arm=random_arm(rng),
        right_arm=random_arm(rng),
        left_leg=legs[first],
        right_leg=legs[second],
    )


def gait(phase: float, swing: float, knee: float, elbow: float) -> tuple[LegPose, ArmPose]:
    """Return a leg at a phase (radians) of the gait cycle, and the arm of that side."""
    leg = LegPose(
        flex=0.3 * swing + swing * math.sin(phase),
        abduct=3.0,
        twist=-5.0,
        # The knee bends most while the leg swings forward.
        knee=6.0 + knee * max(0.0, math.cos(phase)) ** 1.5,
    )
    arm = ArmPose(flex=-swing * math.sin(phase) * 0.9, abduct=8.0, twist=20.0, elbow=elbow)
    return _flat_foot(leg), arm


def _striding(
    rng: np.random.Generator, swing: Range, knee: Range, elbow: Range, bend: Range
) -> Pose:
    phase, amount = _draw(rng, (0, 2 * math.pi)), _draw(rng, swing)
    bent, fold = _draw(rng, knee), _draw(rng, elbow)
    left_leg, left_arm = gait(phase, amount, bent, fold)
    right_leg, right_arm = gait(phase + math.pi, amount, bent, fold)
    return replace(
        _trunk(rng, bend),
        turn=-0.3 * amount * math.sin(phase),
        left_arm=left_arm if rng.random() < 0.85 else random_arm(rng),
        right_arm=right_arm if rng.random() < 0.85 else random_arm(rng),
        left_leg=left_leg,
        right_leg=right_leg,
    )


def walking(rng: np.random.Generator) -> Pose:
    return _striding(rng, (14, 30), (35, 60), (5, 45), (0, 10))


def running(rng: np.random.Generator) -> Pose:
    return _striding(rng, (35, 58), (70, 110), (70, 115), (8, 25))


def sitting(rng: np.random.Generator) -> Pose:
    spread, knee = _draw(rng, (0, 22)), _draw(rng, (60, 110))
    return replace(
        _trunk(rng, (-8, 35)),
        left_arm=random_arm(rng),
        right_arm=random_arm(rng),
        left_leg=_leg(rng, (75, 100), (spread - 4, spread + 4), (knee - 10, knee + 10)),
        right_leg=_leg(rng, (75, 100), (spread - 4, spread + 4), (knee - 10, knee + 10)),
    )


def crouching(rng: np.random.Generator) -> Pose:
    fold = _draw(rng, (0.35, 1.0))
    thigh, knee = 120 * fold, 140 * fold
    return replace(
        _trunk(rng, (5 + 20 * fold, 25 + 30 * fold)),
        left_arm=random_arm(rng),
        right_arm=random_arm(rng),
        left_leg=_leg(rng, (thigh - 15, thigh + 8), (5, 30), (knee - 15, knee + 8)),
        right_leg=_leg(rng, (thigh - 15, thigh + 8), (5, 30), (knee - 15, knee + 8)),
    )


def arms_up(rng: np.random.Generator) -> Pose:
    sideways = rng.random() < 0.5
    ranges: tuple[Range, Range, Range, Range] = (
        ((-5, 20), (110, 165), (-90, 0), (0, 70))
        if sideways
        else ((125, 178), (0, 30), (-30, 30), (0, 75))
    )
    arms = [ArmPose(*(_draw(rng, limits) for limits in ranges)) for _ in range(2)]
    return replace(standing(rng), left_arm=arms[0], right_arm=arms[1])


def bending(rng: np.random.Generator) -> Pose:
    """Sample a pose of picking something up."""
    hip = _draw(rng, (25, 75))
    reach = _draw(rng, (40, 100))
    return replace(
        _trunk(rng, (15, 50)),
        pitch=hip,
        left_arm=ArmPose(_draw(rng, (reach - 20, reach + 20)), _draw(rng, (0, 20)), 0.0, 20.0),
        right_arm=ArmPose(_draw(rng, (reach - 20, reach + 20)), _draw(rng, (0, 20)), 0.0, 20.0),
        left_leg=_leg(rng, (hip - 10, hip + 15), (0, 15), (0, 30)),
        right_leg=_leg(rng, (hip - 10, hip + 15), (0, 15), (0, 30)),
    )


def sport(rng: np.random.Generator) -> Pose:
    """Sample a pose of kicks, lunges, jumps or throws."""
    legs = [
        _leg(rng, (20, 110), (0, 45), (0, 100)),
        _leg(rng, (-30, 15), (0, 30), (0, 60)),
    ]
    first, second = (0, 1) if rng.random() < 0.5 else (1, 0)
    arms = [
        ArmPose(*(_draw(rng, limits) for limits in ((-50, 170), (0, 120), (-80, 60), (0, 120))))
        for _ in range(2)
    ]
    return replace(
        _trunk(rng, (-20, 35)),
        pitch=_draw(rng, (-20, 30)),
        roll=_draw(rng, (-25, 25)),
        turn=_draw(rng, (-35, 35)),
        left_arm=arms[0],
        right_arm=arms[1],
        left_leg=legs[first],
        right_leg=legs[second],
    )


def lying(rng: np.random.Generator) -> Pose:
    tip = 90.0 if rng.random() < 0.5 else -90.0
    across = rng.random() < 0.7
    pose = standing(rng) if rng.random() < 0.6 else sitting(rng)
    wobble = _draw(rng, (-20, 20))
    return replace(pose, roll=tip + wobble) if across else replace(pose, pitch=tip + wobble)


Families = dict[Callable[[np.random.Generator], Pose], float]
FAMILIES: Families = {
    standing: 0.28,
    walking: 0.14,
    running: 0.10,
    sitting: 0.14,
    crouching: 0.08,
    arms_up: 0.09,
    bending: 0.05,
    sport: 0.09,
    lying: 0.03,
}
UPRIGHT_FAMILIES: Families = {
    standing: 0.6,
    walking: 0.25,
    arms_up: 0.15,
}


def random_yaw(rng: np.random.Generator) -> float:
    """Sample a yaw: mostly the front, then either side, then the back, then any."""
    kind = rng.random()
    if kind < 0.4:
        return float(rng.normal(0, 25))
    if kind < 0.62:
        return float(rng.choice([-90, 90]) + rng.normal(0, 20))
    if kind < 0.8:
        return float(180 + rng.normal(0, 25))
    return _draw(rng, (-180, 180))


def random_pose(rng: np.random.Generator, difficulty: float = 1.0) -> Pose:
    """Sample a pose and a view, within the joint limits.

    Args:
        rng: Source of randomness.
        difficulty: Probability of any family and any view. Otherwise the person is upright, with
            the head mostly straight, seen from the front or (with a probability of at most 1/4)
            from the back.
    """
    if rng.random() < difficulty:
        pose = replace(_one_of(FAMILIES, rng), yaw=random_yaw(rng))
    else:
        pose = _one_of(UPRIGHT_FAMILIES, rng)
        yaw = float(180 * (rng.random() < min(0.25, difficulty)) + rng.normal(0, 20))
        pose = replace(pose, yaw=yaw, look=0.4 * pose.look, nod=0.5 * pose.nod)
    return within_limits(pose)


def _one_of(families: Families, rng: np.random.Generator) -> Pose:
    weights = np.array(list(families.values()))
    return list(families)[int(rng.choice(len(weights), p=weights / weights.sum()))](rng)


def within_limits(pose: Pose) -> Pose:
    """Clip the angles of arms and legs to their limits."""
    return replace(
        pose,
        left_arm=_clip(pose.left_arm, ARM_LIMITS),
        right_arm=_clip(pose.right_arm, ARM_LIMITS),
        left_leg=_clip(pose.left_leg, LEG_LIMITS),
        right_leg=_clip(pose.right_leg, LEG_LIMITS),
    )


def _clip(limb: Limb, limits: Mapping[str, Range]) -> Limb:
    return replace(limb, **{n: min(max(getattr(limb, n), a), b) for n, (a, b) in limits.items()})


def random_proportions(rng: np.random.Generator) -> Proportions:
    """Sample an adult, or in one of six cases a child with a larger head and shorter limbs."""
    child = rng.random() < 1 / 6
    return Proportions(
        stature_m=_draw(rng, (1.05, 1.45)) if child else float(rng.normal(1.72, 0.09)),
        shoulders=_draw(rng, (0.9, 1.12)),
        hips=_draw(rng, (0.9, 1.15)),
        arms=_draw(rng, (0.94, 1.06)) - (0.05 if child else 0.0),
        legs=_draw(rng, (0.94, 1.06)) - (0.07 if child else 0.0),
        head=_draw(rng, (0.97, 1.1)) + (0.2 if child else 0.0),
        girth=_draw(rng, (0.88, 1.3)),
    )
