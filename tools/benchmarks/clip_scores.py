"""Compare two scores of clips with inherited weights by how well they rank: OKS and AP.

    python -m tools.benchmarks.clip_scores EXPERIMENT [--output DIR] [--archs N]

Needs the supernet of clips (`vipnas video train-supernet`). Random architectures are scored on both
halves of the validation clips. A score ranks well if its order on one half is the order on the
other half. Prints a Markdown table of Kendall's tau and of how many different values there are.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tools.benchmarks.command import exit_with
from tools.benchmarks.ranking_report import Agreement, bootstrap, kendall
from vipnas.memory import keep_freed_memory
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.level import existing_supernet


def main() -> int:
    options = _parser().parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    cpu = torch.device("cpu")
    level = ClipLevel(Experiment.open(options.experiment, options.output, options.data_root, cpu))
    scores_NH2 = scored(level, options.archs)
    print(f"{len(scores_NH2)} random architectures, {level.config.val_clips} clips at most")
    print("\n".join(table(scores_NH2)))
    return 0


def scored(level: ClipLevel, count: int) -> NDArray[np.float64]:
    """Return OKS and AP (N, 2, 2) of random architectures on both halves of the clips.

    Raises:
        ValueError: The clips fit into one batch.
    """
    score_of = level.scorer(level.load_supernet(existing_supernet(level)))
    halves = score_of.evaluator.halves()
    if halves is None:
        raise ValueError("video.val_clips: expected more than one batch, got one")
    rng = random.Random(0)
    rows = []
    for _ in range(count):
        networks = score_of.network(level.space.sample(rng))
        predicted = [(half, half.predict(networks)) for half in halves]
        rows.append([(half.score(*p), half.metrics_of(*p).ap) for half, p in predicted])
    return np.array(rows)


def table(scores_NH2: NDArray[np.float64]) -> list[str]:
    """Return the lines of a table; `tau` is the mean of both directions."""
    oks_NH, ap_NH = scores_NH2[..., 0], scores_NH2[..., 1]
    lines = [
        "| score on a half | different values | tau to itself on the other | tau to AP there |",
        "|---|---|---|---|",
    ]
    for name, score_NH in (("mean OKS", oks_NH), ("AP", ap_NH)):
        different = [len(np.unique(score_NH[:, half].round(6))) for half in range(2)]
        taus = (_both_ways(score_NH, truth_NH) for truth_NH in (score_NH, ap_NH))
        lines.append(
            f"| {name} | {different[0]} and {different[1]} | {' | '.join(map(str, taus))} |"
        )
    return lines


def _both_ways(score_NH: NDArray[np.float64], truth_NH: NDArray[np.float64]) -> Agreement:
    def tau(index: NDArray[np.int64]) -> float:
        score, truth = score_NH[index], truth_NH[index]
        return (kendall(score[:, 0], truth[:, 1]) + kendall(score[:, 1], truth[:, 0])) / 2

    return bootstrap(tau, len(score_NH))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment")
    parser.add_argument("--output", type=Path, help="folder of the run (default: runs/NAME)")
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--archs", type=int, default=60, help="how many (default: %(default)s)")
    return parser


if __name__ == "__main__":
    exit_with(main)
