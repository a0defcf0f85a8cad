"""Drawings of architectures: what they say, and what they mark."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vipnas.arch.clip import FollowUp, Fusion, VideoArch
from vipnas.arch.io import read_arch
from vipnas.cli.main import main
from vipnas.models.counting import count_cost, segment_costs
from vipnas.space.image import SearchSpace
from vipnas.viz.architectures import draw_architectures, drawn_of


def marked(svg: str) -> list[str]:
    return re.findall(r'class="changed" [^>]*>([^<]*)<', svg)


def test_a_drawing_has_every_block_and_marks_what_differs(tiny_space: SearchSpace) -> None:
    arch = tiny_space.max_arch()
    alone = draw_architectures(drawn_of("a", arch))
    num_blocks = sum(stage.depth for stage in arch.stages) + len(arch.head) + 2
    assert alone.count('class="slab') == num_blocks
    assert marked(alone) == []
    first = replace(arch.stages[0], kernel_size=3, attention=False)
    other = replace(arch, stages=(first, *arch.stages[1:]))
    both = draw_architectures(drawn_of("a", arch), drawn_of("<b>", other))
    before = arch.stages[0]
    assert (before.kernel_size, before.attention) == (7, True)
    assert marked(both) == ["7", "yes", "3", "–"]
    assert "&lt;b&gt;" in both
    ElementTree.fromstring(both)  # well-formed


def test_shares_of_the_parts_add_up(tiny_space: SearchSpace) -> None:
    arch = tiny_space.min_arch()
    parts = segment_costs(arch)
    assert sum(cost.macs for _, cost in parts) == count_cost(arch).macs
    ms = {part.name: float(number) for number, (part, _) in enumerate(parts, start=1)}
    shares = re.findall(r">([\d.]+)%<", draw_architectures(drawn_of("", arch), (), lambda _: ms))
    assert len(shares) == 2 * len(parts)
    assert [sum(map(float, half)) for half in (shares[::2], shares[1::2])] == pytest.approx(
        [100, 100], abs=0.3
    )


def test_the_fusion_of_a_clip_is_after_its_stage(tiny_space: SearchSpace) -> None:
    arch = tiny_space.min_arch()
    last = len(arch.stages) + len(arch.head)
    clip = VideoArch(arch, (FollowUp(arch, Fusion(last, "mul")), FollowUp(arch, None), None))
    other = VideoArch(arch, (None, FollowUp(arch, None), FollowUp(arch, None)))
    svg = draw_architectures(drawn_of("clip", clip), drawn_of("other", other))
    assert svg.count('class="fusion"') == 1
    assert f"frame 1: mul at {last}" in svg and "frame 2: no fusion" in svg
    assert svg.count(": no network<") == 2


def test_draw_takes_names_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "arch.svg"
    name = "published/s_vipnas_mbv3"
    assert main(["draw", name, "-o", str(output)]) == 0
    drawn = ElementTree.parse(output).getroot()
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert str(count_cost(read_arch(Path("search_spaces") / f"{name}.json"))) in output.read_text()
    assert main(["draw", name, name, name, "-o", str(output)]) == 1
    assert "ARCH: expected one or two architectures, got 3" in capsys.readouterr().err
