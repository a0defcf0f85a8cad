"""Find labels that are valid but probably wrong: other units, swapped sides, boxes as corners.

N labelled persons, K joints, P pairs of a left and a right joint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.coco import PoseData
from vipnas.data.formats.posetrack import PoseTrackData
from vipnas.data.formats.sides import side_of
from vipnas.data.formats.skeletons import Skeleton

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Coordinates up to this limit, in images at least twice as large, are not in pixels.
UNITS = {1.0: "fractions of the image (0 to 1)", 100.0: "percent of the image (0 to 100)"}
SMALL_BOX_PX = 2
# Person masks cover 0.2 to 0.9 of their boxes; polygons may exceed the box slightly.
AREA_SHARES = (0.02, 1.2)
# Left and right joints closer than this fraction of the box width do not tell a side.
CLEARLY_APART = 0.1
# A person shows the front or the back if the votes of the pairs differ by this many.
CLEAR_PAIRS = 3
# On COCO, 3 % of persons with a visible nose have their left on the left of the image. In a video
# one person who turns around can be many annotations.
MANY, MOST = 0.25, 0.7
# Fewer persons than this tell nothing.
MIN_PERSONS = 5


def suspicions(data: PoseData) -> list[str]:
    """Return lines with the counts of odd labels, then lines with their likely causes."""
    labels = _Labels.of(data)
    return [*_counts(labels), *(f"suspicion: {line}" for line in _suspected(labels))]


@dataclass(frozen=True)
class _Labels:
    """Labels of the evaluated persons, as stored in the file."""

    skeleton: Skeleton
    boxes_N4: FloatArray
    areas_N: FloatArray
    keypoints_NK3: FloatArray
    image_wh_N2: FloatArray
    are_of_video: bool

    @classmethod
    def of(cls, data: PoseData) -> _Labels:
        entries = [
            entry
            for entry in data.ground_truth["annotations"]
            if entry["num_keypoints"] > 0 and not entry["iscrowd"]
        ]
        images = {image["id"]: image for image in data.ground_truth["images"]}
        shown = [images[entry["image_id"]] for entry in entries]

        def column(key: str) -> Any:
            return np.array([entry[key] for entry in entries], np.float64)

        return cls(
            data.skeleton,
            column("bbox"),
            column("area"),
            column("keypoints").reshape(len(entries), -1, 3),
            np.array([(image["width"], image["height"]) for image in shown], np.float64),
            isinstance(data, PoseTrackData),
        )

    @cached_property
    def labelled_NK(self) -> BoolArray:
        return self.keypoints_NK3[..., 2] > 0

    @cached_property
    def xy_M2(self) -> FloatArray:
        """All M labelled joints."""
        return self.keypoints_NK3[self.labelled_NK, :2]

    def outside_NK(self, boxes_N4: FloatArray) -> BoolArray:
        """Return which labelled joints are outside of their box by more than a pixel."""
        low_N12 = boxes_N4[:, None, :2] - 1
        high_N12 = low_N12 + boxes_N4[:, None, 2:] + 2
        xy_NK2 = self.keypoints_NK3[..., :2]
        inside_NK = ((xy_NK2 >= low_N12) & (xy_NK2 <= high_N12)).all(axis=2)
        return self.labelled_NK & ~inside_NK

    def share_outside(self, boxes_N4: FloatArray) -> float:
        """Return the fraction of joints outside of their box, without joints at (0, 0)."""
        counted_NK = self.labelled_NK & ~self.zero_NK
        outside_NK = self.outside_NK(boxes_N4) & counted_NK
        return float(outside_NK.sum() / max(counted_NK.sum(), 1))

    @cached_property
    def zero_NK(self) -> BoolArray:
        return np.asarray(self.labelled_NK & ~self.keypoints_NK3[..., :2].any(axis=2))

    @cached_property
    def small_N(self) -> BoolArray:
        return np.asarray((self.boxes_N4[:, 2:] < SMALL_BOX_PX).any(axis=1))

    @cached_property
    def odd_area_N(self) -> BoolArray:
        low, high = AREA_SHARES
        shares_N = self.areas_N / self.boxes_N4[:, 2:].prod(axis=1)
        return np.asarray((shares_N < low) | (shares_N > high))

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Flip pairs of a left and a right joint by name, left first."""
        found = []
        for first, second in self.skeleton.flip_pairs:
            sides = side_of(self.skeleton.joints[first]), side_of(self.skeleton.joints[second])
            if sides == ("left", "right"):
                found.append((first, second))
            elif sides == ("right", "left"):
                found.append((second, first))
        return found

    @cached_property
    def sides_NP(self) -> FloatArray:
        """1 where a left joint is clearly to the right of its mirror image in the picture, as in a
        person who faces the camera; -1 for the reverse; 0 if unclear."""
        left, right = (np.array(joints, int) for joints in zip(*self.pairs, strict=True))
        apart_NP = self.keypoints_NK3[:, left, 0] - self.keypoints_NK3[:, right, 0]
        known_NK = self.labelled_NK & ~self.zero_NK
        known_NP = known_NK[:, left] & known_NK[:, right]
        clear_NP = np.abs(apart_NP) > CLEARLY_APART * self.boxes_N4[:, 2:3]
        return np.where(known_NP & clear_NP, np.sign(apart_NP), 0)


