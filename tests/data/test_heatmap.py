from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vipnas.data.codecs.heatmap import HeatmapCodec, flip_back
from vipnas.data.formats.skeletons import COCO_17

CODEC = HeatmapCodec((256, 192), (64, 48), sigma_px=2.0)


def keypoints(*rows: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor([rows])


def random_keypoints(num: int, codec: HeatmapCodec, margin_px: float) -> torch.Tensor:
    """Labelled joints at least `margin_px` heatmap pixels away from the border."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([codec.heatmap_hw[1], codec.heatmap_hw[0]]) - 1 - 2 * margin_px
    xy = margin_px + torch.rand(num, 17, 2, generator=generator) * size
    return torch.cat((xy * torch.tensor(codec.stride_xy), torch.ones(num, 17, 1)), dim=-1)


def test_target_by_hand() -> None:
    heatmaps, weights = CODEC.encode(keypoints((40.0, 80.0, 2.0)))
    assert weights.tolist() == [[1.0]]
    assert heatmaps[0, 0, 20, 10].item() == 1.0
    for dx, dy in ((1, 0), (0, -2), (3, 4)):
        expected = math.exp(-(dx**2 + dy**2) / (2 * 2.0**2))
        assert heatmaps[0, 0, 20 + dy, 10 + dx].item() == pytest.approx(expected, rel=1e-6)


def test_target_is_centred_between_pixels_where_the_joint_is() -> None:
    heatmaps, _ = CODEC.encode(keypoints((42.0, 80.0, 1.0)))  # x = 10.5 on the map
    left, right = heatmaps[0, 0, 20, 10:12].tolist()
    assert left == right == pytest.approx(math.exp(-(0.5**2) / 8), rel=1e-6)


def test_targets_match_the_plain_formula_pixel_by_pixel() -> None:
    codec = HeatmapCodec((64, 48), (16, 12), sigma_px=1.5)
    joints = random_keypoints(2, codec, margin_px=0)
    heatmaps, _ = codec.encode(joints)
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(12.0), indexing="ij")
    for person in range(2):
        for joint in range(17):
            x, y = (joints[person, joint, :2] / 4).tolist()
            expected = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))
            torch.testing.assert_close(heatmaps[person, joint], expected)


def test_no_number_is_denormal() -> None:
    heatmaps, _ = CODEC.encode(keypoints((0.0, 0.0, 1.0), (191.0, 255.0, 1.0), (96.0, 3.0, 0.0)))
    smallest_normal = torch.finfo(torch.float32).tiny
    assert ((heatmaps == 0) | (heatmaps >= smallest_normal)).all()


@pytest.mark.parametrize(
    ("x", "y", "visibility", "weight"),
    [
        (96.0, 128.0, 0.0, 0.0),  # not labelled
        (96.0, 128.0, 1.0, 1.0),  # hidden, but labelled
        (-1.9, 10.0, 2.0, 1.0),  # its nearest pixel is column 0
        (-2.1, 10.0, 2.0, 0.0),
        (10.0, 253.9, 2.0, 1.0),  # row 63.475: nearest is the last row, 63
        (10.0, 254.1, 2.0, 0.0),
        (500.0, 10.0, 2.0, 0.0),
    ],
)
def test_weight_is_one_for_labelled_joints_on_the_map(
    x: float, y: float, visibility: float, weight: float
) -> None:
    heatmaps, weights = CODEC.encode(keypoints((x, y, visibility)))
    assert weights.tolist() == [[weight]]
    assert (heatmaps.max() > 0.7).item() == bool(weight)
    assert bool(heatmaps.any()) == bool(weight)


def test_quarter_offset_by_hand() -> None:
    heatmaps = torch.zeros(1, 3, 64, 48)
    heatmaps[0, 0, 20, 10], heatmaps[0, 0, 20, 11], heatmaps[0, 0, 19, 10] = 1.0, 0.5, 0.2
    heatmaps[0, 1, 0, 47], heatmaps[0, 1, 1, 47] = 0.7, 0.6  # in a corner: not moved
    heatmaps[0, 2, 5, 0], heatmaps[0, 2, 6, 0] = 0.4, 0.3  # on the left edge: moved in y only
    xy, scores = CODEC.decode(heatmaps)
    assert scores.tolist() == [pytest.approx([1.0, 0.7, 0.4])]
    assert xy[0].tolist() == [[41.0, 79.0], [188.0, 0.0], [0.0, 21.0]]


def test_all_equal_maps_decode_to_the_first_pixel() -> None:
    xy, scores = CODEC.decode(torch.zeros(2, 17, 64, 48))
    assert not xy.any() and not scores.any()


@settings(max_examples=30)
@given(
    st.tuples(st.integers(8, 80), st.integers(8, 80)),
    st.integers(1, 8),
    st.floats(0.7, 4),
    st.data(),
)
def test_there_and_back_within_a_quarter_of_a_pixel(
    heatmap_hw: tuple[int, int], stride: int, sigma_px: float, data: Any
) -> None:
    height, width = heatmap_hw
    codec = HeatmapCodec((height * stride, width * stride), heatmap_hw, sigma_px)
    x = data.draw(st.floats(1, width - 2))
    y = data.draw(st.floats(1, height - 2))
    heatmaps, weights = codec.encode(keypoints((x * stride, y * stride, 1.0)))
    xy, _ = codec.decode(heatmaps)
    assert weights.item() == 1
    assert (xy - torch.tensor([x, y]) * stride).abs().max() <= (0.25 + 1e-3) * stride


def test_mean_error_there_and_back_is_as_stated() -> None:
    joints = random_keypoints(500, CODEC, margin_px=1)
    xy, _ = CODEC.decode(CODEC.encode(joints)[0])
    error_px = (xy - joints[..., :2]).norm(dim=-1)
    assert error_px.mean().item() == pytest.approx(0.77, abs=0.01)
    assert error_px.max().item() <= 4 * 0.25 * math.sqrt(2) + 1e-3

    on_pixels = joints.clone()  # as published: nothing left to recover
    on_pixels[..., :2] = ((joints[..., :2] / 4 + 0.5).floor() * 4).clamp(max=256)
    xy, _ = CODEC.decode(CODEC.encode(on_pixels)[0])
    assert (xy - joints[..., :2]).norm(dim=-1).mean().item() == pytest.approx(1.53, abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_decoding_is_the_same_in_other_precisions(dtype: torch.dtype) -> None:
    heatmaps = CODEC.encode(random_keypoints(4, CODEC, 2))[0].to(dtype)
    xy, scores = CODEC.decode(heatmaps)
    expected_xy, expected_scores = CODEC.decode(heatmaps.float())
    assert torch.equal(xy, expected_xy)
    assert torch.equal(scores.float(), expected_scores)


def test_decoding_accepts_views_and_gradients() -> None:
    heatmaps = CODEC.encode(random_keypoints(4, CODEC, 2))[0]
    expected, _ = CODEC.decode(heatmaps)
    channels_last = heatmaps.to(memory_format=torch.channels_last).requires_grad_()
    xy, _ = CODEC.decode(channels_last)
    assert torch.equal(xy, expected)


def test_flip_back_by_hand() -> None:
    row = torch.tensor([1.0, 2.0, 3.0, 4.0])
    heatmaps = torch.stack((row, 10 * row, 100 * row)).view(1, 3, 1, 4)
    order = (0, 2, 1)
    plain = flip_back(heatmaps, order, shift=False)[0, :, 0].tolist()
    assert plain == [[4, 3, 2, 1], [400, 300, 200, 100], [40, 30, 20, 10]]
    shifted = flip_back(heatmaps, order, shift=True)[0, :, 0].tolist()
    assert shifted == [[4, 4, 3, 2], [400, 400, 300, 200], [40, 40, 30, 20]]


def test_shifted_flip_agrees_with_the_unflipped_heatmaps() -> None:
    """What a perfect network gives for a mirrored crop comes back to within one input pixel."""
    joints = random_keypoints(50, CODEC, margin_px=4)
    mirrored = joints[:, list(COCO_17.flip_order)].clone()
    mirrored[..., 0] = 192 - 1 - mirrored[..., 0]
    back, _ = CODEC.decode(flip_back(CODEC.encode(mirrored)[0], COCO_17.flip_order, shift=True))
    difference = back - joints[..., :2]
    assert difference[..., 0].mean().item() == pytest.approx(1.0, abs=0.05)
    assert difference[..., 1].mean().item() == pytest.approx(0.0, abs=0.05)
    assert difference.abs().max().item() <= 2.0 + 1e-3


@pytest.mark.parametrize("sigma_px", [0.0, -1.0, math.nan])
def test_sigma_must_be_above_zero(sigma_px: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        HeatmapCodec((256, 192), (64, 48), sigma_px)
