"""Read skeletons from YAML files.

Shipped skeletons are YAML files in the folder `skeletons` next to this module. docs/custom_data.md
describes the format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vipnas.arch.skeleton import Skeleton as Skeleton
from vipnas.data.formats.sides import check_sides
from vipnas.errors import UserError, shown
from vipnas.files import Strict, did_you_mean, parse, read_yaml

SKELETONS = Path(__file__).resolve().parent / "skeletons"


@dataclass(frozen=True)
class _SkeletonFile(Strict):
    """A skeleton in YAML, with joints by name. `sides: none` turns the check of sides off."""

    name: str
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...]
    sigmas: tuple[float, ...]
    limbs: tuple[tuple[str, str], ...] = ()
    upper_body: tuple[str, ...] = ()
    annotation_fields: tuple[tuple[str, int], ...] = ()
    sides: Literal["named", "none"] = "named"


def read_skeleton(name_or_path: str | Path) -> Skeleton:
    """Read a shipped skeleton by name (such as `coco_17`), or a YAML file.

    Raises:
        UserError: The file is not as expected. The place is file and key.
    """
    path = find_skeleton(str(name_or_path))
    where = str(path)
    file = parse(_SkeletonFile, read_yaml(path), where)
    index = _joint_index(file.joints, where)
    if file.sides == "named":
        check_sides(file.joints, file.flip_pairs, where)
    flip_pairs = _pairs(file.flip_pairs, index, f"{where}: flip_pairs")
    limbs = _pairs(file.limbs, index, f"{where}: limbs")
    upper_body = _indices(file.upper_body, index, f"{where}: upper_body")
    try:
        return Skeleton(
            name=file.name,
            joints=file.joints,
            flip_pairs=flip_pairs,
            limbs=limbs,
            sigmas=file.sigmas,
            upper_body=upper_body,
            annotation_fields=file.annotation_fields,
        )
    except UserError as error:
        raise error.inside(where) from None


def find_skeleton(name_or_path: str, place: str | None = None) -> Path:
    """Return the path of an existing file, otherwise that of the shipped skeleton.

    Args:
        name_or_path: A path, or a name.
        place: Where the name was given, for the error; by default the name itself.

    Raises:
        UserError: Neither exists.
    """
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    shipped = {file.stem: file for file in SKELETONS.glob("*.yaml")}
    if name_or_path not in shipped:
        expected, hint = "a file or a shipped skeleton", did_you_mean(name_or_path, shipped)
        raise UserError(place or name_or_path or "''", expected, shown(name_or_path), hint)
    return shipped[name_or_path]


def _joint_index(joints: tuple[str, ...], where: str) -> dict[str, int]:
    for name, times in Counter(joints).items():
        if times > 1:
            raise UserError(f"{where}: joints", "each name once", f"{name!r} {times} times")
    return {name: number for number, name in enumerate(joints)}


def _indices(names: Iterable[str], index: Mapping[str, int], place: str) -> tuple[int, ...]:
    for name in names:
        if name not in index:
            hint = did_you_mean(name, index)
            raise UserError(place, "a joint of the skeleton", repr(name), hint)
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
