"""The section that draws the network found beside others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from vipnas.arch.clip import VideoArch
from vipnas.files import digest
from vipnas.latency.predictors import Predictor
from vipnas.latency.table import read_table
from vipnas.report.blocks import Block, Drawing, Folded, Section, Text, missing
from vipnas.report.runs import AnyArch, LevelRun, best_of
from vipnas.viz.architectures import PartMs, draw_architectures, drawn_of


def networks(runs: Sequence[LevelRun]) -> Section | None:
    """Return the section; None where nothing was found."""
    found = {run.name: arch for run in runs if (arch := run.found_arch) is not None}
    if not found:
        return None
    blocks: list[Block] = []
    drawn: dict[AnyArch, str] = {}
    for run in runs:
        if run.name not in found:
            continue
        arch = found[run.name]
        if arch in drawn:
            continue  # named beside the first run that found it
        drawn[arch] = run.name
        rest = {name: other for name, other in found.items() if name != run.name}
        blocks += _drawings(run, arch, {**run.beside, **rest})
    if all(run.latency_table is None for run in runs):
        text = "Milliseconds of each part come with a search by latency: `search.latency.table`."
        blocks.append(missing(text))
    lead = "A slab is a block: as high as its resolution, as thick as its width. "
    lead += "Choices that differ between both networks are marked."
    return Section("networks", "The network, stage by stage", lead, blocks)


def _drawings(run: LevelRun, arch: AnyArch, others: Mapping[str, AnyArch]) -> list[Block]:
    """Return a drawing beside the first of the others, and folded ones beside the rest.

    The first is random search's best. Clips have several networks, and are drawn alone first.
    """
    random = best_of(run.randoms)
    trials = {} if random is None else {"random search's best": random}
    beside = {name: trial.arch for name, trial in (trials | run.references).items()}
    beside |= {name: other for name, other in others.items() if type(other) is type(arch)}
    part_ms = None if run.latency_table is None else part_ms_of(run.latency_table)
    own = drawn_of(f"{run.name}: found", arch)
    different = {name: other for name, other in beside.items() if other != arch}
    equal = [name for name, other in beside.items() if other == arch]
    blocks: list[Block] = []
    if equal:
        blocks.append(Text(f"The same architecture: {', '.join(equal)}."))
    svgs = {
        name: draw_architectures(own, drawn_of(name, other), part_ms)
        for name, other in different.items()
    }
    shown = next(iter(svgs), None) if not isinstance(arch, VideoArch) else None
    first = draw_architectures(own, (), part_ms) if shown is None else svgs.pop(shown)
    folded = [Folded(f"beside {name}", [Drawing(svg)]) for name, svg in svgs.items()]
    return [Drawing(first), *blocks, *folded]


@cache
def part_ms_of(table: Path) -> PartMs:
    """Return the function that predicts the milliseconds of the parts of a network."""
    return Predictor(read_table(table), digest(table)).segment_ms
