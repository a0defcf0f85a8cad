"""Proportions, joint angles and forward kinematics of a synthetic person's body.

Body frame: x to the person's left, y up, z forward. Camera frame: x right, y down, z away from the
viewer, in metres. A person with yaw 0 looks into the camera, with the left on the image's right.
Lengths are fractions of stature after Drillis & Contini (1966), as printed in Winter,
"Biomechanics and Motor Control of Human Movement", figure 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

BODY_TO_CAMERA = np.diag([1.0, -1.0, -1.0])
SIDES = (("left", 1.0), ("right", -1.0))

# Half axes of the skull (lateral, up, forward), and points on it in units of those half axes.
HEAD_HALF_AXES = (0.046, 0.067, 0.058)
FACE_POINTS = {
    "nose": (0.0, -0.12, 1.10),
    "left_eye": (0.40, 0.14, 0.905),
    "right_eye": (-0.40, 0.14, 0.905),
    "left_ear": (1.04, -0.02, -0.08),
    "right_ear": (-1.04, -0.02, -0.08),
}


@dataclass(frozen=True)
class Proportions:
    """Build of a body. Every ratio is relative to the average adult."""

    stature_m: float = 1.72
    shoulders: float = 1.0
    hips: float = 1.0
    arms: float = 1.0
    legs: float = 1.0
    head: float = 1.0
    girth: float = 1.0


@dataclass(frozen=True)
class LimbPose:
    """Angles of a limb in degrees, where it leaves the trunk; 0 hanging down."""

    flex: float = 0.0
    abduct: float = 0.0
    twist: float = 0.0


@dataclass(frozen=True)
class ArmPose(LimbPose):
    """Angles of an arm in degrees. `twist` turns the upper arm inwards."""

    elbow: float = 0.0


@dataclass(frozen=True)
class LegPose(LimbPose):
    """Angles of a leg in degrees. `ankle` above 0 points the toes down."""

    knee: float = 0.0
    ankle: float = 0.0


@dataclass(frozen=True)
class Pose:
    """Joint angles in degrees. All zero is upright, facing the camera, with hanging arms.

    Attributes:
        yaw: 90 shows the person's right side, 180 the back.
        pitch: Above 0, the whole body tips forward.
        roll: Above 0, the whole body tips to its right.
        bend, lean, turn: Chest relative to the pelvis: forward, sideways, about the spine.
        nod, tilt, look: Head relative to the chest, likewise.
        left_arm, right_arm, left_leg, right_leg: Angles of the limbs.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    bend: float = 0.0
    lean: float = 0.0
    turn: float = 0.0
    nod: float = 0.0
    tilt: float = 0.0
    look: float = 0.0
    left_arm: ArmPose = field(default_factory=ArmPose)
    right_arm: ArmPose = field(default_factory=ArmPose)
    left_leg: LegPose = field(default_factory=LegPose)
    right_leg: LegPose = field(default_factory=LegPose)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. `pitch` (degrees) above 0 looks down; `roll` rotates the picture."""

    focal_px: float
    centre_xy: tuple[float, float]
    pitch: float = 0.0
    roll: float = 0.0

    def project(self, point_xyz: Vector) -> tuple[float, float]:
        """Return the image position (x, y) of a point, in pixels."""
        scale = self.focal_px / point_xyz[2]
        return (
            float(self.centre_xy[0] + scale * point_xyz[0]),
            float(self.centre_xy[1] + scale * point_xyz[1]),
        )

    def world_rotation(self) -> Matrix:
        """Return the rotation from a level camera to this camera."""
        return rotation_z(self.roll) @ rotation_x(self.pitch)


@dataclass(frozen=True)
class Body:
    """A posed body in the camera frame: points in metres, and the frames of its rigid parts."""

    points: Mapping[str, Vector]
    frames: Mapping[str, Matrix]
    unit_m: float  # the stature, which lengths and radii are fractions of


def landmark(body: Body, proportions: Proportions, name: str) -> Vector:
    """Return the position of a joint: a point of the body, or `head_top` or `head_bottom`.

    These two are joints of PoseTrack: the top of the skull, and its base on the neck.
    """
    if name == "head_top":
        axes = head_half_axes_m(proportions)
        return np.asarray(body.points["head"] + body.frames["head"][:, 1] * axes[1])
    return body.points["skull_base" if name == "head_bottom" else name]


def rotation_x(degrees: float) -> Matrix:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def rotation_y(degrees: float) -> Matrix:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def rotation_z(degrees: float) -> Matrix:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def pose_body(
    proportions: Proportions, pose: Pose, position_xyz: tuple[float, float, float], camera: Camera
) -> Body:
    """Return a posed body, with the middle of its hips at a position in the camera frame."""
    unit = proportions.stature_m
    pelvis = (
        camera.world_rotation()
        @ BODY_TO_CAMERA
        @ rotation_y(pose.yaw)
        @ rotation_x(pose.pitch)
        @ rotation_z(pose.roll)
    )
    chest = pelvis @ rotation_x(pose.bend) @ rotation_z(pose.lean) @ rotation_y(pose.turn)
    waist = pelvis @ rotation_x(0.5 * pose.bend) @ rotation_z(0.5 * pose.lean)
    waist = waist @ rotation_y(0.5 * pose.turn)
    head = chest @ rotation_x(pose.nod) @ rotation_z(pose.tilt) @ rotation_y(pose.look)
    points: dict[str, Vector] = {"pelvis": np.array(position_xyz, dtype=np.float64)}
    frames = {"pelvis": pelvis, "waist": waist, "chest": chest, "head": head}
    points["waist"] = points["pelvis"] + waist @ _up(0.11 * unit)
    points["chest"] = points["waist"] + chest @ _up(0.178 * unit)
    _add_head(points, frames, proportions)
    for side, sign in SIDES:
        arm = pose.left_arm if side == "left" else pose.right_arm
        leg = pose.left_leg if side == "left" else pose.right_leg
        _add_arm(points, frames, proportions, arm, side, sign)
        _add_leg(points, frames, proportions, leg, side, sign)
    return Body(points, frames, unit)


def _up(length_m: float) -> Vector:
    return np.array([0.0, length_m, 0.0])


def head_half_axes_m(proportions: Proportions) -> Vector:
    """Return the half axes of the skull in metres: lateral, up, forward."""
    return np.array(HEAD_HALF_AXES) * proportions.stature_m * proportions.head


def _add_head(
    points: dict[str, Vector], frames: Mapping[str, Matrix], proportions: Proportions
) -> None:
    unit, chest, head = proportions.stature_m, frames["chest"], frames["head"]
    axes = head_half_axes_m(proportions)
    points["neck"] = points["chest"] + chest @ np.array([0.0, 0.022, -0.004]) * unit
    points["skull_base"] = points["neck"] + chest @ np.array([0.0, 0.037, 0.012]) * unit
    points["head"] = points["skull_base"] + head @ np.array([0.0, 0.85 * axes[1], 0.2 * axes[2]])
    for name, position in FACE_POINTS.items():
        points[name] = points["head"] + head @ (axes * position)


def _limb(trunk: Matrix, pose: LimbPose, sign: float) -> Matrix:
    """Return the frame of an upper arm or a thigh; `sign` is 1 on the left, -1 on the right."""
    raised = trunk @ rotation_x(-pose.flex) @ rotation_z(sign * pose.abduct)
    return np.asarray(raised @ rotation_y(-sign * pose.twist))


def _add_arm(
    points: dict[str, Vector],
    frames: dict[str, Matrix],
    proportions: Proportions,
    pose: ArmPose,
    side: str,
    sign: float,
) -> None:
    unit, chest = proportions.stature_m, frames["chest"]
    upper = _limb(chest, pose, sign)
    # The collar bone lifts the shoulder and draws it in as the arm rises.
    raised = 0.5 * (1.0 + float(chest[:, 1] @ upper @ _up(-1.0)))
    width = (0.112 - 0.022 * raised) * proportions.shoulders
    shoulder = points["chest"] + chest @ np.array([sign * width, 0.028 * raised, 0.0]) * unit
    fore = upper @ rotation_x(-pose.elbow)
    points[f"{side}_shoulder"] = shoulder
    points[f"{side}_elbow"] = shoulder + upper @ _up(-0.178 * unit * proportions.arms)
    points[f"{side}_wrist"] = points[f"{side}_elbow"] + fore @ _up(-0.146 * unit * proportions.arms)
    points[f"{side}_hand"] = points[f"{side}_wrist"] + fore @ _up(-0.07 * unit)
    frames[f"{side}_arm"], frames[f"{side}_forearm"] = upper, fore


def _add_leg(
    points: dict[str, Vector],
    frames: dict[str, Matrix],
    proportions: Proportions,
    pose: LegPose,
    side: str,
    sign: float,
) -> None:
    unit, pelvis = proportions.stature_m, frames["pelvis"]
    thigh = _limb(pelvis, pose, sign)
    shin = thigh @ rotation_x(pose.knee)
    foot = shin @ rotation_x(pose.ankle)
    hip = points["pelvis"] + pelvis @ np.array([sign * 0.056 * unit * proportions.hips, 0.0, 0.0])
    points[f"{side}_hip"] = hip
    points[f"{side}_knee"] = hip + thigh @ _up(-0.245 * unit * proportions.legs)
    points[f"{side}_ankle"] = points[f"{side}_knee"] + shin @ _up(-0.24 * unit * proportions.legs)
    points[f"{side}_heel"] = points[f"{side}_ankle"] + foot @ np.array([0, -0.022, -0.022]) * unit
    points[f"{side}_toe"] = points[f"{side}_ankle"] + foot @ np.array([0, -0.026, 0.1]) * unit
    frames[f"{side}_thigh"], frames[f"{side}_shin"] = thigh, shin
