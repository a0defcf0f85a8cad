"""Poses drawn onto images.

N persons, K keypoints, L limbs, H W height and width of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError
from vipnas.viz.pose_style import (
    ID_COLOURS,
    LINE_PX,
    LINE_SHARE,
    MIDDLE,
    OUTLINE,
    OUTLINE_PX,
    OUTLINE_SHARE,
    RADIUS_PX,
    RADIUS_SHARE,
    RING_PX,
    TEXT_PX,
    UNSURE_SCORE,
    Colour,
    PoseStyle,
    ordered,
    pose_style,
)

UINT8 = NDArray[np.uint8]
Point = tuple[int, int]

# OpenCV takes coordinates in these parts of a pixel.
_SHIFT = 4
# From the edge of a limb to its outline. Less would be covered by the smooth edge of the limb.
_GAP_PX = 0.5
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
    bgr: bool = False,
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
        bgr: Return the picture in the order of OpenCV, as its writers take it.
    """
    drawn = _copied(image_HW3, bgr)
    style = pose_style(skeleton, bgr)
    boxes_N4 = None if boxes_xyxy is None else np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    persons = [
        _Person.of(xy_K2, scores_K, skeleton, min_score, max(image_HW3.shape[:2]))
        for xy_K2, scores_K in zip(keypoints_NK2, scores_NK, strict=True)
    ]
    for number in sorted(range(len(persons)), key=lambda number: persons[number].side_px):
        person = persons[number]
        track_id = None if ids is None else int(ids[number])
        box_4 = person.box_4 if boxes_N4 is None else boxes_N4[number]
        own_colour = MIDDLE if track_id is None else ID_COLOURS[track_id % len(ID_COLOURS)]
        colour = ordered(own_colour, bgr)
        if boxes_N4 is not None:
            draw_box(drawn, box_4, colour)
        _draw_person(drawn, person, style)
        if track_id is not None and np.isfinite(box_4).all():
            x, y = box_4[:2]
            draw_text(drawn, str(track_id), (x, y), _text_px(box_4), colour)
    return drawn


def _copied(image_HW3: UINT8, bgr: bool) -> UINT8:
    if bgr:
        return np.asarray(cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR), np.uint8)
    return image_HW3.copy()


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
    around = [(dx, dy) for dx in (-1, 1) for dy in (-1, 1)]
    for shade, shifts in ((OUTLINE, around), (colour, [(0, 0)])):
        for dx, dy in shifts:
            cv2.putText(drawn_HW3, text, (x + dx, y + dy), font, scale, shade, width, cv2.LINE_AA)


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


def _draw_person(drawn_HW3: UINT8, person: _Person, style: PoseStyle) -> None:
    """Draw the outlines of all limbs under the colours of all, so that limbs join."""
    line_px = _between(LINE_SHARE * person.side_px, LINE_PX)
    radius_px = _between(RADIUS_SHARE * person.side_px, RADIUS_PX)
    outline_px = round(_between(OUTLINE_SHARE * line_px, OUTLINE_PX))
    _draw_limbs(drawn_HW3, person, style, line_px, outline_px)
    _draw_joints(drawn_HW3, person, style, radius_px, outline_px)


def _draw_limbs(
    drawn_HW3: UINT8, person: _Person, style: PoseStyle, line_px: float, outline_px: int
) -> None:
    shown = np.flatnonzero(person.is_drawn_K[style.limbs_L2].all(axis=1))
    limbs_L2 = style.limbs_L2[shown]
    is_sure_L = (person.scores_K[limbs_L2] > UNSURE_SCORE).all(axis=1)
    widths_L = line_px * style.limb_sizes_L[shown] * np.where(is_sure_L, 1, 0.5)
    widths_L = np.maximum(widths_L, LINE_PX[0])
    ends_L22 = np.clip(person.xy_K2[limbs_L2], -_FARTHEST_PX, _FARTHEST_PX)
    edges_L42, fills_L42 = _corners(ends_L22, widths_L + [[outline_px + 2 * _GAP_PX], [0]])
    cv2.polylines(drawn_HW3, list(edges_L42), True, OUTLINE, outline_px, cv2.LINE_AA, _SHIFT)
    for limb, corners_42 in zip(shown.tolist(), fills_L42, strict=True):
        colour = style.limb_colours[limb]
        cv2.fillConvexPoly(drawn_HW3, corners_42, colour, cv2.LINE_AA, _SHIFT)


def _draw_joints(
    drawn_HW3: UINT8, person: _Person, style: PoseStyle, radius_px: float, outline_px: int
) -> None:
    joints = np.flatnonzero(person.is_drawn_K)
    is_sure_J = person.scores_K[joints] > UNSURE_SCORE
    radii_J = np.maximum(
        radius_px * style.sizes_K[joints], np.where(is_sure_J, RADIUS_PX[0], RING_PX)
    )
    radii_J3 = np.rint(np.stack((radii_J + outline_px, radii_J, radii_J / 2), 1) * 2**_SHIFT)
    centres = _fixed(person.xy_K2[joints])
    found = zip(joints.tolist(), centres, radii_J3.astype(int).tolist(), is_sure_J, strict=True)
    for joint, centre, (outer, radius, hole), is_sure in found:
        _draw_disc(drawn_HW3, centre, outer, OUTLINE)
        _draw_disc(drawn_HW3, centre, radius, style.colours[joint])
        if not is_sure:
            _draw_disc(drawn_HW3, centre, hole, OUTLINE)


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


def _draw_disc(drawn_HW3: UINT8, centre: Point, radius: int, colour: Colour) -> None:
    cv2.circle(drawn_HW3, centre, radius, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _text_px(box_xyxy: NDArray[np.float64]) -> float:
    sides = box_xyxy[2:] - box_xyxy[:2]
    return _between(0.08 * float(sides.max()), TEXT_PX)


def _fixed(xy_N2: NDArray[np.float64]) -> list[Point]:
    """Return points as OpenCV takes them."""
    fixed_N2 = np.rint(np.clip(xy_N2, -_FARTHEST_PX, _FARTHEST_PX) * 2**_SHIFT).astype(int)
    return [(x, y) for x, y in fixed_N2.tolist()]
