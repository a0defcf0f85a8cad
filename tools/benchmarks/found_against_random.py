"""How much better a search is than random search with as many scores, on runs that have ended.

    python -m tools.benchmarks.found_against_random EXPERIMENT RUN [RUN ...]

RUN is the folder of a run of EXPERIMENT, or of the experiment with another seed. Both networks have
the weights of the supernet. Prints a Markdown table of their scores on the validation split and of
their MACs. The interval of the difference is found by drawing persons (clips) with replacement.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tools.benchmarks.command import exit_with
from vipnas.evaluation.clips import ClipEvaluator
from vipnas.evaluation.oks import own_similarities
from vipnas.evaluation.scoring import Inherited
from vipnas.files import read_json
from vipnas.memory import keep_freed_memory
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.level import Level, best_file, existing_supernet
from vipnas.pipeline.search import search_methods

# N persons or clips, D draws

NUM_DRAWS = 2000
FloatArray = NDArray[np.float64]
HEADER = (
    "| run | level | score found | MMACs | score of random search's best | MMACs"
    " | difference, 95 % of draws |"
)


def main() -> int:
    options = _parser().parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    print(HEADER, "|---" * 7 + "|", sep="\n")
    for run in options.runs:
        experiment = opened(options.experiment, run)
        levels: list[Level[Any]] = [ImageLevel(experiment)]
        if experiment.config.video is not None:
            levels.append(ClipLevel(experiment))
        for level in levels:
            print(row(level, run.name), flush=True)
    return 0


def opened(file: Path, run: Path) -> Experiment:
    """Return the experiment of a run, with the seed that the run had."""
    experiment = Experiment.open(file, run, Path(), torch.device("cpu"))
    seed = read_json(best_file(ImageLevel(experiment)))["found"]["seed"]
    return replace(experiment, config=replace(experiment.config, seed=seed))


def row(level: Level[Any], run: str) -> str:
    """Return a row of the table."""
    score = level.scorer(level.load_supernet(existing_supernet(level)))
    found_N, random_N = (
        similarities(score, level.read_arch(best_file(level, method)))
        for method in search_methods(level)
    )
    low, high = interval(found_N - random_N)
    macs = [
        read_json(best_file(level, method))["found"]["cost"]["macs"] / 1e6
        for method in search_methods(level)
    ]
    return (
        f"| {run} | {level.name} | {found_N.mean():.4f} | {macs[0]:.2f} | {random_N.mean():.4f}"
        f" | {macs[1]:.2f} | {(found_N - random_N).mean():.4f} ({low:.4f} to {high:.4f}) |"
    )


def similarities(score: Inherited[Any], arch: Any) -> FloatArray:
    """Return the OKS (N,) of each person of the validation split; of a clip, its frames' mean."""
    evaluator = score.evaluator.at(arch)
    xy_px, _ = evaluator.predict(score.network(arch))
    if not isinstance(evaluator, ClipEvaluator):
        return _known(_own(evaluator.crops.persons, xy_px, evaluator.skeleton.sigmas))
    frames = evaluator.keyed.clips.frames
    of_frames_FN = [
        _own(crops.persons, xy_px[:, number], evaluator.skeleton.sigmas)
        for number, crops in enumerate(frames)
    ]
    return _known(np.nanmean(of_frames_FN, axis=0))


def _own(persons: Any, xy_NK2: FloatArray, sigmas_K: Any) -> FloatArray:
    truth_NK3 = np.array([person.keypoints_K3 for person in persons])
    areas_N = np.array([person.area for person in persons])
    return own_similarities(xy_NK2, truth_NK3, areas_N, sigmas_K)


def _known(similarities_N: FloatArray) -> FloatArray:
    return similarities_N[~np.isnan(similarities_N)]


def interval(differences_N: FloatArray, seed: int = 0) -> tuple[float, float]:
    """Return the bounds of 95 % of the means of draws with replacement."""
    count = len(differences_N)
    drawn_DN = np.random.default_rng(seed).integers(0, count, (NUM_DRAWS, count))
    low, high = np.quantile(differences_N[drawn_DN].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    return parser


if __name__ == "__main__":
    exit_with(main)
