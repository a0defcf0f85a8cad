"""Percentage of correct keypoints: PCK (LSP) and PCKh (MPII), as fractions in 0..1.

N persons, K joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vipnas.data.formats.skeletons import Skeleton
from vipnas.errors import UserError

FloatArray = NDArray[np.float64]

# Of the head box's diagonal, as in the official MPII and PoseTrack kits.
HEAD_OF_DIAGONAL = 0.6
# The usual thresholds: of the torso for LSP, of the head for MPII.
PCK_THRESHOLD, PCKH_THRESHOLD = 0.2, 0.5
# What the official MPII mean leaves out.
NOT_IN_MPII_MEAN = ("pelvis", "thorax")


@dataclass(frozen=True)
class Pck:
    """Fractions of labelled joints that are correct.

    Attributes:
        mean: Over all labelled joints that are scored; -1 without any.
        by_joint: For each joint; -1 where it is not labelled.
        num_labelled: How many labelled joints are scored.
        num_unmeasured: Persons without a size to measure by. They do not count.
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
    """Compute the percentage of correct keypoints.

    A joint is correct within `threshold` times the person's size, the limit included.

    Args:
        xy_NK2: Predictions, in pixels.
        truth_NK3: x and y in the same pixels, and visibility. Joints of visibility 0 do not count.
        sizes_N: Sizes of the persons, in pixels. Persons whose size is NaN do not count.
        threshold: Of the person's size.
        left_out: Joints that are not in the mean.

    Raises:
        UserError: The numbers of persons differ, or a prediction is not finite.
    """
    if not len(xy_NK2) == len(truth_NK3) == len(sizes_N):
        raise UserError(
            "predictions",
            f"as many as labelled persons ({len(truth_NK3)}) and sizes ({len(sizes_N)})",
            str(len(xy_NK2)),
        )
    if not np.isfinite(xy_NK2).all():
        raise UserError("predictions", "finite numbers", "others")
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
    """Return left shoulder to right hip, the size for LSP; NaN where one is unlabelled."""
    return _distances(truth_NK3, skeleton, ("left_shoulder",), ("right_hip",))


def head_sizes(truth_NK3: NDArray[np.floating], skeleton: Skeleton) -> FloatArray:
    """Return neck to top of the head, for data without head boxes; NaN where unlabelled."""
    necks = ("neck", "upper_neck", "head_bottom")
    return _distances(truth_NK3, skeleton, necks, ("head_top", "head"))


def head_box_sizes(boxes_xywh_N4: NDArray[np.floating]) -> FloatArray:
    """Return 0.6 times the diagonal of the head box, as the MPII and PoseTrack kits do."""
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
    expected = f"a joint {' or '.join(names)} to measure a person by"
    raise UserError(f"skeleton {skeleton.name}", expected, ", ".join(skeleton.joints))
