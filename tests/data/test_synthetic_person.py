"""Drawn people: joints where arithmetic puts them, pixels where the joints are, honest flags."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vipnas.data.formats.skeletons import COCO_17
from vipnas.synthetic.body import ArmPose, Camera, LegPose, Pose, Proportions, pose_body
from vipnas.synthetic.draw import THING, Canvas, Light
from vipnas.synthetic.figure import Person
from vipnas.synthetic.paint import random_look
from vipnas.synthetic.person import draw_person, keypoints_xyv, silhouette
from vipnas.synthetic.poses import ARM_LIMITS, LEG_LIMITS, random_pose, random_proportions
from vipnas.synthetic.scene import Scene, annotate, draw_people

CAMERA = Camera(focal_px=500.0, centre_xy=(160.0, 120.0))  # 100 pixels a metre at 5 m
LIGHT = Light((0.0, -0.6, -0.8), 0.6)
T_ARM = ArmPose(abduct=90.0)
T_POSE = Pose(left_arm=T_ARM, right_arm=T_ARM)
# Short hair, no hat, no chair: nothing beyond the body.
LOOK = replace(random_look(np.random.default_rng(0)), hair_style="short", backpack=False, seat=None)


def person(pose: Pose, position_xyz: tuple[float, float, float] = (0.0, 0.0, 5.0)) -> Person:
    return Person(Proportions(), pose, LOOK, position_xyz)


def blank() -> Canvas:
    return Canvas(np.zeros((240, 320, 3), dtype=np.float32))


def keypoints(who: Person) -> dict[str, tuple[float, float, int]]:
    canvas = blank()
    draw_person(canvas, who, CAMERA, LIGHT, owner=1)
    rows = keypoints_xyv(canvas, who, CAMERA)
    return {
        name: (x, y, int(v)) for name, (x, y, v) in zip(COCO_17.joints, rows.tolist(), strict=True)
    }


def test_t_pose_by_hand() -> None:
    """1.72 m at 100 px a metre: 172 px of stature, fractions after Drillis & Contini."""
    found = keypoints(person(T_POSE))
    # The level arm has lifted the shoulder half its way: 0.028 / 2, and drawn it in by 0.022 / 2.
    line_y = 120 - 172 * (0.11 + 0.178 + 0.014)
    shoulder_x, elbow_x = 172 * 0.101, 172 * (0.101 + 0.178)
    wrist_x = 172 * (0.101 + 0.178 + 0.146)
    for joint, x in (("shoulder", shoulder_x), ("elbow", elbow_x), ("wrist", wrist_x)):
        for side, sign in (("left", 1), ("right", -1)):
            place = pytest.approx((160 + sign * x, line_y), abs=0.006)
            assert found[f"{side}_{joint}"][:2] == place and found[f"{side}_{joint}"][2] == 2
    assert found["left_hip"][:2] == pytest.approx((160 + 172 * 0.056, 120), abs=0.006)
    assert found["left_knee"][1] == pytest.approx(120 + 172 * 0.245, abs=0.006)
    assert found["right_ankle"][1] == pytest.approx(120 + 172 * 0.485, abs=0.006)
    assert found["nose"][0] == 160 and found["nose"][2] == 2


def test_perspective_by_hand() -> None:
    """A wrist stretched towards the camera is nearer, hence farther from the centre."""
    pose = Pose(left_arm=ArmPose(flex=90.0))
    x, y, _ = keypoints(person(pose))["left_wrist"]
    depth_m = 5.0 - 1.72 * (0.178 + 0.146)
    assert x == pytest.approx(160 + 500 * 1.72 * 0.101 / depth_m, abs=0.006)
    assert y == pytest.approx(120 - 500 * 1.72 * 0.302 / depth_m, abs=0.006)


def test_elbow_and_knee_bend_the_anatomical_way() -> None:
    pose = Pose(yaw=90.0, right_arm=ArmPose(elbow=90.0), right_leg=LegPose(knee=90.0))
    found = keypoints(person(pose))  # facing image right, the right side towards us
    assert found["right_wrist"][0] > found["right_elbow"][0] + 20
    assert found["right_ankle"][0] < found["right_knee"][0] - 30


def test_limbs_are_drawn_where_the_keypoints_say() -> None:
    """The middle of the drawn forearm and shin, measured in the mask, is between the joints."""
    pose = replace(T_POSE, left_leg=LegPose(abduct=20.0), right_leg=LegPose(abduct=20.0))
    canvas = blank()
    who = person(pose)
    draw_person(canvas, who, CAMERA, LIGHT, owner=1)
    mask = silhouette(canvas)
    found = keypoints(who)
    for side in ("left", "right"):
        (ex, ey, _), (wx, wy, _) = found[f"{side}_elbow"], found[f"{side}_wrist"]
        rows = np.flatnonzero(mask[:, round((ex + wx) / 2)])
        assert rows.mean() == pytest.approx((ey + wy) / 2, abs=0.6)
        (kx, ky, _), (ax, ay, _) = found[f"{side}_knee"], found[f"{side}_ankle"]
        columns = np.flatnonzero(mask[round((ky + ay) / 2)])
        own = columns[columns > 160] if side == "left" else columns[columns < 160]
        assert own.mean() == pytest.approx((kx + ax) / 2, abs=0.8)


def mirrored(pose: Pose) -> Pose:
    return replace(
        pose,
        **{name: -getattr(pose, name) for name in ("yaw", "roll", "lean", "turn", "tilt", "look")},
        left_arm=pose.right_arm,
        right_arm=pose.left_arm,
        left_leg=pose.right_leg,
        right_leg=pose.left_leg,
    )


def test_a_mirrored_pose_gives_mirrored_keypoints() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        proportions, pose = random_proportions(rng), random_pose(rng)
        bodies = [
            pose_body(proportions, each, (0.0, 0.0, 4.0), CAMERA) for each in (pose, mirrored(pose))
        ]
        xy, mirror_xy = (
            np.array([CAMERA.project(body.points[name]) for name in COCO_17.joints])
            for body in bodies
        )
        assert np.allclose(mirror_xy[list(COCO_17.flip_order)], [320, 0] + xy * [-1, 1])


def test_random_poses_keep_to_the_joints_limits() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        pose = random_pose(rng)
        for limb, limits in (
            (pose.left_arm, ARM_LIMITS),
            (pose.right_arm, ARM_LIMITS),
            (pose.left_leg, LEG_LIMITS),
            (pose.right_leg, LEG_LIMITS),
        ):
            for name, (low, high) in limits.items():
                assert low <= getattr(limb, name) <= high


def test_difficulty_decides_which_views_and_poses_come() -> None:
    shares = []
    for difficulty in (0.0, 0.5, 1.0):
        rng = np.random.default_rng(8)
        poses = [random_pose(rng, difficulty) for _ in range(400)]
        sideways = np.mean([abs(np.cos(np.radians(pose.yaw))) < 0.25 for pose in poses])
        crouched = np.mean([min(pose.left_leg.flex, pose.right_leg.flex) > 40 for pose in poses])
        shares.append((sideways, crouched))
    assert max(shares[0]) == 0.0
    assert 0.04 < shares[1][0] < shares[2][0] and 0.05 < shares[1][1] < shares[2][1]


def test_turned_away_the_face_is_hidden_and_left_is_left() -> None:
    front, back = keypoints(person(T_POSE)), keypoints(person(replace(T_POSE, yaw=180.0)))
    for name in ("nose", "left_eye", "right_eye"):
        assert front[name][2] == 2 and back[name][2] == 1
    for name in ("left_ear", "right_ear", "left_shoulder", "right_hip", "left_wrist"):
        assert front[name][2] == back[name][2] == 2
    assert front["left_shoulder"][0] > front["right_shoulder"][0]
    assert back["left_shoulder"][0] < back["right_shoulder"][0]


def test_from_the_side_the_far_side_is_hidden() -> None:
    arms_forward = ArmPose(flex=70.0)
    found = keypoints(person(Pose(yaw=90.0, left_arm=arms_forward, right_arm=arms_forward)))
    for joint in ("shoulder", "elbow", "hip", "knee", "eye", "ear"):
        assert found[f"right_{joint}"][2] == 2, joint
        assert found[f"left_{joint}"][2] == 1, joint
    assert found["nose"][2] == 2


def test_a_forearm_before_the_hip_hides_it() -> None:
    """From the side the hanging forearm passes the hip: the wrist is 0.036 statures below it."""
    hanging = keypoints(person(Pose(yaw=90.0)))
    assert hanging["right_hip"][2] == 1 and hanging["right_wrist"][2] == 2


def test_a_joint_outside_the_image_is_not_labelled() -> None:
    found = keypoints(person(T_POSE, (-1.6, 0.0, 5.0)))  # centred on the left border
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        assert list(found[f"right_{joint}"]) == [0, 0, 0]
    assert found["left_wrist"][2] == 2


def flags_in(scene: Scene, cover: bool = False) -> list[list[int]]:
    canvas = blank()
    people = draw_people(canvas, scene)
    if cover:
        canvas.begin(THING)
        everywhere = (slice(None), slice(None))
        ones = np.ones((240, 320), dtype=np.float32)
        canvas.blend(everywhere, ones, ones, np.zeros((240, 320, 3), dtype=np.float32), part=0)
    return [annotate(canvas, drawn)["keypoints"][2::3] for drawn in people]


def test_someone_behind_a_nearer_person_is_labelled_but_not_seen() -> None:
    near = person(Pose(), (0.0, 0.0, 3.0))
    far = person(Pose(), (0.0, -2.5, 40.0))  # 21 pixels tall, before the near one's chest
    alone = flags_in(Scene((far,), CAMERA, LIGHT))[0]
    behind, before = flags_in(Scene((far, near), CAMERA, LIGHT))
    assert 2 in alone and behind == [1] * 17
    assert before == flags_in(Scene((near,), CAMERA, LIGHT))[0] and before.count(2) >= 13


def test_a_thing_in_the_foreground_hides_everyone() -> None:
    scene = Scene((person(T_POSE),), CAMERA, LIGHT)
    assert flags_in(scene) == [[2] * 17] and flags_in(scene, cover=True) == [[1] * 17]


def test_a_person_outside_the_image_is_not_listed() -> None:
    assert draw_people(blank(), Scene((person(T_POSE, (9.0, 0.0, 5.0)),), CAMERA, LIGHT)) == []


def test_box_and_area_are_of_the_silhouette_and_not_of_the_chair() -> None:
    seated = LegPose(flex=90.0, knee=90.0)
    pose = Pose(yaw=60.0, left_leg=seated, right_leg=seated)
    standing_up, on_chair = (
        replace(person(pose), look=replace(LOOK, seat=seat)) for seat in (None, (0.0, 0.0, 200.0))
    )
    canvas = blank()
    (without,) = draw_people(canvas, Scene((standing_up,), CAMERA, LIGHT))
    mask = canvas.owner_HW == 1
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    assert without.area_px == mask.sum()
    sides = (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert without.box_xywh == tuple(float(value) for value in sides)
    (seat,) = draw_people(canvas := blank(), Scene((on_chair,), CAMERA, LIGHT))
    assert (canvas.owner_HW == 1).sum() > seat.area_px  # the chair hides others, too
    assert seat.box_xywh == without.box_xywh and seat.area_px <= without.area_px
