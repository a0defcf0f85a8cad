from __future__ import annotations

import multiprocessing
import random
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vipnas.config.data import Augmentation
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.crops.loader import TrainingCrops, batch_keys, training_batches
from vipnas.data.formats.coco import PoseData, read_coco
from vipnas.data.formats.skeletons import COCO_17

INPUT_HW = (64, 48)


@pytest.fixture
def data(tiny_coco: Any) -> PoseData:
    return read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17)


def training_crops(data: PoseData, seed: int = 3, skip_bad_images: bool = False) -> TrainingCrops:
    return TrainingCrops(data.persons, COCO_17, INPUT_HW, Augmentation(), seed, skip_bad_images)


@given(
    num_persons=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 2**32),
    num_epochs=st.integers(1, 4),
)
def test_every_person_comes_once_an_epoch(
    num_persons: int, batch_size: int, seed: int, num_epochs: int
) -> None:
    num_steps = -(-num_persons * num_epochs // batch_size)
    batches = [batch_keys(num_persons, batch_size, seed, step) for step in range(num_steps)]
    assert {len(batch) for batch in batches} == {batch_size}
    stream = [key for batch in batches for key in batch]
    for epoch in range(num_epochs):
        keys = stream[epoch * num_persons : (epoch + 1) * num_persons]
        assert {key[0] for key in keys} == {epoch}
        assert sorted(key[1] for key in keys) == list(range(num_persons))


def test_order_differs_between_epochs_and_seeds() -> None:
    orders = {
        tuple(index for _, index in batch_keys(20, 20, seed, step))
        for seed in range(3)
        for step in range(3)
    }
    assert len(orders) == 9


def test_a_key_always_gives_the_same_crop(data: PoseData) -> None:
    first, second = training_crops(data), training_crops(data)
    _ = [second[key] for key in ((0, 1), (5, 2))]  # what was asked before does not matter
    for key in ((0, 0), (0, 7), (3, 7)):
        for mine, other in zip(first[key], second[key], strict=True):
            assert torch.equal(mine, other)


def test_crops_differ_between_epochs_persons_and_seeds(data: PoseData) -> None:
    crops = training_crops(data)
    keypoints = [crops[key][1] for key in ((0, 7), (1, 7), (0, 8))]
    keypoints.append(training_crops(data, seed=4)[0, 7][1])
    for number, one in enumerate(keypoints):
        assert not any(torch.equal(one, other) for other in keypoints[number + 1 :])


def test_a_batch_is_its_examples_one_by_one(data: PoseData) -> None:
    crops = training_crops(data)
    keys = batch_keys(len(crops), 5, 3, 1)
    images, keypoints = next(training_batches(crops, 5, first_step=1, num_steps=1))
    assert images.dtype == torch.uint8 and keypoints.dtype == torch.float32
    for row, key in enumerate(keys):
        assert torch.equal(images[row], crops[key][0])
        assert torch.equal(keypoints[row], crops[key][1])


def test_keypoints_lie_where_the_picture_shows_them(data: PoseData) -> None:
    """Crops with their keypoints taken back to the image meet the unaugmented crops there."""
    fixed = fixed_crops(data.persons, COCO_17, INPUT_HW, Augmentation(), seed=3)
    crops = training_crops(data)
    for index in range(len(data.persons)):
        image, keypoints = crops[0, index]
        assert torch.equal(fixed.images_B3HW[index], image)
        assert torch.equal(fixed.keypoints_BK3[index], keypoints)
    back = fixed.to_image(fixed.keypoints_BK3[..., :2])
    for person, xy, matrix in zip(data.persons, back, fixed.image_from_input_B23, strict=True):
        mirrored = np.linalg.det(matrix[:, :2]) < 0
        order = list(COCO_17.flip_order) if mirrored else list(range(17))
        assert xy == pytest.approx(person.keypoints_K3[order, :2], abs=1e-3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resuming_gives_the_batches_that_would_have_come(data: PoseData, num_workers: int) -> None:
    crops = training_crops(data)
    unbroken = list(training_batches(crops, 5, first_step=0, num_steps=8))
    resumed = list(training_batches(crops, 5, 3, 5, num_workers))
    assert len(resumed) == 5
    for (images, keypoints), (expected_images, expected_keypoints) in zip(
        resumed, unbroken[3:], strict=True
    ):
        assert torch.equal(images, expected_images)
        assert torch.equal(keypoints, expected_keypoints)
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_global_randomness_is_neither_used_nor_moved(data: PoseData) -> None:
    def states() -> list[Any]:
        numpy_state: Any = np.random.get_state()
        return [torch.get_rng_state().tolist(), random.getstate(), list(numpy_state[1])]

    before = states()
    first = list(training_batches(training_crops(data), 4, 0, 3))
    assert states() == before
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)
    second = list(training_batches(training_crops(data), 4, 0, 3))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_undecodable_image_is_named(data: PoseData, num_workers: int) -> None:
    data.persons[1].image_path.write_text("no picture")
    batches = training_batches(training_crops(data), 12, 0, 1, num_workers)
    with pytest.raises(ValueError) as caught:
        list(batches)
    path = data.persons[1].image_path
    assert str(caught.value) == f"{path}: expected an image, got a file that cannot be decoded"


def test_or_the_next_person_takes_its_place(
    data: PoseData, caplog: pytest.LogCaptureFixture
) -> None:
    data.persons[1].image_path.write_text("no picture")  # of persons 1 and 2; 3 is whole
    crops = training_crops(data, skip_bad_images=True)
    image, keypoints = crops[0, 1]
    assert torch.equal(image, crops[0, 1][0])
    assert keypoints[:, 2].tolist().count(0.0) == 1
    still = TrainingCrops(data.persons, COCO_17, INPUT_HW, Augmentation(0, 0, 0, 0, 0), 0, True)
    assert torch.equal(still[0, 1][0], still[0, 3][0])
    assert "annotation 13 left out" in caplog.text


def test_no_readable_image_ends_the_search_for_one(data: PoseData) -> None:
    for person in data.persons:
        person.image_path.write_text("no picture")
    with pytest.raises(ValueError, match="expected an image that can be read, got none"):
        training_crops(data, skip_bad_images=True)[0, 1]


def test_an_abandoned_loader_leaves_no_worker_behind(data: PoseData) -> None:
    batches = training_batches(training_crops(data), 4, 0, 100, num_workers=1)
    assert len(list(islice(batches, 2))) == 2
    del batches
    assert multiprocessing.active_children() == []


def test_nobody_to_train_on_is_refused(data: PoseData) -> None:
    with pytest.raises(ValueError, match="expected at least one person, got none"):
        TrainingCrops((), COCO_17, INPUT_HW, Augmentation(), 0)


def test_the_shares_of_several_processes_are_the_batch(data: PoseData) -> None:
    crops = training_crops(data)
    whole = training_batches(crops, 6, 2, 3)
    shares = [training_batches(crops, 6, 2, 3, share=slice(rank, None, 3)) for rank in range(3)]
    for batch, *parts in zip(whole, *shares, strict=True):
        for tensor, *rows in zip(batch, *parts, strict=True):
            assert torch.equal(torch.stack(rows, dim=1).flatten(0, 1), tensor)
