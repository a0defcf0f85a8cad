"""Architectures by name, for tools that take any."""

from __future__ import annotations

import random

from vipnas.arch.image import Arch
from vipnas.arch.io import read_arch
from vipnas.latency.profile import anchor_of
from vipnas.shipped import find_shipped
from vipnas.space.yaml import read_space

HELP = "an arch file or SPACE[:MEMBER], the member smallest, largest or a seed; else its middle"


def find_member(name: str) -> Arch:
    """`published/s_vipnas_res50`, `found.json`, `lat_vipnas`, `lat_vipnas:smallest`,
    `lat_vipnas:0`."""
    file, _, member = name.partition(":")
    path = find_shipped("search_spaces", file)
    if path.suffix == ".json":
        if member:
            raise ValueError(f"{name}: found a member, {member}, of an arch; a space has members")
        return read_arch(path)
    space = read_space(path)
    if member in ("largest", "smallest"):
        return space.max_arch() if member == "largest" else space.min_arch()
    if member and not member.isdecimal():
        raise ValueError(f"{name}: found {member}, allowed are smallest, largest and seeds")
    return space.sample(random.Random(int(member))) if member else anchor_of(space)
