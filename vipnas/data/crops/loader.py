"""Training crops and their order.

The batch of step n is a pure function of the seed and n: which persons (`batch_keys`), and how each
is cropped (`TrainingCrops`). A run that resumes at step n gets the same batches as one without a
break, with any number of workers.

B batch, K keypoints, H W height and width of the network's input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vipnas.config.data import Augmentation, BoxFit
from vipnas.data.crops.augmentation import augmented_matrix, crop_draws, decode_reduction
from vipnas.data.crops.cache import CropCache
from vipnas.data.crops.crops import keypoints_in_crops
from vipnas.data.crops.geometry import PUBLISHED_FIT
from vipnas.data.crops.images import read_reduced
from vipnas.data.crops.pictures import Picture, crop_into
from vipnas.data.crops.skipped import log_skipped
from vipnas.data.formats.coco import Person
from vipnas.data.formats.skeletons import Skeleton

Key = tuple[int, int]  # epoch, index of the person
# images_B3HW uint8 and keypoints_BK3 float32 in input pixels; with a teacher its joints, likewise.
# For clips: images_BF3HW, keypoints_BFK3 and warps_BT23.
Batch = tuple[Tensor, ...]
AnyBatch = TypeVar("AnyBatch", covariant=True)


class TrainingCrops(Dataset[Batch]):
    """Augmented crops by key (epoch, index of the person). A key always gives the same crop.

    Args:
        persons: The training persons.
        skeleton: Their joints.
        input_hw: Height and width of the crops.
        augmentation: How crops vary.
        seed: Seed of the augmentation.
        skip_bad_images: If an image cannot be read any more, log its persons and use the next ones.
            By default it is a ValueError.
        span_hw: That of the codec, if it differs from `input_hw`.
        cache: From `open_crop_cache` with the same persons.
        teacher_NK3: Joints that a teacher found: x and y in image pixels, and score. Batches then
            have them as a third tensor.
        fit: How the region of a crop is made from the box.
    """

    def __init__(
        self,
        persons: Sequence[Person],
        skeleton: Skeleton,
        input_hw: tuple[int, int],
        augmentation: Augmentation,
        seed: int,
        skip_bad_images: bool = False,
        span_hw: tuple[int, int] | None = None,
        cache: CropCache | None = None,
        teacher_NK3: NDArray[np.float32] | None = None,
        fit: BoxFit = PUBLISHED_FIT,
    ) -> None:
        if not persons:
            raise ValueError("training crops: expected at least one person, got none")
        self.persons = persons
        self.skeleton = skeleton
        self.input_hw = input_hw
        self.augmentation = augmentation
        self.seed = seed
        self.skip_bad_images = skip_bad_images
        self.span_hw = span_hw or input_hw
        self.cache = cache
        self.teacher_NK3 = teacher_NK3
        self.fit = fit
        if cache is not None and len(cache) != len(persons):
            raise ValueError(
                f"training crops: expected a cache of {len(persons)} persons, got {len(cache)}"
            )

    def __len__(self) -> int:
        return len(self.persons)

    def taught_by(self, joints_NK3: NDArray[np.float32]) -> TrainingCrops:
        """Return the same crops with the joints that a teacher found on the persons."""
        return TrainingCrops(
            self.persons,
            self.skeleton,
            self.input_hw,
            self.augmentation,
            self.seed,
            self.skip_bad_images,
            self.span_hw,
            self.cache,
            joints_NK3,
            self.fit,
        )

    def __getitem__(self, key: Key) -> Batch:
        """Return image (3, H, W) uint8 and keypoints (K, 3) float32 in input pixels."""
        return tuple(part[0] for part in self.__getitems__([key]))

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return a batch at once, which torch's loader prefers."""
        images = np.empty((len(keys), *self.input_hw, 3), np.uint8)
        places = np.empty(len(keys), np.int64)
        keypoints = np.empty((len(keys), self.skeleton.num_joints, 3), np.float32)
        matrices = np.empty((len(keys), 2, 3))
        mirrored = np.empty(len(keys), bool)
        scratch = np.empty((*self.input_hw, 4), np.uint8)
        for row, (epoch, index) in enumerate(keys):
            draws = crop_draws(self.seed, epoch, index)
            places[row], picture = self._readable(index)
            person = self.persons[places[row]]
            matrices[row], mirrored[row] = augmented_matrix(
                person, self.skeleton, self.span_hw, self.augmentation, draws, self.fit
            )
            crop_into(images[row], picture, matrices[row], scratch)
            keypoints[row] = person.keypoints_K3
            if person.weight < 1:  # the loss squares the weights of joints
                np.minimum(keypoints[row, :, 2], person.weight**0.5, out=keypoints[row, :, 2])
        joints = [keypoints]
        if self.teacher_NK3 is not None:
            joints.append(self.teacher_NK3[places])
        moved = [keypoints_in_crops(one, self.skeleton, matrices, mirrored) for one in joints]
        return torch.from_numpy(images).permute(0, 3, 1, 2), *map(torch.from_numpy, moved)

    def _readable(self, index: int) -> tuple[int, Picture]:
        """Return the place of the person, or of the next one that can be read, and its pixels."""
        for offset in range(len(self.persons)):
            place = (index + offset) % len(self.persons)
            person = self.persons[place]
            try:
                return place, self._picture(place, person)
            except ValueError as error:
                if not self.skip_bad_images:
                    raise
                number = person.annotation_id
                log_skipped(str(error), "annotation %d left out: %s", number, error)
        raise ValueError(
            "training crops: expected an image that can be read, got none for "
            f"{len(self.persons)} persons"
        )

    def _picture(self, index: int, person: Person) -> Picture:
        kept = self.cache.get(index) if self.cache is not None else None
        if kept is not None:
            return kept
        reduction = decode_reduction(
            person, self.skeleton, self.span_hw, self.augmentation, self.fit
        )
        image = read_reduced(person.image_path, reduction, person.image_hw, person.ignore_exif)
        picture = Picture(*image)
        return picture if self.cache is None else self.cache.keep(index, picture)


