"""Poses drawn onto images.

N persons, K keypoints, L limbs, H W height and width of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError

UINT8 = NDArray[np.uint8]
Colour = tuple[int, int, int]
Point = tuple[int, int]

# RGB, of the palette of Okabe and Ito: blue and vermilion differ for every kind of colour
# blindness, and white differs from both in lightness.
LEFT, RIGHT, MIDDLE = (86, 180, 233), (213, 94, 0), (255, 255, 255)
OUTLINE = (0, 0, 0)
# Of boxes and ids, one after the other: the rest of the palette.
ID_COLOURS = ((230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167))

# A joint up to this score is a ring, and its limbs are thin.
UNSURE_SCORE = 0.5
# Of the longer side of a person.
_LINE_SHARE, _RADIUS_SHARE = 0.012, 0.012
_LINE_PX, _RADIUS_PX, _OUTLINE_PX = (1.0, 12.0), (1.8, 14.0), (0.75, 1.5)
_RING_PX = 2.8
# Of joints whose labels are much more exact than others, such as eyes and fingers.
_SMALLEST_JOINT = 0.3
_TEXT_PX = (11, 28)
# OpenCV takes coordinates in these parts of a pixel.
_SHIFT = 4
# Beyond this, OpenCV's numbers overflow.
_FARTHEST_PX = 2.0**14


def draw_poses(
    image_HW3: UINT8,
    keypoints_NK2: NDArray[np.floating] | Sequence[NDArray[np.floating]],
    scores_NK: NDArray[np.floating] | Sequence[NDArray[np.floating]],
    skeleton: Skeleton,
    boxes_xyxy: ArrayLike | None = None,
    ids: Sequence[int] | NDArray[np.integer] | None = None,
    min_score: float = 0.2,
) -> UINT8:
    """Return a copy of an image with poses drawn on it.

    The person's left is blue, the right vermilion, the middle white, all with a dark outline. Lines
    are as wide as the person is large, and small persons lie under large ones.

    Args:
        image_HW3: RGB.
        keypoints_NK2: x and y in pixels of the image.
        scores_NK: Joints below `min_score` are left out, and so are their limbs. Those up to 0.5
            are rings with thin limbs. A joint without a finite place or score is left out.
        skeleton: Its limbs are drawn; its flip pairs tell left from right.
        boxes_xyxy: (N, 4), left, top, right and bottom in pixels. Drawn where given.
        ids: N track ids, written at the boxes, or at the poses if there are no boxes.
        min_score: See `scores_NK`.
    """
    drawn, style = image_HW3.copy(), _style(skeleton)
    boxes_N4 = None if boxes_xyxy is None else np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    persons = [
        _Person.of(xy_K2, scores_K, skeleton, min_score, max(image_HW3.shape[:2]))
        for xy_K2, scores_K in zip(keypoints_NK2, scores_NK, strict=True)
    ]
    for number in sorted(range(len(persons)), key=lambda number: persons[number].side_px):
        person = persons[number]
        track_id = None if ids is None else int(ids[number])
        box_4 = person.box_4 if boxes_N4 is None else boxes_N4[number]
        colour = MIDDLE if track_id is None else ID_COLOURS[track_id % len(ID_COLOURS)]
        if boxes_N4 is not None:
            draw_box(drawn, box_4, colour)
        _draw_person(drawn, person, style)
        if track_id is not None and np.isfinite(box_4).all():
            x, y = box_4[:2]
            draw_text(drawn, str(track_id), (x, y), _text_px(box_4), colour)
    return drawn


def draw_pose(image_HW3: UINT8, keypoints_K3: NDArray[np.floating], skeleton: Skeleton) -> UINT8:
    """Return a copy of an image with one labelled person.

    `keypoints_K3` are x, y and visibility: joints with 2 are full, with 1 (hidden) rings, and those
    with 0 are not drawn.
    """
    scores_K = np.asarray(keypoints_K3[:, 2]) * UNSURE_SCORE
    return draw_poses(image_HW3, keypoints_K3[None, :, :2], scores_K[None], skeleton)


def draw_box(drawn_HW3: UINT8, box_xyxy: NDArray[np.float64], colour: Colour) -> None:
    """Draw a box with a dark outline into the picture; one that is not finite is left out."""
    if not np.isfinite(box_xyxy).all():
        return
    (left, top), (right, bottom) = _fixed(box_xyxy.reshape(2, 2))
    width = 1 + round(max(drawn_HW3.shape[:2]) / 900)
    for shade, thickness in ((OUTLINE, width + 2), (colour, width)):
        cv2.rectangle(
            drawn_HW3, (left, top), (right, bottom), shade, thickness, cv2.LINE_AA, _SHIFT
        )


def draw_text(
    drawn_HW3: UINT8, text: str, corner_xy: Sequence[float], height_px: float, colour: Colour
) -> None:
    """Write text with a dark outline above a corner, or below where the picture ends."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, height_px / 22
    width = max(1, round(height_px / 11))
    (text_width, text_height), _ = cv2.getTextSize(text, font, scale, width)
    image_height, image_width = drawn_HW3.shape[:2]
    margin = width + 2
    x = min(max(round(corner_xy[0]), margin), max(image_width - text_width - margin, margin))
    y = round(corner_xy[1]) - margin
    if y - text_height < margin:
        y = max(round(corner_xy[1]), 0) + text_height + margin
    y = min(y, image_height - margin)
    # Thicker letters would be wider too, in OpenCV 5, and not lie under the others.
    around = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]
    for shade, shifts in ((OUTLINE, around), (colour, [(0, 0)])):
        for dx, dy in shifts:
            cv2.putText(drawn_HW3, text, (x + dx, y + dy), font, scale, shade, width, cv2.LINE_AA)


