"""A synthetic person as a value, and the solids that draw it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vipnas.synthetic.body import (
    SIDES,
    Body,
    Camera,
    Pose,
    Proportions,
    Vector,
    head_half_axes_m,
    pose_body,
)
from vipnas.synthetic.draw import Colour, Paint, Tube, oval_tube, round_tube
from vipnas.synthetic.paint import Look, chest_paint, cloth_paint, plain

TRUNK, HEAD, HAIR, LEFT_ARM, RIGHT_ARM, LEFT_LEG, RIGHT_LEG, SEAT = range(1, 9)
ARMS = {"left": LEFT_ARM, "right": RIGHT_ARM}
LEGS = {"left": LEFT_LEG, "right": RIGHT_LEG}


@dataclass(frozen=True)
class Person:
    """A synthetic person. `position_xyz` is the middle of the hips, in metres."""

    proportions: Proportions
    pose: Pose
    look: Look
    position_xyz: tuple[float, float, float]

    def body(self, camera: Camera) -> Body:
        return pose_body(self.proportions, self.pose, self.position_xyz, camera)


@dataclass(frozen=True)
class Solid:
    """One tube of a body, with its paint and the part that it belongs to."""

    tube: Tube
    paint: Paint
    part: int

    @property
    def depth_m(self) -> float:
        return 0.5 * sum(self.tube.depth_m)


def solids_of(person: Person, body: Body, camera: Camera) -> Iterator[Solid]:
    """Yield all tubes of a person and of their chair. The skull is not a tube."""
    yield from _legs(person, body, camera)
    yield from _trunk(person, body, camera)
    yield from _arms(person, body, camera)
    yield from _head_extras(person, body, camera)
    if person.look.seat is not None and is_seated(person.pose):
        yield from _chair(body, camera, plain(person.look.seat))


def between(start: Vector, stop: Vector, share: float) -> Vector:
    return start + share * (stop - start)


def _legs(person: Person, body: Body, camera: Camera) -> Iterator[Solid]:
    look, unit = person.look, body.unit_m
    fat = unit * person.proportions.girth
    skin, cloth = plain(look.skin), cloth_paint(look.bottom)
    covered = look.bottom_kind == "trousers"
    extra = 0.005 * unit if covered else 0.0
    for side, _ in SIDES:
        part = LEGS[side]
        hip, knee, ankle = (body.points[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        leg = cloth if covered else skin
        thigh = (0.052 * fat + extra, 0.034 * fat + extra)
        shin = (0.034 * fat + extra, 0.021 * fat + 1.6 * extra)
        yield Solid(round_tube(camera, hip, knee, thigh), leg, part)
        calf = 0.0 if covered else 0.006 * fat
        yield Solid(round_tube(camera, knee, ankle, shin, calf), leg, part)
        if look.bottom_kind == "shorts":
            shorts = (0.057 * fat, 0.05 * fat)
            yield Solid(round_tube(camera, hip, between(hip, knee, 0.55), shorts), cloth, part)
        heel, toe = body.points[f"{side}_heel"], body.points[f"{side}_toe"]
        shoe = plain(look.shoes)
        yield Solid(round_tube(camera, heel, toe, (0.022 * unit, 0.018 * unit)), shoe, part)
        collar = (0.022 * unit, 0.023 * unit)
        yield Solid(round_tube(camera, between(heel, ankle, 0.7), heel, collar), shoe, part)
    if look.bottom_kind == "skirt":
        yield _skirt(person, body, camera)


def _skirt(person: Person, body: Body, camera: Camera) -> Solid:
    """Return a cone from the hips around both thighs."""
    fat, points = body.unit_m * person.proportions.girth, body.points
    left, right = (between(points[f"{side}_hip"], points[f"{side}_knee"], 0.7) for side, _ in SIDES)
    apart = float(np.linalg.norm(left - right))
    hem = body.frames["pelvis"].copy()
    if apart > 1e-6:
        hem[:, 0] = (left - right) / apart
    tube = oval_tube(
        camera,
        points["pelvis"] + body.frames["pelvis"] @ np.array([0.0, 0.03, 0.0]) * body.unit_m,
        between(left, right, 0.5),
        (body.frames["pelvis"], hem),
        ((0.092 * fat, 0.068 * fat), (0.5 * apart + 0.06 * fat, 0.066 * fat)),
        roundness=0.1,
    )
    return Solid(tube, cloth_paint(person.look.bottom), TRUNK)


def _trunk(person: Person, body: Body, camera: Camera) -> Iterator[Solid]:
    look, unit, points, frames = person.look, body.unit_m, body.points, body.frames
    fat, build = unit * person.proportions.girth, person.proportions
    pelvis, waist, chest = frames["pelvis"], frames["waist"], frames["chest"]
    hips = (0.087 * fat * build.hips, 0.066 * fat)
    middle = (0.076 * fat, 0.057 * fat)
    shoulders = (0.06 * unit * build.shoulders + 0.036 * fat, 0.06 * fat)
    low = points["pelvis"] + pelvis @ np.array([0.0, -0.03, 0.0]) * unit
    belt = points["pelvis"] + waist @ np.array([0.0, 0.045, 0.0]) * unit
    bottom = cloth_paint(look.bottom)
    yield Solid(
        oval_tube(camera, low, belt, (pelvis, waist), (hips, hips), roundness=0.3), bottom, TRUNK
    )
    over = (hips[0] * 1.04, hips[1] * 1.04)
    tube = oval_tube(camera, belt, points["waist"], (pelvis, waist), (over, middle), roundness=0.2)
    yield Solid(tube, cloth_paint(look.top), TRUNK)
    tube = oval_tube(
        camera, points["waist"], points["chest"], (waist, chest), (middle, shoulders),
        bulge_m=0.01 * fat, roundness=0.3,
    )  # fmt: skip
    yield Solid(tube, chest_paint(look, tube, chest), TRUNK)
    strap = plain(look.skin) if look.sleeve == "none" else cloth_paint(look.top)
    for side, _ in SIDES:
        shoulder = points[f"{side}_shoulder"]
        radii = (0.03 * unit, 0.029 * fat)
        yield Solid(round_tube(camera, points["neck"], shoulder, radii), strap, TRUNK)
    neck = round_tube(camera, points["chest"], points["skull_base"], (0.034 * fat, 0.03 * unit))
    yield Solid(neck, plain(look.skin), TRUNK)
    if look.backpack:
        back = chest @ np.array([0.0, 0.0, -0.09]) * unit
        axes = ((0.07 * unit, 0.05 * unit), (0.065 * unit, 0.045 * unit))
        tube = oval_tube(
            camera, points["waist"] + back, points["chest"] + back, (chest, chest), axes
        )
        yield Solid(tube, plain(look.hat), TRUNK)


def _arms(person: Person, body: Body, camera: Camera) -> Iterator[Solid]:
    look, unit = person.look, body.unit_m
    fat = unit * person.proportions.girth
    skin, cloth = plain(look.skin), cloth_paint(look.top)
    extra = 0.004 * unit if look.sleeve == "long" else 0.0
    for side, _ in SIDES:
        part, points = ARMS[side], body.points
        shoulder, elbow, wrist = (
            points[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist")
        )
        arm = cloth if look.sleeve == "long" else skin
        upper = (0.033 * fat + extra, 0.024 * fat + extra)
        lower = (0.024 * fat + extra, 0.016 * fat + extra)
        yield Solid(round_tube(camera, shoulder, elbow, upper), arm, part)
        yield Solid(round_tube(camera, elbow, wrist, lower, 0.003 * fat), arm, part)
        if look.sleeve == "short":
            sleeve = (0.036 * fat, 0.034 * fat)
            end = between(shoulder, elbow, 0.55)
            yield Solid(round_tube(camera, shoulder, end, sleeve), cloth, part)
        hand = (0.017 * unit, 0.014 * unit)
        palm = between(wrist, points[f"{side}_hand"], 0.25)
        tube = round_tube(camera, palm, points[f"{side}_hand"], hand, 0.006 * unit)
        yield Solid(tube, skin, part)


def _head_extras(person: Person, body: Body, camera: Camera) -> Iterator[Solid]:
    """Yield nose, ears, and hair or hat outside of the skull."""
    look, head = person.look, body.frames["head"]
    axes = head_half_axes_m(person.proportions)

    def at(left: float, up: float, ahead: float) -> Vector:
        return body.points["head"] + head @ (axes * (left, up, ahead))

    def tube(start: Vector, stop: Vector, radii: tuple[float, float]) -> Tube:
        return round_tube(camera, start, stop, (radii[0] * axes[0], radii[1] * axes[0]))

    nose: Colour = (look.skin[0] * 0.76, look.skin[1] * 0.78, look.skin[2] * 0.88)
    ear: Colour = (look.skin[0] * 0.88, look.skin[1] * 0.88, look.skin[2] * 0.97)
    yield Solid(tube(at(0, 0.12, 0.94), at(0, -0.14, 1.0), (0.09, 0.15)), plain(nose), HEAD)
    for _, sign in SIDES:
        top, low = at(sign * 0.99, 0.12, -0.1), at(sign * 0.97, -0.14, -0.06)
        yield Solid(tube(top, low, (0.17, 0.12)), plain(ear), HEAD)
    hair = plain(look.hair)
    if look.hair_style == "long":
        ends = (at(0, 0.1, -0.45), at(0, -1.5, -0.7))
        sections = ((0.95 * axes[0], 0.6 * axes[2]), (0.9 * axes[0], 0.3 * axes[2]))
        yield Solid(oval_tube(camera, *ends, (head, head), sections), hair, HAIR)
        for _, sign in SIDES:
            ends = (at(sign * 0.82, 0.3, -0.15), at(sign * 0.85, -1.4, -0.1))
            yield Solid(tube(*ends, (0.4, 0.3)), hair, HAIR)
    if look.hair_style == "bun":
        yield Solid(tube(at(0, 0.55, -1.0), at(0, 0.3, -1.15), (0.4, 0.4)), hair, HAIR)
    if look.hair_style == "hat":
        visor = tube(at(-0.3, 0.5, 1.05), at(0.3, 0.5, 1.05), (0.3, 0.3))
        yield Solid(visor, plain(look.hat), HAIR)


def is_seated(pose: Pose) -> bool:
    """Whether a chair fits: level thighs, vertical shins, upright trunk."""
    legs = (pose.left_leg, pose.right_leg)
    upright = abs(pose.pitch) < 25 and abs(pose.roll) < 25
    return upright and all(60 < leg.flex < 105 and 45 < leg.knee < 125 for leg in legs)


def _chair(body: Body, camera: Camera, paint: Paint) -> Iterator[Solid]:
    """Yield the bars of a chair: two of the seat, four legs, three of the back."""
    unit, pelvis = body.unit_m, body.frames["pelvis"]
    side = pelvis[:, 0] * 0.13 * unit
    down = pelvis @ np.array([0.0, -0.1, -0.01]) * unit
    up = pelvis @ np.array([0.0, 0.25, -0.13]) * unit
    knees = between(body.points["left_knee"], body.points["right_knee"], 0.5)
    back = body.points["pelvis"] + down
    front = between(back, knees + down, 0.7)
    bars = [(back - side, back + side), (front - side, front + side)]
    sticks = [(end, end - down + up) for end in (back - side, back, back + side)]
    for start, stop in bars:
        sticks += [(end, end + pelvis @ np.array([0, -0.2, 0]) * unit) for end in (start, stop)]
        yield Solid(round_tube(camera, start, stop, (0.03 * unit, 0.03 * unit)), paint, SEAT)
    for start, stop in sticks:
        yield Solid(round_tube(camera, start, stop, (0.012 * unit, 0.012 * unit)), paint, SEAT)
