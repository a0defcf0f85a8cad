"""Skeletons: the facts about a set of joints, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Skeleton:
    """Joints in the order of the annotation files, and what belongs together.

    All pairs and `upper_body` are joint indices. `sigmas` are the constants of the object keypoint
    similarity as `pycocotools` uses them (standard deviation of the labels over the square root of
    the person's area). A joint without a mirror image is in no flip pair.
    """

    name: str
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(set(self.joints)) != self.num_joints or not self.joints:
            raise ValueError(f"skeleton {self.name}: joint names must be there and unique")
        if len(self.sigmas) != self.num_joints or not all(sigma > 0 for sigma in self.sigmas):
            raise ValueError(
                f"skeleton {self.name}: {len(self.sigmas)} sigmas for {self.num_joints} joints; "
                "allowed: one number above 0 for each joint"
            )
        mirrored = [joint for pair in self.flip_pairs for joint in pair]
        if len(set(mirrored)) != len(mirrored):
            raise ValueError(f"skeleton {self.name}: a joint is in two flip pairs")
        used = {*mirrored, *self.upper_body, *(joint for limb in self.limbs for joint in limb)}
        if wrong := sorted(used - set(range(self.num_joints))):
            raise ValueError(
                f"skeleton {self.name}: no joint {wrong}; allowed: 0 to {self.num_joints - 1}"
            )

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def flip_order(self) -> tuple[int, ...]:
        """For each joint, the index of the joint it becomes in a mirror (its own inverse)."""
        order = list(range(self.num_joints))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return tuple(order)

    @property
    def lower_body(self) -> tuple[int, ...]:
        return tuple(joint for joint in range(self.num_joints) if joint not in self.upper_body)


COCO_17 = Skeleton(
    name="coco_17",
    joints=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    limbs=(
        (15, 13),
        (13, 11),
        (16, 14),
        (14, 12),
        (11, 12),
        (5, 11),
        (6, 12),
        (5, 6),
        (5, 7),
        (6, 8),
        (7, 9),
        (8, 10),
        (1, 2),
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 5),
        (4, 6),
    ),
    # Written as tenths and divided, as pycocotools does, so that the last bit is the same.
    sigmas=tuple(
        tenths / 10.0
        for tenths in (
            *(0.26, 0.25, 0.25, 0.35, 0.35),
            *(0.79, 0.79, 0.72, 0.72, 0.62, 0.62),
            *(1.07, 1.07, 0.87, 0.87, 0.89, 0.89),
        )
    ),
    upper_body=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
)
