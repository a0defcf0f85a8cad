"""The skeleton: the facts about a set of joints, a value. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from vipnas.errors import UserError, shown
from vipnas.files import Strict

MAX_SIGMA = 1000.0  # in square roots of the area; larger ones overflow in the metrics


@dataclass(frozen=True)
class Skeleton(Strict):
    """A set of joints.

    Attributes:
        name: Name of the skeleton.
        joints: Names of the joints, in the order of the annotation files.
        flip_pairs: Indices of joints that a mirror swaps. Other joints map to themselves.
        limbs: Indices of joints that a drawing connects.
        sigmas: OKS constant of each joint, as in pycocotools: the standard deviation of the labels
            divided by the square root of the person's area.
        upper_body: Indices of the upper body. If empty, no training crop shows half a body.
        annotation_fields: The lists of an annotation that the joints are stored in, with the number
            of joints in each. By default all are in `keypoints`.
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
            raise UserError("joints", "unique names, at least one", shown(list(self.joints)))
        valid = all(0 < sigma <= MAX_SIGMA for sigma in self.sigmas)
        if len(self.sigmas) != self.num_joints or not valid:
            expected = f"{self.num_joints} numbers above 0, at most {MAX_SIGMA:g}"
            raise UserError("sigmas", expected, f"{len(self.sigmas)}: {shown(list(self.sigmas))}")
        mirrored = [joint for pair in self.flip_pairs for joint in pair]
        if len(set(mirrored)) != len(mirrored):
            twice = sorted({joint for joint in mirrored if mirrored.count(joint) > 1})
            raise UserError("flip_pairs", "each joint once", f"{twice} again")
        for name, used in (
            ("flip_pairs", mirrored),
            ("upper_body", self.upper_body),
            ("limbs", [joint for limb in self.limbs for joint in limb]),
        ):
            if wrong := sorted(set(used) - set(range(self.num_joints))):
                raise UserError(name, f"joints 0 to {self.num_joints - 1}", str(wrong))
        if (counted := sum(count for _, count in self.annotation_fields)) != self.num_joints:
            raise UserError("annotation_fields", f"{self.num_joints} joints in all", str(counted))

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def flip_order(self) -> tuple[int, ...]:
        """The index of each joint's mirror image. The permutation is its own inverse."""
        order = list(range(self.num_joints))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def check_joints(self, wanted: Skeleton, where: str) -> None:
        """Compare the joints by name and order with those of `wanted`.

        Raises:
            UserError: Names the first joint that differs.
        """
        for number, (name, needed) in enumerate(zip_longest(self.joints, wanted.joints)):
            if name != needed:
                raise UserError(
                    f"{where}: joints[{number}]",
                    f"{needed or 'no more joints'}, as in {wanted.name}",
                    f"{name or 'no more joints'}, as in {self.name}",
                )
