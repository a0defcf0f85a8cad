"""Small charts with a row for each name, as HTML that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Bar(NamedTuple):
    """A bar from 0, and what is written beside it."""

    name: str
    value: float
    note: str


class Range(NamedTuple):
    """The scores of an option: the 10th, 50th and 90th percentile, and their number."""

    group: str
    name: str
    low: float
    median: float
    high: float
    num_trials: int


def draw_bars(bars: Sequence[Bar], colour: str = "--run0") -> str:
    """Draw a bar for each name; the longest is as wide as the chart. Values are not negative."""
    largest = max((bar.value for bar in bars), default=0.0) or 1.0
    rows = []
    for bar in bars:
        style = f"width:{bar.value / largest:.2%};background:var({colour})"
        rows.append(_row(bar.name, f'<i class="bar" style="{style}"></i>', bar.note))
    return _rows(rows)


def draw_ranges(ranges: Sequence[Range]) -> str:
    """Draw the range of each option on one axis; options of one choice are under its name."""
    low = min((one.low for one in ranges), default=0.0)
    span = (max((one.high for one in ranges), default=1.0) - low) or 1.0
    rows = []
    for number, one in enumerate(ranges):
        if number == 0 or ranges[number - 1].group != one.group:
            rows.append(f'<b class="group">{escape(one.group)}</b>')
        first, median = (one.low - low) / span, (one.median - low) / span
        track = (
            f'<i class="range" style="left:{first:.2%};width:{(one.high - one.low) / span:.2%}">'
            f'</i><i class="median" style="left:{median:.2%}" '
            f'title="{one.low:.4f}, median {one.median:.4f}, {one.high:.4f}"></i>'
        )
        rows.append(_row(one.name, track, f"{one.median:.3f}, {one.num_trials}"))
    ends = f'<small>{low:.3f}</small><small class="end">{low + span:.3f}</small>'
    return _rows([*rows, _row("", ends, "median, trials")])


def _row(name: str, track: str, note: str) -> str:
    """Return the three cells of a row; `track` is HTML."""
    return f"<span>{escape(name)}</span><div>{track}</div><em>{escape(note)}</em>"


def _rows(rows: Sequence[str]) -> str:
    return "\n".join(('<div class="rows">', *rows, "</div>"))
