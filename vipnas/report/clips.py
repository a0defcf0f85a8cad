"""The section of clips: compute of each frame, and the error with distance from the key frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vipnas.quantities import MACS
from vipnas.report.blocks import Block, Chart, Charts, Drawing, Section, Series, missing
from vipnas.report.documents import cost_in
from vipnas.report.rows import Bar, draw_bars
from vipnas.report.runs import LevelRun
from vipnas.report.searches import colour_of

# The key in summary.json, the heading, and the label.
DRIFT: tuple[tuple[Literal["oks", "error_percent"], str, str], ...] = (
    ("oks", "similarity", "mean OKS"),
    ("error_percent", "joint error", "% of the person's size"),
)


def clips(runs: Sequence[LevelRun]) -> Section | None:
    """Return the section; None for images."""
    runs = [run for run in runs if run.is_clip]
    if not runs:
        return None
    lead = "Key frames have the large network; the frames after it see its heatmaps."
    title, blocks = "Compute and drift of a clip", list[Block]()
    known = [run for run in runs if "along_clip" in run.summary]
    if not known:
        blocks.append(missing("`vipnas run` with the experiment brings compute and drift."))
    for run in known:
        blocks.append(Drawing(_compute(run), f"{run.name}: MMACs of each frame."))
    charts = [
        Chart(heading, "frames since the key frame", label, series, whole_x=True)
        for key, heading, label in DRIFT
        if (series := [_drift(run, key, number) for number, run in enumerate(known)])
    ]
    if charts:
        blocks.append(Charts(charts))
    return Section("clips", title, lead, blocks)


def _compute(run: LevelRun) -> str:
    bars = []
    for frame in run.summary.get("along_clip", ()):
        name = f"frame {frame['frame']}, {frame['fusion']}"
        macs = cost_in(frame, MACS.name, f"{run.root / 'summary.json'}: {name}")
        bars.append(Bar(name, macs, MACS.shown(macs)))
    mean = sum(bar.value for bar in bars) / max(len(bars), 1)
    return draw_bars([*bars, Bar("mean", mean, MACS.shown(mean))], "--run2")


def _drift(run: LevelRun, key: Literal["oks", "error_percent"], number: int) -> Series:
    rows = run.summary.get("drift", ())
    distances, values = [float(row["distance"]) for row in rows], [row[key] for row in rows]
    return Series(run.name, distances, values, colour_of(number))
