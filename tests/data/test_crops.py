from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vipnas.config.data import Augmentation
from vipnas.data.crops.augmentation import augmented_matrix, crop_draws
from vipnas.data.crops.crops import fixed_crops, keypoints_in_crops, normalise, normalise_pixels
from vipnas.data.crops.geometry import crop_region, input_from_image, invert, transform
from vipnas.data.formats.coco import Person, PoseData, read_coco
from vipnas.data.formats.skeletons import COCO_17

INPUT_HW = (64, 48)
STILL = Augmentation(0, 0, 0, 0, 0)


def person_with(labelled: Sequence[int], box_xywh: Any = (100, 50, 60, 120)) -> Person:
    keypoints = np.zeros((17, 3), np.float32)
    rng = np.random.default_rng(0)
    x, y, width, height = box_xywh
    for joint in labelled:
        keypoints[joint] = (*rng.uniform((x, y), (x + width, y + height)), 2)
    return Person(1, 1, Path("x.jpg"), box_xywh, 1.0, keypoints)


def picture_of(person: Person) -> Any:
    return cv2.imread(str(person.image_path))


def matrices(person: Person, augmentation: Augmentation, num: int) -> list[NDArray[np.float64]]:
    return [
        augmented_matrix(person, COCO_17, INPUT_HW, augmentation, crop_draws(1, 0, index))[0]
        for index in range(num)
    ]


@pytest.fixture
def data(tiny_coco: Any) -> PoseData:
    return read_coco(tiny_coco.write(), tiny_coco.image_root, COCO_17)


def test_without_augmentation_the_crop_is_the_padded_box() -> None:
    person = person_with(range(17))
    expected = input_from_image(*crop_region(person.box_xywh, INPUT_HW), INPUT_HW)
    for matrix in matrices(person, STILL, 5):
        assert np.array_equal(matrix, expected)


def test_augmentation_follows_the_published_recipe() -> None:
    person = person_with(range(7))  # too few joints for half a body
    plain_scale = INPUT_HW[1] / crop_region(person.box_xywh, INPUT_HW)[1][0]
    linear = np.stack(matrices(person, Augmentation(), 4000))[:, :, :2]
    mirrored = np.linalg.det(linear) < 0
    angle_deg = np.rad2deg(np.arctan2(linear[:, 1, 0], linear[:, 1, 1]))
    size_factor = plain_scale / np.sqrt(np.abs(np.linalg.det(linear)))

    assert mirrored.mean() == pytest.approx(0.5, abs=0.03)
    assert (angle_deg == 0).mean() == pytest.approx(0.4, abs=0.03)
    turned = angle_deg[angle_deg != 0]
    assert np.abs(turned).max() == pytest.approx(60)
    assert (np.abs(turned) > 59.999).mean() == pytest.approx(0.0455, abs=0.015)  # beyond 2 sigma
    assert (np.abs(turned) < 30).mean() == pytest.approx(0.683, abs=0.03)
    assert (size_factor.min(), size_factor.max()) == (pytest.approx(0.75), pytest.approx(1.25))
    inside = np.abs(size_factor - 1) < 0.25 - 1e-9
    assert inside.mean() == pytest.approx(0.683, abs=0.03)  # one sigma, the rest is cut off
    for matrix in matrices(person, Augmentation(), 20):  # the box's centre stays in the middle
        centre = transform(matrix, np.array([[130.0, 110.0]]))
        assert centre == pytest.approx(np.array([[24.0, 32.0]]))


def regions(person: Person, augmentation: Augmentation, num: int = 300) -> set[tuple[float, ...]]:
    """Centres and sizes of the regions shown, in image pixels."""
    middle_and_corner = np.array([[24.0, 32.0], [0.0, 0.0]])
    found = set()
    for matrix in matrices(person, augmentation, num):
        centre, corner = transform(invert(matrix), middle_and_corner)
        found.add(tuple(np.concatenate((centre, 2 * (centre - corner))).round(3)))
    return found


def half_region(person: Person, joints: Sequence[int]) -> tuple[float, ...]:
    """Mean of the joints, and their bounds, to the input's aspect ratio, padded by half."""
    xy = person.keypoints_K3[list(joints), :2].astype(float)
    width, height = xy.max(axis=0) - xy.min(axis=0)
    width, height = max(width, height * 0.75), max(height, width / 0.75)
    return tuple(np.array([*xy.mean(axis=0), 1.5 * width, 1.5 * height]))


def test_half_body_by_hand() -> None:
    person = person_with(range(17))
    always = Augmentation(0, 0, 0, 0, half_body_probability=1)
    found = sorted(regions(person, always))
    expected = sorted(half_region(person, half) for half in (range(11), range(11, 17)))
    assert found == [pytest.approx(region, abs=0.01) for region in expected]
    assert len(regions(person, Augmentation(0, 0, 0, 0, 0.3))) == 3  # whole, upper and lower


def test_half_body_falls_back_on_the_half_that_is_labelled() -> None:
    upper_only = person_with(range(11))
    always = Augmentation(0, 0, 0, 0, half_body_probability=1)
    (region,) = regions(upper_only, always)
    assert region == pytest.approx(half_region(upper_only, range(11)), abs=0.01)


