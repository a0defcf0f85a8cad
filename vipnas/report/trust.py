"""The section on the supernet: do its scores rank networks as they will be once trained?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from scipy.stats import kendalltau

from vipnas.arch.image import Arch
from vipnas.files import digest
from vipnas.latency.predictors import Predictor
from vipnas.latency.table import read_table
from vipnas.report.blocks import (
    REFERENCE,
    Block,
    Chart,
    Charts,
    Section,
    Series,
    Table,
    Text,
    missing,
)
from vipnas.report.runs import AnyArch, LevelRun
from vipnas.report.searches import SCORE_LABEL, colour_of

# Fewer pairs have no rank correlation worth a number.
MIN_PAIRS = 5


def trust(runs: Sequence[LevelRun]) -> Section | None:
    """Return the section; None without a search."""
    searched = [run for run in runs if run.searched]
    if not searched:
        return None
    blocks = [
        *_trained_alone(searched),
        *_between_runs(searched),
        *(block for run in searched for block in _latency(run)),
    ]
    lead = "A search trusts scores with inherited weights, and predicted milliseconds."
    return Section("trust", "Is the supernet to be trusted?", lead, blocks)


def _trained_alone(runs: Sequence[LevelRun]) -> Iterator[Block]:
    """Yield scores against the AP of the same networks after training."""
    series: list[Series] = []
    lines = []
    for number, run in enumerate(runs):
        pairs = [
            (row["score"], row["retrained"]["ap"])
            for row in run.front_rows
            if row["score"] is not None and row["retrained"] is not None
        ]
        if pairs:
            x, y = zip(*pairs, strict=True)
            series.append(Series(run.name, x, y, colour_of(number), "points", size_px=8.0))
            if len(pairs) >= MIN_PAIRS:
                lines.append(f"{run.name}: {_tau(x, y)} over {len(pairs)} networks.")
    if not series:
        command = f"`{runs[0].command} retrain --front` with the `pareto.json` of the search"
        yield missing(f"Networks trained alone: {command} brings them, and their rank correlation.")
        return
    yield Charts([Chart("trained alone", SCORE_LABEL, "AP on the test split", series)])
    if lines:
        yield Text(" ".join(lines))


def _tau(x: Sequence[float], y: Sequence[float]) -> str:
    return f"Kendall's tau {float(kendalltau(x, y).statistic):.2f}"


def _between_runs(runs: Sequence[LevelRun]) -> Iterator[Block]:
    """Yield how far scores vary between architectures, and between supernets for the same ones."""
    spreads = [(run.name, f"{spread:.4f}") for run in runs if (spread := _spread(run)) is not None]
    if spreads:
        yield Table(["scores of random search", "standard deviation"], spreads)
    series: list[Series] = []
    rows: list[tuple[str, ...]] = []
    scores = [(run, _scores_of(run)) for run in runs]
    for (first, one), (second, other) in combinations(scores, 2):
        shared = [arch for arch in one if arch in other]
        if len(shared) < MIN_PAIRS:
            continue
        x, y = [one[arch] for arch in shared], [other[arch] for arch in shared]
        noise = float(np.std(np.subtract(x, y))) / 2**0.5
        name = f"{first.name} and {second.name}"
        colour = colour_of(len(series))
        series.append(Series(name, x, y, colour, "points", size_px=5.0, faint=True))
        rows.append((name, str(len(shared)), _tau(x, y), f"{noise:.4f}"))
    if series:
        labels = ("score in the first run", "score in the second run")
        columns = ["two runs", "architectures in both", "rank correlation", "noise of a score"]
        yield Table(columns, rows)
        yield Charts([Chart("the same architectures in two runs", *labels, series)])
    elif len(runs) == 1:
        yield missing("The noise of a score: `vipnas report` of runs with other seeds brings it.")


def _scores_of(run: LevelRun) -> dict[AnyArch, float]:
    trials = (*run.searched, *run.randoms, *run.references.values())
    return {t.arch: t.fitness for t in trials if t.score is not None and not t.partial}


def _spread(run: LevelRun) -> float | None:
    scores = [trial.fitness for trial in run.randoms if trial.score is not None]
    return float(np.std(scores)) if len(scores) >= MIN_PAIRS else None


def _latency(run: LevelRun) -> Iterator[Block]:
    """Yield predicted against measured milliseconds of the networks of the latency table."""
    if run.latency_table is None:
        return
    table = read_table(run.latency_table)
    predictor = Predictor(table, digest(run.latency_table))
    measured = [table.drift_corrected_ms(timing) for timing in table.archs]
    predicted = [predictor(timing.arch) for timing in table.archs]
    line = [min(measured), max(measured)]
    series = [
        Series("networks of the table", measured, predicted, colour_of(0), "points", size_px=6.0),
        Series("equal", line, line, REFERENCE, dashed=True),
    ]
    yield Charts([Chart("latency", "measured, ms", "predicted, ms", series)])
    winner = run.winner
    if winner is not None and isinstance(winner.arch, Arch):
        yield Text(f"{run.name}: {predictor}. The found network: {predictor(winner.arch):.2f} ms.")
