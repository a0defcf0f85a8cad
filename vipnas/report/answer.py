"""The first section: the network that was found, and what it is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from vipnas.files import parse
from vipnas.models.counting import count_cost
from vipnas.quantities import QUANTITIES, Cost
from vipnas.report.blocks import (
    UNKNOWN,
    Block,
    Card,
    Cards,
    Code,
    Folded,
    Section,
    Table,
    missing,
)
from vipnas.report.describe import shown_cost
from vipnas.report.documents import Metrics, SummaryRow
from vipnas.report.runs import LevelRun, best_of
from vipnas.search.trial import Trial

METRICS = {"map": "PoseTrack mAP", "ap": "AP", "ap50": "AP50", "ap75": "AP75", "ar": "AR"}


@dataclass(frozen=True)
class Row:
    """A network of the table.

    Attributes:
        name: What the network is.
        cost: Its cost; None where it is unknown.
        score: Its score in the search, with inherited weights.
        metrics: Its metrics on the test split.
        is_answer: Whether it is the network that the run is about.
    """

    name: str
    cost: Cost | None
    score: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_answer: bool = False


def answer(runs: Sequence[LevelRun]) -> Section:
    """Return the section: metrics and cost of the network found, and a table of all networks."""
    blocks: list[Block] = [_unfinished(run) for run in runs if run.winner is None]
    finished = [run for run in runs if run.winner is not None]
    if len(finished) == 1:
        blocks.append(_cards(finished[0]))
    if len(finished) > 1:
        blocks.append(_runs_table(finished))
    blocks += _missing_metrics(finished)
    networks = _table(runs)
    blocks.append(networks if len(runs) == 1 else Folded("All networks of all runs", [networks]))
    blocks += [_commands(run) for run in runs if run.network.is_file()]
    lead = "Scores are the mean object keypoint similarity on the validation split, with weights "
    lead += "inherited from the supernet. AP and AR are those of the test split."
    return Section("answer", "The network found", lead, blocks)


def _unfinished(run: LevelRun) -> Block:
    text = f"{run.name} has no search yet. `{run.command} search` with its experiment brings it."
    return missing(text)


def _missing_metrics(runs: Sequence[LevelRun]) -> list[Block]:
    names = [run.name for run in runs if not run.test_metrics]
    if not names:
        return []
    which = f"Not retrained yet: {', '.join(names)}."
    return [missing(f"{which} `{runs[0].command} retrain` with the experiment brings AP.")]


def _cards(run: LevelRun) -> Cards:
    winner = run.winner
    assert winner is not None, "only runs with a winner have cards"
    cards: list[Card] = []
    for name, value in metrics_of(run.test_metrics).items():
        if name in ("ap", "map"):
            note = _interval(run) if name == "ap" else "retrained"
            cards.append(Card(f"{METRICS[name]} on the test split", f"{value:.3f}", note))
    cards.append(Card("score", f"{winner.fitness:.4f}", _against(winner, best_of(run.randoms))))
    largest = run.references.get("largest")
    for quantity in run.quantities:
        value = winner.cost.value(quantity.name)
        note = ""
        if largest is not None:
            note = f"{value / largest.cost.value(quantity.name):.0%} of the largest network"
        cards.append(Card(quantity.unit, quantity.shown(value), note))
    return Cards(cards)


def _interval(run: LevelRun) -> str:
    """Return the interval of the AP; clips and older runs have none."""
    details = run.details
    if "ap_interval" not in details or "num_images" not in details:
        return "retrained"
    low, high = details["ap_interval"]
    return f"{low:.3f} to {high:.3f} with 95 % confidence, {details['num_images']} images"


def _runs_table(runs: Sequence[LevelRun]) -> Table:
    """Return a row for each run, then their mean and standard deviation."""
    measures = [
        Measure("score", ".4f", [_score(run.winner) for run in runs]),
        Measure("random search", ".4f", [_score(best_of(run.randoms)) for run in runs]),
    ]
    for name in ("ap", "map"):
        values = [metrics_of(run.test_metrics).get(name) for run in runs]
        measures.append(Measure(METRICS[name], ".3f", values))
    for quantity in runs[0].quantities:
        costs = [run.winner.cost.get(quantity.name) for run in runs if run.winner is not None]
        scaled = [None if cost is None else cost / quantity.scale for cost in costs]
        measures.append(Measure(quantity.unit, quantity.display, scaled))
    known = [one for one in measures if any(value is not None for value in one.values)]
    rows = [
        [run.name, *(one.shown(one.values[number]) for one in known)]
        for number, run in enumerate(runs)
    ]
    rows.append(["mean ± standard deviation", *(one.spread() for one in known)])
    return Table(["run", *(one.name for one in known)], rows, [len(rows) - 1])


class Measure(NamedTuple):
    """A number of each run, and its format."""

    name: str
    display: str
    values: Sequence[float | None]

    def shown(self, value: float | None) -> str:
        return UNKNOWN if value is None else format(value, self.display)

    def spread(self) -> str:
        """Return mean and standard deviation over the runs that have a value."""
        known = [value for value in self.values if value is not None]
        if len(known) < 2:
            return UNKNOWN
        return f"{self.shown(mean(known))} ± {self.shown(stdev(known))}"


def _score(trial: Trial | None) -> float | None:
    return None if trial is None else trial.score


def _against(winner: Trial, random: Trial | None) -> str:
    if random is None:
        return ""
    difference = winner.fitness - random.fitness
    return f"{difference:+.4f} against random search's best"


def metrics_of(metrics: Metrics) -> dict[str, float]:
    """Return the metrics of a document of either level that have a value, by name."""
    found: dict[str, Any] = {
        **metrics.get("coco", metrics),
        "map": metrics.get("posetrack", {}).get("mean"),
    }
    known = {name: value for name in METRICS if (value := found.get(name)) is not None}
    # -1 is COCO's word for no person of that kind.
    return {name: float(value) for name, value in known.items() if value >= 0}


def _table(runs: Sequence[LevelRun]) -> Table:
    rows = [(run.name, row) for run in runs for row in _rows(run)]
    rows += [(UNKNOWN, row) for row in _others(runs[0])]
    names = {name for _, row in rows for name in METRICS if name in row.metrics}
    metrics = {name: label for name, label in METRICS.items() if name in names}
    costs = [
        quantity
        for name, quantity in QUANTITIES.items()
        if any(row.cost is not None and row.cost.get(name) is not None for _, row in rows)
    ]
    several = ["run"] if len(runs) > 1 else []
    return Table(
        ["network", *several, *(one.unit for one in costs), "score", *metrics.values()],
        [
            [
                row.name,
                *([run_name] if several else []),
                *(shown_cost(quantity, row.cost) for quantity in costs),
                UNKNOWN if row.score is None else f"{row.score:.4f}",
                *(_shown_metric(row.metrics, name) for name in metrics),
            ]
            for run_name, row in rows
        ],
        [number for number, (_, row) in enumerate(rows) if row.is_answer],
    )


def _shown_metric(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.3f}" if name in metrics else UNKNOWN


def _rows(run: LevelRun) -> Iterator[Row]:
    """Yield the networks of a run: retrained first, then those with inherited weights."""
    winner = run.winner
    if winner is not None and run.test_metrics:
        metrics = metrics_of(run.test_metrics)
        yield Row("found, retrained", winner.cost, None, metrics, is_answer=True)
    trials = {
        f"{run.method}'s best": winner,
        "random search's best": best_of(run.randoms),
        **run.references,
    }
    rows = {_name_of(row, run.method): row for row in run.summary.get("test", [])}
    for name, trial in trials.items():
        if trial is not None:
            metrics = metrics_of(rows.pop(name, {}))
            is_answer = trial is winner and not run.test_metrics
            yield Row(f"{name}, inherited", trial.cost, trial.score, metrics, is_answer)
    for name, row in rows.items():
        if "retrained" not in name:
            yield Row(name, _cost_of(row, run.root / "summary.json"), None, metrics_of(row))


def _others(run: LevelRun) -> Iterator[Row]:
    """Yield released networks of the same space, and models whose metrics were given."""
    for name, arch in run.published.items():
        yield Row(f"{name}, released", count_cost(arch))
    for name, metrics in run.other_metrics.items():
        yield Row(name, None, None, metrics_of(metrics))


def _name_of(row: SummaryRow, method: str) -> str:
    """Return how the table names a row of `summary.json`."""
    name = str(row.get("network", row.get("networks", ""))).removesuffix(", inherited")
    known = {"random's best": "random search's best", "found": f"{method}'s best"}
    return known.get(name, name)


def _cost_of(row: Mapping[str, Any], path: Path) -> Cost:
    known = {name: row[name] for name in QUANTITIES if row.get(name) is not None}
    return parse(Cost, known, f"{path}: test")


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