def _counts(labels: _Labels) -> Iterator[str]:
    joints, persons = len(labels.xy_M2), len(labels.boxes_N4)
    outside = int(labels.outside_NK(labels.boxes_N4).sum())
    yield f"labelled joints outside of their box: {_of(outside, joints)}"
    yield f"labelled joints at exactly (0, 0): {_of(int(labels.zero_NK.sum()), joints)}"
    small = int(labels.small_N.sum())
    yield f"boxes under {SMALL_BOX_PX} pixels wide or high: {_of(small, persons)}"
    low, high = AREA_SHARES
    odd = int(labels.odd_area_N.sum())
    yield f"areas under {low:g} or over {high:g} of their box: {_of(odd, persons)}"
    if labels.pairs:
        facing_N = np.sign(labels.sides_NP.sum(axis=1))
        known = int(facing_N.any() and np.abs(facing_N).sum())
        most = 1 if facing_N.sum() >= 0 else -1
        others = int((facing_N == -most).sum())
        yield (
            "persons whose left is on the other side of the image than in most persons: "
            f"{_of(others, known)} (seen from behind, or swapped)"
        )
    away, known = _away_with_nose(labels)
    if known:
        yield (
            "persons with a visible nose whose left is on the left of the image: "
            f"{_of(away, known)}"
        )


def _of(count: int, total: int) -> str:
    return f"{count} of {total}" + (f" ({count / total:.1%})" if count else "")


def _suspected(labels: _Labels) -> Iterator[str]:
    in_pixels = True
    for what, values in (("keypoints", labels.xy_M2), ("boxes", labels.boxes_N4)):
        if unit := _other_unit(values, labels):
            in_pixels = False
            yield f"{what} look like {unit}; expected pixels"
    if not in_pixels:
        return
    if _are_corners(labels):
        yield "boxes look like corners x1, y1, x2, y2; expected x, y, width, height"
    elif labels.share_outside(labels.boxes_N4) > 0.2:
        if labels.share_outside(_from_centres(labels.boxes_N4)) < 0.1:
            yield "boxes look like centre x, centre y, width, height; expected the corner"
        else:
            yield "boxes and keypoints look like labels of other persons or in other units"
    if labels.zero_NK.any():
        yield "joints at (0, 0) look unlabelled; expected visibility 0"
    if labels.small_N.mean() > 0.01:
        yield "boxes look too small for persons; expected pixels"
    if labels.odd_area_N.mean() > 0.1:
        yield (
            "areas do not look like areas of these persons; expected square pixels, or no area "
            "(OKS scales by it)"
        )
    if labels.pairs:
        yield from _swapped_sides(labels)


def _other_unit(values: FloatArray, labels: _Labels) -> str | None:
    if len(labels.boxes_N4) < MIN_PERSONS:
        return None
    for limit, unit in UNITS.items():
        in_limit = np.percentile(values, 99) <= limit and values.max() <= 1.5 * limit
        if in_limit and np.median(labels.image_wh_N2.min(axis=1)) >= 2 * limit:
            return unit
    return None


def _are_corners(labels: _Labels) -> bool:
    """Whether boxes fit as x1, y1, x2, y2, and exceed their images as x, y, width, height."""
    low_N2, last_N2 = labels.boxes_N4[:, :2], labels.boxes_N4[:, 2:]
    told_N = np.asarray((low_N2 > 1).any(axis=1))  # at the origin both mean the same
    if told_N.sum() < MIN_PERSONS or (last_N2 <= low_N2).any():
        return False
    reaches_out_N = np.asarray((low_N2 + last_N2 > labels.image_wh_N2 + 1).any(axis=1))
    by_corners_N4 = np.concatenate((low_N2, last_N2 - low_N2), axis=1)
    return bool(reaches_out_N[told_N].mean() > 0.5 and labels.share_outside(by_corners_N4) < 0.1)


def _from_centres(boxes_N4: FloatArray) -> FloatArray:
    return np.concatenate((boxes_N4[:, :2] - boxes_N4[:, 2:] / 2, boxes_N4[:, 2:]), axis=1)


def _swapped_sides(labels: _Labels) -> Iterator[str]:
    others_NP = labels.sides_NP.sum(axis=1, keepdims=True) - labels.sides_NP
    told_NP = (labels.sides_NP != 0) & (np.abs(others_NP) >= 2)
    against_NP = told_NP & (labels.sides_NP * others_NP < 0)
    joints = labels.skeleton.joints
    for pair, (left, right) in enumerate(labels.pairs):
        told, against = int(told_NP[:, pair].sum()), int(against_NP[:, pair].sum())
        if told >= MIN_PERSONS and against > told / 2:
            yield (
                f"{joints[left]} and {joints[right]} look swapped: against the other pairs in "
                f"{_of(against, told)} persons"
            )
    away, known = _away_with_nose(labels)
    if known >= 2 * MIN_PERSONS and away > MOST * known:
        yield "left and right look like sides of the image; expected sides of the person"
    elif known >= 2 * MIN_PERSONS and away > MANY * known and not labels.are_of_video:
        yield f"left and right look swapped in {_of(away, known)} persons whose nose is visible"


def _away_with_nose(labels: _Labels) -> tuple[int, int]:
    """Count persons with a visible nose whose left is on the left of the image, and on any side.

    A person who shows the face has the left side on the right of the image.
    """
    if "nose" not in labels.skeleton.joints or not labels.pairs:
        return 0, 0
    nose = labels.skeleton.joints.index("nose")
    sees_nose_N = labels.keypoints_NK3[:, nose, 2] == 2
    facing_N = labels.sides_NP.sum(axis=1)[sees_nose_N]
    away, facing = facing_N <= -CLEAR_PAIRS, facing_N >= CLEAR_PAIRS
    return int(away.sum()), int(away.sum() + facing.sum())
