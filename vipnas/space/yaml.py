"""A search space as its YAML file says it. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from vipnas.arch.image import DeconvArch, Family, StageArch, StemArch
from vipnas.files import did_you_mean, parse, read_yaml
from vipnas.space.image import (
    ChannelsPerGroup,
    Option,
    Part,
    PartOptions,
    SearchSpace,
    check_options,
)


def read_space(path: Path) -> SearchSpace:
    """Read a space from YAML; raises ValueError naming file, part, choice, what was found and what
    is allowed."""
    return parse_space(read_yaml(path), path.stem, str(path))


def parse_space(document: Any, name: str, where: str) -> SearchSpace:
    """Build a space from plain values, of a YAML file or of `SearchSpace.to_plain`; raises
    ValueError as `read_space` does, naming `where`."""
    known = ("family", "input_hw", "num_keypoints", "stem", "stages", "head")
    _check_keys(document, known, where)
    parts = [_read_part(document["stem"], StemArch, "stem", where)]
    for section, kind in (("stages", StageArch), ("head", DeconvArch)):
        if not isinstance(document[section], list):
            raise ValueError(f"{where}: {section}: found no list, a list of parts is needed")
        for number, raw in enumerate(document[section]):
            parts.append(_read_part(raw, kind, f"{section}[{number}]", where))
    space = SearchSpace(
        name=name,
        family=parse(Family, document["family"], f"{where}: family"),  # type: ignore[arg-type]
        input_hw=parse(tuple[int, int], document["input_hw"], f"{where}: input_hw"),
        num_keypoints=parse(int, document["num_keypoints"], f"{where}: num_keypoints"),
        parts=tuple(parts),
    )
    _check_space(space, where)
    return space


def _read_part(raw: Any, kind: type[Part], place: str, file: str) -> PartOptions:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    where = f"{file}: {place}"
    # A stage may offer groups as counts, as channels per group, or both.
    grouped = kind is StageArch and isinstance(raw, dict) and "channels_per_group" in raw
    optional = ["channels_per_group", "groups"] if grouped else []
    _check_keys(raw, [*names, *optional[:1]], where, optional)
    options: dict[str, tuple[Option, ...]] = {}
    for name in names:
        values: tuple[Option, ...] = ()
        if name in raw:
            values = _read_options(raw[name], hints[name], f"{where}.{name}")
        if name == "groups" and grouped:
            place_of_width = f"{where}.channels_per_group"
            per_group = _read_options(raw["channels_per_group"], int, place_of_width)
            values += tuple(ChannelsPerGroup(int(channels)) for channels in per_group)  # type: ignore[arg-type]
        options[name] = values if name == "groups" else tuple(sorted(values))  # type: ignore[type-var]
    if "groups" in options:
        largest = {name: found[-1] for name, found in options.items()}
        options["groups"] = tuple(
            sorted(options["groups"], key=lambda option: -_count_of(option, largest))
        )
    return PartOptions(place, kind, options)


def _read_options(raw: Any, kind: Any, where: str) -> tuple[Option, ...]:
    if not isinstance(raw, list) or not raw:
        raise ValueError(f"{where}: found {raw!r}, allowed is a list of one or more options")
    options: tuple[Option, ...] = parse(tuple[kind, ...], raw, where)
    if len(set(options)) < len(options):
        raise ValueError(f"{where}: found {raw!r}, each option may stand there once")
    for option in options:
        if type(option) is int and option < 1:
            raise ValueError(f"{where}: found {option}, allowed are whole numbers from 1")
    return options


def _check_keys(raw: Any, known: Sequence[str], where: str, optional: Sequence[str] = ()) -> None:
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: found {raw!r}, a mapping is needed with {', '.join(known)}")
    for key in raw:
        if key not in known:
            raise ValueError(f"{where}.{key}: unknown key; {did_you_mean(str(key), known)}")
    for key in known:
        if key not in raw and key not in optional:
            raise ValueError(f"{where}.{key}: missing; it must be given")


def _check_space(space: SearchSpace, where: str) -> None:
    in_widths: tuple[Any, ...] = (3,)
    for part in space.parts:
        place = f"{where}: {part.place}"
        if part.kind is StageArch:
            _check_stage_options(space, part, in_widths, place)
        if part.kind is DeconvArch:
            for groups in part.options["groups"]:
                _check_divides(groups, (*in_widths, *part.options["width"]), place)
        in_widths = part.options["width"]
    check_options(space, where)


def _check_stage_options(
    space: SearchSpace, part: PartOptions, in_widths: Sequence[Any], place: str
) -> None:
    ratios = part.options["expand_ratio"]
    middles = [width * ratio for width in part.options["width"] for ratio in ratios]  # type: ignore[operator]
    no_expansion = space.family == "inverted_residual" and 1 in ratios
    if no_expansion and len(ratios) > 1:
        raise ValueError(
            f"{place}.expand_ratio: found {list(ratios)}; with 1 a block has no expansion"
            " convolution, so 1 cannot stand beside other options"
        )
    for groups in part.options["groups"]:
        _check_divides(groups, middles, place)
        if no_expansion and isinstance(groups, int):
            _check_divides(groups, in_widths, place)
        one_width = len({*in_widths, *middles}) == 1
        if no_expansion and isinstance(groups, ChannelsPerGroup) and not one_width:
            raise ValueError(
                f"{place}.channels_per_group: with expand_ratio 1 the width must be that of the"
                f" input, and one: found {list(part.options['width'])} of {list(in_widths)}"
            )
    for middle in sorted(set(middles)):
        counts = [_count_of(option, {"width": middle}) for option in part.options["groups"]]
        if counts != sorted(set(counts), reverse=True):
            raise ValueError(
                f"{place}.groups: the options come to {counts} groups at {middle} channels: some"
                " are equal, or in another order than at the largest width"
            )


def _check_divides(option: Option, widths: Sequence[Any], place: str) -> None:
    name, divisor = "groups", option
    if isinstance(option, ChannelsPerGroup):
        name, divisor = "channels_per_group", option.channels
    assert isinstance(divisor, int)
    for width in widths:
        if divisor < 1 or width % divisor:
            raise ValueError(
                f"{place}.{name}: found {divisor}, which does not divide {width} channels"
            )


def _count_of(option: Option, largest: dict[str, Any]) -> int:
    if isinstance(option, ChannelsPerGroup):
        return int(largest["width"] * largest.get("expand_ratio", 1)) // option.channels
    assert isinstance(option, int)
    return option
