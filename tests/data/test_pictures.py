"""Images made smaller while they are decoded, parts of them, and the cache of parts."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vipnas.config.data import Augmentation
from vipnas.data.crops.augmentation import augmented_matrix, crop_draws, decode_reduction
from vipnas.data.crops.cache import CropCache, open_crop_cache
from vipnas.data.crops.crops import fixed_crops
from vipnas.data.crops.geometry import input_from_image, invert, transform
from vipnas.data.crops.images import read_image, read_reduced
from vipnas.data.crops.loader import TrainingCrops, training_batches
from vipnas.data.crops.pictures import Picture, crop_into
from vipnas.data.formats.coco import PoseData, read_coco
from vipnas.data.formats.skeletons import COCO_17

SMALL_HW = (16, 12)  # an input so small that images are decoded smaller for it


@pytest.fixture
def data(tiny_coco: Any) -> PoseData:
    return read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17)


def smooth_picture(height: int, width: int) -> Any:
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (width, height))


def crop(picture: Picture, matrix: Any, input_hw: tuple[int, int]) -> Any:
    made = np.empty((*input_hw, 3), np.uint8)
    crop_into(made, picture, matrix)
    return made


@pytest.mark.parametrize("hw", [(64, 96), (61, 83), (700, 640)])
def test_a_crop_is_the_plain_warp_with_black_around(hw: tuple[int, int]) -> None:
    image = smooth_picture(*hw)
    rng = np.random.default_rng(1)
    for number in range(20):
        side = rng.uniform(20, 200)
        centre_xy = (rng.uniform(-10, hw[1] + 10), rng.uniform(-10, hw[0] + 10))
        turn = 0.0 if number % 3 == 0 else rng.uniform(-60, 60)
        region = (centre_xy, (0.75 * side, side))
        matrix = input_from_image(*region, (64, 48), turn, bool(number % 2))
        expected = cv2.warpAffine(image, matrix, (48, 64))
        assert np.array_equal(crop(Picture(image), matrix, (64, 48)), expected)


@pytest.mark.parametrize("reduction", [2, 4])
@pytest.mark.parametrize("hw", [(64, 96), (61, 83)])
def test_a_smaller_decode_shows_the_same_in_the_same_place(
    tmp_path: Path, hw: tuple[int, int], reduction: int
) -> None:
    path = tmp_path / "one.jpg"
    cv2.imwrite(str(path), smooth_picture(*hw), [cv2.IMWRITE_JPEG_QUALITY, 100])
    small, found = read_reduced(path, reduction, hw)
    assert found == reduction
    assert small.shape[:2] == tuple(-(-side // reduction) for side in hw)
    # Inside of the picture, where no black hides what differs.
    matrix = input_from_image((40.0, 30.0), (36.0, 48.0), (48, 36))
    whole = crop(Picture(read_image(path)), matrix, (48, 36)).astype(int)
    matrix_small = Picture(small, reduction).input_from_pixels(matrix)

    def difference(shift_px: float) -> float:
        moved = matrix_small + [[0, 0, shift_px], [0, 0, shift_px]]
        shown = cv2.warpAffine(small, moved, (36, 48)).astype(int)
        return float(np.abs(whole - shown)[4:-4, 4:-4].mean())

    assert difference(0) < min(difference(-0.7), difference(0.7)) / 1.5


def test_only_jpegs_are_decoded_smaller(tmp_path: Path) -> None:
    image = smooth_picture(40, 50)
    cv2.imwrite(str(tmp_path / "one.png"), image)
    whole, reduction = read_reduced(tmp_path / "one.png", 4, (40, 50))
    assert reduction == 1 and np.array_equal(whole, image[..., ::-1])


def test_another_size_is_found_in_a_smaller_decode_too(tmp_path: Path) -> None:
    path = tmp_path / "one.jpg"
    cv2.imwrite(str(path), smooth_picture(40, 50))
    with pytest.raises(ValueError, match="expected 60 x 40 pixels .*, got 52 x 40"):
        read_reduced(path, 4, (40, 60))


def test_the_pixels_of_a_part_lie_where_they_did() -> None:
    matrix = input_from_image((40.0, 30.0), (60.0, 80.0), (64, 48), 20.0)
    points = np.random.default_rng(0).uniform(0, 40, (10, 2))
    for reduction in (1, 2, 4):
        part = Picture(smooth_picture(60, 80), reduction).part(7, 5, 50, 40)
        assert part.pixels.shape == (35, 43, 3)
        in_image = reduction * (points + (7, 5)) + (reduction - 1) / 2
        found = transform(part.input_from_pixels(matrix), points)
        assert found == pytest.approx(transform(matrix, in_image))


def test_no_crop_shows_fewer_pixels_than_the_input_has(data: PoseData) -> None:
    augmentation = Augmentation()
    reductions = set()
    for input_hw in ((16, 12), (8, 6), (64, 48)):
        for person in data.persons:
            reduction = decode_reduction(person, COCO_17, input_hw, augmentation)
            views = (
                augmented_matrix(person, COCO_17, input_hw, augmentation, crop_draws(0, 0, index))
                for index in range(200)
            )
            scales = [np.hypot(*matrix[:, 0]) for matrix, _ in views]
            assert max(scales) * reduction <= max(1, max(scales)) * (1 + 1e-9)
            reductions.add(reduction)
    assert reductions == {1, 2, 4}


def test_fixed_crops_are_reduced_as_in_training_and_not_for_scoring(data: PoseData) -> None:
    augmentation = Augmentation()
    crops = fixed_crops(data.persons, COCO_17, SMALL_HW, augmentation, seed=3)
    training = TrainingCrops(data.persons, COCO_17, SMALL_HW, augmentation, 3)
    for index in range(len(data.persons)):
        assert torch.equal(crops.images_B3HW[index], training[0, index][0])
        assert torch.equal(crops.keypoints_BK3[index], training[0, index][1])
    scored = fixed_crops(data.persons, COCO_17, SMALL_HW)
    for row, person in enumerate(data.persons):
        matrix = invert(scored.image_from_input_B23[row])
        whole = crop(Picture(read_image(person.image_path)), matrix, SMALL_HW).astype(int)
        found = scored.images_B3HW[row].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(whole - found).max() <= 1  # the matrix was inverted twice


def opened(data: PoseData, folder: Path, input_hw: tuple[int, int] = SMALL_HW) -> CropCache:
    return open_crop_cache(folder, data.persons, COCO_17, input_hw, Augmentation())


def crops_with(
    data: PoseData, cache: CropCache | None, input_hw: tuple[int, int] = SMALL_HW
) -> TrainingCrops:
    return TrainingCrops(data.persons, COCO_17, input_hw, Augmentation(), 3, cache=cache)


KEYS = [(epoch, index) for epoch in range(6) for index in range(12)]


@pytest.mark.parametrize("input_hw", [SMALL_HW, (64, 48)])
def test_cached_crops_are_the_same(
    data: PoseData, tmp_path: Path, input_hw: tuple[int, int]
) -> None:
    images, keypoints = crops_with(data, None, input_hw).__getitems__(KEYS)
    cached = crops_with(data, opened(data, tmp_path, input_hw), input_hw)
    for _ in range(2):  # while the file fills, and from it
        cached_images, cached_keypoints = cached.__getitems__(KEYS)
        difference = (cached_images.int() - images.int()).abs()
        assert difference.max() <= 1 and difference.float().mean() < 0.01
        assert torch.equal(cached_keypoints, keypoints)


def test_the_file_serves_the_next_run_without_the_images(data: PoseData, tmp_path: Path) -> None:
    first, _ = crops_with(data, opened(data, tmp_path)).__getitems__(KEYS)
    cache = opened(data, tmp_path)
    for person in data.persons:
        person.image_path.unlink(missing_ok=True)
    second, _ = crops_with(data, cache).__getitems__(KEYS)
    assert torch.equal(first, second)
    assert len(list(tmp_path.glob("*.cache"))) == 1
    assert not list(tmp_path.glob("*.partial"))
    assert cache.path.stat().st_size == cache.num_bytes


def test_what_the_content_depends_on_names_the_file(data: PoseData, tmp_path: Path) -> None:
    paths = {opened(data, tmp_path).path, opened(data, tmp_path, (64, 48)).path}
    moved = dataclasses.replace(data.persons[0], box_xywh=(1.0, 2.0, 30.0, 30.0))
    for persons in (data.persons[1:], (moved, *data.persons[1:])):
        other = dataclasses.replace(data, persons=persons)
        paths.add(opened(other, tmp_path).path)
    path = data.persons[0].image_path
    path.write_bytes(path.read_bytes() + b"\0")  # another file of that name
    paths.add(opened(data, tmp_path).path)
    assert len(paths) == 5


def test_torn_and_foreign_slots_are_read_anew(data: PoseData, tmp_path: Path) -> None:
    expected, _ = crops_with(data, opened(data, tmp_path)).__getitems__(KEYS)
    path = opened(data, tmp_path).path
    content = bytearray(path.read_bytes())
    content[5000:] = bytes(len(content) - 5000)
    path.write_bytes(content)
    found, _ = crops_with(data, opened(data, tmp_path)).__getitems__(KEYS)
    assert torch.equal(found, expected)
    assert bytes(content) != path.read_bytes()


def fill(cache: CropCache, data: PoseData, indices: list[int], answer: Any) -> None:
    crops = crops_with(data, cache)
    images, _ = crops.__getitems__([(0, index) for index in indices])
    answer.put((indices, images.numpy().tobytes()))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_processes_share_a_file(data: PoseData, tmp_path: Path, method: str) -> None:
    cache = opened(data, tmp_path)
    context: Any = multiprocessing.get_context(method)
    answers = context.SimpleQueue()
    orders = [list(range(12)), list(range(11, -1, -1))]
    processes = [
        context.Process(target=fill, args=(cache, data, order, answers)) for order in orders
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = [answers.get() for _ in orders]
    assert all(cache.get(index) is not None for index in range(12))
    for indices, pixels in found:
        images, _ = crops_with(data, cache).__getitems__([(0, index) for index in indices])
        assert images.numpy().tobytes() == pixels


def test_workers_of_the_loader_fill_it(data: PoseData, tmp_path: Path) -> None:
    cache = opened(data, tmp_path)
    crops = crops_with(data, cache)
    expected = list(training_batches(crops, 4, 0, 3))
    path_of_second = pickle.loads(pickle.dumps(cache)).path
    assert path_of_second == cache.path
    found = list(training_batches(crops_with(data, opened(data, tmp_path)), 4, 0, 3, num_workers=2))
    for (images, _), (other, _) in zip(expected, found, strict=True):
        assert torch.equal(images, other)


def test_a_full_disk_ends_the_keeping_not_the_run(
    data: PoseData, tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    expected, _ = crops_with(data, opened(data, tmp_path / "one")).__getitems__(KEYS)

    open_file = Path.open

    def on_a_full_disk(path: Path, mode: str, *arguments: Any) -> Any:
        return open_file(Path("/dev/full") if mode == "r+b" else path, mode, *arguments)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    with caplog.at_level(logging.WARNING):
        found, _ = crops_with(data, opened(data, tmp_path / "two")).__getitems__(KEYS)
    assert torch.equal(found, expected)
    assert caplog.text.count("no more pixels are cached: No space left on device") == 1


def test_what_cannot_be_cached_is_refused(data: PoseData, tmp_path: Path) -> None:
    cache = opened(data, tmp_path)
    with pytest.raises(ValueError, match="a cache of 11 persons, got 12"):
        TrainingCrops(data.persons[1:], COCO_17, SMALL_HW, Augmentation(), 3, cache=cache)
    unknown = dataclasses.replace(data.persons[0], image_hw=None)
    with pytest.raises(ValueError, match="annotation 10: expected an image of known size"):
        open_crop_cache(tmp_path, [unknown], COCO_17, SMALL_HW, Augmentation())


def test_undecodable_images_are_named_with_a_cache_too(data: PoseData, tmp_path: Path) -> None:
    data.persons[0].image_path.write_text("no picture")
    with pytest.raises(ValueError, match="expected an image, got a file that cannot be decoded"):
        crops_with(data, opened(data, tmp_path))[0, 0]
