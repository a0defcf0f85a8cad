"""Crops of persons and their joints, made once.

B batch, K keypoints, H W height and width of the network's input. Images are uint8 RGB of shape
(B, 3, H, W) in channels-last memory order. They are normalised on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vipnas.config.data import Augmentation as Augmentation
from vipnas.config.data import BoxFit
from vipnas.data.crops.augmentation import augmented_matrix, crop_draws, decode_reduction
from vipnas.data.crops.geometry import (
    PUBLISHED_FIT,
    FloatArray,
    crop_region,
    input_from_image,
    invert,
    transform,
)
from vipnas.data.crops.images import read_reduced
from vipnas.data.crops.pictures import Picture, crop_into
from vipnas.data.formats.coco import Person
from vipnas.data.formats.skeletons import Skeleton

Triple: TypeAlias = tuple[float, float, float]
IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)


def keypoints_in_crops(
    keypoints_BK3: NDArray[np.float32],
    skeleton: Skeleton,
    matrices_B23: FloatArray,
    mirrored_B: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Return joints (B, K, 3) in input pixels, with left and right swapped in mirrored crops."""
    moved_BK3 = keypoints_BK3.copy()
    moved_BK3[..., :2] = transform(matrices_B23, keypoints_BK3[..., :2].astype(np.float64))
    moved_BK3[mirrored_B] = moved_BK3[mirrored_B][:, list(skeleton.flip_order)]
    return moved_BK3


@dataclass(frozen=True)
class Crops:
    """Crops for evaluation or calibration.

    Attributes:
        images_B3HW: Images, uint8 RGB.
        keypoints_BK3: Joints in input pixels, float32.
        persons: The persons, one per crop.
        image_from_input_B23: Affine from input pixels to pixels of each person's image.
    """

    images_B3HW: Tensor
    keypoints_BK3: Tensor
    persons: tuple[Person, ...]
    image_from_input_B23: FloatArray

    def __len__(self) -> int:
        return len(self.persons)

    def of(self, rows: slice) -> Crops:
        """Return some of the crops."""
        return Crops(
            self.images_B3HW[rows],
            self.keypoints_BK3[rows],
            self.persons[rows],
            self.image_from_input_B23[rows],
        )

    def to_image(self, xy_BK2: Tensor) -> FloatArray:
        """Map points from input pixels to image pixels, K per crop."""
        return transform(self.image_from_input_B23, xy_BK2.double().cpu().numpy())


def fixed_crops(
    persons: Sequence[Person],
    skeleton: Skeleton,
    input_hw: tuple[int, int],
    augmentation: Augmentation | None = None,
    seed: int = 0,
    span_hw: tuple[int, int] | None = None,
    fit: BoxFit = PUBLISHED_FIT,
) -> Crops:
    """Crop every person once, in their order. Each image is decoded once.

    Args:
        persons: The persons.
        skeleton: Their joints.
        input_hw: Height and width of the crops.
        augmentation: By default, a crop shows the padded box. With augmentation, crops equal
            epoch 0 of `TrainingCrops` with the same seed and persons.
        seed: Seed of the augmentation.
        span_hw: That of the codec, if it differs from `input_hw`.
        fit: How the region of a crop is made from the box.

    Raises:
        ValueError: An image cannot be read. Bad images are skipped by `read_coco` only, because
            the evaluation counts all persons of the ground truth.
    """
    span_hw = span_hw or input_hw
    views = [
        _fixed_view(persons, index, skeleton, span_hw, augmentation, seed, fit)
        for index in range(len(persons))
    ]
    matrices = np.array([view.matrix_23 for view in views]).reshape(-1, 2, 3)
    keypoints = keypoints_in_crops(
        np.array([person.keypoints_K3 for person in persons]).reshape(
            len(persons), skeleton.num_joints, 3
        ),
        skeleton,
        matrices,
        np.array([view.mirrored for view in views], bool),
    )
    return Crops(
        images_B3HW=torch.from_numpy(_cut(persons, views, input_hw)).permute(0, 3, 1, 2),
        keypoints_BK3=torch.from_numpy(keypoints),
        persons=tuple(persons),
        image_from_input_B23=invert(matrices),
    )


class _View(NamedTuple):
    """A crop's affine (input from image), whether it is mirrored, and the factor of decoding."""

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
    fit: BoxFit,
) -> _View:
    if augmentation is None:
        centre_xy, size_wh = crop_region(persons[index].box_xywh, span_hw, fit)
        return _View(input_from_image(centre_xy, size_wh, span_hw), False, 1)
    draws = crop_draws(seed, 0, index)
    view = augmented_matrix(persons[index], skeleton, span_hw, augmentation, draws, fit)
    return _View(*view, decode_reduction(persons[index], skeleton, span_hw, augmentation, fit))


def _cut(
    persons: Sequence[Person], views: Sequence[_View], input_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return the crops (N, H, W, 3)."""
    images = np.empty((len(persons), *input_hw, 3), np.uint8)
    by_image = sorted(range(len(persons)), key=lambda index: (persons[index].image_path, index))
    for path, same_image in groupby(by_image, key=lambda index: persons[index].image_path):
        indices = list(same_image)
        image_hw, ignore_exif = persons[indices[0]].image_hw, persons[indices[0]].ignore_exif
        pictures = {
            reduction: Picture(*read_reduced(path, reduction, image_hw, ignore_exif))
            for reduction in {views[index].reduction for index in indices}
        }
        for index in indices:
            crop_into(images[index], pictures[views[index].reduction], views[index].matrix_23)
    return images


def normalise(
    images_B3HW: Tensor, mean: Triple = IMAGENET_MEAN_RGB, std: Triple = IMAGENET_STD_RGB
) -> Tensor:
    """Normalise uint8 RGB to float32; device and memory order are kept.

    Args:
        images_B3HW: The images.
        mean: Mean of each channel, whose values are in 0..1.
        std: Standard deviation of each channel.
    """
    mean_311, std_311 = _mean_and_std(mean, std, images_B3HW.device)
    return images_B3HW.float().sub_(mean_311).div_(std_311)


def normalise_pixels(
    images_BHW3: NDArray[np.uint8], mean: Triple, std: Triple
) -> NDArray[np.float32]:
    """Return images (B, 3, H, W) as `normalise` does, on the CPU: faster on few small images."""
    num_images, height, width, _ = images_BHW3.shape
    result = np.empty((num_images, 3, height, width), np.float32)
    for image_HW3, planes_3HW in zip(images_BHW3, result, strict=True):
        channels = zip(cv2.split(image_HW3), _normalised_bytes(mean, std), planes_3HW, strict=True)
        for channel_HW, table, plane_HW in channels:
            cv2.LUT(channel_HW, table, plane_HW)
    return result


@cache
def _normalised_bytes(mean: Triple, std: Triple) -> NDArray[np.float32]:
    """Return what each byte becomes in each channel (3, 256)."""
    bytes_131X = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    return normalise(bytes_131X, mean, std)[0, :, 0].numpy()


@cache
def _mean_and_std(mean: Triple, std: Triple, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and deviation on a device, once: sending them to a GPU blocks."""
    mean_3, std_3 = (torch.tensor(values, device=device) * 255 for values in (mean, std))
    return mean_3.view(3, 1, 1), std_3.view(3, 1, 1)
