"""Crops of people: how they vary in training, the one warp, and crops made once and kept.

B batch, K keypoints, H W height and width of the network's input. Images are uint8 RGB of shape
(B, 3, H, W) in channels-last memory order, as they are decoded, and are normalised on the device.
"""

from __future__ import annotations

import hashlib
import logging
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vipnas.data.coco import Person
from vipnas.data.geometry import (
    FloatArray,
    Pair,
    crop_region,
    input_from_image,
    invert,
    transform,
)
from vipnas.data.images import REDUCTIONS, read_reduced
from vipnas.data.pictures import Picture, crop_into
from vipnas.data.skeletons import Skeleton
from vipnas.files import Strict

log = logging.getLogger(__name__)

HALF_BODY_PADDING = 1.5  # of the published recipe, around the joints of one half

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Augmentation(Strict):
    """How training crops vary; the defaults are the recipe of the published networks.

    A share `rotation_probability` of the crops is turned by a normal angle of standard deviation
    `rotation_deg`, cut off at twice that. The size of the region shown is multiplied by 1 plus a
    normal number of standard deviation `scale_factor`, cut off at 1 +- `scale_factor`. Of people
    with more than `half_body_min_joints` labelled joints, a share `half_body_probability` is
    cropped to the upper body (in `upper_body_probability` of these cases) or the lower.
    """

    flip_probability: float = 0.5
    rotation_deg: float = 30.0
    rotation_probability: float = 0.6
    scale_factor: float = 0.25
    half_body_probability: float = 0.3
    half_body_min_joints: int = 8
    upper_body_probability: float = 0.7

    def __post_init__(self) -> None:
        for name in ("flip", "rotation", "half_body", "upper_body"):
            if not 0 <= (share := getattr(self, f"{name}_probability")) <= 1:
                raise ValueError(f"{name}_probability: {share}; allowed: 0 to 1")
        if not 0 <= self.scale_factor < 1:
            raise ValueError(f"scale_factor: {self.scale_factor}; allowed: 0 to below 1")
        if not 0 <= self.rotation_deg <= 180:
            raise ValueError(f"rotation_deg: {self.rotation_deg}; allowed: 0 to 180")


class Draws(NamedTuple):
    """The random numbers of one crop: four uniform in 0..1, two standard normal.

    Always all of them, so that no option shifts the others' randomness.
    """

    flip: float
    half_body: float
    upper_body: float
    rotate: float
    scale: float
    turn: float


def crop_draws(seed: int, epoch: int, index: int) -> Draws:
    """The randomness of one crop, a function of its key alone.

    From a digest of the key: to seed a generator takes ten times as long as to draw six numbers.
    """
    digest = hashlib.blake2b(f"crop-{seed}-{epoch}-{index}".encode(), digest_size=48).digest()
    # 53 bits each, the precision of a float; the fifth is in 0..1 without 0, for its logarithm.
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
) -> tuple[FloatArray, bool]:
    """One random crop of the person: input from image, and whether it is mirrored."""
    centre_xy, size_wh = crop_region(person.box_xywh, input_hw)
    if draws.half_body < augmentation.half_body_probability:
        prefer_upper = draws.upper_body < augmentation.upper_body_probability
        half = _half_body_region(person, skeleton, input_hw, augmentation, prefer_upper)
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
) -> tuple[Pair, Pair] | None:
    """Region around the labelled joints of one half, or None where too few are labelled."""
    # Plain numbers: for so few, numpy would take several times as long.
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
    return crop_region(box_xywh, input_hw, HALF_BODY_PADDING)


def possible_regions(
    person: Person, skeleton: Skeleton, input_hw: tuple[int, int], augmentation: Augmentation
) -> list[tuple[Pair, Pair]]:
    """Centres and sizes of all that a crop of the person may show, before scale and rotation."""
    regions = [crop_region(person.box_xywh, input_hw)]
    if augmentation.half_body_probability > 0:
        for prefer_upper in (True, False):
            half = _half_body_region(person, skeleton, input_hw, augmentation, prefer_upper)
            if half is not None:
                regions.append(half)
    return regions


def decode_reduction(
    person: Person, skeleton: Skeleton, input_hw: tuple[int, int], augmentation: Augmentation
) -> int:
    """By how much (1, 2 or 4) the image may be made smaller when it is decoded, so that no crop of
    the person shows fewer pixels of it than the input has."""
    width = crop_region(person.box_xywh, input_hw)[1][0]
    nearest = 1 - augmentation.scale_factor
    if width * nearest < 2 * input_hw[1]:
        return 1  # most people; the rest is not worth looking at
    regions = possible_regions(person, skeleton, input_hw, augmentation)
    room = min(size_wh[0] for _, size_wh in regions) * nearest / input_hw[1]
    return max(reduction for reduction in (1, *REDUCTIONS) if reduction <= max(room, 1))


