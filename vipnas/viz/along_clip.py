"""Plot a clip: the cost of its frames, and the error by distance from the key frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vipnas.quantities import MACS
from vipnas.viz.plots import write_figure


def draw_along_clip(
    path: Path, frames: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, float]]
) -> None:
    """Write a PNG: compute of each frame with its fusion, and the error by distance.

    Args:
        path: The PNG file.
        frames: The cost and the `fusion` of each frame of a clip.
        errors: Rows of `vipnas.evaluation.drift.drift_of`.
    """
    # Not pyplot, which looks for a display and keeps every figure alive.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    heights = [frame[MACS.name] / MACS.scale for frame in frames]
    colours = ["tab:orange", *["tab:blue"] * (len(frames) - 1)]
    bars = left.bar(range(len(frames)), heights, color=colours)
    labels = [f"{MACS.shown(frame[MACS.name])}\n{frame['fusion']}" for frame in frames]
    # Above the bars: some are low, and that of a frame without a network has no height.
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    left.bar_label(bars, labels, padding=3, bbox=behind)
    left.axhline(float(np.mean(heights)), color="gray", linestyle="--", label="mean")
    left.set(xlabel="frame of the clip", ylabel=MACS.label, xticks=range(len(frames)))
    left.margins(y=0.25)
    left.legend()
    percents = [row["error_percent"] for row in errors]
    right.plot([row["distance"] for row in errors], percents, "o-")
    right.set(xlabel="frames since the key frame", ylabel="joint error, % of the person's size")
    right.set_ylim(0, 1.1 * max(percents))
    right.grid(alpha=0.3)
    write_figure(path, figure)
