"""What was measured of a space on one device, in one JSON file: strict to read, written whole."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PositiveInt

from vipnas.arch.image import Arch
from vipnas.files import Strict, parse, read_json, to_plain, write_atomically
from vipnas.latency.interleaved import Latency
from vipnas.latency.measure import Key
from vipnas.models.posenet import Layer, plan
from vipnas.space.image import SearchSpace

TABLE_VERSION = 2


@dataclass(frozen=True)
class Timing(Strict):
    """A latency as it was measured, and that of the anchor, a network timed in the same rounds."""

    latency: Latency
    anchor_ms: float


@dataclass(frozen=True)
class ArchTiming(Timing):
    """Of a whole network."""

    arch: Arch


@dataclass(frozen=True)
class BlockTiming(Timing):
    """Of one layer as a network of its own: that of this number, from 0, in the plan of `arch`."""

    arch: Arch
    layer_number: int


@dataclass(frozen=True)
class Choice(Strict):
    """How the table predicts best: `method`, and for every method tried the mean absolute error
    over archs that it was not fitted to (cross-validation), relative to what was measured."""

    method: str
    errors: dict[str, float]


@dataclass(frozen=True)
class Table(Strict):
    """All measurements of a space under one key; `choice` is None until all are there."""

    version: int
    vipnas: str
    key: Key
    space_name: str
    space: dict[str, Any]
    seed: int
    evenly: float
    num_archs: PositiveInt
    num_blocks: int
    archs: tuple[ArchTiming, ...] = ()
    blocks: tuple[BlockTiming, ...] = ()
    choice: Choice | None = None

    @property
    def anchor_ms(self) -> float:
        """What all times are scaled to: the anchor's median over the whole table."""
        return float(np.median([timing.anchor_ms for timing in (*self.archs, *self.blocks)]))

    def drift_corrected_ms(self, timing: Timing) -> float:
        """The time as it would have been at the machine's median speed: a machine that is slower
        for a minute is so for the anchor too."""
        return timing.latency.median_ms * self.anchor_ms / timing.anchor_ms

    def layer_of(self, timing: BlockTiming) -> Layer:
        return tuple(plan(timing.arch))[timing.layer_number]._replace(name="")


def default_file(space: SearchSpace, key: Key) -> Path:
    """`latency/…json`, named after all that the table belongs to."""
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
    write_atomically(path, json.dumps(to_plain(table)) + "\n")


def read_table(path: Path) -> Table:
    document = read_json(path)
    version = document.get("version") if isinstance(document, dict) else None
    if version != TABLE_VERSION:
        raise ValueError(f"{path}: version: found {version!r}, allowed is {TABLE_VERSION}")
    return parse(Table, document, str(path))


def check_table(
    path: Path, table: Table, key: Key, space: SearchSpace, any_device: bool = False
) -> None:
    """Raises ValueError in one line naming the first thing that the table is not of: the space,
    then every part of the key. `any_device` lets device and version of the runtime differ."""
    if table.space != space.to_plain():
        raise ValueError(
            f"{path}: made for the space {table.space_name} with other options or another input"
            f" size, asked for is {space.name}; run `vipnas profile` for it"
        )
    for field in fields(Key):
        found, wanted = getattr(table.key, field.name), getattr(key, field.name)
        of_device = field.name in ("device", "runtime_version")
        if found != wanted and not (of_device and any_device):
            hint = "; any_device: true takes it all the same" if of_device else ""
            raise ValueError(
                f"{path}: {field.name}: made with {found!r}, asked for is {wanted!r}{hint}"
            )
