"""Compose, draw and annotate a synthetic image, as a function of seed and index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.skeletons import COCO_17
from vipnas.synthetic.backdrop import background, occlude, random_light
from vipnas.synthetic.body import Body, Camera
from vipnas.synthetic.draw import Canvas, Light
from vipnas.synthetic.figure import Person
from vipnas.synthetic.paint import random_look
from vipnas.synthetic.person import draw_person, draw_shadow, keypoints_xyv, silhouette
from vipnas.synthetic.poses import random_pose, random_proportions
from vipnas.synthetic.sensor import random_sensor

# Stature in image heights, log-uniform: 60 to 220 pixels of 240.
STATURE_RANGE = (0.25, 0.92)
PLACEMENT_TRIES = 12
MAX_OVERLAP = 0.5  # of the smaller box, unless all tries fail
MIN_JOINTS_INSIDE = 6
CUT_OFF_CHANCE = 0.2
COVERED_CHANCE = 0.25

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """Content of an image: people from far to near, camera and light."""

    people: tuple[Person, ...]
    camera: Camera
    light: Light


@dataclass(frozen=True)
class Drawn:
    """Labels of one person, before nearer people are drawn (see `keypoints_xyv`)."""

    owner: int
    keypoints_xyv: NDArray[np.float64]
    box_xywh: Box
    area_px: float


def render_image(
    seed: int,
    index: int,
    image_hw: tuple[int, int],
    people_per_image: tuple[int, int],
    difficulty: float = 1.0,
) -> tuple[bytes, list[dict[str, Any]]]:
    """Return JPEG and annotations (without ids) of image `index`."""
    rng = np.random.default_rng([seed, index])
    scene = random_scene(rng, image_hw, people_per_image, difficulty)
    canvas = Canvas(background(rng, image_hw, scene.light, difficulty))
    people = draw_people(canvas, scene)
    if people and rng.random() < COVERED_CHANCE * difficulty:
        occlude(rng, canvas, people[int(rng.integers(len(people)))].box_xywh)
    annotations = [annotate(canvas, drawn) for drawn in people]
    sensor, noise_HW3 = random_sensor(rng, image_hw)
    return sensor.photograph(canvas.image_HW3, noise_HW3), annotations


def draw_people(
    canvas: Canvas, scene: Scene, joints: Sequence[str] = COCO_17.joints
) -> list[Drawn]:
    """Draw all people, far to near. Return those that are visible in the image."""
    people = []
    for owner, person in enumerate(scene.people, 1):
        draw_shadow(canvas, person.body(scene.camera), scene.camera)
        draw_person(canvas, person, scene.camera, scene.light, owner)
        body_HW = silhouette(canvas)
        if body_HW.any():
            xyv = keypoints_xyv(canvas, person, scene.camera, joints)
            people.append(Drawn(owner, xyv, _bounding_box(body_HW), float(body_HW.sum())))
    return people


def _bounding_box(mask_HW: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    return float(columns[0]), float(rows[0]), float(width), float(height)


def annotate(canvas: Canvas, drawn: Drawn) -> dict[str, Any]:
    """Return a COCO annotation without ids. Call it after everything is drawn."""
    keypoints: list[float] = []
    for x, y, v in drawn.keypoints_xyv.tolist():
        # A higher owner was drawn later, in front of this person.
        hidden = v == 2 and canvas.owner_HW[round(y), round(x)] > drawn.owner
        keypoints += [x, y, 1 if hidden else int(v)]
    return {
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
        "bbox": list(drawn.box_xywh),
        "area": drawn.area_px,
        "iscrowd": 0,
        "category_id": 1,
    }


def random_scene(
    rng: np.random.Generator,
    image_hw: tuple[int, int],
    people_per_image: tuple[int, int],
    difficulty: float = 1.0,
) -> Scene:
    """Sample a camera, a light and people who mostly do not overlap."""
    camera, light = random_camera(rng, image_hw), random_light(rng)
    people: list[Person] = []
    boxes: list[Box] = []
    for _ in range(int(rng.integers(people_per_image[0], people_per_image[1] + 1))):
        proportions, look = random_proportions(rng), random_look(rng)
        anywhere = Person(proportions, random_pose(rng, difficulty), look, (0.0, 0.0, 0.0))
        person, box = place_person(rng, anywhere, camera, image_hw, boxes, difficulty)
        people.append(person)
        boxes.append(box)
    far_first = sorted(people, key=lambda person: -person.position_xyz[2])
    return Scene(tuple(far_first), camera, light)


def random_camera(rng: np.random.Generator, image_hw: tuple[int, int]) -> Camera:
    height, width = image_hw
    return Camera(
        focal_px=float(rng.uniform(0.9, 2.2) * max(height, width)),
        centre_xy=((width - 1) / 2, (height - 1) / 2),
        pitch=float(rng.uniform(-6, 25)),
        roll=float(rng.normal(0, 2.5)),
    )


def place_person(
    rng: np.random.Generator,
    person: Person,
    camera: Camera,
    image_hw: tuple[int, int],
    boxes: list[Box],
    difficulty: float,
) -> tuple[Person, Box]:
    """Sample a distance and a position for a person.

    Enough of the person is inside the image. If no try is clear of the other `boxes`, the last one
    is returned.

    Returns:
        The person at its position, and its box.
    """
    low, high = np.log(STATURE_RANGE)
    placed: tuple[Person, Box] | None = None
    for attempt in range(PLACEMENT_TRIES):
        stature_px = image_hw[0] * float(np.exp(rng.uniform(low, high)))
        depth_m = camera.focal_px * person.proportions.stature_m / stature_px
        centred = replace(person, position_xyz=(0.0, 0.0, depth_m))
        centred_box = _joint_box(centred.body(camera), camera)
        shift_x, shift_y = _random_shift(rng, centred_box, image_hw, CUT_OFF_CHANCE * difficulty)
        metres = depth_m / camera.focal_px
        moved = replace(person, position_xyz=(shift_x * metres, shift_y * metres, depth_m))
        body = moved.body(camera)
        box = _joint_box(body, camera)
        inside = _joints_inside(body, camera, image_hw) >= MIN_JOINTS_INSIDE
        if inside or (placed is None and attempt == PLACEMENT_TRIES - 1):
            placed = moved, box
        if inside and all(_overlap(box, other) <= MAX_OVERLAP for other in boxes):
            break
    assert placed is not None
    return placed


def _random_shift(
    rng: np.random.Generator, box: Box, image_hw: tuple[int, int], cut_off_chance: float
) -> tuple[float, float]:
    """Sample a shift that moves a box into the image, or sometimes partly outside."""
    cut_off = 0.35 if rng.random() < cut_off_chance else 0.0
    shifts = []
    for start, length, side in ((box[0], box[2], image_hw[1]), (box[1], box[3], image_hw[0])):
        low, high = -cut_off * length, side - (1.0 - cut_off) * length
        shifts.append(float(rng.uniform(min(low, high), max(low, high))) - start)
    return shifts[0], shifts[1]


def _joint_box(body: Body, camera: Camera) -> Box:
    """Return the box of a body's projected points, padded by about the flesh around them."""
    xy = np.array([camera.project(point) for point in body.points.values()])
    pad = 0.05 * body.unit_m * camera.focal_px / float(body.points["pelvis"][2])
    left, top = xy.min(axis=0) - pad
    right, bottom = xy.max(axis=0) + pad
    return float(left), float(top), float(right - left), float(bottom - top)


def _joints_inside(body: Body, camera: Camera, image_hw: tuple[int, int]) -> int:
    xy = np.array([camera.project(body.points[name]) for name in COCO_17.joints])
    inside = (xy >= 0.0) & (xy <= np.array([image_hw[1] - 1, image_hw[0] - 1]))
    return int(inside.all(axis=1).sum())


def _overlap(box: Box, other: Box) -> float:
    """Return the fraction of the smaller of two boxes that the other covers."""
    wide = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    high = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / min(box[2] * box[3], other[2] * other[3])
