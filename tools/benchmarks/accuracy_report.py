"""The table, the comparisons and the picture of tools/benchmarks/compare_accuracy.py."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.benchmarks.command import command_line
from vipnas.files import to_plain, write_atomically
from vipnas.latency.interleaved import Latency
from vipnas.quantities import Cost
from vipnas.viz.plots import write_figure

GROUPS = {
    "a": ("latency search", "tab:red", "o"),
    "b": ("MACs search", "tab:blue", "s"),
    "c": ("published", "black", "*"),
    "d": ("scaled by width", "tab:gray", "D"),
}


class Measured(NamedTuple):
    """Of one training: test AP and PCK in 0..1, and the AP over test images drawn again, the same
    ones for every network."""

    ap: float
    pck: float
    ap_samples: NDArray[np.float64]


class Row(NamedTuple):
    """A network; its name begins with the letter of its group. One training for every seed."""

    name: str
    cost: Cost
    latencies: dict[str, Latency]
    trainings: tuple[Measured, ...]

    @property
    def group(self) -> str:
        return self.name[0]

    @property
    def ap(self) -> float:
        return float(np.mean([training.ap for training in self.trainings]))

    @property
    def pck(self) -> float:
        return float(np.mean([training.pck for training in self.trainings]))

    @property
    def ap_samples(self) -> NDArray[np.float64]:
        """Of the mean over the seeds."""
        samples = np.array([training.ap_samples for training in self.trainings])
        return np.asarray(samples.mean(axis=0), dtype=np.float64)

    @property
    def ms(self) -> float:
        """In the first of the runtimes."""
        return next(iter(self.latencies.values())).median_ms


def write_report(output: Path, rows: Sequence[Row], budgets: Sequence[float]) -> None:
    """accuracy.json, accuracy.png and accuracy.md."""
    document = [
        {
            "name": row.name,
            **to_plain(row.cost),
            "latencies": to_plain(row.latencies),
            "ap": [training.ap for training in row.trainings],
            "pck": [training.pck for training in row.trainings],
            "ap_interval": _interval(row.ap_samples),
        }
        for row in rows
    ]
    write_atomically(output / "accuracy.json", json.dumps(document, indent=1) + "\n")
    _draw(output / "accuracy.png", rows, budgets)
    lines = [command_line(), "", *_table(rows), "", *_comparisons(rows)]
    text = "\n".join(lines) + "\n"
    write_atomically(output / "accuracy.md", text)
    print(text)


def _table(rows: Sequence[Row]) -> Iterator[str]:
    """AP and PCK in hundredths, quickest first."""
    runtimes = list(rows[0].latencies)
    columns = ["network", "MMACs", "M parameters", *(f"ms, {name}" for name in runtimes)]
    columns += ["AP [95 %]", "AP by seed", "PCK"]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in sorted(rows, key=lambda row: row.ms):
        low, high = _interval(row.ap_samples)
        times = (
            f"{latency.median_ms:.2f} (spread {latency.spread:.0%})"
            for latency in row.latencies.values()
        )
        cells = [
            row.name,
            f"{row.cost.macs / 1e6:.1f}",
            f"{row.cost.params / 1e6:.2f}",
            *times,
            f"{row.ap * 100:.1f} [{low * 100:.1f}, {high * 100:.1f}]",
            ", ".join(f"{training.ap * 100:.1f}" for training in row.trainings),
            f"{row.pck * 100:.1f}",
        ]
        yield f"| {' | '.join(cells)} |"


def _comparisons(rows: Sequence[Row]) -> Iterator[str]:
    """What each network found on milliseconds has over those of the other groups."""
    runtimes = list(rows[0].latencies)
    ratios_of = " | ".join(f"its ms / other, {name}" for name in runtimes)
    yield f"| found | other | {ratios_of} | AP more [95 %] |"
    yield "|---|---|" + "---|" * (len(runtimes) + 1)
    for found in (row for row in rows if row.group == "a"):
        for other in (row for row in rows if row.group != "a"):
            ratios = (
                f"{latency.median_ms / other.latencies[name].median_ms:.2f}"
                for name, latency in found.latencies.items()
            )
            low, high = _interval(found.ap_samples - other.ap_samples)
            more = (found.ap - other.ap) * 100
            gain = f"{more:+.1f} [{low * 100:+.1f}, {high * 100:+.1f}]"
            yield f"| {found.name} | {other.name} | {' | '.join(ratios)} | {gain} |"


def _interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(samples, (2.5, 97.5))
    return float(low), float(high)


def _draw(path: Path, rows: Sequence[Row], budgets: Sequence[float]) -> None:
    """AP over ms, a panel for each runtime; the budgets are of the first."""
    from matplotlib.figure import Figure

    runtimes = list(rows[0].latencies)
    figure = Figure(figsize=(8 * len(runtimes), 6), layout="constrained")
    panels = figure.subplots(1, len(runtimes), squeeze=False, sharey=True)[0]
    for panel, runtime in zip(panels, runtimes, strict=True):
        for letter, (text, colour, marker) in GROUPS.items():
            group = [row for row in rows if row.group == letter]
            if not group:
                continue
            ms = [row.latencies[runtime].median_ms for row in group]
            ap = [row.ap * 100 for row in group]
            ends = np.array([_interval(row.ap_samples) for row in group]).T * 100
            bars = np.abs(ends - np.array(ap))
            panel.errorbar(
                ms, ap, bars, fmt=marker, color=colour, label=f"({letter}) {text}", markersize=8
            )
        # Names of what was found on the left, the others above and below in turn.
        for place, row in enumerate(sorted(rows, key=lambda row: row.latencies[runtime].median_ms)):
            found = row.group == "a"
            panel.annotate(
                row.name[2:],
                (row.latencies[runtime].median_ms, row.ap * 100),
                xytext=(-6 if found else 6, 5 if found or place % 2 else -11),
                textcoords="offset points",
                horizontalalignment="right" if found else "left",
                fontsize=7,
            )
        if runtime == runtimes[0]:
            for budget in budgets:
                panel.axvline(budget, color="tab:red", linestyle=":", linewidth=1)
        panel.set(xscale="log", xlabel=f"ms, {runtime}, one image", ylabel="test AP")
        panel.margins(x=0.2, y=0.1)
        for formatted in (panel.xaxis.set_major_formatter, panel.xaxis.set_minor_formatter):
            formatted("{x:g}")
        panel.grid(alpha=0.3, which="both")
        panel.legend()
    write_figure(path, figure, dots_per_inch=110)