def drawing_facts(skeleton: Skeleton) -> dict[str, Any]:
    """Return how poses are drawn, as plain values, for pages that draw by themselves.

    Sizes of limbs and joints are relative to the largest; `..._px` are the least and the most.
    """
    style = _style(skeleton)
    joints = zip(style.colours, style.sizes_K.tolist(), strict=True)
    limbs = zip(skeleton.limbs, style.limb_colours, style.limb_sizes_L.tolist(), strict=True)
    return {
        "left": LEFT,
        "right": RIGHT,
        "middle": MIDDLE,
        "ids": ID_COLOURS,
        "unsure_score": UNSURE_SCORE,
        "line_share": _LINE_SHARE,
        "line_px": _LINE_PX,
        "radius_share": _RADIUS_SHARE,
        "radius_px": _RADIUS_PX,
        "outline_px": _OUTLINE_PX,
        "ring_px": _RING_PX,
        "joints": [{"colour": colour, "size": size} for colour, size in joints],
        "limbs": [{"joints": limb, "colour": colour, "size": size} for limb, colour, size in limbs],
    }


class _Person(NamedTuple):
    """The joints of a person that are drawn, and how large the person is."""

    xy_K2: NDArray[np.float64]
    scores_K: NDArray[np.float64]
    is_drawn_K: NDArray[np.bool_]
    box_4: NDArray[np.float64]
    side_px: float

    @classmethod
    def of(
        cls,
        xy_K2: NDArray[np.floating],
        scores_K: NDArray[np.floating],
        skeleton: Skeleton,
        min_score: float,
        largest_px: int,
    ) -> _Person:
        if xy_K2.shape != (skeleton.num_joints, 2):
            expected = f"({skeleton.num_joints}, 2) for a person of {skeleton.name}"
            raise UserError("keypoints", expected, str(xy_K2.shape))
        places_K2, sure_K = np.asarray(xy_K2, np.float64), np.asarray(scores_K, np.float64)
        is_drawn_K = np.isfinite(places_K2).all(axis=1) & (sure_K >= min_score) & (sure_K > 0)
        if not is_drawn_K.any():
            return cls(places_K2, sure_K, is_drawn_K, np.full(4, np.nan), 0.0)
        drawn_J2 = places_K2[is_drawn_K]
        box_4 = np.concatenate((drawn_J2.min(axis=0), drawn_J2.max(axis=0)))
        # A joint that was found far away does not make the person larger.
        side_px = min(1.25 * float(_spread(drawn_J2).max()), largest_px)
        return cls(places_K2, sure_K, is_drawn_K, box_4, side_px)


def _draw_person(drawn_HW3: UINT8, person: _Person, style: _Style) -> None:
    """Draw the outlines of all limbs under the colours of all, so that limbs join."""
    line_px = _between(_LINE_SHARE * person.side_px, _LINE_PX)
    radius_px = _between(_RADIUS_SHARE * person.side_px, _RADIUS_PX)
    outline_px = _between(0.4 * line_px, _OUTLINE_PX)
    _draw_limbs(drawn_HW3, person, style, line_px, outline_px)
    joints = np.flatnonzero(person.is_drawn_K).tolist()
    sizes_K, is_sure = style.sizes_K.tolist(), (person.scores_K > UNSURE_SCORE).tolist()
    for joint, centre in zip(joints, _fixed(person.xy_K2[joints]), strict=True):
        radius = max(radius_px * sizes_K[joint], _RADIUS_PX[0] if is_sure[joint] else _RING_PX)
        _draw_disc(drawn_HW3, centre, radius + outline_px, OUTLINE)
        _draw_disc(drawn_HW3, centre, radius, style.colours[joint])
        if not is_sure[joint]:
            _draw_disc(drawn_HW3, centre, radius / 2, OUTLINE)


