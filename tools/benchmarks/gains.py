"""What a change of space or recipe gains: networks that differ in one thing, at equal milliseconds.

    python -m tools.benchmarks.gains STUDY --data-root DATA --work DIR [--rows NAME ...]
        [--seeds N ...] [--report FILE]

A study (`experiments/gains/`) names an experiment and rows. Each row changes some settings of the
experiment. Its network is that of another row, the only one of its space, or what a supernet and a
search find. It is trained by itself, once for each seed, and scored on the validation persons. A
row of a supernet ends with that. Stages that were ended resume, and several rows may be made at
once, each by a process of its own. `DIR/ROW.yaml` is the experiment of a row, for the commands of
vipnas. The table has all rows that are complete: AP on the validation persons, its difference from
the reference with the interval of drawing photographs, and milliseconds, measured in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from numpy.typing import NDArray

from tools.benchmarks.command import command_line, exit_with, write_report
from tools.benchmarks.study_rows import Row, Study
from vipnas.arch.image import Arch
from vipnas.arch.io import arch_from_json
from vipnas.evaluation.coco_ap import ap_samples, coco_metrics
from vipnas.files import parse, read_json, read_yaml
from vipnas.latency.interleaved import MAX_SPREAD, ROUNDS, Latency, interleaved
from vipnas.latency.measure import Key, key_of_this_machine, pinned, quick_run
from vipnas.latency.profile import retry_if_noisy
from vipnas.memory import keep_freed_memory
from vipnas.models.counting import count_cost
from vipnas.models.posenet import PoseNet

RUNTIME = "onnxruntime"
HEADER = "| row | input | cost | ms | steps | AP | AP50 | OKS | gain in AP, 95 % of draws | seeds |"


@dataclass(frozen=True)
class Result:
    """A trained network on the validation persons: AP and mean similarity, in 0..1; D draws."""

    arch: Arch
    steps: int
    ap: float
    ap50: float
    oks: float
    samples_D: NDArray[np.float64]
    image_ids: frozenset[int]


def result_of(row: Row, seed: int) -> Result:
    """Return what the trained network of a row predicts, measured."""
    found, experiment = read_json(row.results_file(seed)), row.experiment(seed)
    truth, results = experiment.val_data.ground_truth, found["results"]
    metrics = coco_metrics(truth, results, experiment.skeleton)
    return Result(
        arch_from_json(found["arch"], str(row.results_file(seed))),
        found["steps"],
        metrics.ap,
        metrics.ap50,
        found["oks"],
        ap_samples(truth, results, experiment.skeleton),
        frozenset(image["id"] for image in truth["images"]),
    )


def table(rows: Sequence[Row], key: Key) -> Iterator[str]:
    """Write the rows that have a result; gains are over the first, seed by seed."""
    found = {row.name: {seed: result_of(row, seed) for seed in row.done_seeds} for row in rows}
    found = {name: results for name, results in found.items() if results}
    archs = {name: next(iter(results.values())).arch for name, results in found.items()}
    latencies = _measured(list(dict.fromkeys(archs.values())), key)
    reference = next(iter(found.values()), {})
    yield HEADER
    yield "|" + "---|" * HEADER.count(" | ") + "---|"
    for name, results in found.items():
        arch = archs[name]
        yield _line(name, arch, latencies[arch], results, reference)


def _measured(archs: Sequence[Arch], key: Key) -> dict[Arch, Latency]:
    """Time networks in turn, each at its own input size."""
    if not archs:
        return {}
    with pinned(key):
        runs = [quick_run(PoseNet(arch), (3, *arch.input_hw), key) for arch in archs]
        latencies = retry_if_noisy(partial(interleaved, runs, MAX_SPREAD, ROUNDS), print)
    return dict(zip(archs, latencies, strict=True))


def _line(
    name: str,
    arch: Arch,
    latency: Latency,
    results: Mapping[int, Result],
    reference: Mapping[int, Result],
) -> str:
    each = list(results.values())
    aps = ", ".join(f"{result.ap:.3f}" for result in each)
    cells = [
        name,
        "x".join(map(str, arch.input_hw)),
        str(count_cost(arch)),
        f"{latency.median_ms:.2f}",
        ", ".join(sorted({str(result.steps) for result in each})),
        aps,
        *(f"{mean(getattr(result, key) for result in each):.3f}" for key in ("ap50", "oks")),
        gain_over(results, reference),
        ", ".join(map(str, results)),
    ]
    return f"| {' | '.join(cells)} |"


def gain_over(results: Mapping[int, Result], reference: Mapping[int, Result]) -> str:
    """Return the mean gain over the seeds that both have, on the same draws of photographs."""
    both = [seed for seed in results if seed in reference]
    if not both or results is reference:
        return "-"
    for seed in both:
        if results[seed].image_ids != reference[seed].image_ids:
            raise ValueError(f"seed {seed}: two rows have other validation images")
    gain = mean(results[seed].ap - reference[seed].ap for seed in both)
    draws_SD = [results[seed].samples_D - reference[seed].samples_D for seed in both]
    low, high = np.percentile(np.mean(draws_SD, axis=0), (2.5, 97.5))
    return f"{gain:+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> int:
    options = _parser().parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    study = parse(Study, read_yaml(options.study), str(options.study))
    base = options.study.parent / f"{study.experiment}.yaml"
    rows = [Row(study, name, base, options.work, options.data_root) for name in study.rows]
    for seed in options.seeds or study.seeds:
        for row in rows:
            if options.rows is None or row.name in options.rows:
                row.make(seed)
    key = key_of_this_machine(RUNTIME, rows[0].experiment().space.input_hw)
    lines = [command_line(), "", str(key), "", *table(rows, key)]
    print("\n".join(lines))
    write_report(options.report, lines)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="YAML of the study")
    parser.add_argument("--data-root", type=Path, required=True, help="root of the data")
    parser.add_argument("--work", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--rows", nargs="*", help="to make; none only measures (default: all)")
    parser.add_argument("--seeds", nargs="*", type=int, help="to make (default: of the study)")
    parser.add_argument("--report", type=Path, help="write the table there too, as markdown")
    return parser


if __name__ == "__main__":
    exit_with(main)
