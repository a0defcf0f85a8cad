"""The page itself: sections laid out as one HTML file that loads nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

import vipnas
from vipnas.files import write_atomically
from vipnas.report.accuracy import accuracy, predictions
from vipnas.report.answer import answer
from vipnas.report.blocks import Charts, Section
from vipnas.report.clips import clips
from vipnas.report.curves import curves
from vipnas.report.matters import matters
from vipnas.report.networks import networks
from vipnas.report.reproduction import reproduction
from vipnas.report.runs import LevelRun
from vipnas.report.searches import front, progress
from vipnas.report.trust import trust

MakeSection: TypeAlias = Callable[[Sequence[LevelRun]], Section | None]
# In the order of the page.
SECTIONS: tuple[MakeSection, ...] = (
    answer,
    front,
    progress,
    networks,
    matters,
    trust,
    accuracy,
    predictions,
    clips,
    curves,
    reproduction,
)
PAGE_FILES = Path(__file__).resolve().parent / "page"
# Significant digits of coordinates, far finer than a pixel.
DIGITS = 7


@dataclass(frozen=True)
class LevelPage:
    """The sections of one level: its anchor, its name on the tab."""

    anchor: str
    name: str
    sections: Sequence[Section]


def write_report(path: Path, title: str, runs: Sequence[LevelRun]) -> None:
    """Write the page of these runs, whose two levels have a tab each.

    Args:
        path: The HTML file.
        title: The title of the page.
        runs: The levels of all runs.
    """
    by_level = {
        ("images", "Images"): [run for run in runs if not run.is_clip],
        ("clips", "Clips"): [run for run in runs if run.is_clip],
    }
    levels = [
        LevelPage(anchor, name, _sections(found))
        for (anchor, name), found in by_level.items()
        if found
    ]
    write_atomically(path, render(title, levels))


def _sections(runs: Sequence[LevelRun]) -> list[Section]:
    return [section for make in SECTIONS if (section := make(runs)) is not None]


def render(title: str, levels: Sequence[LevelPage]) -> str:
    """Return the page as HTML."""
    return (
        _environment()
        .get_template("page.html.j2")
        .render(title=title, levels=levels, version=vipnas.__version__)
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vipnas.report", "page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(prose=prose, plain=plain)
    environment.globals.update(file=_file)
    return environment


def _file(name: str) -> Markup:
    """Return a file of the page, to be put into it as it is."""
    return Markup((PAGE_FILES / name).read_text(encoding="utf-8"))


def prose(text: str) -> Markup:
    """Return escaped text, in which what is in backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def plain(block: Charts) -> dict[str, Any]:
    """Return charts as what `charts.js` reads, their coordinates rounded."""
    found = asdict(block)
    for chart in found["charts"]:
        for series in chart["series"]:
            for axis in ("x", "y"):
                series[axis] = [
                    value if value is None else float(f"{value:.{DIGITS}g}")
                    for value in series[axis]
                ]
    return found
