from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vipnas.config.data import BoxFit
from vipnas.data.crops.geometry import (
    crop_region,
    from_upright,
    input_from_image,
    invert,
    transform,
)

Box = tuple[float, float, float, float]
Hw = tuple[int, int]

boxes = st.tuples(
    *(st.floats(-50, 2000), st.floats(-50, 2000)), *(st.floats(1, 1500), st.floats(1, 1500))
)
inputs = st.tuples(st.integers(16, 512), st.integers(16, 512))


def test_region_by_hand() -> None:
    # Input 192 wide, 256 high: a box 60 wide and 40 high becomes 60 x 80, padded 75 x 100.
    centre_xy, size_wh = crop_region((10, 20, 60, 40), (256, 192))
    assert list(centre_xy) == [40, 40]
    assert list(size_wh) == [75, 100]
    # A tall box gets wider instead.
    assert crop_region((0, 0, 10, 80), (256, 192), BoxFit(1))[1] == (60, 80)


@given(boxes, inputs)
def test_region_holds_the_padded_box_at_the_aspect_ratio_of_the_input(
    box_xywh: Box, input_hw: Hw
) -> None:
    centre_xy, size_wh = crop_region(box_xywh, input_hw)
    assert size_wh[0] / size_wh[1] == pytest.approx(input_hw[1] / input_hw[0])
    assert (np.array(size_wh) >= 1.25 * np.array(box_xywh[2:]) * (1 - 1e-12)).all()
    assert min(np.array(size_wh) / box_xywh[2:]) == pytest.approx(1.25)
    assert list(centre_xy) == [box_xywh[0] + box_xywh[2] / 2, box_xywh[1] + box_xywh[3] / 2]


def test_matrix_by_hand() -> None:
    centre_xy, size_wh = (40.0, 40.0), (75.0, 100.0)
    points = np.array([[40, 40], [40 + 37.5, 40], [40, 40 - 50], [40 - 37.5, 40 - 50]])
    plain = input_from_image(centre_xy, size_wh, (256, 192))
    assert transform(plain, points) == pytest.approx(
        np.array([[96, 128], [192, 128], [96, 0], [0, 0]])
    )
    mirrored = input_from_image(centre_xy, size_wh, (256, 192), flip=True)
    assert transform(mirrored, points) == pytest.approx(
        np.array([[96, 128], [0, 128], [96, 0], [192, 0]])
    )
    # A quarter turn clockwise: what was on the right is below, what was above is on the right.
    turned = input_from_image(centre_xy, size_wh, (256, 192), rotation_deg=90)
    assert transform(turned, points[:3]) == pytest.approx(
        np.array([[96, 128], [96, 224], [224, 128]])
    )


@given(boxes, inputs, st.floats(-180, 180), st.booleans(), st.lists(boxes, min_size=1, max_size=5))
def test_there_and_back(
    box_xywh: Box, input_hw: Hw, rotation_deg: float, flip: bool, points: list[Box]
) -> None:
    matrix = input_from_image(*crop_region(box_xywh, input_hw), input_hw, rotation_deg, flip)
    xy_N2 = np.array(points)[:, :2]
    back = transform(invert(matrix), transform(matrix, xy_N2))
    assert back == pytest.approx(xy_N2, abs=1e-6)


@given(boxes, inputs, st.floats(-180, 180))
def test_a_mirror_takes_x_to_width_minus_x(
    box_xywh: Box, input_hw: Hw, rotation_deg: float
) -> None:
    region = crop_region(box_xywh, input_hw)
    points = np.array([[0, 0], [100, 30], [-7, 11]])
    plain = transform(input_from_image(*region, input_hw, rotation_deg), points)
    mirrored = transform(input_from_image(*region, input_hw, rotation_deg, flip=True), points)
    tolerance = 1e-9 * (1 + np.abs(plain).max())
    assert mirrored[:, 0] == pytest.approx(input_hw[1] - plain[:, 0], abs=tolerance)
    assert mirrored[:, 1] == pytest.approx(plain[:, 1], abs=tolerance)


@given(boxes, inputs, st.floats(-180, 180), st.booleans())
def test_lengths_are_scaled_alike_in_all_directions(
    box_xywh: Box, input_hw: Hw, rotation_deg: float, flip: bool
) -> None:
    centre_xy, size_wh = crop_region(box_xywh, input_hw)
    matrix = input_from_image(centre_xy, size_wh, input_hw, rotation_deg, flip)
    scale = input_hw[1] / size_wh[0]
    assert matrix[:, :2] @ matrix[:, :2].T / scale**2 == pytest.approx(np.eye(2), abs=1e-9)
    assert np.linalg.det(matrix[:, :2]) == pytest.approx((-1 if flip else 1) * scale**2)


def test_matrices_are_applied_in_batches_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    matrices, points = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 7, 2))
    assert transform(matrices, points) == pytest.approx(
        np.stack([transform(m, p) for m, p in zip(matrices, points, strict=True)])
    )
    assert invert(matrices) == pytest.approx(np.stack([invert(m) for m in matrices]))


def test_points_of_upright_crops_go_back_as_by_the_inverse() -> None:
    """Equal to the bit, so that `predict` finds what the evaluation finds."""
    rng = np.random.default_rng(0)
    boxes = rng.uniform(1, 400, (50, 4)).tolist()
    fit = BoxFit(1.25, "stretch")
    matrices = np.array(
        [input_from_image(*crop_region(box, (96, 72), fit), (96, 72)) for box in boxes]
    )
    points = rng.uniform(-20, 120, (50, 17, 2)).astype(np.float32)
    found = from_upright(matrices, points)
    assert found.dtype == np.float64
    assert np.array_equal(found, transform(invert(matrices), points))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rotation_deg", [0.0, 25.0, -70.0])
def test_points_go_where_the_picture_goes(rotation_deg: float, flip: bool) -> None:
    """A bright blob in the image is found in the warped crop where `transform` says."""
    spot_xy = np.array([[70.0, 50.0]])
    image_y, image_x = np.mgrid[:120, :160]
    image = np.exp(-((image_x - 70) ** 2 + (image_y - 50) ** 2) / 18)
    region = crop_region((40, 20, 70, 70), (96, 64))
    matrix = input_from_image(*region, (96, 64), rotation_deg, flip)
    crop = cv2.warpAffine(image, matrix, (64, 96))
    rows, columns = np.mgrid[:96, :64]
    found = np.array([[(crop * columns).sum(), (crop * rows).sum()]]) / crop.sum()
    assert found == pytest.approx(transform(matrix, spot_xy), abs=0.05)
