"""The skeleton: the facts about a set of joints, a value. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from vipnas.files import Strict


@dataclass(frozen=True)
class Skeleton(Strict):
    """Joints in the order of the annotation files, and what belongs together.

    All pairs and `upper_body` are joint indices. `sigmas` are the constants of the object keypoint
    similarity as `pycocotools` uses them (standard deviation of the labels over the square root of
    the person's area). A joint without a mirror image is in no flip pair. Where `upper_body` is
    empty, nobody is cropped to half of the body.

    `annotation_fields` are the lists of an annotation that hold the joints, each with how many of
    them, in their order: `(("keypoints", K),)` but for files that keep parts of a body apart.
    """

    name: str
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[int, ...] = ()
    annotation_fields: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.annotation_fields:
            object.__setattr__(self, "annotation_fields", (("keypoints", self.num_joints),))
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
        if (counted := sum(count for _, count in self.annotation_fields)) != self.num_joints:
            raise ValueError(
                f"skeleton {self.name}: annotation_fields hold {counted} joints; "
                f"allowed: {self.num_joints}"
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

    def check_joints(self, wanted: Skeleton, where: str) -> None:
        """Compare the joints by name and order with those of `wanted`.

        Raises:
            ValueError: Names the first joint that differs.
        """
        for number, (name, needed) in enumerate(zip_longest(self.joints, wanted.joints)):
            if name != needed:
                raise ValueError(
                    f"{where}: joints[{number}]: expected {needed or 'no more joints'}, as in"
                    f" {wanted.name}, got {name or 'no more joints'}, as in {self.name}"
                )
