"""Describe a model file in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from vipnas.arch.clip import fusion_in_words
from vipnas.deploy.model import PoseModel
from vipnas.models.counting import count_cost, mean_cost
from vipnas.models.file import SUFFIX, read_header
from vipnas.models.header import ModelHeader
from vipnas.runtimes.exported import ExportedNetwork
from vipnas.runtimes.exported_clip import ExportedClip


def header_of_file(path: Path, load: Callable[[], PoseModel]) -> tuple[ModelHeader, str]:
    """Return the header and the kind of its file, without loading the weights."""
    if path.suffix == SUFFIX:
        return read_header(path), "model file"
    model = load()
    if isinstance(model.network, ExportedNetwork):
        form = f"exported file, {model.network.takes} to {model.network.gives}"
        return model.header, form
    if isinstance(model.network, ExportedClip):
        return model.header, "folder of an exported clip"
    return model.header, "checkpoint of the published format"


def describe(header: ModelHeader, form: str) -> Iterator[str]:
    """Yield the lines of the description."""
    facts, (height, width) = header.input, header.input.hw
    yield f"file: {form}, format {header.format_version}"
    yield f"kind: {header.kind.replace('_', ' ')}"
    yield from _networks(header)
    yield f"skeleton: {header.skeleton.name}, {header.skeleton.num_joints} joints"
    arch = header.key_frame
    if arch.simcc is not None:
        maps, bins = "{} x {}".format(*arch.maps_hw), "{} + {}".format(*arch.bins_xy)
        yield f"head: simcc, maps of {maps} (height x width) to {bins} bins (x + y)"
    of = "heatmap" if arch.simcc is None else "input"
    yield f"codec: {header.codec}, sigma {header.sigma_px:g} px of the {of}"
    yield f"score: {header.score}"
    yield (
        f"input: {height} x {width} (height x width), {facts.colour_order.upper()}, mean"
        f" {_numbers(facts.mean)}, std {_numbers(facts.std)}; box padding {facts.box_padding:g}"
        f"{', stretched' if facts.aspect == 'stretch' else ''}"
    )
    norm = header.batch_norm
    yield f"batch norm: {f'measured on {norm.on}' if norm.calibrated else 'not calibrated'}"
    known = {
        name: value for name, value in vars(header.provenance).items() if value not in (None, {})
    }
    if known:
        yield f"made by: {', '.join(f'{name} {value}' for name, value in known.items())}"
    if header.metrics:
        yield f"metrics: {', '.join(f'{name} {value}' for name, value in header.metrics.items())}"


def _networks(header: ModelHeader) -> Iterator[str]:
    if header.kind == "clip":
        assert header.clip is not None
        yield f"clip: {len(header.clip)} frames, {mean_cost(header.clip)} on average"
        for number, follow_up in enumerate(header.clip.follow_ups, start=1):
            sized = "" if follow_up is None else ", input {} x {}".format(*follow_up.arch.input_hw)
            yield f"follow-up frame {number}: {fusion_in_words(follow_up)}{sized}"
        yield f"key frames: {header.key_frames or f'every {len(header.clip)} frames'}"
        return
    assert header.arch is not None
    what = "arch" if header.kind == "image" else "largest arch"
    yield f"{what}: {header.arch.family}, {count_cost(header.arch)}"
    if header.space is not None:
        space = header.search_space(header.kind)
        yield f"space: {space.name}, {space.size:,} architectures"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
