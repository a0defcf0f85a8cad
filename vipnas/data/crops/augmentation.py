"""Random training crops, each a function of its key alone."""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import replace
from typing import NamedTuple

from vipnas.config.data import Augmentation, BoxFit
from vipnas.data.crops.geometry import (
    PUBLISHED_FIT,
    FloatArray,
    Pair,
    crop_region,
    input_from_image,
)
from vipnas.data.crops.images import REDUCTIONS
from vipnas.data.formats.coco import Person
from vipnas.data.formats.skeletons import Skeleton

HALF_BODY_PADDING = 1.5  # around the joints of one half, as in the published recipe


class Draws(NamedTuple):
    """Random numbers of one crop: four uniform in 0..1, then two standard normal.

    All are always drawn, so that no option shifts the randomness of others.
    """

    flip: float
    half_body: float
    upper_body: float
    rotate: float
    scale: float
    turn: float


def crop_draws(seed: int, epoch: int, index: int) -> Draws:
    """Return the random numbers of one crop, a function of its key alone.

    They come from a digest of the key, because seeding a generator is ten times slower.
    """
    digest = hashlib.blake2b(f"crop-{seed}-{epoch}-{index}".encode(), digest_size=48).digest()
    # 53 bits each, the precision of a float. Of the fifth, 1 - radius is never 0.
    flip, half, upper, rotate, radius, angle = (
        (word >> 11) * 2.0**-53 for word in struct.unpack("<6Q", digest)
    )
    length = math.sqrt(-2 * math.log(1 - radius))  # Box and Muller, 1958
    turn = 2 * math.pi * angle
    return Draws(flip, half, upper, rotate, length * math.cos(turn), length * math.sin(turn))


def augmented_matrix(
    person: Person,
    skeleton: Skeleton,
    input_hw: tuple[int, int],
    augmentation: Augmentation,
    draws: Draws,
    fit: BoxFit = PUBLISHED_FIT,
) -> tuple[FloatArray, bool]:
    """Return the matrix (2, 3), input from image, of a random crop, and whether it is mirrored."""
    centre_xy, size_wh = crop_region(person.box_xywh, input_hw, fit)
    if draws.half_body < augmentation.half_body_probability:
        prefer_upper = draws.upper_body < augmentation.upper_body_probability
        half = _half_body_region(person, skeleton, input_hw, augmentation, prefer_upper, fit)
        centre_xy, size_wh = half or (centre_xy, size_wh)
    factor = 1 + augmentation.scale_factor * _limited(draws.scale, 1)
    size_wh = (size_wh[0] * factor, size_wh[1] * factor)
    rotation_deg = 0.0
    if draws.rotate < augmentation.rotation_probability:
        rotation_deg = augmentation.rotation_deg * _limited(draws.turn, 2)
    mirrored = draws.flip < augmentation.flip_probability
    return input_from_image(centre_xy, size_wh, input_hw, rotation_deg, mirrored), mirrored


def _limited(number: float, limit: float) -> float:
    return min(max(number, -limit), limit)


def _half_body_region(
    person: Person,
    skeleton: Skeleton,
    input_hw: tuple[int, int],
    augmentation: Augmentation,
    prefer_upper: bool,
    fit: BoxFit,
) -> tuple[Pair, Pair] | None:
    """Return the region around the labelled joints of one half, or None if they are too few."""
    # Python floats: for so few numbers, NumPy is several times slower.
    joints = person.keypoints_K3.tolist()
    labelled = {number for number, joint in enumerate(joints) if joint[2] > 0}
    if not skeleton.upper_body or len(labelled) <= augmentation.half_body_min_joints:
        return None
    upper = labelled.intersection(skeleton.upper_body)
    halves = sorted(upper), sorted(labelled - upper)
    first, second = halves if prefer_upper else halves[::-1]
    half = first if len(first) > 2 else second
    if len(half) < 2:
        return None
    xs, ys = [joints[number][0] for number in half], [joints[number][1] for number in half]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    if max(width, height) < 1:
        return None
    # The published recipe centres the crop on the mean of the joints, not on their box.
    box_xywh = sum(xs) / len(xs) - width / 2, sum(ys) / len(ys) - height / 2, width, height
    return crop_region(box_xywh, input_hw, replace(fit, padding=HALF_BODY_PADDING))


def possible_regions(
    person: Person,
    skeleton: Skeleton,
    input_hw: tuple[int, int],
    augmentation: Augmentation,
    fit: BoxFit = PUBLISHED_FIT,
) -> list[tuple[Pair, Pair]]:
    """Return centres and sizes of all regions that a crop may show, before scale and rotation."""
    regions = [crop_region(person.box_xywh, input_hw, fit)]
    if augmentation.half_body_probability > 0:
        for prefer_upper in (True, False):
            half = _half_body_region(person, skeleton, input_hw, augmentation, prefer_upper, fit)
            if half is not None:
                regions.append(half)
    return regions


def decode_reduction(
    person: Person,
    skeleton: Skeleton,
    input_hw: tuple[int, int],
    augmentation: Augmentation,
    fit: BoxFit = PUBLISHED_FIT,
) -> int:
    """Return the largest factor (1, 2 or 4) that decoding may reduce the image by.

    No crop of the person then shows fewer pixels of the image than the input has.
    """
    width = crop_region(person.box_xywh, input_hw, fit)[1][0]
    nearest = 1 - augmentation.scale_factor
    if width * nearest < 2 * input_hw[1]:
        return 1  # as for most persons: skip the slower test
    regions = possible_regions(person, skeleton, input_hw, augmentation, fit)
    room = min(size_wh[0] for _, size_wh in regions) * nearest / input_hw[1]
    if fit.aspect == "stretch":
        room = min(room, min(size_wh[1] for _, size_wh in regions) * nearest / input_hw[0])
    return max(reduction for reduction in (1, *REDUCTIONS) if reduction <= max(room, 1))
