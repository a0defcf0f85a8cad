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
    tables = _tables(xp, height, width, sigma_px, heatmaps_NHW)
    # One index into all maps is several times faster than one for each dimension.
    maps_N = xp.arange(0, num_maps * height * width, height * width, device=heatmaps_NHW.device)
    pixels_NPP = (maps_N + tables.corners[peaks_N])[:, None, None] + tables.steps_PP
    rows_N5P, columns_NP5 = tables.rows[peaks_N // width], tables.columns[peaks_N % width]
    smoothed_N55 = rows_N5P @ heatmaps_NHW.reshape(-1)[pixels_NPP] @ columns_NP5
    logs_NX = xp.log(xp.maximum(smoothed_N55, tables.smallest)).reshape(num_maps, -1)
    derivatives_N7 = logs_NX @ tables.derivatives_X7
    gradients_N2, crossed_N2 = derivatives_N7[:, :2], derivatives_N7[:, 2:4]
    curvatures_N2, mixed_N1 = derivatives_N7[:, 4:6], derivatives_N7[:, 6:]
    # A Newton step, which leads to the maximum of a paraboloid from everywhere: at the border, it
    # starts from the nearest point that has neighbours.
    determinants_N1 = curvatures_N2[:, :1] * curvatures_N2[:, 1:] - mixed_N1 * mixed_N1
    steps_N2 = (mixed_N1 * crossed_N2 - curvatures_N2 * gradients_N2) / determinants_N1
    tops_N2, places_N2 = tables.origins[peaks_N] + steps_N2, tables.places[peaks_N]
    is_top_N1 = (determinants_N1 > 0) & (curvatures_N2[:, :1] < 0)
    is_near_N2 = xp.abs(tops_N2 - places_N2) <= _FURTHEST_PX  # not if NaN
    is_near_N1 = is_near_N2[:, :1] & is_near_N2[:, 1:]
    return xp.where(is_top_N1 & is_near_N1, tops_N2, places_N2)


class _Tables(NamedTuple):
    """What is known of maps of one size, as arrays of NumPy or torch; L pixels.

    Attributes:
        places: Each pixel itself, x and y (L, 2).
        origins: The nearest pixel, x and y (L, 2), that has neighbours.
        corners: Index (L,) of the first pixel of its patch.
        steps_PP: From that to each pixel of the patch.
        rows: Matrices (H, 5, P) that smooth the columns of the patches of each row.
        columns: Matrices (W, P, 5) that smooth the rows of the patches of each column.
        derivatives_X7: From the logarithms of 5 x 5 points to dx, dy, dy, dx, dyy, dxx, dxy.
        smallest: Lower bound of the logarithm's argument.
    """

    places: Any
    origins: Any
    corners: Any
    steps_PP: Any
    rows: Any
    columns: Any
    derivatives_X7: Any
    smallest: Any


def _tables(xp: Any, height: int, width: int, sigma_px: float, like: Any) -> _Tables:
    tables = _numpy_tables(height, width, sigma_px)
    if xp is np:
        return tables
    return _Tables(*(torch.tensor(values, device=like.device) for values in tables))


@lru_cache(maxsize=16)
def _numpy_tables(height: int, width: int, sigma_px: float) -> _Tables:
    rows, columns = _axis(height, sigma_px), _axis(width, sigma_px)
    pairs = [
        np.stack(np.meshgrid(*pair), axis=-1).reshape(-1, 2)
        for pair in zip(columns[:3], rows[:3], strict=True)
    ]
    places, origins, starts = pairs
    sides = (np.arange(axis.matrices.shape[2]) for axis in (rows, columns))
    return _Tables(
        places.astype(np.float32),
        origins.astype(np.float32),
        starts @ (1, width),
        np.add.outer(*(side * stride for side, stride in zip(sides, (width, 1), strict=True))),
        rows.matrices,
        np.ascontiguousarray(columns.matrices.swapaxes(1, 2)),
        _DERIVATIVES_X7,
        np.float32(_SMALLEST),
    )


class _Axis(NamedTuple):
    """The pixels (L,) of one axis, their origins, the first pixels of their patches, and the
    matrices (L, 5, P) that smooth these."""

    places: NDArray[np.int64]
    origins: NDArray[np.int64]
    starts: NDArray[np.int64]
    matrices: NDArray[np.float32]


def _axis(length: int, sigma_px: float) -> _Axis:
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
    return _Axis(places, origins, starts, matrices)


def _central_differences() -> NDArray[np.float32]:
    """Return `derivatives_X7` of `_Tables`: central differences, as published."""
    middle, slope = np.array((0, 0, 1, 0, 0)), np.array((0, -1, 0, 1, 0)) / 2
    curve = np.array((1, 0, -2, 0, 1)) / 4
    dx, dy = np.outer(middle, slope), np.outer(slope, middle)
    dxx, dyy, dxy = np.outer(middle, curve), np.outer(curve, middle), np.outer(slope, slope)
    ordered = (dx, dy, dy, dx, dyy, dxx, dxy)
    return np.stack([one.ravel() for one in ordered], axis=1).astype(np.float32)


_DERIVATIVES_X7 = _central_differences()
