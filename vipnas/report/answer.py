"""The first section: the network that was found, and what it is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vipnas.quantities import QUANTITIES, Cost
from vipnas.report.blocks import Block, Card, Cards, Code, Section, Table, missing
from vipnas.report.describe import shown_cost
from vipnas.report.runs import LevelRun, best_of
from vipnas.search.trial import Trial

METRICS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ar": "AR"}
UNKNOWN = "–"


@dataclass(frozen=True)
class Row:
    """A network of the table.

    Attributes:
        name: What the network is.
        cost: Its cost.
        score: Its score in the search, with inherited weights.
        metrics: Its metrics on the test split.
        is_answer: Whether it is the network that the run is about.
    """

    name: str
    cost: Cost
    score: float | None = None
    metrics: dict[str, Any] | None = None
    is_answer: bool = False


def answer(runs: Sequence[LevelRun]) -> Section:
    """Return the section: metrics and cost of the network found, and a table of all networks."""
    blocks: list[Block] = []
    for run in runs:
        blocks += _answer_of(run)
    blocks.append(_table(runs))
    blocks += [_commands(run) for run in runs if run.network.is_file()]
    lead = "Scores are the mean object keypoint similarity on the validation split, with weights "
    lead += "inherited from the supernet. AP and AR are those of the test split."
    return Section("answer", "The network found", lead, blocks)


def _answer_of(run: LevelRun) -> list[Block]:
    """Return the cards of a run; a line that says what to run next where it is not complete."""
    winner = run.winner
    if winner is None:
        text = (
            f"{run.name} has no search yet. `{run.command} search` with its experiment brings it."
        )
        return [missing(text)]
    cards: list[Card] = []
    metrics = coco_of(run.test_metrics)
    if metrics:
        cards.append(Card("AP on the test split", f"{metrics['ap']:.3f}", "retrained"))
    cards.append(Card("score", f"{winner.fitness:.4f}", _against(winner, best_of(run.randoms))))
    largest = run.references.get("largest")
    for quantity in run.quantities:
        value = winner.cost.value(quantity.name)
        note = ""
        if largest is not None:
            note = f"{value / largest.cost.value(quantity.name):.0%} of the largest network"
        cards.append(Card(quantity.unit, quantity.shown(value), note))
    blocks: list[Block] = [Cards(cards, run.name)]
    if not metrics:
        text = "The network is not retrained yet. "
        blocks.append(missing(text + f"`{run.command} retrain` with its experiment brings AP."))
    return blocks


def _against(winner: Trial, random: Trial | None) -> str:
    if random is None:
        return ""
    difference = winner.fitness - random.fitness
    return f"{difference:+.4f} against random search's best"


def coco_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the COCO metrics of a document of either level."""
    found: dict[str, Any] = metrics.get("coco", metrics)
    return found


def _table(runs: Sequence[LevelRun]) -> Table:
    rows = [(run, row) for run in runs for row in _rows(run)]
    names = {name for _, row in rows for name in METRICS if name in (row.metrics or {})}
    metrics = {name: label for name, label in METRICS.items() if name in names}
    costs = [
        quantity
        for name, quantity in QUANTITIES.items()
        if any(row.cost.get(name) is not None for _, row in rows)
    ]
    several = ["run"] if len(runs) > 1 else []
    return Table(
        ["network", *several, *(one.unit for one in costs), "score", *metrics.values()],
        [
            [
                row.name,
                *([run.name] if several else []),
                *(shown_cost(quantity, row.cost) for quantity in costs),
                UNKNOWN if row.score is None else f"{row.score:.4f}",
                *(_shown_metric(row.metrics, name) for name in metrics),
            ]
            for run, row in rows
        ],
        [number for number, (_, row) in enumerate(rows) if row.is_answer],
    )


def _shown_metric(metrics: dict[str, Any] | None, name: str) -> str:
    value = (metrics or {}).get(name)
    return UNKNOWN if value is None or value < 0 else f"{value:.3f}"


def _rows(run: LevelRun) -> Iterator[Row]:
    """Yield the networks of a run: retrained first, then those with inherited weights."""
    winner = run.winner
    if winner is not None and run.test_metrics:
        metrics = coco_of(run.test_metrics)
        yield Row("found, retrained", winner.cost, None, metrics, is_answer=True)
    trials = {
        f"{run.method}'s best": winner,
        "random search's best": best_of(run.randoms),
        **run.references,
    }
    inherited = {_name_of(row): coco_of(row) for row in run.summary}
    for name, trial in trials.items():
        if trial is not None:
            metrics_of = inherited.pop(name, None)
            is_answer = trial is winner and not run.test_metrics
            yield Row(f"{name}, inherited", trial.cost, trial.score, metrics_of, is_answer)
    for row in run.summary:
        if (name := _name_of(row)) in inherited and "retrained" not in name:
            yield Row(name, _cost_of(row), None, inherited[name])


def _name_of(row: dict[str, Any]) -> str:
    """Return how the table names a row of `summary.json`."""
    name = str(row.get("network", row.get("networks", ""))).removesuffix(", inherited")
    return {"random's best": "random search's best"}.get(name, name)


def _cost_of(row: dict[str, Any]) -> Cost:
    known = {name: row[name] for name in QUANTITIES if row.get(name) is not None}
    return Cost(known.pop("macs"), known.pop("params")).with_values(**known)


def _commands(run: LevelRun) -> Code:
    video = "clip.mp4 -o drawn.mp4" if run.is_clip else "photos/ -o poses/"
    return Code(
        f"Use {run.name}",
        f"vipnas predict {run.network} {video}\n"
        f"vipnas export {run.network} -o pose.onnx\n"
        "\n"
        "import vipnas                                   # Python\n"
        f'model = vipnas.load("{run.network}")\n'
        "poses = model.predict(image, boxes_xyxy)",
    )