def _draw_limbs(
    drawn_HW3: UINT8, person: _Person, style: _Style, line_px: float, outline_px: float
) -> None:
    shown = np.flatnonzero(person.is_drawn_K[style.limbs_L2].all(axis=1))
    limbs_L2 = style.limbs_L2[shown]
    is_sure_L = (person.scores_K[limbs_L2] > UNSURE_SCORE).all(axis=1)
    widths_L = line_px * style.limb_sizes_L[shown] * np.where(is_sure_L, 1, 0.5)
    widths_L = np.maximum(widths_L, _LINE_PX[0])
    ends_L22 = np.clip(person.xy_K2[limbs_L2], -_FARTHEST_PX, _FARTHEST_PX)
    outlines_L42, fills_L42 = _corners(ends_L22, widths_L + [[2 * outline_px], [0]])
    for corners_42 in outlines_L42:
        cv2.fillConvexPoly(drawn_HW3, corners_42, OUTLINE, cv2.LINE_AA, _SHIFT)
    for limb, corners_42 in zip(shown.tolist(), fills_L42, strict=True):
        colour = style.limb_colours[limb]
        cv2.fillConvexPoly(drawn_HW3, corners_42, colour, cv2.LINE_AA, _SHIFT)


def _between(value: float, range_px: tuple[float, float]) -> float:
    return min(max(value, range_px[0]), range_px[1])


def _corners(ends_L22: NDArray[np.float64], widths_XL: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return corners (..., L, 4, 2) of lines; OpenCV's own lines are whole pixels wide."""
    along_L2 = ends_L22[:, 1] - ends_L22[:, 0]
    lengths_L = np.maximum(np.hypot(along_L2[:, 0], along_L2[:, 1]), 1e-6)
    across_XL2 = along_L2[:, ::-1] * (-1, 1) * (widths_XL / 2 / lengths_L)[..., None]
    sides_XL42 = np.stack((across_XL2, -across_XL2, -across_XL2, across_XL2), axis=-2)
    corners_XL42 = ends_L22[:, (0, 0, 1, 1)] + sides_XL42
    return np.asarray(np.rint(corners_XL42 * 2**_SHIFT), np.int32)


def _spread(xy_J2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance (2,) from the 10th to the 90th percentile of x and of y."""
    sorted_J2, last = np.sort(xy_J2, axis=0), len(xy_J2) - 1
    places = np.array((0.1, 0.9)) * last
    below, share_21 = places.astype(int), (places % 1)[:, None]
    above = np.minimum(below + 1, last)
    low_2, high_2 = sorted_J2[below] * (1 - share_21) + sorted_J2[above] * share_21
    return np.asarray(high_2 - low_2)


def _draw_disc(drawn_HW3: UINT8, centre: Point, radius_px: float, colour: Colour) -> None:
    radius = round(radius_px * 2**_SHIFT)
    cv2.circle(drawn_HW3, centre, radius, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)


@lru_cache
def side_colours(skeleton: Skeleton) -> tuple[Colour, ...]:
    """Return the colour of each joint: the first of a flip pair is left, unless named right."""
    colours: list[Colour] = [MIDDLE] * skeleton.num_joints
    for pair in skeleton.flip_pairs:
        is_turned = "right" in skeleton.joints[pair[0]].lower()
        left, right = reversed(pair) if is_turned else pair
        colours[left], colours[right] = LEFT, RIGHT
    return tuple(colours)


def _limb_colour(first: Colour, second: Colour) -> Colour:
    """A limb from the middle to a side is of that side, and one from side to side of the middle."""
    if first == second or second == MIDDLE:
        return first
    return second if first == MIDDLE else MIDDLE


class _Style(NamedTuple):
    """How joints and limbs are drawn; sizes are relative to the largest joint."""

    colours: tuple[Colour, ...]
    sizes_K: NDArray[np.float64]
    limbs_L2: NDArray[np.int64]
    limb_colours: tuple[Colour, ...]
    limb_sizes_L: NDArray[np.float64]


@lru_cache
def _style(skeleton: Skeleton) -> _Style:
    colours = side_colours(skeleton)
    # Sigmas are small where joints lie close together.
    relative_K = np.sqrt(np.asarray(skeleton.sigmas) / max(skeleton.sigmas))
    sizes_K = np.maximum(relative_K, _SMALLEST_JOINT)
    limbs_L2 = np.array(skeleton.limbs, np.int64).reshape(-1, 2)
    limb_colours = [_limb_colour(colours[first], colours[second]) for first, second in limbs_L2]
    return _Style(colours, sizes_K, limbs_L2, tuple(limb_colours), sizes_K[limbs_L2].min(axis=1))


def _text_px(box_xyxy: NDArray[np.float64]) -> float:
    sides = box_xyxy[2:] - box_xyxy[:2]
    return _between(0.08 * float(sides.max()), _TEXT_PX)


def _fixed(xy_N2: NDArray[np.float64]) -> list[Point]:
    """Return points as OpenCV takes them."""
    fixed_N2 = np.rint(np.clip(xy_N2, -_FARTHEST_PX, _FARTHEST_PX) * 2**_SHIFT).astype(int)
    return [(x, y) for x, y in fixed_N2.tolist()]
