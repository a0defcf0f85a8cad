"""The section on the choices: which matter, and the scores of each option."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vipnas.report.blocks import Block, Drawing, Folded, Section, Text, missing
from vipnas.report.importance import MIN_SCORES, Importance, importance_of
from vipnas.report.rows import Bar, Range, draw_bars, draw_ranges
from vipnas.report.runs import LevelRun

# The first choices are shown, the rest on a click.
NUM_SHOWN = 12


def matters(runs: Sequence[LevelRun]) -> Section | None:
    """Return the section; None without a search."""
    searched = [run for run in runs if run.searched]
    if not searched:
        return None
    blocks: list[Block] = []
    for number, run in enumerate(searched):
        found = importance_of([*run.searched, *run.randoms, *run.references.values()])
        if found is None:
            blocks.append(missing(f"{run.name}: {MIN_SCORES} or more different trials bring this."))
            continue
        own = _blocks(found)
        title = f"The choices of {run.name}"
        blocks += own if number == 0 else [Folded(title, own)]
    lead = "How far the predicted score moves between the best and the worst option of a choice, "
    lead += "while all others stay."
    return Section("choices", "What matters", lead, blocks)


def _blocks(found: Importance) -> list[Block]:
    order = sorted(range(len(found.effects)), key=lambda choice: -found.effects[choice])
    bars = [
        Bar(found.choices.names[choice], found.effects[choice], f"{found.effects[choice]:.4f}")
        for choice in order
    ]
    error = (
        f"The predictor is a Gaussian process over the choices, fitted to {len(found.scores_N)} "
        f"scores. Cross-validated, its mean error is {found.mean_error:.4f} and Kendall's tau "
        f"{found.rank_correlation:.2f}. Guessing the mean has an error of {found.guess_error:.4f}."
    )
    blocks: list[Block] = [Drawing(draw_bars(bars[:NUM_SHOWN])), Text(error)]
    if bars[NUM_SHOWN:]:
        blocks.append(Folded("All other choices", [Drawing(draw_bars(bars[NUM_SHOWN:]))]))
    ranges = [one for choice in order[:NUM_SHOWN] for one in _ranges(found, choice)]
    blocks.append(Drawing(draw_ranges(ranges), "Scores of the trials with each option."))
    if rest := [one for choice in order[NUM_SHOWN:] for one in _ranges(found, choice)]:
        blocks.append(Folded("Scores of all other options", [Drawing(draw_ranges(rest))]))
    return blocks


def _ranges(found: Importance, choice: int) -> list[Range]:
    """Return the scores of each option: their median, and where the middle 80 % are."""
    genes_N = found.choices.genes_NC[:, choice]
    ranges = []
    for number, option in enumerate(found.choices.options[choice]):
        scores = found.scores_N[genes_N == number]
        low, median, high = np.percentile(scores, (10, 50, 90))
        group = found.choices.names[choice]
        shown = {True: "yes", False: "no"}[option] if isinstance(option, bool) else str(option)
        ranges.append(Range(group, shown, float(low), float(median), float(high), len(scores)))
    return ranges
