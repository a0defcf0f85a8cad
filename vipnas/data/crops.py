"""Crops of people: how they vary in training, the one warp, and crops made once and kept.

B batch, K keypoints, H W height and width of the network's input. Images are uint8 RGB of shape
(B, 3, H, W) in channels-last memory order, as they are decoded, and are normalised on the device.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vipnas.data.coco import Person
from vipnas.data.geometry import FloatArray, crop_region, input_from_image, invert, transform
from vipnas.data.images import read_image
from vipnas.data.skeletons import Skeleton
from vipnas.files import Strict

log = logging.getLogger(__name__)

HALF_BODY_PADDING = 1.5  # of the published recipe, around the joints of one half

IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)

_CROP_STREAM = 1  # keeps these random numbers apart from those that order the persons


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


def augmented_matrix(
    person: Person,
    skeleton: Skeleton,
    input_hw: tuple[int, int],
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[FloatArray, bool]:
    """One random crop of the person: input from image, and whether it is mirrored."""
    # Always the same numbers in the same order, so that no option shifts the others' randomness.
    flip, half_body, upper, rotate = rng.random(4)
    scale, turn = rng.standard_normal(2)
    centre_xy, size_wh = crop_region(person.box_xywh, input_hw)
    if half_body < augmentation.half_body_probability:
        prefer_upper = upper < augmentation.upper_body_probability
        box_xywh = _half_body_box(person, skeleton, augmentation, prefer_upper)
        if box_xywh is not None:
            centre_xy, size_wh = crop_region(box_xywh, input_hw, HALF_BODY_PADDING)
    size_wh = size_wh * (1 + augmentation.scale_factor * np.clip(scale, -1, 1))
    rotation_deg = 0.0
    if rotate < augmentation.rotation_probability:
        rotation_deg = augmentation.rotation_deg * float(np.clip(turn, -2, 2))
    mirrored = bool(flip < augmentation.flip_probability)
    return input_from_image(centre_xy, size_wh, input_hw, rotation_deg, mirrored), mirrored


def _half_body_box(
    person: Person, skeleton: Skeleton, augmentation: Augmentation, prefer_upper: bool
) -> tuple[float, float, float, float] | None:
    """Box around the labelled joints of one half, or None where too few are labelled."""
    labelled = person.keypoints_K3[:, 2] > 0
    if labelled.sum() <= augmentation.half_body_min_joints:
        return None
    halves = [
        person.keypoints_K3[[joint for joint in half if labelled[joint]], :2]
        for half in (skeleton.upper_body, skeleton.lower_body)
    ]
    first, second = halves if prefer_upper else halves[::-1]
    joints_N2 = first if len(first) > 2 else second
    if len(joints_N2) < 2:
        return None
    low, high = joints_N2.min(axis=0), joints_N2.max(axis=0)
    if max(high - low) < 1:
        return None
    # The published recipe centres the crop on the mean of the joints, not on their box.
    centre, size = joints_N2.mean(axis=0), high - low
    x, y = centre - size / 2
    return float(x), float(y), float(size[0]), float(size[1])


def crop_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The randomness of one crop, a function of its key alone."""
    return np.random.default_rng((_CROP_STREAM, seed, epoch, index))


def crop(
    image_HW3: NDArray[np.uint8], matrix_23: FloatArray, input_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """The one warp: the region that `matrix_23` (input from image) shows, black off the image."""
    return np.asarray(cv2.warpAffine(image_HW3, matrix_23, input_hw[::-1]), np.uint8)


def keypoints_in_crop(
    person: Person, skeleton: Skeleton, matrix_23: FloatArray, mirrored: bool
) -> NDArray[np.float32]:
    """The person's joints (K, 3) in input pixels; left and right change places in a mirror."""
    keypoints_K3 = person.keypoints_K3.copy()
    keypoints_K3[:, :2] = transform(matrix_23, keypoints_K3[:, :2])
    return keypoints_K3[list(skeleton.flip_order)] if mirrored else keypoints_K3


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
) -> Crops:
    """Crop every person once, image by image so that each is decoded once.

    Without `augmentation` the crop is the padded box; with it, each crop is that of epoch 0 of
    `TrainingCrops` with the same seed and persons. The order of the persons is kept. With
    `skip_bad_images`, people in undecodable images are logged and left out (and so are missed
    people for the scoring, which knows the whole ground truth).
    """
    by_image = sorted(range(len(persons)), key=lambda index: (persons[index].image_path, index))
    images = np.empty((len(persons), *input_hw, 3), np.uint8)
    keypoints = np.empty((len(persons), skeleton.num_joints, 3), np.float32)
    matrices = np.empty((len(persons), 2, 3))
    readable: list[int] = []
    for path, indices in groupby(by_image, key=lambda index: persons[index].image_path):
        same_image = list(indices)
        try:
            image = read_image(path, persons[same_image[0]].image_hw)
        except ValueError as error:
            if not skip_bad_images:
                raise
            log.warning("%d persons left out: %s", len(same_image), error)
            continue
        for index in same_image:
            matrix, mirrored = _fixed_matrix(persons, index, skeleton, input_hw, augmentation, seed)
            images[index] = crop(image, matrix, input_hw)
            keypoints[index] = keypoints_in_crop(persons[index], skeleton, matrix, mirrored)
            matrices[index] = invert(matrix)
        readable += same_image
    kept = sorted(readable)
    return Crops(
        images_B3HW=torch.from_numpy(images[kept]).permute(0, 3, 1, 2),
        keypoints_BK3=torch.from_numpy(keypoints[kept]),
        persons=tuple(persons[index] for index in kept),
        image_from_input_B23=matrices[kept],
    )


def _fixed_matrix(
    persons: Sequence[Person],
    index: int,
    skeleton: Skeleton,
    input_hw: tuple[int, int],
    augmentation: Augmentation | None,
    seed: int,
) -> tuple[FloatArray, bool]:
    if augmentation is None:
        centre_xy, size_wh = crop_region(persons[index].box_xywh, input_hw)
        return input_from_image(centre_xy, size_wh, input_hw), False
    rng = crop_rng(seed, 0, index)
    return augmented_matrix(persons[index], skeleton, input_hw, augmentation, rng)


def normalise(images_B3HW: Tensor) -> Tensor:
    """uint8 RGB to float32 by ImageNet's mean and deviation; device and memory order are kept."""
    mean = torch.tensor(IMAGENET_MEAN_RGB, device=images_B3HW.device).view(3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD_RGB, device=images_B3HW.device).view(3, 1, 1) * 255
    return images_B3HW.float().sub_(mean).div_(std)
