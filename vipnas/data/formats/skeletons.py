"""Skeletons as YAML files.

Those that are shipped are the YAML files in the folder `skeletons` beside this module; one's own
is another such file (docs/custom_data.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vipnas.arch.skeleton import Skeleton as Skeleton
from vipnas.files import Strict, did_you_mean, parse, read_yaml

SKELETONS = Path(__file__).resolve().parent / "skeletons"


@dataclass(frozen=True)
class _SkeletonFile(Strict):
    """A skeleton as its YAML file says it: joints by their names."""

    name: str
    joints: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...]
    sigmas: tuple[float, ...]
    limbs: tuple[tuple[str, str], ...] = ()
    upper_body: tuple[str, ...] = ()
    annotation_fields: tuple[tuple[str, int], ...] = ()


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
    _check_sides(file, where)
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


def _check_sides(file: _SkeletonFile, where: str) -> None:
    """A pair that was forgotten would teach the network wrong sides, and nothing would say so."""
    paired = {joint for pair in file.flip_pairs for joint in pair}
    for joint in file.joints:
        other = joint.replace("left", "right", 1)
        if other != joint and other in file.joints and not {joint, other} <= paired:
            raise ValueError(
                f"{where}: flip_pairs: {joint} and {other} are both joints but no pair; "
                f"allowed: [{joint}, {other}] among them"
            )


COCO_17 = read_skeleton("coco_17")
