"""Distribution-aware decoding of heatmaps, for the codecs in `heatmap.py`.

Zhang et al., "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020.
The heatmap is smoothed by the Gaussian of the targets. Its logarithm is a paraboloid for a
Gaussian, and one Newton step leads to its maximum. Only a patch around each peak is smoothed.

The formulas are written once for NumPy and torch (`xp`). NumPy is several times faster on few small
arrays; the operations of torch can be exported.

N joints of all persons, H W height and width of the heatmaps, P side of a patch.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Pixels on each side of a point that its derivatives use.
_STENCIL = 2
_LEAST_SIDE = 2 * _STENCIL + 1
# Radius of the smoothing kernel in standard deviations, as in the published code (11 pixels at
# sigma 2).
_KERNEL_SIGMAS = 2.5
# Lower bound of the logarithm's argument, as in the published code.
_SMALLEST = 1e-10
# A maximum further from the largest pixel than this, on either axis, is noise.
_FURTHEST_PX = 1.0


def runs_in_numpy(values: Tensor) -> bool:
    """Return whether NumPy computes with them, which is not part of an exported graph."""
    is_plain = values.device.type == "cpu" and values.dtype in (torch.float32, torch.float64)
    return is_plain and not torch.compiler.is_compiling()


def refine(heatmaps_NHW: Tensor, peaks_N: Tensor, sigma_px: float) -> Tensor:
    """Refine peaks to sub-pixel maxima.

    Where the patch has no maximum (a flat or negative map), or the map is too small for
    derivatives, the peak is returned unchanged.

    Args:
        heatmaps_NHW: One heatmap per joint.
        peaks_N: Index of the largest pixel of each heatmap, row by row.
        sigma_px: Standard deviation of the targets, in heatmap pixels.

    Returns:
        Maxima (N, 2), x and y in heatmap pixels.
    """
    if runs_in_numpy(heatmaps_NHW):
        heatmaps = heatmaps_NHW.detach().float().numpy()
        return torch.from_numpy(refine_array(heatmaps, peaks_N.numpy(), sigma_px))
    height, width = heatmaps_NHW.shape[-2:]
    if min(height, width) < _LEAST_SIDE:
        return torch.stack((peaks_N % width, peaks_N // width), dim=-1).float()
    return _refined(torch, heatmaps_NHW.float(), peaks_N, sigma_px)  # type: ignore[no-any-return]


def refine_array(
    heatmaps_NHW: NDArray[np.float32], peaks_N: NDArray[np.int64], sigma_px: float
) -> NDArray[np.float32]:
    """Refine peaks as `refine` does, in NumPy."""
    height, width = heatmaps_NHW.shape[1:]
    if min(height, width) < _LEAST_SIDE:
        return np.stack((peaks_N % width, peaks_N // width), axis=-1).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):  # where there is no maximum
        return _refined(np, heatmaps_NHW, peaks_N, sigma_px)  # type: ignore[no-any-return]


def _refined(xp: Any, heatmaps_NHW: Any, peaks_N: Any, sigma_px: float) -> Any:
    num_maps, height, width = heatmaps_NHW.shape
    x_N, y_N = peaks_N % width, peaks_N // width
    columns, rows = (_axis(xp, length, sigma_px, heatmaps_NHW) for length in (width, height))
    peaks_N2 = xp.stack((columns.places[x_N], rows.places[y_N]), -1)
    # One index into all maps is several times faster than one for each dimension.
    starts_N1 = height * xp.arange(num_maps, device=heatmaps_NHW.device)[:, None]
    pixels_NPP = width * (starts_N1 + rows.pixels[y_N])[:, :, None] + columns.pixels[x_N][:, None]
    patches_NPP = heatmaps_NHW.reshape(-1)[pixels_NPP]
    smooth_columns_NP5 = xp.swapaxes(columns.matrices[x_N], 1, 2)
    smoothed_N55 = rows.matrices[y_N] @ patches_NPP @ smooth_columns_NP5
    # At the border, the step starts from the nearest point that has neighbours: on a paraboloid, a
    # Newton step leads to the same maximum from everywhere.
    origins_N2 = xp.stack((columns.origins[x_N], rows.origins[y_N]), -1)
    tops_N2 = origins_N2 + _newton_step(xp, xp.log(xp.clip(smoothed_N55, _SMALLEST, None)))
    is_near_N = xp.amax(xp.abs(tops_N2 - peaks_N2), 1) <= _FURTHEST_PX  # not if NaN
    return xp.where(is_near_N[:, None], tops_N2, peaks_N2)


class _Axis(NamedTuple):
    """What is known of every pixel of one axis, as arrays of NumPy or torch.

    Attributes:
        places: The pixel itself (L,).
        origins: The nearest pixel (L,) that has neighbours.
        pixels: The pixels (L, P) of its patch.
        matrices: Matrices (L, 5, P) that smooth a patch.
    """

    places: Any
    origins: Any
    pixels: Any
    matrices: Any


def _axis(xp: Any, length: int, sigma_px: float, like: Any) -> _Axis:
    axis = _numpy_axis(length, sigma_px)
    if xp is np:
        return axis
    return _Axis(*(torch.tensor(values, device=like.device) for values in axis))


@lru_cache(maxsize=16)
def _numpy_axis(length: int, sigma_px: float) -> _Axis:
    """Return the patch of every pixel on one axis, and how it is smoothed.

    All five points of an origin share a kernel, which is narrowed so that it does not cross the
    border. Padding with zeros would pull the maximum inwards.
    """
    places = np.arange(length)
    origins = np.minimum(np.maximum(places, _STENCIL), length - 1 - _STENCIL)
    radius = max(1, math.floor(_KERNEL_SIGMAS * sigma_px))
    num_points = 2 * _STENCIL + 1
    side = min(length, num_points + 2 * radius)
    starts = np.minimum(np.maximum(origins - _STENCIL - radius, 0), length - side)
    matrices = np.zeros((length, num_points, side), np.float32)
    for place, origin, start in zip(
        *(one.tolist() for one in (places, origins, starts)), strict=True
    ):
        first = origin - _STENCIL
        room = min(radius, first, length - 1 - (origin + _STENCIL))
        weights = np.exp(-np.square(np.arange(-room, room + 1)) / (2 * sigma_px**2))
        for row in range(num_points):
            left = first + row - room - start
            matrices[place, row, left : left + len(weights)] = weights / weights.sum()
    pixels = starts[:, None] + np.arange(side)
    return _Axis(places.astype(np.float32), origins.astype(np.float32), pixels, matrices)


def _newton_step(xp: Any, logs_N55: Any) -> Any:
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
    steps_N2 = xp.stack((dxy * dy - dyy * dx, dxy * dx - dxx * dy), -1)
    steps_N2 = steps_N2 / determinant[:, None]
    return xp.where(is_top[:, None], steps_N2, math.nan)
