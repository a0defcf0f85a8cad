"""The section of training curves, from the `metrics.jsonl` of supernet and retraining."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vipnas.report.blocks import Block, Chart, Charts, Folded, Section, Series, missing
from vipnas.report.runs import LevelRun
from vipnas.report.searches import colour_of
from vipnas.viz.curves import reads_better_logarithmic

# Prefix of keys in metrics.jsonl -> the label of the axis, and whether its scale is logarithmic.
CURVES = {"loss": ("loss", True), "ap": ("AP on the validation split", False)}
MORE_CURVES = {
    "gradient_norm": ("gradient norm", True),
    "learning_rate": ("learning rate", False),
    "images_per_second": ("images per second", False),
    "memory_mib": ("memory, MiB", False),
}


def curves(runs: Sequence[LevelRun]) -> Section | None:
    """Return the section; None where nothing was trained."""
    blocks: list[Block] = []
    more: list[Chart] = []
    for stage in ("supernet", "retrain"):
        lines = {run.name: run.curves_of(_folder(run, stage)) for run in runs}
        if any(lines.values()):
            blocks.append(Charts(_charts(stage, lines, CURVES)))
            more += _charts(stage, lines, MORE_CURVES)
        else:
            text = f"No {stage} curves: they come with `{runs[0].command} {_COMMANDS[stage]}`."
            blocks.append(missing(text))
    if not any(isinstance(block, Charts) for block in blocks):
        return None
    if more:
        blocks.append(Folded("Gradient norm, learning rate, speed, memory", [Charts(more)]))
    lead = "Training of the supernet and of the network found, by step."
    return Section("curves", "Training curves", lead, blocks)


_COMMANDS = {"supernet": "train-supernet", "retrain": "retrain"}


def _folder(run: LevelRun, stage: str) -> Path:
    return run.supernet if stage == "supernet" else run.retrain


def _charts(
    stage: str, lines: dict[str, list[dict[str, float | None]]], labels: dict[str, tuple[str, bool]]
) -> list[Chart]:
    charts = []
    for prefix, (label, logarithmic) in labels.items():
        series = [
            one
            for number, (name, found) in enumerate(lines.items())
            for one in _series(found, prefix, name if len(lines) > 1 else "", number)
        ]
        if series:
            values = [y for one in series for y in one.y if y is not None]
            log_y = logarithmic and reads_better_logarithmic(values)
            title = f"{stage}: {label}"
            charts.append(Chart(title, "step", label, series, log_y=log_y, whole_x=True))
    return charts


def _series(
    lines: Sequence[dict[str, float | None]], prefix: str, run_name: str, run_number: int
) -> list[Series]:
    """Return a curve for each key with this prefix; of several runs, each run has one colour."""
    keys = {key: None for line in lines for key in line if key.partition("/")[0] == prefix}
    found = []
    for number, key in enumerate(keys):
        known = [line for line in lines if line.get(key) is not None]
        if not known:
            continue
        steps = [step for line in known if (step := line["step"]) is not None]
        name = ", ".join(filter(None, (key.rpartition("/")[2], run_name)))
        colour = colour_of(run_number if run_name else number)
        found.append(Series(name, steps, [line[key] for line in known], colour))
    return found