def keypoints_in_crops(
    keypoints_BK3: NDArray[np.float32],
    skeleton: Skeleton,
    matrices_B23: FloatArray,
    mirrored_B: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """People's joints (B, K, 3) in input pixels; left and right change places in a mirror."""
    moved_BK3 = keypoints_BK3.copy()
    moved_BK3[..., :2] = transform(matrices_B23, keypoints_BK3[..., :2].astype(np.float64))
    moved_BK3[mirrored_B] = moved_BK3[mirrored_B][:, list(skeleton.flip_order)]
    return moved_BK3


@dataclass(frozen=True)
class Crops:
    """Crops made once and kept: what a network is scored on, or calibrated with.

    `image_from_input_B23` takes input pixels back to the pixels of each person's image.
    """

    images_B3HW: Tensor
    keypoints_BK3: Tensor
    persons: tuple[Person, ...]
    image_from_input_B23: FloatArray

    def __len__(self) -> int:
        return len(self.persons)

    def to_image(self, xy_BK2: Tensor) -> FloatArray:
        """Points in input pixels, one row of K a crop, to image pixels."""
        return transform(self.image_from_input_B23, xy_BK2.double().cpu().numpy())


def fixed_crops(
    persons: Sequence[Person],
    skeleton: Skeleton,
    input_hw: tuple[int, int],
    augmentation: Augmentation | None = None,
    seed: int = 0,
    skip_bad_images: bool = False,
    span_hw: tuple[int, int] | None = None,
) -> Crops:
    """Crop every person once, image by image so that each is decoded once.

    Without `augmentation` the crop is the padded box of the whole image; with it, each crop is that
    of epoch 0 of `TrainingCrops` with the same seed and persons. The order of the persons is kept.
    With `skip_bad_images`, people in undecodable images are logged and left out (and so are missed
    people for the scoring, which knows the whole ground truth). `span_hw` is that of the codec,
    where it is not `input_hw`.
    """
    span_hw = span_hw or input_hw
    views = [
        _fixed_view(persons, index, skeleton, span_hw, augmentation, seed)
        for index in range(len(persons))
    ]
    images = np.empty((len(persons), *input_hw, 3), np.uint8)
    kept: list[int] = []
    by_image = sorted(range(len(persons)), key=lambda index: (persons[index].image_path, index))
    for path, same_image in groupby(by_image, key=lambda index: persons[index].image_path):
        indices = list(same_image)
        image_hw = persons[indices[0]].image_hw
        try:
            pictures = {
                reduction: Picture(*read_reduced(path, reduction, image_hw))
                for reduction in {views[index].reduction for index in indices}
            }
        except ValueError as error:
            if not skip_bad_images:
                raise
            log.warning("%d persons left out: %s", len(indices), error)
            continue
        for index in indices:
            crop_into(images[index], pictures[views[index].reduction], views[index].matrix_23)
        kept += indices
    kept.sort()
    matrices = np.array([views[index].matrix_23 for index in kept]).reshape(-1, 2, 3)
    keypoints = keypoints_in_crops(
        np.array([persons[index].keypoints_K3 for index in kept]).reshape(len(kept), -1, 3),
        skeleton,
        matrices,
        np.array([views[index].mirrored for index in kept], bool),
    )
    return Crops(
        images_B3HW=torch.from_numpy(images if len(kept) == len(persons) else images[kept]).permute(
            0, 3, 1, 2
        ),
        keypoints_BK3=torch.from_numpy(keypoints),
        persons=tuple(persons[index] for index in kept),
        image_from_input_B23=invert(matrices),
    )


class _View(NamedTuple):
    """What is shown of a person: by which affine, mirrored or not, of an image how much smaller."""

    matrix_23: FloatArray
    mirrored: bool
    reduction: int


def _fixed_view(
    persons: Sequence[Person],
    index: int,
    skeleton: Skeleton,
    span_hw: tuple[int, int],
    augmentation: Augmentation | None,
    seed: int,
) -> _View:
    if augmentation is None:
        centre_xy, size_wh = crop_region(persons[index].box_xywh, span_hw)
        return _View(input_from_image(centre_xy, size_wh, span_hw), False, 1)
    draws = crop_draws(seed, 0, index)
    view = augmented_matrix(persons[index], skeleton, span_hw, augmentation, draws)
    return _View(*view, decode_reduction(persons[index], skeleton, span_hw, augmentation))


def normalise(images_B3HW: Tensor) -> Tensor:
    """uint8 RGB to float32 by ImageNet's mean and deviation; device and memory order are kept."""
    mean = torch.tensor(IMAGENET_MEAN_RGB, device=images_B3HW.device).view(3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD_RGB, device=images_B3HW.device).view(3, 1, 1) * 255
    return images_B3HW.float().sub_(mean).div_(std)
