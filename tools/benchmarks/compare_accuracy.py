"""AP against measured milliseconds: networks found, published and scaled, trained by one recipe.

    python -m tools.benchmarks.compare_accuracy experiments/accuracy_latency/drawn.yaml --output DIR

The networks, for several budgets of milliseconds (shares of what the quickest published network
takes):

    (a) found by latency search in one space, at each budget
    (b) found by MACs search in other spaces, with no more MACs than (a) at the first budget
    (c) the published networks, at their own time
    (d) references with all widths scaled by one factor: the quickest that takes each budget

Supernets are trained and searched here. Networks are trained from scratch by the `retrain` section
of the study's experiment, and evaluated on its test persons. They take turns in the timing, in each
runtime.
DIR/accuracy.md, .json and .png have the results. The same command resumes, and may run several
times at once: each process takes a piece of work that no other has.

To train on another machine than the networks are timed on, copy DIR between them:

    --make timed      on the machine of the timing: budgets, latency table and scaled networks
    --make trained    on the machine with the GPU
    --report          on the machine of the timing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from tools.benchmarks.accuracy_report import Measured, Row, write_report
from tools.benchmarks.accuracy_study import Study
from tools.benchmarks.comparison import Comparison
from tools.benchmarks.pieces import make_all
from vipnas.arch.io import read_arch
from vipnas.evaluation.coco_ap import ap_samples
from vipnas.evaluation.metrics import Metrics
from vipnas.evaluation.pck import Pck
from vipnas.evaluation.protocols import score
from vipnas.files import locked, parse, read_json, read_yaml
from vipnas.memory import keep_freed_memory
from vipnas.models.counting import count_cost
from vipnas.pipeline.experiment import Experiment
from vipnas.settings import check_settings

show = partial(print, flush=True)


# ---- what came of it


def rows_of(comparison: Comparison) -> Iterator[Row]:
    """Of the networks that were trained, with as many seeds as there are."""
    trained = {name: list(_trained(comparison, name)) for name in comparison.names()}
    archs = {
        name: read_arch(comparison.arch_file(name)) for name, files in trained.items() if files
    }
    by_runtime = {
        runtime: comparison.timed(list(archs.values()), runtime, rounds=15)
        for runtime in comparison.study.runtimes
    }
    for number, (name, arch) in enumerate(archs.items()):
        measured = (_measure(comparison, file) for file in trained[name])
        latencies = {str(runtime): found[number] for runtime, found in by_runtime.items()}
        yield Row(name, count_cost(arch), latencies, tuple(measured))


def _measure(comparison: Comparison, results_file: Path) -> Measured:
    results = read_json(results_file)["results"]
    scores = score(comparison.base.test_data, results, ("coco", "pck"))
    coco, pck = scores["coco"], scores["pck"]
    assert isinstance(coco, Metrics) and isinstance(pck, Pck)
    samples = ap_samples(comparison.base.test_data.ground_truth, results, comparison.base.skeleton)
    return Measured(coco.ap, pck.mean, samples)


def _trained(comparison: Comparison, name: str) -> Iterator[Path]:
    """Raises ValueError for results of another recipe."""
    for seed in comparison.study.seeds_of(name):
        file = comparison.results_file(name, seed)
        if file.exists():
            experiment = comparison.alone(read_arch(comparison.arch_file(name)), seed)
            check_settings(read_json(file)["settings"], comparison.settings(experiment), file)
            yield file


# ---- the command line


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="YAML of the comparison")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data-root", type=Path, default=Path())
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--report", action="store_true", help="on what there is; make nothing")
    what.add_argument(
        "--make", choices=("all", "timed", "trained"), default="all", help="and report on all alone"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    keep_freed_memory()
    try:
        study = parse(Study, read_yaml(options.study), str(options.study))
        base = Experiment.open(
            study.experiment, options.output, options.data_root, torch.device(options.device)
        )
        with locked(prepared(options.output)):  # people may have to be drawn
            _ = base.train_data, base.test_data
        comparison = Comparison(study, base)
        if not options.report:
            if missing := make_all(list(comparison.pieces(options.make))):
                show(f"left to other processes, or waiting for them: {listed(missing)}")
            if missing or options.make != "all":
                return 0
        budgets = read_json(comparison.budgets)
        write_report(options.output, list(rows_of(comparison)), budgets["budgets"])
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"compare_accuracy: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def listed(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def prepared(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


if __name__ == "__main__":
    sys.exit(main())
