"""Scores per second of a search: where the time goes, what Ray workers add, costs and predictions.

    python -m tools.benchmarks.scoring EXPERIMENT --output RUN [--data-root DIR] [--archs 24]
                                  [--workers 1 2] [--report FILE]

RUN holds a trained supernet of the experiment. One thread each, on a quiet machine. Workers score
the same architectures as a random search would, with the same window. The command ends with 1 if
their trials or their winner differ.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.benchmarks.command import exit_with, write_report
from vipnas.arch.image import Arch
from vipnas.config.search import SearchConfig
from vipnas.data.crops.crops import normalise
from vipnas.evaluation.evaluator import calibrate_bn
from vipnas.evaluation.scoring import InheritedScore
from vipnas.memory import keep_freed_memory
from vipnas.models.counting import count_cost
from vipnas.models.fold import fold_batch_norm
from vipnas.models.posenet import extract
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.scorer import Scorer
from vipnas.search.journal import Journal
from vipnas.search.listed import Listed
from vipnas.search.loop import search
from vipnas.search.parallel import RayWorkers
from vipnas.search.ray_cluster import RaySettings
from vipnas.search.score_predictor import ScorePredictor
from vipnas.search.trial import Trial
from vipnas.space.image import SearchSpace

ROUNDS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("experiment")
    parser.add_argument("--output", type=Path, required=True, help="the run with the supernet")
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--archs", type=int, default=24)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--report", type=Path, help="write the tables there, as markdown")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    experiment = Experiment.open(options.experiment, options.output, options.data_root, cpu)
    scorer = Scorer(OneThread(experiment))
    score = scorer.score
    assert isinstance(score, InheritedScore)
    rng = random.Random(0)
    archs = list({experiment.space.sample(rng): None for _ in range(options.archs)})
    lines = [
        f"# Scores per second, {date.today()}",
        "",
        f"{experiment.space.name} at {experiment.space.input_hw}, {os.cpu_count()} cores, one"
        f" thread a worker, torch {torch.__version__}.",
        f"{len(experiment.val_data.persons)} people, {len(experiment.calibration_images)}"
        f" calibration crops, {len(archs)} archs.",
        "",
        *parts(score, archs),
        "",
        *rates(experiment.space, rng),
        "",
    ]
    table, same = workers(scorer, archs, options.workers)
    print("\n".join([*lines, *table]))
    write_report(options.report, [*lines, *table])
    return int(not same)


class OneThread(ImageLevel):
    """A level whose search scores with one thread."""

    @property
    def search_config(self) -> SearchConfig:
        return replace(super().search_config, threads=1)


def parts(score: InheritedScore, archs: list[Arch]) -> list[str]:
    """Milliseconds of the parts of a score: the quickest of some rounds, averaged."""
    of_archs = [parts_of(score, arch) for arch in archs]
    means = {name: statistics.mean(times[name] for times in of_archs) for name in of_archs[0]}
    rows = [f"| {name} | {milliseconds:.1f} |" for name, milliseconds in means.items()]
    rate = 1000 / means["the whole score"]
    return ["| part | ms |", "|---|---|", *rows, "", f"In this process: {rate:.2f} scores/s."]


@torch.no_grad()
def parts_of(score: InheritedScore, arch: Arch) -> dict[str, float]:
    evaluator, calibration = score.evaluator, score.calibration_images_N3HW
    batch_size = evaluator.batch_size
    passes = 2 if evaluator.flip_test else 1
    batches = [normalise(batch) for batch in evaluator.crops.images_B3HW.split(batch_size)] * passes
    plain = extract(score.supernet, arch).eval()
    calibrate_bn(plain, calibration, batch_size)
    folded = score.network(arch)
    xy_px, scores = evaluator.predict(folded)
    whole: dict[str, Callable[[], Any]] = {
        "extract": lambda: extract(score.supernet, arch),
        "calibrate": lambda: calibrate_bn(plain, calibration, batch_size),
        "fold": lambda: fold_batch_norm(extract(plain, arch)),
        "predict, not folded": lambda: evaluator.predict(plain),
        "predict, folded": lambda: evaluator.predict(folded),
        "its forward passes": lambda: [folded(batch) for batch in batches],
        "score of what was found": lambda: evaluator.score(xy_px, scores),
        "the whole score": lambda: score(arch),
    }
    # Round by round, so that a busy moment of the machine does not hit one part only.
    rounds = [{name: _milliseconds(run) for name, run in whole.items()} for _ in range(ROUNDS)]
    return {name: min(times[name] for times in rounds) for name in whole}


def rates(space: SearchSpace, rng: random.Random) -> list[str]:
    """How many architectures a second have their cost counted, and their score predicted.

    Of costs, the first and the later ones; scores are predicted a hundred at a time.
    """
    lines = ["| archs | a second |", "|---|---|"]

    def add(name: str, number: int, run: Callable[[], Any]) -> None:
        lines.append(f"| {name} | {1000 * number / _milliseconds(run):,.0f} |")

    for name, number in (("the first 1,000", 1000), ("20,000 more", 20_000)):
        archs = [space.sample(rng) for _ in range(number)]
        add(f"counted, {name}", number, partial(list, map(count_cost, archs)))
    portions = [np.array([space.encode(space.sample(rng)) for _ in range(100)]) for _ in range(50)]
    genes_PC = np.concatenate(portions)
    for count in (100, 300, 1000, 2000):
        scores_N = np.array([rng.random() for _ in range(count)])
        predictor = ScorePredictor(space.num_options, genes_PC[:count], scores_N)
        name = f"predicted, {count:,} told"
        add(name, len(genes_PC), partial(list, map(predictor.predict, portions)))
    return lines


def workers(scorer: Scorer[Arch], archs: list[Arch], counts: list[int]) -> tuple[list[str], bool]:
    """A table, and whether all numbers of workers gave the same trials.

    The first architecture of each worker is left out: Ray, imports and crops come before it.
    """
    rows = ["| Ray workers | scores/s | to one worker |", "|---|---|---|"]
    scores: list[list[float | None]] = []
    rates: list[float] = []
    for count in counts:
        ended: list[float] = []

        def show(trial: Trial, ended: list[float] = ended) -> None:
            ended.append(time.monotonic())

        settings = RaySettings(count)
        with tempfile.TemporaryDirectory() as folder, RayWorkers(scorer, settings) as pool:
            journal = Journal(Path(folder) / "trials.jsonl", {})
            searcher = Listed(archs)
            wanted = len(archs)
            trials = search(searcher, "listed", pool, count_cost, wanted, journal, show, 2 * count)
        rates.append((len(ended) - count) / (ended[-1] - ended[count - 1]))
        scores.append([trial.score for trial in trials])
        rows.append(f"| {count} | {rates[-1]:.2f} | {rates[-1] / rates[0]:.2f} |")
    same = all(found == scores[0] for found in scores)
    return [*rows, "", f"The same trials and winner: {'yes' if same else 'NO'}."], same


def _milliseconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    exit_with(main)
