"""Warps between heatmaps of two sizes, and joints of crops at the sizes of frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vipnas.arch.clip import FollowUp, VideoArch
from vipnas.data.codecs.heatmap import CODECS, HeatmapCodec
from vipnas.data.crops.clip_sizes import ClipSizes, resize_warps
from vipnas.data.crops.geometry import heatmap_warp
from vipnas.data.crops.resizing import resize_points
from vipnas.models.propagation import warp_heatmaps
from vipnas.space.image import SearchSpace

SIZES = ((64, 48), (128, 96))


@pytest.fixture(scope="module")
def codecs(tiny_space: SearchSpace) -> dict[tuple[str, int], HeatmapCodec]:
    """By name and height of the input; crops have 128 rows."""
    archs = [replace(tiny_space.min_arch(), input_hw=size) for size in SIZES]
    return {
        (name, arch.input_hw[0]): kind(arch.input_hw, arch.heatmap_hw, 2.0)
        for name, kind in CODECS.items()
        for arch in archs
    }


@pytest.mark.parametrize("name", ["dark", "udp"])
@pytest.mark.parametrize(("height_before", "height"), [(128, 64), (64, 128), (64, 64)])
def test_a_joint_is_where_the_crop_of_now_shows_it(
    codecs: dict[tuple[str, int], HeatmapCodec], name: str, height_before: int, height: int
) -> None:
    crops, before, now = (codecs[name, rows] for rows in (128, height_before, height))
    matrices = np.array([[[0.5, 0.0, 5.0], [0.0, 0.5, 3.0]], [[0.6, 0.0, -3.0], [0.0, 0.6, 1.0]]])
    image_xy = np.array([[70.0, 100.0], [90.0, 130.0], [50.0, 60.0]])
    xy_before, xy_now = (
        torch.tensor(image_xy @ matrix[:, :2].T + matrix[:, 2]).float() for matrix in matrices
    )
    joints = torch.cat((xy_before, torch.full((3, 1), 2.0)), dim=1)[None]
    heatmaps, _ = before.encode(resize_points(joints, crops.input_hw, before.input_hw))
    warp = heatmap_warp(matrices[0], matrices[1], crops.stride_xy, crops.heatmap_hw)
    warps = resize_warps(torch.tensor(warp[None]).float(), crops, before, now)
    warped = warp_heatmaps(heatmaps, warps, now.heatmap_hw)
    assert tuple(warped.shape[2:]) == now.heatmap_hw
    found = resize_points(now.decode(warped)[0], now.input_hw, crops.input_hw)
    # Interpolated twice: a tenth of a pixel of the coarser heatmaps.
    assert (found[0] - xy_now).abs().max() < 0.1 * 4 * 128 / min(height_before, height)


def test_one_size_keeps_warps_and_joints_as_they_are(
    codecs: dict[tuple[str, int], HeatmapCodec], tiny_space: SearchSpace
) -> None:
    codec = codecs["quarter", 64]
    warps = torch.randn(2, 2, 3)
    assert resize_warps(warps, codec, codec, codec) is warps
    large = replace(tiny_space.min_arch(), input_hw=(128, 96))
    clip = VideoArch(tiny_space.min_arch(), (None, FollowUp(large, None)))
    sizes = ClipSizes.largest(codec, clip)
    assert sizes.codec == codecs["quarter", 128]
    assert [sizes.codec_at(distance) for distance in range(4)] == [
        codec,
        codec,
        sizes.codec,
        sizes.codec,
    ]
    joints = torch.tensor([[[40.0, 60.0, 2.0]]])
    for distance in range(3):
        targets, weights = sizes.encode(distance, joints)
        assert tuple(targets.shape[2:]) == sizes.codec_at(distance).heatmap_hw
        assert (sizes.decode(distance, targets)[0] - joints[..., :2]).abs().max() <= 2.0
        assert weights.tolist() == [[1.0]]
