"""The codecs dark and udp: against a literal restatement, by hand, there and back, in a mirror."""

from __future__ import annotations

import math
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vipnas.arch.codec import CodecName
from vipnas.data.codecs.choose import SIMCC
from vipnas.data.codecs.heatmap import (
    CODECS,
    DarkCodec,
    HeatmapCodec,
    UdpCodec,
    flip_back,
    make_codec,
)
from vipnas.data.crops.geometry import crop_region, input_from_image, transform
from vipnas.data.formats.skeletons import COCO_17

INPUT_HW, HEATMAP_HW = (256, 192), (64, 48)
DARK = DarkCodec(INPUT_HW, HEATMAP_HW)
UDP = UdpCodec(INPUT_HW, HEATMAP_HW)


def random_keypoints(num: int, codec: HeatmapCodec, seed: int = 0) -> torch.Tensor:
    """Anywhere between the centres of the first and the last pixel of the map."""
    generator = torch.Generator().manual_seed(seed)
    last_xy = torch.tensor([codec.heatmap_hw[1] - 1, codec.heatmap_hw[0] - 1])
    xy = torch.rand(num, 17, 2, generator=generator) * last_xy * torch.tensor(codec.stride_xy)
    return torch.cat((xy, torch.ones(num, 17, 1)), dim=-1)


def noisy_heatmaps(num: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    heatmaps, _ = DARK.encode(random_keypoints(num, DARK))
    noise = torch.nn.functional.avg_pool2d(
        torch.randn(heatmaps.shape, generator=generator), 3, 1, padding=1
    )
    return 0.8 * heatmaps + 0.15 * noise


def dark_by_the_paper(heatmap: np.ndarray, sigma_px: float) -> tuple[float, float]:
    """One joint: smooth the whole map, take its logarithm, one Newton step from the peak."""
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    smooth = cv2.GaussianBlur(heatmap.astype(np.float64), (11, 11), sigma_px)
    log = np.log(np.maximum(smooth, 1e-10))
    gradient = np.array([log[y, x + 1] - log[y, x - 1], log[y + 1, x] - log[y - 1, x]]) / 2
    dxx = (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]) / 4
    dyy = (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]) / 4
    dxy = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
    step = -np.linalg.solve(np.array([[dxx, dxy], [dxy, dyy]]), gradient)
    return float(x + step[0]), float(y + step[1])


def test_dark_is_the_published_rule_away_from_the_border() -> None:
    heatmaps = noisy_heatmaps(12)
    decoded, scores = DARK.decode(heatmaps)
    compared = 0
    for person in range(12):
        for joint in range(17):
            heatmap = heatmaps[person, joint].numpy()
            y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
            assert scores[person, joint].item() == heatmap.max()
            if 7 <= x < 48 - 7 and 7 <= y < 64 - 7:
                expected = dark_by_the_paper(heatmap, 2.0)
                if max(abs(expected[0] - x), abs(expected[1] - y)) < 1:
                    found = (decoded[person, joint] / 4).tolist()
                    assert found == pytest.approx(expected, abs=2e-3)
                    compared += 1
    assert compared > 60


@pytest.mark.parametrize("codec", [DARK, UDP], ids=["dark", "udp"])
def test_noise_free_heatmaps_decode_to_a_fraction_of_a_pixel_up_to_the_border(
    codec: HeatmapCodec,
) -> None:
    joints = random_keypoints(200, codec)
    xy, _ = codec.decode(codec.encode(joints)[0])
    error_px = (xy - joints[..., :2]).norm(dim=-1)
    assert error_px.max().item() <= 0.03
    assert error_px.mean().item() <= 0.005


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(CODECS)),
    st.tuples(st.integers(8, 80), st.integers(8, 80)),
    st.integers(2, 8),
    st.floats(0.8, 4),
    st.data(),
)
def test_there_and_back_within_the_stated_error(
    name: str, heatmap_hw: tuple[int, int], stride: int, sigma_px: float, data: Any
) -> None:
    height, width = heatmap_hw
    codec = make_codec(name, (height * stride, width * stride), heatmap_hw, sigma_px)
    x, y = data.draw(st.floats(1, width - 2)), data.draw(st.floats(1, height - 2))
    joint = torch.tensor([x, y]) * torch.tensor(codec.stride_xy)
    heatmaps, weights = codec.encode(torch.cat((joint, torch.ones(1))).view(1, 1, 3))
    xy, _ = codec.decode(heatmaps)
    assert weights.item() == 1
    # Heatmap pixels; a narrow Gaussian, of which the kernel covers few pixels, is less exact.
    limit = 0.25 + 1e-3 if name == "quarter" else (0.15 / 4 if sigma_px >= 1.5 else 0.12)
    assert (xy - joint).abs().max() <= limit * max(codec.stride_xy)


