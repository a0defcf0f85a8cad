"""Small charts with a row for each name, as SVG that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

LABELS_PX, PLOT_PX, NOTES_PX, ROW_PX = 236, 420, 110, 21


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
    lines = []
    for number, bar in enumerate(bars):
        y = number * ROW_PX
        width = PLOT_PX * bar.value / largest
        lines += [
            _text(LABELS_PX - 10, y + 15, bar.name, "end"),
            f'<rect x="{LABELS_PX}" y="{y + 4}" width="{max(width, 1):.1f}" height="14" rx="2" '
            f'style="fill:var({colour})"/>',
            _text(LABELS_PX + width + 7, y + 15, bar.note, kind="soft"),
        ]
    return _svg(lines, ROW_PX * len(bars) + 6)


def draw_ranges(ranges: Sequence[Range]) -> str:
    """Draw the range of each option on one axis; options of one choice are in one group."""
    low = min((one.low for one in ranges), default=0.0)
    span = (max((one.high for one in ranges), default=1.0) - low) or 1.0

    def x(value: float) -> float:
        return LABELS_PX + PLOT_PX * (value - low) / span

    lines, y = [], 0
    for number, one in enumerate(ranges):
        if number == 0 or ranges[number - 1].group != one.group:
            y += 8
            lines.append(_text(0, y + 15, one.group))
        middle = y + 11
        lines += [
            _text(LABELS_PX - 10, y + 15, one.name, "end", "soft"),
            f'<path d="M{x(one.low):.1f} {middle}H{x(one.high):.1f}" class="range"/>',
            f'<circle cx="{x(one.median):.1f}" cy="{middle}" r="4.5" class="median">'
            f"<title>{one.low:.4f}, median {one.median:.4f}, {one.high:.4f}</title></circle>",
            _text(
                LABELS_PX + PLOT_PX + 12, y + 15, f"{one.median:.3f}, {one.num_trials}", kind="soft"
            ),
        ]
        y += ROW_PX
    for value, anchor in ((low, "start"), (low + span, "end")):
        lines.append(_text(x(value), y + 18, f"{value:.3f}", anchor, "soft"))
    lines.append(_text(LABELS_PX + PLOT_PX + 12, y + 18, "median, trials", kind="soft"))
    return _svg(lines, y + 26)


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(lines: Sequence[str], height: int) -> str:
    width = LABELS_PX + PLOT_PX + NOTES_PX
    head = f'<svg class="rows" role="img" width="{width}" height="{height}">'
    return "\n".join((head, *lines, "</svg>"))