def batch_keys(num_persons: int, batch_size: int, seed: int, step: int) -> list[Key]:
    """Return the keys of the persons of step `step` (from 0).

    Steps split an endless stream, a new permutation of all persons for every epoch, into batches.
    So every person comes once an epoch, no batch is short, and a batch may span two epochs.
    """
    first = step * batch_size
    places = (divmod(place, num_persons) for place in range(first, first + batch_size))
    return [(epoch, int(_order(num_persons, seed, epoch)[place])) for epoch, place in places]


@lru_cache(maxsize=4)
def _order(num_persons: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(num_persons)


@dataclass(frozen=True)
class _Steps:
    """A batch sampler for torch's loader: the keys of a range of steps."""

    num_persons: int
    batch_size: int
    seed: int
    steps: range
    share: slice

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Key]]:
        for step in self.steps:
            yield batch_keys(self.num_persons, self.batch_size, self.seed, step)[self.share]


class KeyedBatches(Protocol[AnyBatch]):
    """Data for training: `TrainingCrops` or `TrainingClips`."""

    @property
    def seed(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitems__(self, keys: Sequence[Key]) -> AnyBatch: ...


def training_batches(
    crops: KeyedBatches[AnyBatch],
    batch_size: int,
    first_step: int,
    num_steps: int,
    num_workers: int = 0,
    share: slice = slice(None),
) -> Iterator[AnyBatch]:
    """Yield the batches of steps `first_step` to `first_step + num_steps - 1`.

    Each is a function of the seed of the crops and its step, whatever the number of workers.

    Args:
        crops: Crops or clips.
        batch_size: Persons per step, over all processes.
        first_step: First step, from 0.
        num_steps: Number of steps.
        num_workers: Data workers; 0 loads in this process.
        share: The rows of each batch for this process.

    Raises:
        ValueError: An image cannot be read, in one line from workers, too.
    """
    steps = range(first_step, first_step + num_steps)
    loader: DataLoader[Any] = DataLoader(
        _Batches(crops),
        batch_sampler=_Steps(len(crops), batch_size, crops.seed, steps, share),
        num_workers=num_workers,
        collate_fn=_as_it_is,
        worker_init_fn=_one_thread,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else torch would draw from the global randomness
    )
    for batch in loader:
        if isinstance(batch, ValueError):
            raise batch
        yield batch


@dataclass(frozen=True)
class _Batches(Dataset[Any]):
    """Return errors as values: torch would add the worker's traceback to the message."""

    crops: KeyedBatches[Any]

    def __getitems__(self, keys: Sequence[Key]) -> Any:
        try:
            return self.crops.__getitems__(keys)
        except ValueError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
