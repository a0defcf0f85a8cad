"""Synthetic videos: moving people, and a camera that pans, zooms and shakes.

A frame is the mean of several moments while the shutter is open, which blurs fast motion. The
annotation is that of the moment in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vipnas.synthetic.backdrop import background, occlude, random_light
from vipnas.synthetic.body import (
    BODY_TO_CAMERA,
    Camera,
    Proportions,
    Vector,
    head_half_axes_m,
    landmark,
)
from vipnas.synthetic.camera import (
    FRAMES_PER_SECOND,
    CameraMove,
    Conditions,
    random_camera_move,
    random_conditions,
)
from vipnas.synthetic.draw import Array, Canvas, Light
from vipnas.synthetic.figure import Person
from vipnas.synthetic.motion import Motion, random_motion
from vipnas.synthetic.paint import Look, random_look
from vipnas.synthetic.poses import random_proportions
from vipnas.synthetic.scene import Box, Scene, annotate, draw_people, place_person, random_camera
from vipnas.synthetic.sensor import Sensor, random_sensor

BACKDROP_SHARE = 1.5  # size relative to the image, so that the camera can turn
MAX_DEPTH_CHANGE = 0.35  # of a person's distance to the camera, by walking
THING_CHANCE = 0.4  # of a still object in front of a person, and of a passing one
# Motion of a joint while the shutter is open that takes one more moment.
BLUR_STEP_PX = 3.0
MAX_MOMENTS = 9


@dataclass(frozen=True)
class Actor:
    """A person in a clip.

    Attributes:
        proportions: Build of the body.
        look: Clothes, hair and colours.
        motion: Motion of the joints, and the path walked.
        middle_s: Middle of the clip, in seconds.
        middle_xyz: Position of the hips in the middle of the clip, in metres.
        ground_m: Height of the hips above the ground at that time.
        slowed: Factor of the path, below 1 if it would lead too near or too far.
    """

    proportions: Proportions
    look: Look
    motion: Motion
    middle_s: float
    middle_xyz: Vector
    ground_m: float
    slowed: float

    def at(self, seconds: float, camera: Camera) -> Person:
        """Return the person at a time, with the lowest point of the body on the ground."""
        level = camera.world_rotation() @ BODY_TO_CAMERA
        ways = [self.motion.way_at(moment) for moment in (seconds, self.middle_s)]
        left, ahead = self.slowed * self.proportions.stature_m * np.subtract(ways[0], ways[1])
        x, y, z = (self.middle_xyz + level @ (left, 0.0, ahead)).tolist()
        person = Person(self.proportions, self.motion.pose_at(seconds), self.look, (x, y, z))
        sunk = ground_below(person, camera)
        x, y, z = (person.position_xyz - level[:, 1] * (self.ground_m - sunk)).tolist()
        return replace(person, position_xyz=(x, y, z))


def ground_below(person: Person, camera: Camera) -> float:
    """Return the metres from the middle of the hips down to the lowest point of the body."""
    down = -(camera.world_rotation() @ BODY_TO_CAMERA)[:, 1]
    points = np.array(list(person.body(camera).points.values()))
    return float((points @ down).max() - person.position_xyz @ down)


@dataclass(frozen=True)
class Thing:
    """An object that occludes a part of a box, still or passing.

    Attributes:
        seed: Seed of its shape and colour.
        box_xywh: The box, in the image of the still camera.
        px_per_s: Horizontal speed.
        there_s: Time at which it reaches the box, in seconds.
    """

    seed: int
    box_xywh: Box
    px_per_s: float
    there_s: float


@dataclass(frozen=True)
class Video:
    """Everything that determines the frames of one video."""

    actors: tuple[Actor, ...]
    camera: CameraMove
    light: Light
    sensor: Sensor
    backdrop_HW3: Array
    shutter_s: float
    conditions: Sequence[Conditions]  # one per frame
    things: tuple[Thing, ...]
    image_hw: tuple[int, int]


def random_video(
    rng: np.random.Generator,
    num_frames: int,
    image_hw: tuple[int, int],
    people_per_video: tuple[int, int],
    difficulty: float,
    speed: float,
) -> Video:
    """Sample a video. People keep their bodies, clothes and kinds of motion.

    Args:
        rng: Source of randomness.
        num_frames: Number of frames, at 25 per second.
        image_hw: Height and width.
        people_per_video: Lowest and highest number of people.
        difficulty: 0 to 1, as in `synthesize_video`.
        speed: Speed of motion, 1 is natural.
    """
    seconds = num_frames / FRAMES_PER_SECOND
    still, light = random_camera(rng, image_hw), random_light(rng)
    actors: list[Actor] = []
    boxes: list[Box] = []
    for _ in range(int(rng.integers(people_per_video[0], people_per_video[1] + 1))):
        motion = random_motion(rng, difficulty, speed, seconds)
        look = random_look(rng)
        if motion.kind != "sitting":  # no chair that comes and goes
            look = replace(look, seat=None)
        pose = motion.pose_at(seconds / 2)
        anywhere = Person(random_proportions(rng), pose, look, (0.0, 0.0, 0.0))
        person, box = place_person(rng, anywhere, still, image_hw, boxes, difficulty)
        actors.append(_actor(person, motion, seconds, ground_below(person, still)))
        boxes.append(box)
    height, width = (round(BACKDROP_SHARE * side) for side in image_hw)
    backdrop = background(rng, (height, width), light, difficulty)
    things = [
        _random_thing(rng, boxes, passing, image_hw, seconds)
        for passing in (False, True)
        if rng.random() < THING_CHANCE * difficulty
    ]
    return Video(
        tuple(actors),
        random_camera_move(rng, still, image_hw, seconds, difficulty),
        light,
        random_sensor(rng, image_hw)[0],
        backdrop,
        difficulty * float(rng.uniform(0.1, 0.9)) / FRAMES_PER_SECOND,
        random_conditions(rng, num_frames, image_hw, difficulty),
        tuple(things),
        image_hw,
    )


def _random_thing(
    rng: np.random.Generator,
    boxes: Sequence[Box],
    passing: bool,
    image_hw: tuple[int, int],
    seconds: float,
) -> Thing:
    """Sample an object in front of one of the boxes, or passing it."""
    seed, box = int(rng.integers(2**31)), boxes[int(rng.integers(len(boxes)))]
    px_per_s = passing * image_hw[1] * float(rng.choice((-1, 1)) * rng.uniform(0.5, 1.5))
    return Thing(seed, box, px_per_s, float(rng.uniform(0, seconds)))


def _actor(person: Person, motion: Motion, seconds: float, ground_m: float) -> Actor:
    x, y, z = person.position_xyz
    ways = [motion.way_at(moment)[1] for moment in (0.0, seconds / 2, seconds)]
    deepest = person.proportions.stature_m * max(abs(ways[1] - ways[0]), abs(ways[2] - ways[1]))
    slowed = min(1.0, MAX_DEPTH_CHANGE * z / max(deepest, 1e-6))
    middle_xyz = np.array((x, y, z))
    proportions, look = person.proportions, person.look
    return Actor(proportions, look, motion, seconds / 2, middle_xyz, ground_m, slowed)


def frames_of(
    video: Video, rng: np.random.Generator, joints: Sequence[str]
) -> Iterator[tuple[bytes, list[dict[str, Any]]]]:
    """Yield JPEG and annotations of each frame: COCO's, `track_id` and `bbox_head`, without ids."""
    for number, conditions in enumerate(video.conditions):
        seconds = number / FRAMES_PER_SECOND
        canvas, annotations = _moment(video, seconds, joints)
        light = canvas.image_HW3
        moments = _num_moments(video, seconds)
        if moments > 1:
            places = (np.arange(moments) - moments // 2) / moments * video.shutter_s
            others = [_moment(video, seconds + place, joints)[0] for place in places if place]
            light = np.mean([light, *(other.image_HW3 for other in others)], axis=0)
        light = light * np.float32(conditions.light)
        noise_HW3 = rng.standard_normal(light.shape, dtype=np.float32)
        noise_HW3 *= np.float32(conditions.noise)
        yield video.sensor.photograph(light, noise_HW3, conditions.blur_px), annotations


def _num_moments(video: Video, seconds: float) -> int:
    """Return an odd number, by the largest motion of a joint while the shutter is open."""
    xy: list[list[tuple[float, float]]] = []
    for moment in (seconds - video.shutter_s / 2, seconds + video.shutter_s / 2):
        camera = video.camera.at(moment)
        bodies = [actor.at(moment, camera).body(camera) for actor in video.actors]
        xy.append([camera.project(p) for body in bodies for p in body.points.values()])
    furthest_px = float(np.linalg.norm(np.subtract(xy[0], xy[1]), axis=1).max())
    return min(1 + 2 * round(furthest_px / BLUR_STEP_PX / 2), MAX_MOMENTS)


def _moment(
    video: Video, seconds: float, joints: Sequence[str]
) -> tuple[Canvas, list[dict[str, Any]]]:
    """Return the picture of one moment and the annotations of all visible people."""
    camera = video.camera.at(seconds)
    affine = video.camera.moved(camera)
    canvas = Canvas(_backdrop(video, affine))
    people = [(track, actor.at(seconds, camera)) for track, actor in enumerate(video.actors)]
    people.sort(key=lambda pair: -pair[1].position_xyz[2])
    scene = Scene(tuple(person for _, person in people), camera, video.light)
    drawn = draw_people(canvas, scene, joints)
    for thing in video.things:
        x, y, width, height = thing.box_xywh
        left, top = affine @ (x + thing.px_per_s * (seconds - thing.there_s), y, 1.0)
        box = float(left), float(top), float(affine[0, 0] * width), float(affine[0, 0] * height)
        occlude(np.random.default_rng(thing.seed), canvas, box)
    annotations = []
    for one in drawn:
        track, person = people[one.owner - 1]
        annotations.append(
            {
                **annotate(canvas, one),
                "track_id": track,
                "bbox_head": list(head_box(person, camera)),
            }
        )
    return canvas, annotations


def _backdrop(video: Video, affine_23: NDArray[np.float64]) -> Array:
    (height, width), (back_height, back_width) = video.image_hw, video.backdrop_HW3.shape[:2]
    affine = affine_23.copy()
    affine[:, 2] -= affine[:, :2] @ ((back_width - width) / 2, (back_height - height) / 2)
    warped = cv2.warpAffine(
        video.backdrop_HW3, affine, (width, height), borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(warped, np.float32)


def head_box(person: Person, camera: Camera) -> Box:
    """Return the box of the head from top to neck, in image pixels, not clipped to the image."""
    body = person.body(camera)
    centre = body.points["head"]
    scale = camera.focal_px / float(centre[2])
    # The extent of an ellipsoid along an axis is the norm of its half axes' components.
    half = np.linalg.norm(body.frames["head"] * head_half_axes_m(person.proportions), axis=1)
    middle = np.array(camera.project(centre))
    neck = np.array(camera.project(landmark(body, person.proportions, "head_bottom")))
    low = np.minimum(middle - half[:2] * scale, neck)
    high = np.maximum(middle + half[:2] * scale, neck)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])
