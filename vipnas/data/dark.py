"""Decoding heatmaps by the shape of the peak, for the codecs in `heatmap.py`.

The distribution-aware decoding of Zhang et al., "Distribution-Aware Coordinate Representation for
Human Pose Estimation", CVPR 2020: the heatmap is smoothed by the Gaussian that the targets were
drawn with, and its logarithm, which for a Gaussian is a paraboloid, is taken to its top by one
Newton step. Only the surroundings of each peak are smoothed, not the whole map.

N joints of all persons, H W height and width of the heatmaps, P side of the surroundings.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]

# Pixels on each side of a point that its derivatives are taken from.
_STENCIL = 2
# Smoothing reaches this many standard deviations, as in the published code (11 pixels at sigma 2).
_KERNEL_SIGMAS = 2.5
# The logarithm is taken of no less than this, as in the published code.
_SMALLEST = 1e-10
# A top further from the largest pixel than this, on either axis, is noise.
_FURTHEST_PX = 1.0


def refine(heatmaps_NHW: Tensor, peaks_xy_N2: Tensor, sigma_px: float) -> Tensor:
    """Sub-pixel tops (N, 2), x and y in heatmap pixels, of peaks whose largest pixel is known.

    `peaks_xy_N2` are whole numbers. Where the surroundings have no top (a flat or negative map), or
    the map is too small for derivatives, the peak stays where it is. Only the surroundings leave
    the device; the rest is too little work to be worth several threads, and is done by numpy.
    """
    height, width = heatmaps_NHW.shape[-2:]
    if min(height, width) < 2 * _STENCIL + 1:
        return peaks_xy_N2.float()
    # From a peak at the border the step is taken from the nearest point that has neighbours: on a
    # paraboloid a Newton step leads to the same top from everywhere.
    peaks_N2 = peaks_xy_N2.cpu().numpy()
    last_xy = (width - 1 - _STENCIL, height - 1 - _STENCIL)
    origins_N2 = np.clip(peaks_N2, _STENCIL, last_xy)
    smoothed_N55 = _smoothed(heatmaps_NHW.detach(), origins_N2, sigma_px)
    offsets_N2 = _newton_step(np.log(np.maximum(smoothed_N55, _SMALLEST)))
    tops_N2 = origins_N2 + offsets_N2
    is_near = np.abs(tops_N2 - peaks_N2).max(axis=1, keepdims=True) <= _FURTHEST_PX  # not if NaN
    refined_N2 = np.where(is_near, tops_N2, peaks_N2)
    return torch.from_numpy(refined_N2).to(heatmaps_NHW.device, torch.float32)


def _smoothed(heatmaps_NHW: Tensor, origins_xy_N2: IntArray, sigma_px: float) -> FloatArray:
    """The smoothed map (N, 5, 5) around each origin."""
    height, width = heatmaps_NHW.shape[-2:]
    starts_x, smooth_columns = _smoothing(width, sigma_px)
    starts_y, smooth_rows = _smoothing(height, sigma_px)
    x_N, y_N = origins_xy_N2.T
    patch_hw = smooth_rows.shape[2], smooth_columns.shape[2]
    patches_NPP = _patches(heatmaps_NHW, starts_y[y_N], starts_x[x_N], patch_hw)
    return np.asarray(smooth_rows[y_N] @ patches_NPP @ smooth_columns[x_N].transpose(0, 2, 1))


def _patches(
    heatmaps_NHW: Tensor, tops_N: IntArray, lefts_N: IntArray, patch_hw: tuple[int, int]
) -> FloatArray:
    """The part of each map from that row and that column on, float32."""
    if heatmaps_NHW.device.type == "cpu" and heatmaps_NHW.dtype == torch.float32:
        windows = sliding_window_view(heatmaps_NHW.numpy(), patch_hw, axis=(1, 2))
        return np.asarray(windows[np.arange(len(tops_N)), tops_N, lefts_N])
    device = heatmaps_NHW.device
    rows, columns = (torch.from_numpy(places).to(device) for places in (tops_N, lefts_N))
    unfolded = heatmaps_NHW.unfold(1, patch_hw[0], 1).unfold(2, patch_hw[1], 1)
    patches = unfolded[torch.arange(len(tops_N), device=device), rows, columns]
    return np.asarray(patches.float().cpu().numpy())


@lru_cache(maxsize=16)
def _smoothing(length: int, sigma_px: float) -> tuple[IntArray, FloatArray]:
    """For every origin on an axis of the map: where its surroundings start, and the matrix (5, P)
    that smooths them.

    The kernel is the same for the five points of an origin, and so narrow that it does not reach
    over the border, where there is nothing to smooth with: zeros would pull the top inwards.
    """
    radius = max(1, math.floor(_KERNEL_SIGMAS * sigma_px))
    num_points = 2 * _STENCIL + 1
    side = min(length, num_points + 2 * radius)
    starts = np.zeros(length, np.int64)
    matrices = np.zeros((length, num_points, side), np.float32)
    for origin in range(_STENCIL, length - _STENCIL):
        first = origin - _STENCIL
        room = min(radius, first, length - 1 - (origin + _STENCIL))
        weights = np.exp(-np.square(np.arange(-room, room + 1)) / (2 * sigma_px**2))
        start = min(max(first - radius, 0), length - side)
        starts[origin] = start
        for row in range(num_points):
            left = first + row - room - start
            matrices[origin, row, left : left + len(weights)] = weights / weights.sum()
    return starts, matrices


def _newton_step(logs_N55: FloatArray) -> FloatArray:
    """From the middle to the top of the paraboloid that fits there (N, 2), x and y; NaN where there
    is none. The derivatives are the published ones: central differences, twice for the second."""
    m = logs_N55
    dx = (m[:, 2, 3] - m[:, 2, 1]) / 2
    dy = (m[:, 3, 2] - m[:, 1, 2]) / 2
    dxx = (m[:, 2, 4] - 2 * m[:, 2, 2] + m[:, 2, 0]) / 4
    dyy = (m[:, 4, 2] - 2 * m[:, 2, 2] + m[:, 0, 2]) / 4
    dxy = (m[:, 3, 3] - m[:, 1, 3] - m[:, 3, 1] + m[:, 1, 1]) / 4
    determinant = dxx * dyy - dxy * dxy
    is_top = (determinant > 0) & (dxx < 0)
    steps_2N = np.array((dxy * dy - dyy * dx, dxy * dx - dxx * dy))
    return np.where(is_top, steps_2N / np.where(is_top, determinant, 1), np.nan).T
