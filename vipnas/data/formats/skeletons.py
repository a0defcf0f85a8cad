"""Skeletons: the facts about a set of joints, as data.

Those that are shipped are the YAML files in the folder `skeletons` beside this module; one's own
is another such file (docs/custom_data.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vipnas.data.formats.sides import check_sides
from vipnas.files import Strict, did_you_mean, parse, read_yaml

SKELETONS = Path(__file__).resolve().parent / "skeletons"


@dataclass(frozen=True)
class Skeleton:
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


@dataclass(frozen=True)
class _SkeletonFile(Strict):
    """A skeleton as its YAML file says it: joints by their names. With `sides: none` the names say
    nothing about left and right."""

    name: str
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...]
    sigmas: tuple[float, ...]
    limbs: tuple[tuple[str, str], ...] = ()
    upper_body: tuple[str, ...] = ()
    annotation_fields: tuple[tuple[str, int], ...] = ()
    sides: Literal["named", "none"] = "named"


def read_skeleton(name_or_path: str | Path) -> Skeleton:
    """A shipped skeleton by its name (such as `coco_17`), or one's own YAML file.

    Raises ValueError, one line: the file, the place, what was found, what is allowed.
    """
    path = Path(name_or_path)
    if not path.is_file():
        shipped = {file.stem: file for file in SKELETONS.glob("*.yaml")}
        if str(name_or_path) not in shipped:
            raise ValueError(
                f"{name_or_path}: neither a file nor a shipped skeleton; "
                f"{did_you_mean(str(name_or_path), shipped)}"
            )
        path = shipped[str(name_or_path)]
    where = str(path)
    file = parse(_SkeletonFile, read_yaml(path), where)
    index = _joint_index(file.joints, where)
    if file.sides == "named":
        check_sides(file.joints, file.flip_pairs, where)
    try:
        return Skeleton(
            name=file.name,
            joints=file.joints,
            flip_pairs=_pairs(file.flip_pairs, index, f"{where}: flip_pairs"),
            limbs=_pairs(file.limbs, index, f"{where}: limbs"),
            sigmas=file.sigmas,
            upper_body=_indices(file.upper_body, index, f"{where}: upper_body"),
            annotation_fields=file.annotation_fields,
        )
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(where) else f"{where}: {message}") from None


def _joint_index(joints: tuple[str, ...], where: str) -> dict[str, int]:
    for name, times in Counter(joints).items():
        if times > 1:
            raise ValueError(f"{where}: joints: {name!r} is there {times} times; allowed: once")
    return {name: number for number, name in enumerate(joints)}


def _indices(names: Iterable[str], index: Mapping[str, int], place: str) -> tuple[int, ...]:
    for name in names:
        if name not in index:
            raise ValueError(f"{place}: no joint {name!r}; {did_you_mean(name, index)}")
    return tuple(index[name] for name in names)


def _pairs(
    pairs: Iterable[tuple[str, str]], index: Mapping[str, int], place: str
) -> tuple[tuple[int, int], ...]:
    found = []
    for pair in pairs:
        first, second = _indices(pair, index, place)
        found.append((first, second))
    return tuple(found)


COCO_17 = read_skeleton("coco_17")
