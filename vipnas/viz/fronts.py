"""Plot a search: trials, Pareto fronts and reference architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vipnas.quantities import DEFAULT_OBJECTIVES, SCORE, Objective, Quantity, costs_among
from vipnas.search.pareto import pareto_front
from vipnas.search.trial import Trial
from vipnas.viz.plots import RANDOM, REFERENCE, SERIES, write_figure

# Of the search, and of random search.
COLOURS = (SERIES[0], RANDOM)


def draw_front(
    path: Path,
    searches: Mapping[str, Sequence[Trial]],
    ends: Mapping[str, Trial],
    objectives: Sequence[Objective],
) -> None:
    """Write a PNG with the score over each cost among the objectives, one panel per cost.

    Failed trials are left out.

    Args:
        path: The PNG file.
        searches: Trials of the search and of random search, by name. Each has a line, its Pareto
            front.
        ends: Trials of reference architectures (largest, smallest), by name.
        objectives: Objectives of the search.
    """
    # Not pyplot, which looks for a display and keeps every figure alive.
    from matplotlib.figure import Figure

    costs = costs_among(objectives) or costs_among(DEFAULT_OBJECTIVES)
    figure = Figure(figsize=(7 * len(costs), 5), layout="constrained")
    for panel, cost in zip(figure.subplots(1, len(costs), squeeze=False)[0], costs, strict=True):
        panel.set(xlabel=cost.label, ylabel="score with inherited weights")
        panel.grid(alpha=0.3)
        for (method, trials), colour in zip(searches.items(), COLOURS, strict=True):
            scored = [trial for trial in trials if trial.score is not None]
            panel.plot(*_points(scored, cost), "o", color=colour, markersize=4, alpha=0.5)
            front = pareto_front(scored, (SCORE, cost.name))
            line = f"{method}, {len(scored)} scored"
            panel.step(*_points(front, cost), where="post", color=colour, label=line)
        for name, trial in ends.items():
            if trial.score is None:
                continue
            x, y = _points([trial], cost)
            panel.plot(x, y, "D", color=REFERENCE)
            panel.annotate(name, (x[0], y[0]), xytext=(6, 6), textcoords="offset points")
        panel.margins(0.12)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(loc="lower right", frameon=False)
    write_figure(path, figure)


def _points(trials: Sequence[Trial], cost: Quantity) -> tuple[list[float], list[float | None]]:
    return [trial.cost.value(cost.name) / cost.scale for trial in trials], [t.score for t in trials]
