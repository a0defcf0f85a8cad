"""Poses are drawn where they are, in colours that everybody tells apart."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vipnas.data.formats.skeletons import COCO_17, SKELETONS, Skeleton, read_skeleton
from vipnas.viz.pose_style import LEFT, MIDDLE, RIGHT, side_colours
from vipnas.viz.poses import draw_box, draw_poses, draw_text

UINT8 = NDArray[np.uint8]
# A stick: two joints of the left, two of the right, one of the middle.
STICK = Skeleton(
    name="stick",
    joints=("left_a", "left_b", "right_a", "right_b", "tail"),
    flip_pairs=((0, 2), (1, 3)),
    limbs=((0, 1), (2, 3), (0, 2), (1, 4)),
    sigmas=(0.05,) * 5,
)
# Left limb x = 20, right limb x = 80, between their upper ends y = 20, the tail to the lower left.
PLACES = np.array([[(20.0, 20), (20, 120), (80, 20), (80, 120), (50, 160)]])
SURE = np.ones((1, 5))


def ground(value: int, hw: tuple[int, int] = (180, 110)) -> UINT8:
    return np.full((*hw, 3), value, np.uint8)


def distance(first: UINT8 | tuple[int, ...], second: tuple[int, int, int]) -> float:
    return float(np.abs(np.subtract(first, second, dtype=np.float64)).max())


@pytest.mark.parametrize("value", [0, 128, 255])
def test_limbs_have_the_colour_of_their_side_and_a_dark_outline(value: int) -> None:
    image = ground(value)
    drawn = draw_poses(image, PLACES, SURE, STICK)
    assert (image == value).all()
    for (x, y), colour in (
        ((20, 70), LEFT),
        ((80, 70), RIGHT),
        ((50, 20), MIDDLE),
        ((35, 140), LEFT),  # from the left to the middle
    ):
        assert distance(drawn[y, x], colour) <= 2, (x, y)
        row = drawn[y, x - 6 : x + 7] if colour != MIDDLE else drawn[y - 6 : y + 7, x]
        brightest = row.max(axis=1)
        assert brightest[:6].min() <= 110 and brightest[7:].min() <= 110  # on both sides
    for place, colour in zip(PLACES[0].astype(int), side_colours(STICK), strict=True):
        assert distance(drawn[place[1], place[0]], colour) <= 2


def test_the_order_of_opencv_changes_nothing_but_the_order() -> None:
    image = np.arange(180 * 110 * 3, dtype=np.uint32).reshape(180, 110, 3).astype(np.uint8)
    scores, ids = np.array([[1.0, 1.0, 1.0, 1.0, 0.4]]), [2]
    boxes = [(10.0, 10, 90, 170)]
    rgb = draw_poses(image, PLACES, scores, STICK, boxes, ids)
    bgr = draw_poses(image, PLACES, scores, STICK, boxes, ids, bgr=True)
    assert np.array_equal(bgr[..., ::-1], rgb)


def test_edges_are_smooth_and_follow_parts_of_a_pixel() -> None:
    first, second = (
        draw_poses(ground(255), PLACES + shift, SURE, STICK)[70].astype(float)
        for shift in (0.0, (0.5, 0.0))
    )
    assert len(np.unique(first[10:31, 0])) > 3  # neither colour nor ground: in between
    centres = [
        ((255 - row[10:31, 0]) * np.arange(10, 31)).sum() / (255 - row[10:31, 0]).sum()
        for row in (first, second)
    ]
    assert centres[0] == pytest.approx(20, abs=0.1)
    assert centres[1] - centres[0] == pytest.approx(0.5, abs=0.1)


# Linear RGB as two of the three kinds of cones see it: Vienot, Brettel and Mollon (1999), and for
# the third kind Brettel's plane in one matrix.
BLINDNESS = {
    "protan": ((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.00401, -0.00401, 1)),
    "deutan": ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1)),
    "tritan": ((1, 0.14461, -0.14461), (0, 0.85924, 0.14076), (0, 0.85924, 0.14076)),
}


def lab(colour: tuple[int, int, int], kind: str) -> NDArray[np.float64]:
    srgb = np.array(colour) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(BLINDNESS[kind]) @ linear, 0, 1)
    srgb = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(srgb.astype(np.float32)[None, None], cv2.COLOR_RGB2LAB)[0, 0]


@pytest.mark.parametrize("kind", BLINDNESS)
def test_sides_differ_for_colour_blind_people(kind: str) -> None:
    left, right, middle = (lab(colour, kind) for colour in (LEFT, RIGHT, MIDDLE))
    for first, second in ((left, right), (left, middle), (right, middle)):
        assert np.linalg.norm(first - second) > 25


def test_red_and_green_would_not_differ() -> None:
    differences = [
        np.linalg.norm(lab((200, 80, 40), kind) - lab((120, 120, 40), kind)) for kind in BLINDNESS
    ]
    assert min(differences) < 25


def width_of(side_px: float) -> int:
    places = PLACES * (side_px / 140)
    size = int(side_px * 1.3)
    drawn = draw_poses(ground(255, (size, size)), places, SURE, STICK)
    return int((drawn[size // 3, :, 2] < 250).sum() // 2)  # of the two limbs in this row


def test_lines_are_as_wide_as_the_person_is_large() -> None:
    small, middle, large, huge = (width_of(side) for side in (30, 300, 600, 2000))
    assert small <= 6 < middle < large and middle < 12
    assert large < huge < 25


def test_a_joint_far_away_makes_no_line_wider() -> None:
    xy = np.repeat(np.linspace(20.0, 120, 17), 2).reshape(1, 17, 2)
    limb = COCO_17.limbs[0]
    xy[0, limb[0]], xy[0, limb[1]] = (20, 100), (20, 20)
    near = draw_poses(ground(255, (2000, 2000)), xy, np.ones((1, 17)), COCO_17)
    xy[0, 0] = (1900, 1900)  # the nose
    far = draw_poses(ground(255, (2000, 2000)), xy, np.ones((1, 17)), COCO_17)
    widths = [(image[60, :40, 2] < 250).sum() for image in (near, far)]
    assert abs(int(widths[0]) - int(widths[1])) <= 1 and widths[0] < 8


def test_joints_and_limbs_follow_the_scores() -> None:
    scores = np.array([[1.0, 1.0, 0.1, 1.0, 0.4]])
    drawn = draw_poses(ground(255), PLACES, scores, STICK)
    assert (drawn[10:110, 60:] == 255).all()  # a joint below the score, and its limbs
    assert distance(drawn[120, 80], RIGHT) <= 2
    assert distance(drawn[160, 50], (0, 0, 0)) <= 60  # unsure: hollow
    full = draw_poses(ground(255), PLACES, SURE, STICK)
    column = slice(20, 60), 142
    thin, thick = ((image[column[1], column[0], 0] < 200).sum() for image in (drawn, full))
    assert 0 < thin <= thick
    everybody = draw_poses(ground(255), PLACES, scores, STICK, min_score=0.05)
    assert not (everybody[10:110, 60:] == 255).all()


def test_what_has_no_finite_place_is_left_out() -> None:
    places = np.concatenate((PLACES, PLACES, PLACES * 1e12))
    places[0, 2] = np.nan
    places[1] = np.inf
    scores = np.ones((3, 5))
    scores[2, 1:] = np.nan
    boxes = [(0.0, 0, 9, 9), (np.nan, 0, 1, 1), (-1e30, -1e30, 1e30, 1e30)]
    drawn = draw_poses(ground(255), places, scores, STICK, boxes, ids=[1, 2, 3])
    assert distance(drawn[70, 20], LEFT) <= 2
    assert (drawn[30:110, 60:100] == 255).all()


def test_nobody_leaves_the_image_as_it_is() -> None:
    nobody = draw_poses(ground(7), np.empty((0, 5, 2)), np.empty((0, 5)), STICK, np.empty((0, 4)))
    assert (nobody == 7).all()


def test_small_persons_lie_under_large_ones() -> None:
    large, small = PLACES[0], PLACES[0] / 4 + (0, 60)
    one, other = [
        draw_poses(ground(255), np.stack(order), np.ones((2, 5)), STICK)
        for order in ((large, small), (small, large))
    ]
    assert np.array_equal(one, other)


def test_boxes_and_ids_are_drawn_where_asked_for() -> None:
    boxes = np.array([(10.0, 40, 100, 170)])
    without = draw_poses(ground(128), PLACES, SURE, STICK)
    with_box = draw_poses(ground(128), PLACES, SURE, STICK, boxes)
    with_id = draw_poses(ground(128), PLACES, SURE, STICK, boxes, ids=np.array([5]))
    assert (without[165:] == 128).all()
    assert distance(with_box[170, 30], MIDDLE) <= 30
    changed = np.argwhere((with_id != with_box).any(axis=2) & (with_box == 128).all(axis=2))
    assert len(changed) > 20  # the id is written above the box
    assert changed[:, 0].max() <= 40 and changed[:, 1].max() <= 40


@pytest.mark.parametrize("corner", [(-50.0, -50.0), (0.0, 0.0), (500.0, 500.0), (100.0, 3.0)])
def test_text_stays_inside(corner: tuple[float, float]) -> None:
    image = ground(128, (60, 120))
    draw_text(image, "12", corner, 11, (255, 255, 0))
    wanted = ground(128, (200, 400))
    draw_text(wanted, "12", (100, 100), 11, (255, 255, 0))
    assert (image != 128).any(axis=2).sum() == (wanted != 128).any(axis=2).sum()


def test_a_box_without_numbers_is_left_out() -> None:
    image = ground(3)
    draw_box(image, (1.0, np.nan, 5, 5), MIDDLE)
    assert (image == 3).all()


def test_left_is_left_in_every_shipped_skeleton() -> None:
    sides = {"left": LEFT, "right": RIGHT}
    for path in SKELETONS.glob("*.yaml"):
        skeleton = read_skeleton(path)
        paired = {joint for pair in skeleton.flip_pairs for joint in pair}
        for joint, colour in enumerate(side_colours(skeleton)):
            side = next((s for s in sides if skeleton.joints[joint].startswith(s)), None)
            if side is not None and joint in paired:
                assert colour == sides[side], (path, joint)
            elif joint not in paired:
                assert colour == MIDDLE


def test_a_pair_that_names_the_right_first_keeps_its_sides() -> None:
    turned = replace(STICK, flip_pairs=((2, 0), (3, 1)))
    assert side_colours(turned) == side_colours(STICK) == (LEFT, LEFT, RIGHT, RIGHT, MIDDLE)


def test_keypoints_of_another_skeleton_are_refused() -> None:
    with pytest.raises(ValueError, match=r"keypoints: expected \(17, 2\) .* coco_17, got \(5, 2\)"):
        draw_poses(ground(0), PLACES, SURE, COCO_17)


def test_the_outline_of_text_is_around_its_letters() -> None:
    """OpenCV 5 makes thicker letters wider: a long text then ends beside its outline."""
    picture = np.full((40, 420, 3), 128, np.uint8)
    draw_text(picture, "a text of thirty-four letters, 0.48", (4, 34), 14, (255, 255, 255))
    is_letter, is_outline = (picture > 200).all(axis=2), (picture < 60).all(axis=2)
    columns = [np.flatnonzero(found.any(axis=0)) for found in (is_letter, is_outline)]
    assert abs(columns[0][-1] - columns[1][-1]) <= 2
