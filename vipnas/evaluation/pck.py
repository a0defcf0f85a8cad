"""Percentage of correct keypoints: PCK (LSP) and PCKh (MPII), as shares in 0..1.

N persons, K joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.skeletons import Skeleton

FloatArray = NDArray[np.float64]

# Of the head box's diagonal, as in the official MPII and PoseTrack kits.
HEAD_OF_DIAGONAL = 0.6
# The usual thresholds: of the torso for LSP, of the head for MPII.
PCK_THRESHOLD, PCKH_THRESHOLD = 0.2, 0.5
# What the official MPII mean leaves out.
NOT_IN_MPII_MEAN = ("pelvis", "thorax")


@dataclass(frozen=True)
class Pck:
    """Shares of labelled joints that were found.

    `mean` is over all labelled joints that are scored, `by_joint` for each joint by itself; -1
    where none is labelled. `num_unmeasured` persons had no size to measure by and are in neither.
    """

    mean: float
    by_joint: tuple[float, ...]
    num_labelled: int
    num_unmeasured: int

    def __str__(self) -> str:
        return f"PCK {self.mean:.3f} over {self.num_labelled} labelled joints"


def pck(
    xy_NK2: NDArray[np.floating],
    truth_NK3: NDArray[np.floating],
    sizes_N: NDArray[np.floating],
    threshold: float,
    left_out: Sequence[int] = (),
) -> Pck:
    """A joint is correct within `threshold` times the person's size, the limit included.

    `truth_NK3` holds x, y in the same pixels as `xy_NK2` and the visibility; joints of visibility 0
    do not count, nor do persons whose size is NaN. The joints `left_out` are not in the mean.
    """
    if not len(xy_NK2) == len(truth_NK3) == len(sizes_N):
        raise ValueError(
            f"{len(xy_NK2)} predictions, {len(truth_NK3)} labelled persons, {len(sizes_N)} sizes; "
            "allowed: as many of each"
        )
    if not np.isfinite(xy_NK2).all():
        raise ValueError("predictions hold something that is not a finite number")
    measured_N = np.isfinite(sizes_N)
    labelled_NK = (truth_NK3[..., 2] > 0) & measured_N[:, None]
    distances_NK = np.linalg.norm(xy_NK2 - truth_NK3[..., :2], axis=2)
    limits_N1 = np.where(measured_N, threshold * sizes_N, 0)[:, None]
    correct_NK = labelled_NK & (distances_NK <= limits_N1)
    num_labelled_K, num_correct_K = labelled_NK.sum(axis=0), correct_NK.sum(axis=0)
    by_joint_K = np.where(num_labelled_K > 0, num_correct_K / np.maximum(num_labelled_K, 1), -1.0)
    scored_K = ~np.isin(np.arange(truth_NK3.shape[1]), list(left_out))
    num_scored = int(num_labelled_K[scored_K].sum())
    return Pck(
        mean=float(num_correct_K[scored_K].sum()) / num_scored if num_scored else -1.0,
        by_joint=tuple(by_joint_K.tolist()),
        num_labelled=num_scored,
        num_unmeasured=int((~measured_N).sum()),
    )


def torso_sizes(truth_NK3: NDArray[np.floating], skeleton: Skeleton) -> FloatArray:
    """Left shoulder to right hip, the size that LSP is measured by; NaN where one is unlabelled."""
    return _distances(truth_NK3, skeleton, ("left_shoulder",), ("right_hip",))


def head_sizes(truth_NK3: NDArray[np.floating], skeleton: Skeleton) -> FloatArray:
    """Neck to the top of the head, where there are no head boxes; NaN where one is unlabelled."""
    necks = ("neck", "upper_neck", "head_bottom")
    return _distances(truth_NK3, skeleton, necks, ("head_top", "head"))


def head_box_sizes(boxes_xywh_N4: NDArray[np.floating]) -> FloatArray:
    """0.6 times the diagonal of the head box, the size of the official MPII and PoseTrack kits."""
    return np.asarray(HEAD_OF_DIAGONAL * np.hypot(boxes_xywh_N4[:, 2], boxes_xywh_N4[:, 3]))


def _distances(
    truth_NK3: NDArray[np.floating],
    skeleton: Skeleton,
    first: Sequence[str],
    second: Sequence[str],
) -> FloatArray:
    ends = [truth_NK3[:, _joint(skeleton, names)].astype(np.float64) for names in (first, second)]
    distances_N = np.linalg.norm(ends[0][:, :2] - ends[1][:, :2], axis=1)
    both_N = (ends[0][:, 2] > 0) & (ends[1][:, 2] > 0)
    return np.where(both_N & (distances_N > 0), distances_N, np.nan)


def _joint(skeleton: Skeleton, names: Sequence[str]) -> int:
    for name in names:
        if name in skeleton.joints:
            return skeleton.joints.index(name)
    raise ValueError(
        f"skeleton {skeleton.name} has no joint {' or '.join(names)} to measure a person by; "
        f"it has {', '.join(skeleton.joints)}"
    )
