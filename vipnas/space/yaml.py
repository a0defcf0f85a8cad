"""Read a search space from its YAML file. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from vipnas.arch.image import (
    DeconvArch,
    Family,
    SimccArch,
    StageArch,
    StemArch,
    later_choices,
)
from vipnas.errors import UserError, shown
from vipnas.files import check_version, parse, read_yaml
from vipnas.space.image import SearchSpace, SizeHW, check_options, sorted_sizes
from vipnas.space.parts import ChannelsPerGroup, Option, Part, PartOptions

# Raised with every choice that came later; a file of an earlier version does not offer it.
SPACE_VERSION = 2


def read_space(path: Path) -> SearchSpace:
    """Read a space from YAML.

    Raises:
        UserError: If the file or one of its values is not allowed. Its place is the file, the part
            and the choice.
    """
    return parse_space(read_yaml(path), path.stem, str(path))


def parse_space(document: Any, name: str, where: str) -> SearchSpace:
    """Build a space from plain values, of a YAML file or of `SearchSpace.to_plain`.

    Raises:
        UserError: As `read_space`, with a place inside `where`.
    """
    known = ("family", "input_hw", "num_keypoints", "stem", "stages", "head", "simcc", "version")
    _check_keys(document, known, where, optional=("simcc", "version"))
    check_version(document.get("version", 1), SPACE_VERSION, where)
    parts = [_read_part(document["stem"], StemArch, "stem", where)]
    for section, kind in (("stages", StageArch), ("head", DeconvArch)):
        if not isinstance(document[section], list):
            raise UserError(f"{where}: {section}", "a list of parts", shown(document[section]))
        for number, raw in enumerate(document[section]):
            parts.append(_read_part(raw, kind, f"{section}[{number}]", where))
    simcc = document.get("simcc")
    space = SearchSpace(
        name=name,
        family=parse(Family, document["family"], f"{where}: family"),  # type: ignore[arg-type]
        inputs_hw=_read_sizes(document["input_hw"], f"{where}: input_hw"),
        num_keypoints=parse(int, document["num_keypoints"], f"{where}: num_keypoints"),
        parts=tuple(parts),
        simcc=parse(SimccArch, simcc, f"{where}: simcc") if simcc is not None else None,
    )
    _check_space(space, where)
    return space


def _read_sizes(raw: Any, where: str) -> tuple[SizeHW, ...]:
    """Read one input size, or a list of them."""
    if isinstance(raw, list) and raw and all(isinstance(size, list) for size in raw):
        return sorted_sizes(parse(tuple[SizeHW, ...], raw, where))
    return sorted_sizes(parse(tuple[int, int], raw, where))


def _read_part(raw: Any, kind: type[Part], place: str, file: str) -> PartOptions:
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    where = f"{file}: {place}"
    # A stage may offer groups as counts, as channels per group, or both.
    grouped = kind is StageArch and isinstance(raw, dict) and "channels_per_group" in raw
    later = later_choices(kind)
    optional = ["channels_per_group", "groups"] if grouped else []
    _check_keys(raw, [*names, *optional[:1]], where, [*optional, *later])
    options: dict[str, tuple[Option, ...]] = {}
    for name in names:
        values: tuple[Option, ...] = (later[name],) if name in later else ()
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
        raise UserError(where, "a list of one or more options", shown(raw))
    options: tuple[Option, ...] = parse(tuple[kind, ...], raw, where)
    if len(set(options)) < len(options):
        raise UserError(where, "each option once", shown(raw))
    for option in options:
        if type(option) is int and option < 1:
            raise UserError(where, "whole numbers from 1", str(option))
    return options


def _check_keys(raw: Any, known: Sequence[str], where: str, optional: Sequence[str] = ()) -> None:
    if not isinstance(raw, dict):
        raise UserError(where, f"a mapping with the keys {', '.join(known)}", shown(raw))
    for key in raw:
        if key not in known:
            raise UserError.not_one_of(where, known, key, expected="one of the keys")
    for key in known:
        if key not in raw and key not in optional:
            raise UserError(where, f"the key {key}", "none")


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
        hint = "with 1 a block has no expansion convolution, which other options share"
        raise UserError(f"{place}.expand_ratio", "1 alone or no 1", str(list(ratios)), hint)
    for groups in part.options["groups"]:
        _check_divides(groups, middles, place)
        if no_expansion and isinstance(groups, int):
            _check_divides(groups, in_widths, place)
        one_width = len({*in_widths, *middles}) == 1
        if no_expansion and isinstance(groups, ChannelsPerGroup) and not one_width:
            raise UserError(
                f"{place}.channels_per_group",
                f"one width, that of the input ({', '.join(map(str, in_widths))})",
                str(list(part.options["width"])),
                "expand_ratio is 1",
            )
    for middle in sorted(set(middles)):
        counts = [_count_of(option, {"width": middle}) for option in part.options["groups"]]
        if counts != sorted(set(counts), reverse=True):
            raise UserError(
                f"{place}.groups",
                "different options, in the same order at every width",
                f"{counts} groups at {middle} channels",
            )


def _check_divides(option: Option, widths: Sequence[Any], place: str) -> None:
    name, divisor = "groups", option
    if isinstance(option, ChannelsPerGroup):
        name, divisor = "channels_per_group", option.channels
    assert isinstance(divisor, int)
    for width in widths:
        if divisor < 1 or width % divisor:
            raise UserError(f"{place}.{name}", f"a divisor of {width} channels", str(divisor))


def _count_of(option: Option, largest: dict[str, Any]) -> int:
    if isinstance(option, ChannelsPerGroup):
        return int(largest["width"] * largest.get("expand_ratio", 1)) // option.channels
    assert isinstance(option, int)
    return option
