"""Draw a synthetic person, and compute keypoints and their visibility."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.skeletons import COCO_17
from vipnas.synthetic.body import SIDES, Body, Camera, head_half_axes_m, landmark
from vipnas.synthetic.draw import Canvas, Light, draw_skull, draw_tube
from vipnas.synthetic.figure import ARMS, HAIR, HEAD, LEGS, SEAT, TRUNK, Person, solids_of
from vipnas.synthetic.paint import face_paint

# Largest distance between a joint and the surface of its own part, in statures.
OWN_DEPTH = {
    "shoulder": 0.09,
    "elbow": 0.06,
    "wrist": 0.05,
    "hip": 0.12,
    "knee": 0.08,
    "ankle": 0.07,
}
# Likewise for PoseTrack's joints of the head, with their own parts: the chin is in front of the
# neck, and hair or a hat are on the skull.
ENDS_OF_HEAD = {"head_top": (0.03, {HEAD, HAIR}), "head_bottom": (0.08, {TRUNK, HEAD})}
FACE_DEPTH = 0.009
NEARER_M = 0.01  # another part occludes a joint if it is nearer by more than this


def draw_person(canvas: Canvas, person: Person, camera: Camera, light: Light, owner: int) -> None:
    """Draw a person over everything drawn so far, and mark their pixels by `owner`."""
    body = person.body(camera)
    canvas.begin(owner)
    skull_depth = float(body.points["head"][2])
    axes = head_half_axes_m(person.proportions)
    far_first = sorted(solids_of(person, body, camera), key=lambda solid: -solid.depth_m)
    for solid in (solid for solid in far_first if solid.depth_m >= skull_depth):
        draw_tube(canvas, solid.tube, solid.paint, light, solid.part)
    face = face_paint(person.look, float(axes[0]) * camera.focal_px / skull_depth)
    draw_skull(canvas, camera, body.points["head"], body.frames["head"], axes, face, light, HEAD)
    for solid in (solid for solid in far_first if solid.depth_m < skull_depth):
        draw_tube(canvas, solid.tube, solid.paint, light, solid.part)


def keypoints_xyv(
    canvas: Canvas, person: Person, camera: Camera, joints: Sequence[str] = COCO_17.joints
) -> NDArray[np.float64]:
    """Return joints (K, 3): x, y and visibility.

    Call it directly after `draw_person`. Visibility is 1 where the person occludes the surface of
    the joint, and 2 elsewhere. Outside of the image it is 0, with x = y = 0.
    """
    body = person.body(camera)
    height, width = canvas.depth_HW.shape
    rows = np.zeros((len(joints), 3))
    for row, name in zip(rows, joints, strict=True):
        x, y = camera.project(landmark(body, person.proportions, name))
        # Rounded first, so that the visibility is that of the stored position.
        x, y = round(x, 2), round(y, 2)
        if 0.0 <= x <= width - 1 and 0.0 <= y <= height - 1:
            seen = _is_seen(canvas, person, body, name, round(x), round(y))
            row[:] = x, y, 2 if seen else 1
    return rows


def _is_seen(canvas: Canvas, person: Person, body: Body, name: str, column: int, line: int) -> bool:
    point = landmark(body, person.proportions, name)
    nearer_m = float(point[2]) - float(canvas.depth_HW[line, column])
    side, _, joint = name.partition("_")
    if joint in OWN_DEPTH:
        own = {ARMS[side]} if joint in ("shoulder", "elbow", "wrist") else {LEGS[side]}
        own |= {TRUNK} if joint in ("shoulder", "hip") else set()
        slack_m = OWN_DEPTH[joint] * body.unit_m * max(person.proportions.girth, 1.0)
    elif name in ENDS_OF_HEAD:
        share, own = ENDS_OF_HEAD[name]
        slack_m = share * body.unit_m * max(person.proportions.girth, person.proportions.head)
    else:
        own, slack_m = {HEAD}, FACE_DEPTH * body.unit_m * person.proportions.head
    return nearer_m <= (slack_m if int(canvas.part_HW[line, column]) in own else NEARER_M)


def silhouette(canvas: Canvas) -> NDArray[np.bool_]:
    """Return the mask of the person drawn last, without their chair."""
    drawn: NDArray[np.bool_] = np.isfinite(canvas.depth_HW) & (canvas.part_HW != SEAT)
    return drawn


def draw_shadow(canvas: Canvas, body: Body, camera: Camera) -> None:
    """Darken the ground around the feet, if they are below the hips."""
    feet = [body.points[f"{side}_{end}"] for side, _ in SIDES for end in ("heel", "toe")]
    xy = np.array([camera.project(point) for point in feet])
    reach = 0.12 * body.unit_m * camera.focal_px / float(body.points["pelvis"][2])
    cx, cy = (float(value) for value in xy.mean(axis=0))
    if cy < camera.project(body.points["pelvis"])[1] + reach:
        return
    wide = reach + float(np.ptp(xy[:, 0])) / 2
    tall = 0.3 * reach + float(np.ptp(xy[:, 1])) / 2
    window = canvas.window((cx - 2 * wide, cy - 2 * tall), (cx + 2 * wide, cy + 2 * tall))
    if window is None:
        return
    place, x, y = window
    dark = 0.5 * np.exp(-(((x - cx) / wide) ** 2) - ((y - cy) / tall) ** 2)
    canvas.image_HW3[place] *= (1.0 - dark)[..., None]
