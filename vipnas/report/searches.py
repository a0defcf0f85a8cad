"""The sections about the trials: the front, and the progress of the search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vipnas.models.counting import count_cost
from vipnas.quantities import Quantity
from vipnas.report.blocks import (
    RANDOM,
    REFERENCE,
    RUN_COLOURS,
    WINNER,
    Block,
    Chart,
    Charts,
    Mark,
    Section,
    Series,
    Symbol,
    Text,
)
from vipnas.report.describe import trial_text
from vipnas.report.progress import best_so_far, volumes_so_far
from vipnas.report.runs import LevelRun
from vipnas.search.pareto import pareto_front
from vipnas.search.trial import Trial

# Trials of a search from which their points are drawn smaller.
MANY = 200
SCORE_LABEL = "score with inherited weights"


def front(runs: Sequence[LevelRun]) -> Section | None:
    """Return the section with every trial over each cost; None without trials."""
    runs = [run for run in runs if run.searched]
    if not runs:
        return None
    quantities = [one for one in runs[0].quantities if all(one in run.quantities for run in runs)]
    texts = {
        _key(run, group): [trial_text(trial, group) for trial in trials]
        for run in runs
        for group, trials in _groups(run).items()
    }
    charts = [_front_chart(runs, quantity) for quantity in quantities]
    blocks: list[Block] = [Charts(charts, texts)]
    num_failed = sum(trial.score is None for run in runs for trial in _all_trials(run))
    if num_failed:
        blocks.append(Text(f"{num_failed} trials failed and are left out."))
    lead = "Every trial. Lines are the Pareto fronts of score and this cost."
    return Section("front", "The front", lead, blocks)


def _all_trials(run: LevelRun) -> Iterator[Trial]:
    yield from run.searched
    yield from run.randoms


def _groups(run: LevelRun) -> dict[str, list[Trial]]:
    """Return the scored trials by what the charts call them."""
    winner = run.winner
    groups = {
        "random": run.randoms,
        run.method: run.searched,
        **{name: [trial] for name, trial in run.references.items()},
        "winner": [] if winner is None else [winner],
    }
    scored = {name: [t for t in found if t.score is not None] for name, found in groups.items()}
    return {name: found for name, found in scored.items() if found}


def _key(run: LevelRun, group: str) -> str:
    return f"{run.name}/{group}"


def _front_chart(runs: Sequence[LevelRun], quantity: Quantity) -> Chart:
    several = len(runs) > 1
    series = [
        one
        for number, run in enumerate(runs)
        for one in _front_series(run, quantity, colour_of(number), several)
    ]
    return Chart(
        f"score over {quantity.label}",
        quantity.label,
        SCORE_LABEL,
        # Random search first, so that it covers nothing.
        sorted(series, key=lambda one: (one.kind != "points", one.symbol != "ring", one.size_px)),
        [*_budgets(runs, quantity), *_released(runs[0], quantity)],
    )


def colour_of(run_number: int) -> str:
    """Return the colour of a run; after the last one they repeat."""
    return RUN_COLOURS[run_number % len(RUN_COLOURS)]


def _front_series(
    run: LevelRun, quantity: Quantity, colour: str, several: bool
) -> Iterator[Series]:
    groups = _groups(run)
    suffix = f", {run.name}" if several else ""
    for group in ("random", run.method):
        trials = groups.get(group, [])
        shade = RANDOM if group == "random" and not several else colour
        symbol: Symbol = "ring" if group == "random" else "circle"
        x, y = _points(trials, quantity)
        name = group + suffix
        size_px = 4.0 if len(trials) > MANY else 6.0
        yield Series(name, x, y, shade, "points", _key(run, group), size_px, symbol, faint=True)
        line = _points(pareto_front(trials, ("score", quantity.name)), quantity)
        yield Series(name, *line, shade, "step", dashed=group == "random")
    for group, trials in groups.items():
        if group in (*run.references, "winner"):
            is_winner = group == "winner"
            yield Series(
                "winner" if is_winner else "largest, smallest",
                *_points(trials, quantity),
                WINNER if is_winner else REFERENCE,
                "points",
                _key(run, group),
                14.0 if is_winner else 10.0,
                "star" if is_winner else "diamond",
            )


def _points(trials: Sequence[Trial], quantity: Quantity) -> tuple[list[float], list[float | None]]:
    costs = [trial.cost.value(quantity.name) / quantity.scale for trial in trials]
    return costs, [trial.score for trial in trials]


def _budgets(runs: Sequence[LevelRun], quantity: Quantity) -> Iterator[Mark]:
    """Yield the limits of a cost, each once."""
    limits = {
        bound
        for run in runs
        for limit in run.search_settings.get("constraints", ())
        if limit.quantity == quantity.name
        for bound in limit.bounds.values()
    }
    for value in sorted(limits):
        yield Mark(value / quantity.scale, f"budget {quantity.shown(value)}")


def _released(run: LevelRun, quantity: Quantity) -> Iterator[Mark]:
    """Yield the costs of released networks; their scores with this supernet are unknown."""
    for name, arch in run.published.items():
        if (value := count_cost(arch).get(quantity.name)) is not None:
            yield Mark(value / quantity.scale, name)


def progress(runs: Sequence[LevelRun]) -> Section | None:
    """Return the section with the best score so far; None without trials.

    Searches for several objectives have a chart of the hypervolume so far.
    """
    runs = [run for run in runs if run.searched]
    if not runs:
        return None
    objectives = runs[0].objectives
    searches = {
        (run.name, method): trials
        for run in runs
        for method, trials in ((run.method, run.searched), ("random", run.randoms))
        if trials
    }
    best = {key: best_so_far(trials) for key, trials in searches.items()}
    charts = [_progress_chart("best score so far", SCORE_LABEL, runs, best)]
    if len(objectives) > 1:
        title = f"hypervolume of {', '.join(objectives)}"
        volumes = volumes_so_far(searches, objectives)
        charts.append(_progress_chart(title, "share of the box", runs, volumes))
    ends = [f"{run.name}: {name} {why}." for run in runs for name, why in run.early_ends.items()]
    lead = "The search beside random search with as many scores."
    blocks: list[Block] = [Charts(charts), *map(Text, ends)]
    return Section("progress", "Progress of the search", lead, blocks)


def _progress_chart(
    title: str,
    label: str,
    runs: Sequence[LevelRun],
    values: Mapping[tuple[str, str], Sequence[float | None]],
) -> Chart:
    """Return a chart with a line for each search, by the names of its run and method."""
    numbers = {run.name: number for number, run in enumerate(runs)}
    several = len(runs) > 1
    lines = []
    for (run_name, method), line in values.items():
        is_random = method == "random"
        colour = RANDOM if is_random and not several else colour_of(numbers[run_name])
        name = f"{method}, {run_name}" if several else method
        x = [float(number) for number in range(1, len(line) + 1)]
        lines.append(Series(name, x, line, colour, "step", dashed=is_random))
    return Chart(title, "scored architectures", label, lines, whole_x=True)
