"""Colours and sizes of drawn poses.

K keypoints.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from vipnas.data.formats.skeletons import Skeleton

Colour = tuple[int, int, int]

# RGB, of the palette of Okabe and Ito: blue and vermilion differ for every kind of colour
# blindness, and white differs from both in lightness.
LEFT, RIGHT, MIDDLE = (86, 180, 233), (213, 94, 0), (255, 255, 255)
OUTLINE = (0, 0, 0)
# Of boxes and ids, one after the other: the rest of the palette.
ID_COLOURS = ((230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167))

# A joint up to this score is a ring, and its limbs are thin.
UNSURE_SCORE = 0.5
# Of the longer side of a person.
LINE_SHARE, RADIUS_SHARE = 0.012, 0.012
LINE_PX, RADIUS_PX, OUTLINE_PX = (1.0, 12.0), (1.8, 14.0), (1.0, 2.0)
# Of the width of a line.
OUTLINE_SHARE = 0.3
RING_PX = 2.8
TEXT_PX = (11, 28)
# Of joints whose labels are much more exact than others, such as eyes and fingers.
_SMALLEST_JOINT = 0.3


class LimbStyle(NamedTuple):
    """How a limb is drawn; its size is relative to the largest joint."""

    joints: tuple[int, int]
    colour: Colour
    size: float


class PoseStyle(NamedTuple):
    """How joints and limbs are drawn; sizes are relative to the largest joint."""

    colours: tuple[Colour, ...]
    sizes: tuple[float, ...]
    limbs: tuple[LimbStyle, ...]


@lru_cache
def pose_style(skeleton: Skeleton, bgr: bool = False) -> PoseStyle:
    """Return how poses of a skeleton are drawn, with colours in RGB unless `bgr`."""
    colours = side_colours(skeleton)
    # Sigmas are small where joints lie close together.
    relative_K = np.sqrt(np.asarray(skeleton.sigmas) / max(skeleton.sigmas))
    sizes = tuple(np.maximum(relative_K, _SMALLEST_JOINT).tolist())
    limbs = (
        LimbStyle(
            (first, second),
            ordered(_limb_colour(colours[first], colours[second]), bgr),
            min(sizes[first], sizes[second]),
        )
        for first, second in skeleton.limbs
    )
    return PoseStyle(tuple(ordered(colour, bgr) for colour in colours), sizes, tuple(limbs))


def ordered(colour_rgb: Colour, bgr: bool) -> Colour:
    """Return a colour in RGB, or in the order of OpenCV."""
    red, green, blue = colour_rgb
    return (blue, green, red) if bgr else colour_rgb


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


def drawing_facts(skeleton: Skeleton) -> dict[str, Any]:
    """Return how poses are drawn, as plain values, for pages that draw by themselves.

    Sizes of limbs and joints are relative to the largest. Pairs of `..._px` are least and most.
    """
    style = pose_style(skeleton)
    joints = zip(style.colours, style.sizes, strict=True)
    return {
        "left": LEFT,
        "right": RIGHT,
        "middle": MIDDLE,
        "ids": ID_COLOURS,
        "unsure_score": UNSURE_SCORE,
        "line_share": LINE_SHARE,
        "line_px": LINE_PX,
        "radius_share": RADIUS_SHARE,
        "radius_px": RADIUS_PX,
        "outline_share": OUTLINE_SHARE,
        "outline_px": OUTLINE_PX,
        "ring_px": RING_PX,
        "joints": [{"colour": colour, "size": size} for colour, size in joints],
        "limbs": [limb._asdict() for limb in style.limbs],
    }
