"""Left and right joints that a network does not tell apart, or of which it finds one only.

N people, K joints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vipnas.arch.skeleton import Skeleton

# A person counts whose labels are further apart than this, of the square root of the area.
APART = 0.1
# Predictions lie together that are nearer to each other than this, of the distance of the labels.
TOGETHER = 0.25
# A pair is named above this share, of so many people at least.
MOST_TOGETHER, FEWEST_PERSONS = 1 / 3, 20
# A joint is lost whose AP is below the first, where that of the mirrored one is above the second.
LOST_AP, FOUND_AP = 0.05, 0.25
MAY_HELP = "more steps, smaller batches or a larger sigma_px may help"


@dataclass(frozen=True)
class MergedPair:
    """A pair of joints that are found at one place.

    Attributes:
        joints: Their names.
        share: In which share of the people whose labels are apart, in 0..1.
    """

    joints: tuple[str, str]
    share: float

    def __str__(self) -> str:
        return (
            f"{' and '.join(self.joints)} are found at one place in {self.share:.0%} of the "
            f"persons whose labels are apart; {MAY_HELP}"
        )


@dataclass(frozen=True)
class LostJoint:
    """A joint that is found nearly nowhere, where its mirrored joint is found.

    Attributes:
        joint: Its name.
        mirrored: The name of the other.
        ap: The AP of the joint by itself, in 0..1.
        mirrored_ap: That of the other.
    """

    joint: str
    mirrored: str
    ap: float
    mirrored_ap: float

    def __str__(self) -> str:
        return (
            f"{self.joint} has an AP of {self.ap:.2f}, {self.mirrored} of {self.mirrored_ap:.2f}; "
            f"{MAY_HELP}"
        )


def merged_pairs(
    xy_NK2: NDArray[np.floating],
    truth_NK3: NDArray[np.floating],
    areas_N: NDArray[np.floating],
    skeleton: Skeleton,
) -> Iterator[MergedPair]:
    """Yield the pairs of left and right whose predictions lie together in many people.

    A short training with targets of few pixels can end so: both heatmaps have both legs.

    Args:
        xy_NK2: Predictions in pixels.
        truth_NK3: Labels of the same people: x, y, visibility (0 is unlabelled).
        areas_N: Their areas in square pixels.
        skeleton: The joints and their pairs.
    """
    for pair in skeleton.flip_pairs:
        of_pair = list(pair)
        labels_N23, found_N22 = truth_NK3[:, of_pair], xy_NK2[:, of_pair]
        distance_N, found_N = (
            np.linalg.norm(of_both[:, 0, :2] - of_both[:, 1, :2], axis=1)
            for of_both in (labels_N23, found_N22)
        )
        counts_N = (labels_N23[:, :, 2] > 0).all(axis=1) & (distance_N > APART * np.sqrt(areas_N))
        if counts_N.sum() < FEWEST_PERSONS:
            continue
        share = float((found_N < TOGETHER * distance_N)[counts_N].mean())
        if share > MOST_TOGETHER:
            yield MergedPair((skeleton.joints[pair[0]], skeleton.joints[pair[1]]), share)


def lost_joints(ap_by_joint: Mapping[str, float], skeleton: Skeleton) -> Iterator[LostJoint]:
    """Yield the joints of a pair that are lost, where the other joint of the pair is found.

    The mean squared error of narrow targets has a plateau where a heatmap is zero everywhere.

    Args:
        ap_by_joint: The AP of each joint by itself, in 0..1; joints may be missing.
        skeleton: The joints and their pairs.
    """
    for pair in skeleton.flip_pairs:
        names = [skeleton.joints[joint] for joint in pair]
        for joint, mirrored in (names, names[::-1]):
            if joint not in ap_by_joint or mirrored not in ap_by_joint:
                continue
            ap, mirrored_ap = ap_by_joint[joint], ap_by_joint[mirrored]
            if ap < LOST_AP and mirrored_ap > FOUND_AP:
                yield LostJoint(joint, mirrored, ap, mirrored_ap)