def test_half_body_needs_more_than_the_given_number_of_joints() -> None:
    always = Augmentation(0, 0, 0, 0, half_body_probability=1)
    assert len(regions(person_with(range(8)), always)) == 1
    assert regions(person_with(range(8)), always) == regions(person_with(range(8)), STILL)
    assert regions(person_with(range(9)), always) != regions(person_with(range(9)), STILL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip_probability": 1.5}, "flip_probability: expected a number from 0 to 1, got 1.5"),
        (
            {"half_body_probability": -0.1},
            "half_body_probability: expected a number from 0 to 1, got -0.1",
        ),
        ({"scale_factor": 1.0}, "scale_factor: expected a number from 0 to below 1, got 1.0"),
        ({"rotation_deg": -3.0}, "rotation_deg: expected a number from 0 to 180, got -3.0"),
    ],
)
def test_wrong_augmentation_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**change)  # type: ignore[arg-type]


def test_a_mirrored_crop_shows_the_other_side() -> None:
    person = person_with(range(17))
    region = crop_region(person.box_xywh, INPUT_HW)
    matrices = [input_from_image(*region, INPUT_HW, flip=flip) for flip in (False, True)]
    plain, mirrored = keypoints_in_crops(
        np.stack([person.keypoints_K3] * 2), COCO_17, np.stack(matrices), np.array([False, True])
    )
    left, right = COCO_17.joints.index("left_wrist"), COCO_17.joints.index("right_wrist")
    assert mirrored[right, :2] == pytest.approx([48 - plain[left, 0], plain[left, 1]], abs=1e-4)
    assert mirrored[0, :2] == pytest.approx([48 - plain[0, 0], plain[0, 1]], abs=1e-4)


def test_fixed_crops_are_those_made_one_by_one(data: PoseData) -> None:
    crops = fixed_crops(data.persons, COCO_17, INPUT_HW)
    assert crops.persons == data.persons
    for row, person in enumerate(data.persons):
        image = cv2.cvtColor(picture_of(person), cv2.COLOR_BGR2RGB).astype(np.uint8)
        matrix = input_from_image(*crop_region(person.box_xywh, INPUT_HW), INPUT_HW)
        expected = cv2.warpAffine(image, matrix, INPUT_HW[::-1])
        assert np.array_equal(crops.images_B3HW[row].permute(1, 2, 0).numpy(), expected)


def test_points_of_fixed_crops_go_back_to_the_image(data: PoseData) -> None:
    for augmentation in (None, Augmentation(flip_probability=0)):
        crops = fixed_crops(data.persons, COCO_17, INPUT_HW, augmentation)
        back = crops.to_image(crops.keypoints_BK3[..., :2])
        original = np.stack([person.keypoints_K3 for person in data.persons])
        assert back == pytest.approx(original[..., :2], abs=1e-3)
        assert np.array_equal(crops.keypoints_BK3[..., 2].numpy(), original[..., 2])


def test_fixed_crops_do_not_depend_on_the_order_of_the_persons(data: PoseData) -> None:
    crops = fixed_crops(data.persons, COCO_17, INPUT_HW)
    backward = fixed_crops(data.persons[::-1], COCO_17, INPUT_HW)
    assert backward.persons == data.persons[::-1]
    assert torch.equal(backward.images_B3HW.flip(0), crops.images_B3HW)


def test_an_undecodable_image_is_named(data: PoseData) -> None:
    data.persons[1].image_path.write_text("no picture")
    with pytest.raises(ValueError, match=r"107\.jpg: expected an image, got a file that"):
        fixed_crops(data.persons, COCO_17, INPUT_HW)


def test_normalise_by_hand() -> None:
    images = torch.zeros(1, 3, 1, 2, dtype=torch.uint8)
    images[0, :, 0, 1] = torch.tensor([255, 128, 51], dtype=torch.uint8)
    expected = [
        [[(0 - 0.485) / 0.229, (1 - 0.485) / 0.229]],
        [[(0 - 0.456) / 0.224, (128 / 255 - 0.456) / 0.224]],
        [[(0 - 0.406) / 0.225, (0.2 - 0.406) / 0.225]],
    ]
    torch.testing.assert_close(normalise(images)[0], torch.tensor(expected))
    assert images[0, 0, 0, 1] == 255  # the argument is left as it was


def test_pixels_are_normalised_alike_by_numpy() -> None:
    """All values of every channel, equal to the bit."""
    images_BHW3 = np.arange(2 * 16 * 16 * 3, dtype=np.uint32).reshape(2, 16, 16, 3).astype(np.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    expected = normalise(torch.from_numpy(images_BHW3).permute(0, 3, 1, 2), mean, std)
    found = normalise_pixels(images_BHW3, mean, std)
    assert found.flags.c_contiguous and np.array_equal(found, expected.numpy())


def test_normalise_keeps_the_memory_order(data: PoseData) -> None:
    images = fixed_crops(data.persons, COCO_17, INPUT_HW).images_B3HW
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert normalise(images).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(normalise(images), normalise(images.contiguous()))
