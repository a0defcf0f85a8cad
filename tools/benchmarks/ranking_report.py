"""How well two rankings agree, and the report of it: for tools/benchmarks/rank_correlation.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from vipnas.quantities import Cost
from vipnas.viz.plots import write_figure

Floats = NDArray[np.float64]
Coefficient = Callable[[Floats, Floats], float]

NUM_RESAMPLES = 1000


class Agreement(NamedTuple):
    """A coefficient, and the interval that holds 95 % of it over architectures drawn again."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def kendall(first: Floats, second: Floats) -> float:
    """Tau-b, -1 to 1; 0 where one side does not tell any two apart."""
    return _finite(kendalltau(first, second).statistic)


def spearman(first: Floats, second: Floats) -> float:
    """Rank correlation, -1 to 1; 0 where one side does not tell any two apart."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return _finite(spearmanr(first, second).statistic)


def reachable_tau(variance_of_one: float, variance_between: float) -> float:
    """Kendall's tau between the mean AP of many trainings and the AP of one; both are normal."""
    known = max(0.0, 1 - variance_of_one / variance_between) if variance_between else 0.0
    return 2 / math.pi * math.asin(math.sqrt(known))


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0


def bootstrap(statistic: Callable[[NDArray[np.int64]], float], count: int) -> Agreement:
    """A statistic of indices 0 to `count` - 1, and its percentiles over architectures drawn with
    replacement."""
    rng = np.random.default_rng(0)
    drawn = [statistic(rng.integers(0, count, count)) for _ in range(NUM_RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Agreement(statistic(np.arange(count)), float(low), float(high))


def agreement(coefficient: Coefficient, predictor: Floats, truth: Floats) -> Agreement:
    return bootstrap(lambda index: coefficient(predictor[index], truth[index]), len(truth))


def advantage(
    coefficient: Coefficient, predictor: Floats, baseline: Floats, truth: Floats
) -> Agreement:
    """By how much one predictor agrees better than another, over the same architectures."""
    return bootstrap(
        lambda index: (
            coefficient(predictor[index], truth[index]) - coefficient(baseline[index], truth[index])
        ),
        len(truth),
    )


def rows_of(
    predictors: dict[str, Floats], truth: Floats, members: Sequence[int]
) -> list[dict[str, Any]]:
    """For each predictor tau, rho and by how much its tau surpasses that of MACs."""
    index = np.array(members)
    return [
        {
            "predictor": name,
            "tau": agreement(kendall, values[index], truth[index]),
            "rho": agreement(spearman, values[index], truth[index]),
            "above_macs": advantage(
                kendall, values[index], predictors["MACs"][index], truth[index]
            ),
            "mean": float(values[index].mean()),
        }
        for name, values in predictors.items()
    ]


def table(title: str, rows: list[dict[str, Any]], count: int) -> list[str]:
    lines = [
        f"## {title} ({count} archs)",
        "",
        "| ranked by | Kendall tau | Spearman rho | tau above that of MACs | mean score |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        score = f"{row['mean']:.3f}" if row["mean"] <= 1 else ""
        above = "" if row["predictor"] == "MACs" else str(row["above_macs"])
        lines.append(f"| {row['predictor']} | {row['tau']} | {row['rho']} | {above} | {score} |")
    return [*lines, ""]


def scatter(path: Path, predictors: dict[str, Floats], truth: Floats, num_spread: int) -> None:
    columns = 4
    rows = -(-len(predictors) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(predictors) :]:
        axis.set_visible(False)
    for axis, (name, values) in zip(axes.flat, predictors.items(), strict=False):
        axis.scatter(values[:num_spread], truth[:num_spread], s=14, label="spread over MACs")
        axis.scatter(values[num_spread:], truth[num_spread:], s=14, label="within the band")
        axis.set_title(f"{name}, tau {kendall(values, truth):.2f}", fontsize=9)
        axis.tick_params(labelsize=7)
    axes[0][0].legend(fontsize=7)
    figure.supylabel("AP, trained alone")
    figure.supxlabel("MACs, parameters, score with inherited weights")
    write_figure(path, figure, dots_per_inch=110)


@dataclass(frozen=True)
class Ranking:
    """What was measured of each architecture: first those spread over MACs, then those of the band.

    `alone` is the AP of training alone, and again with another seed for some; `inherited` the
    scores of each supernet.
    """

    costs: Sequence[Cost]
    num_spread: int
    alone: Floats
    again: dict[int, float]
    inherited: dict[str, Floats]

    @property
    def predictors(self) -> dict[str, Floats]:
        """What may foretell the AP of training alone."""
        return {
            "MACs": np.array([float(cost.macs) for cost in self.costs]),
            "parameters": np.array([float(cost.params) for cost in self.costs]),
            **self.inherited,
        }

    @property
    def sets(self) -> dict[str, range]:
        """The sets that are reported on; one architecture alone has no rank."""
        count, spread = len(self.costs), self.num_spread
        sets = {"Everything": range(count)}
        if spread < count:
            sets |= {"Spread over MACs": range(spread), "Within the band": range(spread, count)}
        return {title: members for title, members in sets.items() if len(members) > 1}

    def noise(self, members: Sequence[int]) -> dict[str, Any] | None:
        """How well training alone agrees with itself under another seed; None if too few were."""
        twice = [number for number in members if number in self.again]
        if len(twice) < 2:
            return None
        first, second = self.alone[twice], np.array([self.again[number] for number in twice])
        variance = float(np.square(first - second).mean()) / 2
        between = float(self.alone[list(members)].std())
        return {
            "archs": len(twice),
            "tau": agreement(kendall, first, second),
            "mean_difference": float(abs(first - second).mean()),
            "deviation_of_one": variance**0.5,
            "deviation_between_archs": between,
            "reachable_tau": reachable_tau(variance, between**2),
        }

    def mean_of_seeds(self, members: Sequence[int]) -> Floats | None:
        """AP of training alone in the mean of both seeds, by number, where all were trained twice:
        half the variance of one training is left in it."""
        if any(number not in self.again for number in members):
            return None
        means = self.alone.copy()
        for number in members:
            means[number] = (self.alone[number] + self.again[number]) / 2
        return means

    def document(self) -> dict[str, Any]:
        """All of it, as it goes into JSON."""
        document = {}
        for title, members in self.sets.items():
            means = self.mean_of_seeds(members)
            document[title] = {
                "predictors": rows_of(self.predictors, self.alone, members),
                "two_seeds": self.noise(members),
                "predictors_of_mean": None
                if means is None
                else rows_of(self.predictors, means, members),
            }
        return document


def text_of(document: dict[str, Any], ranking: Ranking) -> str:
    """The same as markdown."""
    lines = [
        f"AP of training alone: {ranking.alone.min():.3f} to {ranking.alone.max():.3f}, mean"
        f" {ranking.alone.mean():.3f}. Intervals: 95 %, by drawing the archs again.",
        "",
    ]
    for title, members in ranking.sets.items():
        found = document[title]
        lines += table(title, found["predictors"], len(members))
        if noise := found["two_seeds"]:
            lines += [
                f"Trained alone with two seeds ({noise['archs']} of these): tau {noise['tau']}, AP"
                f" differs by {noise['mean_difference']:.3f} on average. Standard deviation of AP"
                f" between archs: {noise['deviation_between_archs']:.3f}, of one training:"
                f" {noise['deviation_of_one']:.3f}. Who knew each arch's AP in the mean of many"
                f" trainings would reach a tau of about {noise['reachable_tau']:.2f}.",
                "",
            ]
        if rows := found["predictors_of_mean"]:
            lines += table(f"{title}, mean of two seeds alone", rows, len(members))
    return "\n".join(lines)
