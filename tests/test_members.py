"""Architectures by name, as the tools take them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tool_fixture import tool

from vipnas.arch.io import write_arch
from vipnas.latency.profile import anchor_of
from vipnas.space.image import SearchSpace


@pytest.fixture(scope="module")
def members() -> Any:
    return tool("benchmarks.members")


def test_members_by_name(members: Any, tiny_space: SearchSpace, tmp_path: Path) -> None:
    assert members.find_member("tiny") == anchor_of(tiny_space)
    assert members.find_member("tiny:smallest") == tiny_space.min_arch()
    assert members.find_member("tiny:largest") == tiny_space.max_arch()
    drawn = members.find_member("tiny:0")
    assert drawn in tiny_space
    assert drawn == members.find_member("tiny:0") != members.find_member("tiny:1")
    write_arch(tmp_path / "found.json", drawn)
    assert members.find_member(str(tmp_path / "found.json")) == drawn


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("tiny:middle", "found middle, allowed are smallest, largest and seeds"),
        ("published/s_vipnas_res50:0", "of an arch; a space has members"),
    ],
)
def test_no_member_of_that_name(members: Any, name: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        members.find_member(name)
