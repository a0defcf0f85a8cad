"""What a report reads of the JSON files of a run. They may have more keys.

A file that somebody changed is named before anything is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, FiniteFloat, with_config
from typing_extensions import NotRequired, TypedDict  # pydantic reads that of typing from 3.12 on

from vipnas.errors import UserError
from vipnas.files import parse, read_json, read_text
from vipnas.quantities import Constraint

T = TypeVar("T")
_MORE_KEYS = ConfigDict(extra="allow")


class CocoMetrics(TypedDict, total=False):
    """Metrics of COCO; -1 where no person is of that kind."""

    ap: FiniteFloat
    ap50: FiniteFloat
    ap75: FiniteFloat
    ap_medium: FiniteFloat
    ap_large: FiniteFloat
    ar: FiniteFloat
    ar50: FiniteFloat
    ar75: FiniteFloat
    ar_medium: FiniteFloat
    ar_large: FiniteFloat


class PoseTrackMetrics(TypedDict, total=False):
    """AP of PoseTrack: the mean over joints, and each joint's."""

    mean: FiniteFloat
    by_joint: dict[str, FiniteFloat]


@with_config(_MORE_KEYS)
class Metrics(CocoMetrics, total=False):
    """Metrics of a network. Those of COCO are in `coco`, or keys of their own."""

    coco: CocoMetrics
    posetrack: PoseTrackMetrics


@with_config(_MORE_KEYS)
class SummaryRow(Metrics, total=False):
    """A network of `summary.json`, or the networks of a clip. Costs are keys of their own."""

    network: str
    networks: str


@with_config(_MORE_KEYS)
class ClipFrame(TypedDict):
    """A frame of a clip. Costs are keys of their own."""

    frame: int
    fusion: str


class Drift(TypedDict):
    """Similarity and error, by distance from the key frame."""

    distance: int
    oks: FiniteFloat | None
    error_percent: FiniteFloat | None


class Summary(TypedDict, total=False):
    """`summary.json` of a run."""

    test: list[SummaryRow]
    along_clip: list[ClipFrame]
    drift: list[Drift]


class Details(TypedDict, total=False):
    """`details.json` of a retrained network: precision over recall, by threshold."""

    num_images: int
    ap_interval: tuple[FiniteFloat, FiniteFloat]
    ap_by_joint: dict[str, FiniteFloat]
    precision: dict[str, list[FiniteFloat]]


class Record(TypedDict):
    """`done.json` of a stage."""

    result: str
    threads: NotRequired[int | None]


class Retrained(TypedDict):
    """Metrics of a network of `front.json`."""

    ap: FiniteFloat


class FrontRow(TypedDict):
    """A network of `front.json`, with its metrics where it was trained to the end."""

    score: FiniteFloat | None
    retrained: Retrained | None


class Front(TypedDict):
    """`front.json`."""

    rows: list[FrontRow]


class LatencySettings(TypedDict):
    """The latency of a search."""

    table: str


class Ended(TypedDict, total=False):
    """What a search found out about itself."""

    ended_early: str


class Best(TypedDict):
    """`best.json` and `random_best.json`."""

    found: Ended


class SearchSettings(TypedDict, total=False):
    """The section `search` of the settings of a journal."""

    searcher: str
    objectives: list[str]
    constraints: list[Constraint]
    latency: LatencySettings | None


def read_document(kind: type[T], path: Path) -> T | None:
    """Return the document of a file; None if there is no file.

    Raises:
        UserError: If it is no such document.
    """
    return parse(kind, read_json(path), str(path)) if path.is_file() else None


def read_curves(path: Path) -> list[dict[str, float | None]]:
    """Return the lines of a `metrics.jsonl`: finite numbers by name, of which `step` is one.

    A last line that a kill cut short is left out.

    Raises:
        UserError: If a line is no such object, or the file is not UTF-8.
    """
    if not path.is_file():
        return []
    *lines, _ = read_text(path).split("\n")
    return [_curve_point(line, f"{path}: line {number}") for number, line in enumerate(lines, 1)]


def _curve_point(line: str, place: str) -> dict[str, float | None]:
    try:
        raw = json.loads(line)
    except ValueError as error:
        raise UserError(place, "a JSON document", str(error)) from None
    point = parse(dict[str, float | None], raw, place)
    finite = {name: y if y is not None and isfinite(y) else None for name, y in point.items()}
    if finite.get("step") is None:
        raise UserError(f"{place}: step", "a number", "none")
    return finite


def cost_in(row: Mapping[str, Any], name: str, place: str) -> float:
    """Return a cost of a row.

    Raises:
        UserError: If it is no number.
    """
    return parse(FiniteFloat, row.get(name), f"{place}: {name}")
