"""The latency table: all measurements of a space on one device, in one JSON file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from vipnas.arch.image import Arch
from vipnas.errors import UserError, shown
from vipnas.files import Strict, parse, read_json, to_plain, write_atomically
from vipnas.latency.interleaved import Latency
from vipnas.latency.measure import Key
from vipnas.models.posenet import Layer, plan
from vipnas.space.image import SearchSpace

TABLE_VERSION = 2

# The methods of prediction; `predictors` describes them.
Method: TypeAlias = Literal["blocks", "regression", "blocks and regression", "operations"]


@dataclass(frozen=True)
class Timing(Strict):
    """A measured latency, and that of the anchor: a network timed in the same rounds."""

    latency: Latency
    anchor_ms: PositiveFloat


@dataclass(frozen=True)
class ArchTiming(Timing):
    """The timing of a whole network."""

    arch: Arch


@dataclass(frozen=True)
class BlockTiming(Timing):
    """The timing of a single layer: number `layer_number`, from 0, in the plan of `arch`."""

    arch: Arch
    layer_number: NonNegativeInt

    def __post_init__(self) -> None:
        if self.layer_number >= (count := sum(1 for _ in plan(self.arch))):
            expected = f"0 to {count - 1}, the layers of the architecture"
            raise UserError("layer_number", expected, str(self.layer_number))


@dataclass(frozen=True)
class Choice(Strict):
    """The method that the table predicts by.

    Attributes:
        method: The one with the smallest error.
        errors: The mean absolute relative error of each method, by cross-validation.
    """

    method: Method
    errors: dict[Method, NonNegativeFloat]


@dataclass(frozen=True)
class Table(Strict):
    """All measurements of a space under one key; `choice` is None until they are complete."""

    version: int
    vipnas: str
    key: Key
    space_name: str
    space: dict[str, Any]
    seed: NonNegativeInt
    evenly: Annotated[float, Field(ge=0, le=1)]
    num_archs: PositiveInt
    num_blocks: NonNegativeInt
    archs: tuple[ArchTiming, ...] = ()
    blocks: tuple[BlockTiming, ...] = ()
    choice: Choice | None = None

    @property
    def anchor_ms(self) -> float:
        """The anchor's median over the whole table, which all times are scaled to."""
        return float(np.median([timing.anchor_ms for timing in (*self.archs, *self.blocks)]))

    def drift_corrected_ms(self, timing: Timing) -> float:
        """Return the drift-corrected latency: that at the machine's median speed.

        A machine that is slower for a minute is so for the anchor too.
        """
        return timing.latency.median_ms * self.anchor_ms / timing.anchor_ms

    def layer_of(self, timing: BlockTiming) -> Layer:
        """Return the layer of a block, without its name."""
        return tuple(plan(timing.arch))[timing.layer_number]._replace(name="")


def default_file(space: SearchSpace, key: Key) -> Path:
    """Return the default file of a table, named after its space and key."""
    height, width = key.input_hw
    parts = (
        space.name,
        key.device,
        f"{key.runtime}-{key.runtime_version}",
        f"{key.threads}threads",
        f"batch{key.batch}",
        key.precision,
        f"{height}x{width}",
    )
    name = "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-") for part in parts)
    return Path("latency") / f"{name}.json"


def write_table(path: Path, table: Table) -> None:
    """Write a table atomically."""
    write_atomically(path, json.dumps(to_plain(table)) + "\n")


def read_table(path: Path) -> Table:
    """Read a table; raises UserError for another version, and for unknown or missing keys."""
    document = read_json(path)
    version = document.get("version") if isinstance(document, dict) else None
    if version != TABLE_VERSION:
        raise UserError(f"{path}: version", str(TABLE_VERSION), shown(version))
    table = parse(Table, document, str(path))
    choice = table.choice
    if choice and not (table.archs and (table.blocks or choice.method == "regression")):
        expected = f"measurements to predict from by {choice.method}"
        found = f"{len(table.archs)} architectures and {len(table.blocks)} blocks"
        raise UserError(f"{path}: choice", expected, found)
    return table


def check_table(
    path: Path, table: Table, key: Key, space: SearchSpace, any_device: bool = False
) -> None:
    """Raise UserError for the first difference: the space, then each part of the key.

    `any_device` lets the device and the version of the runtime differ.
    """
    if table.space != space.to_plain():
        raise UserError(
            str(path),
            f"a table of the space {space.name}",
            f"one of {table.space_name} with other options or other input sizes",
            "run `vipnas profile` for it",
        )
    for field in fields(Key):
        found, wanted = getattr(table.key, field.name), getattr(key, field.name)
        of_device = field.name in ("device", "runtime_version")
        if found != wanted and not (of_device and any_device):
            hint = "any_device: true accepts it" if of_device else ""
            raise UserError(f"{path}: {field.name}", repr(wanted), repr(found), hint)
