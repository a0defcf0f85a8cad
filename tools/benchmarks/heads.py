"""One fixed network of each head, trained by the same recipe: the gate of the SimCC head.

    python -m tools.benchmarks.heads --data-root DATA --work DIR [--heads simcc] [--seeds 0]
        [--steps N] [--report FILE]

Trains the network of `experiments/heads/HEAD.yaml` for each head and seed, on one thread, and
scores it on the 600 validation persons. A training that was ended resumes. Several may run at once,
each with its own `--heads` and `--seeds`. The table has all that are complete, and the milliseconds
of both networks: ONNX Runtime, interleaved, one thread. `--heads` without a name only measures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean

import torch

from tools.benchmarks.command import command_line, exit_with, write_report
from vipnas.arch.image import Arch
from vipnas.arch.io import write_arch
from vipnas.evaluation.coco_ap import coco_metrics
from vipnas.files import Strict, parse, read_json, write_atomically
from vipnas.latency.measure import Key, key_of_this_machine, measure_archs, pinned
from vipnas.latency.profile import retry_if_noisy
from vipnas.models.counting import count_cost
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.models import open_network
from vipnas.pipeline.retrain import retrain
from vipnas.shipped import shipped_directory

HEADS = ("heatmap", "simcc")
RUNTIME = "onnxruntime"


@dataclass(frozen=True)
class Result(Strict):
    """A trained network on the validation persons: AP, AP50 and mean similarity, in 0..1."""

    steps: int
    ap: float
    ap50: float
    oks: float


def main() -> int:
    options = _parser().parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds:
        for head in options.heads:
            _train(options, head, seed)
    archs = {head: _open(options, head, 0).space.max_arch() for head in HEADS}
    key = key_of_this_machine(RUNTIME, archs[HEADS[0]].input_hw)
    lines = [command_line(), "", str(key), "", *_table(options.work, archs, key)]
    print("\n".join(lines))
    write_report(options.report, lines)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True, help="the folder with lspet/")
    parser.add_argument("--work", type=Path, required=True, help="where trainings are kept")
    parser.add_argument("--heads", nargs="*", choices=HEADS, default=HEADS, help="to train")
    parser.add_argument("--seeds", nargs="*", type=int, default=(0, 1))
    parser.add_argument("--steps", type=int, help="of a training, fewer than the recipe's")
    parser.add_argument("--report", type=Path, help="write all there, as markdown")
    return parser


def _open(options: argparse.Namespace, head: str, seed: int) -> Experiment:
    file = shipped_directory("experiments") / "heads" / f"{head}.yaml"
    folder = options.work / f"{head}_{seed}"
    experiment = Experiment.open(file, folder, options.data_root, torch.device("cpu"))
    return replace(experiment, config=replace(experiment.config, seed=seed))


def _train(options: argparse.Namespace, head: str, seed: int) -> None:
    """Train and score a network, unless that is done."""
    experiment = _open(options, head, seed)
    num_persons = len(experiment.train_data.persons)
    schedule = experiment.config.retrain.schedule
    if options.steps is not None:
        schedule = replace(schedule, epochs=options.steps * schedule.batch_size / num_persons)
        recipe = replace(experiment.config.retrain, schedule=schedule)
        experiment = replace(experiment, config=replace(experiment.config, retrain=recipe))
    arch_file = experiment.output / "arch.json"
    write_arch(arch_file, experiment.space.max_arch())
    network = open_network(experiment, retrain(ImageLevel(experiment), arch_file))
    file = experiment.output / "result.json"
    if not file.exists():
        evaluator = experiment.evaluator("val")
        xy_px, scores = evaluator.predict(network)
        results = evaluator.results_of(xy_px, scores)
        metrics = coco_metrics(evaluator.ground_truth, results, evaluator.skeleton)
        steps, oks = schedule.num_steps(num_persons), evaluator.score(xy_px, scores)
        result = Result(steps, metrics.ap, metrics.ap50, oks)
        write_atomically(file, json.dumps(asdict(result), indent=1) + "\n")


def _table(work: Path, archs: dict[str, Arch], key: Key) -> Iterator[str]:
    with pinned(key):
        measure = partial(measure_archs, list(archs.values()), key)
        latencies = retry_if_noisy(measure, print)
    yield "| head | cost | ms | seeds | steps | AP | AP50 | OKS | AP of each seed |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for (head, arch), latency in zip(archs.items(), latencies, strict=True):
        files = sorted(work.glob(f"{head}_*/result.json"))
        found = [parse(Result, read_json(file), str(file)) for file in files]
        cells = [head, str(count_cost(arch)), f"{latency.median_ms:.2f}", str(len(found))]
        yield f"| {' | '.join([*cells, *_cells(found)])} |"


def _cells(found: Sequence[Result]) -> list[str]:
    if not found:
        return ["-"] * 5
    steps = ", ".join(sorted({str(result.steps) for result in found}))
    means = [mean(getattr(result, name) for result in found) for name in ("ap", "ap50", "oks")]
    each = ", ".join(f"{result.ap:.3f}" for result in found)
    return [steps, *(f"{value:.3f}" for value in means), each]


if __name__ == "__main__":
    exit_with(main)
