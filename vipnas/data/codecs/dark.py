"""Distribution-aware decoding of heatmaps, for the codecs in `heatmap.py`.

Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020.
The heatmap is smoothed by the Gaussian of the targets. Its logarithm is a paraboloid for a
Gaussian, and one Newton step leads to its maximum. Only a patch around each peak is smoothed.

All operations can be exported.

N joints of all persons, H W height and width of the heatmaps, P side of a patch.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Pixels on each side of a point that its derivatives use.
_STENCIL = 2
# Radius of the smoothing kernel in standard deviations, as in the published code (11 pixels at
# sigma 2).
_KERNEL_SIGMAS = 2.5
# Lower bound of the logarithm's argument, as in the published code.
_SMALLEST = 1e-10
# A maximum further from the largest pixel than this, on either axis, is noise.
_FURTHEST_PX = 1.0


def refine(heatmaps_NHW: Tensor, peaks_xy_N2: Tensor, sigma_px: float) -> Tensor:
    """Refine peaks to sub-pixel maxima.

    Where the patch has no maximum (a flat or negative map), or the map is too small for
    derivatives, the peak is returned unchanged.

    Args:
        heatmaps_NHW: One heatmap per joint.
        peaks_xy_N2: Largest pixel of each heatmap, x and y, integers.
        sigma_px: Standard deviation of the targets, in heatmap pixels.

    Returns:
        Maxima (N, 2), x and y in heatmap pixels.
    """
    height, width = heatmaps_NHW.shape[-2:]
    if min(height, width) < 2 * _STENCIL + 1:
        return peaks_xy_N2.float()
    # At the border, the step starts from the nearest point that has neighbours: on a paraboloid, a
    # Newton step leads to the same maximum from everywhere.
    last_xy = peaks_xy_N2.new_tensor((width - 1 - _STENCIL, height - 1 - _STENCIL))
    origins_N2 = peaks_xy_N2.clamp(min=_STENCIL).minimum(last_xy)
    smoothed_N55 = _smoothed(heatmaps_NHW.float(), origins_N2, sigma_px)
    offsets_N2 = _newton_step(smoothed_N55.clamp(min=_SMALLEST).log())
    tops_N2 = origins_N2 + offsets_N2
    distances_N1 = (tops_N2 - peaks_xy_N2).abs().amax(dim=1, keepdim=True)
    is_near = distances_N1 <= _FURTHEST_PX  # not if NaN
    return torch.where(is_near, tops_N2, peaks_xy_N2.float())


def _smoothed(heatmaps_NHW: Tensor, origins_xy_N2: Tensor, sigma_px: float) -> Tensor:
    """Return the smoothed map (N, 5, 5) around each origin."""
    num_maps, height, width = heatmaps_NHW.shape
    x_N, y_N = origins_xy_N2.unbind(dim=1)
    rows_NP, smooth_rows_N5P = _smoothing_at(y_N, height, sigma_px)
    columns_NP, smooth_columns_N5P = _smoothing_at(x_N, width, sigma_px)
    # One index into all maps is several times faster than one for each dimension.
    rows_NP = rows_NP + torch.arange(num_maps, device=rows_NP.device)[:, None] * height
    places_NPP = rows_NP[:, :, None] * width + columns_NP[:, None, :]
    patches_NPP = heatmaps_NHW.flatten().index_select(0, places_NPP.flatten()).view_as(places_NPP)
    return smooth_rows_N5P @ patches_NPP @ smooth_columns_N5P.transpose(1, 2)


def _smoothing_at(origins_N: Tensor, length: int, sigma_px: float) -> tuple[Tensor, Tensor]:
    """Return, on one axis, the pixels of each patch (N, P) and its smoothing matrix (N, 5, P)."""
    starts, matrices = (
        torch.tensor(values, device=origins_N.device) for values in _smoothing(length, sigma_px)
    )
    pixels = torch.arange(matrices.shape[2], device=origins_N.device)
    return starts[origins_N][:, None] + pixels, matrices[origins_N]


@lru_cache(maxsize=16)
def _smoothing(length: int, sigma_px: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return, for every origin on one axis, the start of its patch and its smoothing matrix (5, P).

    All five points of an origin share a kernel, which is narrowed so that it does not cross the
    border. Padding with zeros would pull the maximum inwards.
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


def _newton_step(logs_N55: Tensor) -> Tensor:
    """Return the step (N, 2), x and y, from the middle to the maximum of the fitted paraboloid.

    NaN where there is no maximum. Derivatives are central differences, as published.
    """
    m = logs_N55
    dx = (m[:, 2, 3] - m[:, 2, 1]) / 2
    dy = (m[:, 3, 2] - m[:, 1, 2]) / 2
    dxx = (m[:, 2, 4] - 2 * m[:, 2, 2] + m[:, 2, 0]) / 4
    dyy = (m[:, 4, 2] - 2 * m[:, 2, 2] + m[:, 0, 2]) / 4
    dxy = (m[:, 3, 3] - m[:, 1, 3] - m[:, 3, 1] + m[:, 1, 1]) / 4
    determinant = dxx * dyy - dxy * dxy
    is_top = (determinant > 0) & (dxx < 0)
    steps_N2 = torch.stack((dxy * dy - dyy * dx, dxy * dx - dxx * dy), dim=1)
    steps_N2 = steps_N2 / determinant[:, None]
    return torch.where(is_top[:, None], steps_N2, math.nan)