def test_dark_beats_quarter_on_noisy_heatmaps() -> None:
    joints = random_keypoints(100, DARK)
    generator = torch.Generator().manual_seed(2)
    heatmaps = DARK.encode(joints)[0]
    heatmaps = heatmaps + 0.02 * torch.randn(heatmaps.shape, generator=generator)
    quarter = HeatmapCodec(INPUT_HW, HEATMAP_HW)
    errors = [
        (codec.decode(heatmaps)[0] - joints[..., :2]).norm(dim=-1).mean().item()
        for codec in (quarter, DARK)
    ]
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("codec", [DARK, UDP], ids=["dark", "udp"])
@pytest.mark.parametrize("fill", [0.0, 1.0, -1.0])
def test_maps_without_a_top_decode_to_their_first_pixel(codec: HeatmapCodec, fill: float) -> None:
    xy, scores = codec.decode(torch.full((2, 17, 64, 48), fill))
    assert not xy.any() and (scores == fill).all()


def test_a_top_is_never_far_from_the_largest_pixel() -> None:
    generator = torch.Generator().manual_seed(3)
    heatmaps = torch.randn(20, 17, 64, 48, generator=generator)
    peaks = heatmaps.flatten(2).argmax(dim=2)
    peaks_xy = torch.stack((peaks % 48, peaks // 48), dim=-1)
    assert ((DARK.decode(heatmaps)[0] / 4 - peaks_xy).abs() <= 1).all()


def test_maps_too_small_for_derivatives_decode_to_the_pixel() -> None:
    codec = DarkCodec((16, 16), (4, 4))
    heatmaps = torch.zeros(1, 1, 4, 4)
    heatmaps[0, 0, 2, 1] = 1.0
    assert codec.decode(heatmaps)[0].tolist() == [[[4.0, 8.0]]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_views_and_gradients(dtype: torch.dtype) -> None:
    heatmaps = noisy_heatmaps(3).to(dtype)
    expected, _ = DARK.decode(heatmaps.float())
    channels_last = heatmaps.to(memory_format=torch.channels_last).requires_grad_()
    xy, _ = DARK.decode(channels_last)
    assert torch.allclose(xy.float(), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["quarter", "dark", "udp"])
@pytest.mark.parametrize("heatmap_hw", [(12, 9), (4, 3)])
def test_arrays_are_decoded_as_tensors_are(name: str, heatmap_hw: tuple[int, int]) -> None:
    """Equal to the bit; of noise too, and of maps too small for derivatives."""
    codec = make_codec(name, (48, 36), heatmap_hw)
    heatmaps_BKHW = torch.rand(2, 3, *heatmap_hw, generator=torch.Generator().manual_seed(0))
    expected, found = codec.decode(heatmaps_BKHW), codec.decode_array(heatmaps_BKHW.numpy())
    for tensor, array in zip(expected, found, strict=True):
        assert array.dtype == np.float32 and np.array_equal(tensor.numpy(), array)


def test_udp_by_hand() -> None:
    assert UDP.stride_xy == (191 / 47, 255 / 63)
    assert UDP.span_hw == (255, 191)
    corners = torch.tensor([[[0.0, 0.0, 2.0], [191.0, 255.0, 2.0]]])
    heatmaps, weights = UDP.encode(corners)
    assert weights.tolist() == [[1, 1]]
    assert heatmaps[0, 0, 0, 0] == heatmaps[0, 1, 63, 47] == 1


def test_udp_crops_put_the_edges_of_the_region_on_the_outermost_pixels() -> None:
    centre_xy, size_wh = crop_region((10, 20, 60, 40), UDP.span_hw)
    matrix = input_from_image(centre_xy, size_wh, UDP.span_hw)
    half = np.array(size_wh) / 2
    corners = np.array([centre_xy - half, centre_xy + half])
    assert transform(matrix, corners) == pytest.approx(np.array([[0, 0], [191, 255]]))
    mirrored = input_from_image(centre_xy, size_wh, UDP.span_hw, flip=True)
    points = np.random.default_rng(0).uniform(0, 80, (20, 2))
    expected = transform(matrix, points) * (-1, 1) + (191, 0)
    assert transform(mirrored, points) == pytest.approx(expected)


def test_udp_agrees_with_its_mirror_where_quarter_needs_a_shift() -> None:
    joints = random_keypoints(50, UDP)
    mirrored = joints[:, list(COCO_17.flip_order)].clone()
    mirrored[..., 0] = 192 - 1 - mirrored[..., 0]
    back = flip_back(UDP.encode(mirrored)[0], COCO_17.flip_order, shift=UDP.shift_flipped)
    assert (UDP.decode(back)[0] - joints[..., :2]).abs().max().item() <= 0.05
    assert HeatmapCodec(INPUT_HW, HEATMAP_HW).shift_flipped and DARK.shift_flipped


def test_codecs_by_name() -> None:
    assert {name: type(make_codec(name, INPUT_HW, HEATMAP_HW)) for name in CODECS} == CODECS
    assert (*CODECS, SIMCC) == get_args(CodecName)
    assert make_codec("dark", INPUT_HW, HEATMAP_HW, 3.0).sigma_px == 3.0
    with pytest.raises(ValueError, match=r"codec: expected .*, got 'drak' \(did you mean 'dark'"):
        make_codec("drak", INPUT_HW, HEATMAP_HW)
    with pytest.raises(ValueError, match="above 0"):
        make_codec("udp", INPUT_HW, HEATMAP_HW, math.nan)
