"""Poses drawn onto images.

N persons, K keypoints, L polygons, H W height and width of an image.
"""

from __future__ import annotations

import math
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
    bgr: bool = False,
    onto_HW3: UINT8 | None = None,
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
        onto_HW3: The image in the order that is returned: drawn on in place of a copy.
    """
    drawn_HW3 = _copied(image_HW3, bgr) if onto_HW3 is None else onto_HW3
    style = pose_style(skeleton, bgr)
    boxes_N4 = None if boxes_xyxy is None else np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    persons = [
        _Person.of(xy_K2, scores_K, skeleton, min_score, max(drawn_HW3.shape[:2]))
        for xy_K2, scores_K in zip(keypoints_NK2, scores_NK, strict=True)
    ]
    for number in sorted(range(len(persons)), key=lambda number: persons[number].side_px):
        person = persons[number]
        track_id = None if ids is None else int(ids[number])
        box_4 = person.box_4 if boxes_N4 is None else tuple(boxes_N4[number].tolist())
        own_colour = MIDDLE if track_id is None else ID_COLOURS[track_id % len(ID_COLOURS)]
        colour = ordered(own_colour, bgr)
        if boxes_N4 is not None:
            draw_box(drawn_HW3, box_4, colour)
        _draw_person(drawn_HW3, person, style)
        if track_id is not None and all(map(math.isfinite, box_4)):
            draw_text(drawn_HW3, str(track_id), box_4[:2], _text_px(box_4), colour)
    return drawn_HW3


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


def draw_box(drawn_HW3: UINT8, box_xyxy: Sequence[float], colour: Colour) -> None:
    """Draw a box with a dark outline into the picture; one that is not finite is left out."""
    if not all(map(math.isfinite, box_xyxy)):
        return
    left, top, right, bottom = map(_fixed, box_xyxy)
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
    """The joints of a person that are drawn, and how large the person is.

    Attributes:
        places: x + iy in pixels, by the number of the joint.
        scores: Of all joints.
        box_4: Left, top, right and bottom of the joints that are drawn; NaN for none.
        side_px: The longer side of most of them.
    """

    places: dict[int, complex]
    scores: list[float]
    box_4: tuple[float, ...]
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
        scores = scores_K.tolist()
        places = {
            joint: complex(_within(x), _within(y))
            for joint, ((x, y), score) in enumerate(zip(xy_K2.tolist(), scores, strict=True))
            if score >= min_score and score > 0 and math.isfinite(x) and math.isfinite(y)
        }
        if not places:
            return cls(places, scores, (math.nan,) * 4, 0.0)
        xs = sorted(place.real for place in places.values())
        ys = sorted(place.imag for place in places.values())
        # A joint that was found far away does not make the person larger.
        side_px = min(1.25 * max(_spread(xs), _spread(ys)), largest_px)
        return cls(places, scores, (xs[0], ys[0], xs[-1], ys[-1]), side_px)


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
    outlines, fills, colours = list[complex](), list[complex](), list[Colour]()
    for (first, second), colour, size in style.limbs:
        if first in person.places and second in person.places:
            begin, end = person.places[first], person.places[second]
            is_sure = min(person.scores[first], person.scores[second]) > UNSURE_SCORE
            width_px = max(line_px * size * (1 if is_sure else 0.5), LINE_PX[0])
            outlines += _corners(begin, end, width_px + 2 * outline_px)
            fills += _corners(begin, end, width_px)
            colours.append(colour)
    corners_X2 = np.array(outlines + fills, np.complex128).view(np.float64)
    polygons_L42 = np.rint(corners_X2 * 2**_SHIFT).astype(np.int32).reshape(-1, 4, 2)
    shades = [OUTLINE] * len(colours) + colours
    for corners_42, shade in zip(polygons_L42, shades, strict=True):
        cv2.fillConvexPoly(drawn_HW3, corners_42, shade, cv2.LINE_AA, _SHIFT)


def _corners(begin: complex, end: complex, width_px: float) -> tuple[complex, ...]:
    """Return the corners of a line; OpenCV's own lines are whole pixels wide."""
    along = end - begin
    side = 0.5j * width_px * along / max(abs(along), 1e-6)
    return begin + side, begin - side, end - side, end + side


def _draw_joints(
    drawn_HW3: UINT8, person: _Person, style: PoseStyle, radius_px: float, outline_px: int
) -> None:
    for joint, place in person.places.items():
        is_sure = person.scores[joint] > UNSURE_SCORE
        radius = max(radius_px * style.sizes[joint], RADIUS_PX[0] if is_sure else RING_PX)
        centre = _fixed(place.real), _fixed(place.imag)
        _draw_disc(drawn_HW3, centre, radius + outline_px, OUTLINE)
        _draw_disc(drawn_HW3, centre, radius, style.colours[joint])
        if not is_sure:
            _draw_disc(drawn_HW3, centre, radius / 2, OUTLINE)


def _draw_disc(drawn_HW3: UINT8, centre: tuple[int, int], radius_px: float, colour: Colour) -> None:
    cv2.circle(drawn_HW3, centre, _fixed(radius_px), colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _between(value: float, range_px: tuple[float, float]) -> float:
    return min(max(value, range_px[0]), range_px[1])


def _spread(sorted_px: list[float]) -> float:
    """Return the distance from the 10th to the 90th percentile."""
    return _percentile(sorted_px, 0.9) - _percentile(sorted_px, 0.1)


def _percentile(sorted_px: list[float], share: float) -> float:
    last = len(sorted_px) - 1
    below = int(share * last)
    low, high = sorted_px[below], sorted_px[min(below + 1, last)]
    return low + (share * last - below) * (high - low)


def _text_px(box_xyxy: Sequence[float]) -> float:
    left, top, right, bottom = box_xyxy
    return _between(0.08 * max(right - left, bottom - top), TEXT_PX)


def _within(value_px: float) -> float:
    return min(max(value_px, -_FARTHEST_PX), _FARTHEST_PX)


def _fixed(value_px: float) -> int:
    """Return a coordinate or a length as OpenCV takes it."""
    return round(_within(value_px) * (1 << _SHIFT))
