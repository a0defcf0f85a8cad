"""Crops and joints at smaller sizes of the input.

Crops are made at the largest size of a space, and resized on the device to the size of each subnet.
The pixel rule is that of PyTorch's `interpolate` with `align_corners=False`: pixels are squares,
and the edges of both images meet. With integer coordinates at the centres of pixels, as in the
whole project, x becomes (x + 1/2) r - 1/2 at r times the width.

B batch, K keypoints, H W height and width of the input.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

SizeHW = tuple[int, int]


def resize_crops(images_B3HW: Tensor, input_hw: SizeHW) -> Tensor:
    """Resize uint8 crops by antialiased bilinear interpolation.

    Crops of this size are returned as they are. Others are uint8 on the CPU, where that is several
    times faster, and float32, not rounded to whole grey levels, on other devices.
    """
    if images_B3HW.shape[2:] == input_hw:
        return images_B3HW
    images = images_B3HW if images_B3HW.device.type == "cpu" else images_B3HW.float()
    return F.interpolate(
        images, size=input_hw, mode="bilinear", align_corners=False, antialias=True
    )


def resize_points(xy: Tensor, from_hw: SizeHW, to_hw: SizeHW) -> Tensor:
    """Return points (..., 2) or joints (..., 3) of a crop of one size at another size.

    x and y are in pixels. A visibility in third place is kept.
    """
    if from_hw == to_hw:
        return xy
    ratio, shift = _ratio_and_shift(from_hw, to_hw, xy.shape[-1], xy.dtype, xy.device)
    return torch.addcmul(shift, xy, ratio)


@cache
def _ratio_and_shift(
    from_hw: SizeHW, to_hw: SizeHW, columns: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, ...]:
    """Return r and (r - 1) / 2 for each column, 1 and 0 for that of the visibility.

    They are sent to a device once: sending them to a GPU blocks.
    """
    ratios = [to_hw[1] / from_hw[1], to_hw[0] / from_hw[0], 1.0][:columns]
    rows = [ratios, [(ratio - 1) / 2 for ratio in ratios]]
    return torch.tensor(rows, dtype=dtype, device=device).unbind()
