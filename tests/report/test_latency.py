"""Milliseconds of a search by latency, from a table made by hand: half a millisecond a layer."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from report_fixture import write_run

from vipnas.arch.image import Arch
from vipnas.latency.interleaved import Latency
from vipnas.latency.measure import Key
from vipnas.latency.table import ArchTiming, BlockTiming, Choice, Table, write_table
from vipnas.models.posenet import plan, segments
from vipnas.pipeline.report import levels_of
from vipnas.pipeline.run_folder import RunFolder
from vipnas.report.blocks import Charts, Drawing, Text
from vipnas.report.networks import networks
from vipnas.report.runs import LevelRun
from vipnas.report.trust import trust
from vipnas.space.image import SearchSpace

NUM_ARCHS, MS_OF_LAYER = 12, 0.5
KEY = Key("made up", "onnxruntime", "1.0", 1, 1, "fp32", (64, 48))


def num_layers(arch: Arch) -> int:
    return sum(1 for _ in plan(arch))


def ms_of(arch: Arch) -> float:
    return MS_OF_LAYER * num_layers(arch)


@pytest.fixture(scope="module")
def archs(tiny_space: SearchSpace) -> list[Arch]:
    rng = random.Random(0)
    return [tiny_space.sample(rng) for _ in range(NUM_ARCHS)]


@pytest.fixture(scope="module")
def run(
    archs: list[Arch], tiny_space: SearchSpace, tmp_path_factory: pytest.TempPathFactory
) -> LevelRun:
    """A run whose search names the table. The machine was slower for the first network."""
    folder = tmp_path_factory.mktemp("latency")
    speeds = [1.2, *[1.0] * (NUM_ARCHS - 1)]
    timings = tuple(
        ArchTiming(Latency(speed * ms_of(arch), 0.0, 12), 10.0 * speed, arch)
        for speed, arch in zip(speeds, archs, strict=True)
    )
    blocks = tuple(
        BlockTiming(Latency(MS_OF_LAYER, 0.0, 12), 10.0, arch, number)
        for arch in archs
        for number in range(num_layers(arch))
    )
    choice = Choice("blocks", {"blocks": 0.01})
    table = Table(2, "0", KEY, "tiny", {}, 0, 0.5, NUM_ARCHS, len(blocks), timings, blocks, choice)
    write_table(folder / "table.json", table)
    write_run(folder / "run", tiny_space)
    journal = folder / "run" / "search" / "trials.jsonl"
    first, *trials = journal.read_text().splitlines()
    header = json.loads(first)
    header["settings"]["search"]["latency"] = {"table": str(folder / "table.json")}
    journal.write_text("\n".join((json.dumps(header), *trials)) + "\n")
    (level,) = levels_of([RunFolder(folder / "run")])
    assert level.latency_table == folder / "table.json"
    return level


def test_predicted_milliseconds_are_drawn_over_measured_ones(
    run: LevelRun, archs: list[Arch]
) -> None:
    section = trust([run])
    assert section is not None
    charts = [c for block in section.blocks if isinstance(block, Charts) for c in block.charts]
    (chart,) = [chart for chart in charts if chart.title == "latency"]
    points, line = chart.series
    expected = [ms_of(arch) for arch in archs]  # without the machine's slow moment
    assert list(points.x) == pytest.approx(expected)
    assert list(points.y) == pytest.approx(expected, rel=0.02)
    assert (list(line.x), list(line.y)) == ([min(expected), max(expected)],) * 2
    text = [block.text for block in section.blocks if isinstance(block, Text)][-1]
    found = re.fullmatch(
        r"run: .*\(cross-validation error: blocks 1\.0%\)\. .* ([\d.]+) ms\.", text
    )
    assert found is not None and run.winner is not None and isinstance(run.winner.arch, Arch)
    assert float(found[1]) == pytest.approx(ms_of(run.winner.arch), rel=0.03)


def test_each_part_of_the_network_has_its_share_of_milliseconds(run: LevelRun) -> None:
    section = networks([run])
    assert section is not None and run.winner is not None
    assert isinstance(run.winner.arch, Arch)
    svg = next(block.markup for block in section.blocks if isinstance(block, Drawing))
    assert ">milliseconds<" in svg
    layers = [sum(1 for _ in part.layers()) for part in segments(run.winner.arch)]
    # The winner is drawn first: for each part its share of MACs, then that of milliseconds.
    percents = [float(found) for found in re.findall(r">([\d.]+)%<", svg)][1 : 2 * len(layers) : 2]
    assert percents == pytest.approx([100 * count / sum(layers) for count in layers], abs=1.5)


def test_without_a_table_the_page_says_what_brings_milliseconds(
    tmp_path: Path, tiny_space: SearchSpace
) -> None:
    write_run(tmp_path / "run", tiny_space)
    section = networks(levels_of([RunFolder(tmp_path / "run")]))
    assert section is not None
    assert "search.latency.table" in str(section.blocks)
    assert "milliseconds<" not in str(section.blocks)
