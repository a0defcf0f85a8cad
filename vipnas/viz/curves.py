"""Training curves as a picture: losses, and the AP of probes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.viz.plots import SERIES, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The first part of a name in `metrics.jsonl`, the label of its axis, and whether it begins at 0.
PANELS = (("loss", "training loss", False), ("ap", "AP on the validation split", True))
# The ratio of the largest to the smallest value from which a logarithmic scale reads better.
LOG_FROM = 20
# Fewer points are no curve.
MIN_POINTS = 2


def draw_curves(path: Path, metrics_file: Path) -> bool:
    """Write a PNG with the curves of a training; return False where there are none yet.

    Args:
        path: The PNG file.
        metrics_file: Its `metrics.jsonl`: a JSON object a line, with `step` and numbers by name,
            such as `loss/random` and `ap/largest`.
    """
    lines = [json.loads(line) for line in metrics_file.read_text(encoding="utf-8").splitlines()]
    panels = [(label, from_0, dict(_series(lines, kind))) for kind, label, from_0 in PANELS]
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5 * len(panels), 4.2), layout="tight")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (label, from_0, series) in zip(axes, panels, strict=True):
        _draw(axis, series)
        values = [value for _, found in series.values() for value in found]
        log_y = not from_0 and reads_better_logarithmic(values)
        axis.set(xlabel="step", ylabel=label, yscale="log" if log_y else "linear")
        if from_0:
            axis.set_ylim(bottom=0)
    write_figure(path, figure)
    return True


def reads_better_logarithmic(values: Sequence[float]) -> bool:
    """Return whether an axis of these values should be logarithmic."""
    return 0 < LOG_FROM * min(values) < max(values)


def _series(
    lines: Sequence[Mapping[str, float | None]], kind: str
) -> Iterator[tuple[str, tuple[list[float], list[float]]]]:
    """Yield each curve of a kind: its name, steps and values. Values that are null are left out."""
    names = {name: None for line in lines for name in line if name.startswith(f"{kind}/")}
    for name in names:
        points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        known = [(float(x), float(y)) for x, y in points if x is not None and y is not None]
        if len(known) >= MIN_POINTS:
            yield name.partition("/")[2], ([x for x, _ in known], [y for _, y in known])


def _draw(axis: Axes, series: Mapping[str, tuple[list[float], list[float]]]) -> None:
    for number, (name, (steps, values)) in enumerate(series.items()):
        colour = SERIES[number % len(SERIES)]
        axis.plot(steps, values, color=colour, label=name.replace("_", " "), linewidth=1.5)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
