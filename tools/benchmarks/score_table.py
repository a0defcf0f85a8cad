"""Score every architecture of a small space with the weights of a trained supernet.

    python -m tools.benchmarks.score_table EXPERIMENT SPACE TABLE [--part I N] [--output DIR]
        [--data-root DIR] [--threads N]

The table is for `tools.benchmarks.search table`. SPACE is a YAML file; its architectures are
subnets of the supernet that `vipnas train-supernet EXPERIMENT` trained. TABLE is JSON lines: first
the settings, then {"genes", "ap", "macs", "params"} of every architecture, in the order of the
genes. The same command resumes.

Parts may be made side by side, each into its file. The table is the first file, and all lines but
the first of the others (`tail -q -n +2`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import torch

from tools.benchmarks.command import exit_with
from vipnas.evaluation.scoring import InheritedScore
from vipnas.files import digest, to_plain, write_atomically
from vipnas.memory import keep_freed_memory
from vipnas.models.counting import count_cost
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.level import supernet_file
from vipnas.pipeline.models import open_supernet
from vipnas.space.image import SearchSpace
from vipnas.space.yaml import read_space


def main() -> int:
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    cpu = torch.device("cpu")
    experiment = Experiment.open(options.experiment, options.output, options.data_root, cpu)
    space = read_space(options.space).with_facts(
        experiment.space.input_hw, experiment.space.num_keypoints
    )
    experiment.space.check_arch(space.max_arch(), str(options.space))
    experiment.space.check_arch(space.min_arch(), str(options.space))
    make_table(experiment, space, options.table, *options.part)
    return 0


def make_table(
    experiment: Experiment, space: SearchSpace, path: Path, part: int = 1, num_parts: int = 1
) -> None:
    """Score the architectures of a part, counted from 1.

    Raises:
        ValueError: The table was begun with other settings.
    """
    header = {
        "space": space.name,
        "num_options": list(space.num_options),
        "experiment": to_plain(experiment.config),
        "supernet": digest(supernet_file(ImageLevel(experiment))),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    num_done = _begin(path, header)
    supernet = open_supernet(experiment, supernet_file(ImageLevel(experiment)))
    score = InheritedScore(
        supernet, experiment.space, experiment.evaluator("val"), experiment.calibration_images
    )
    size = math.prod(space.num_options)
    first, last = size * (part - 1) // num_parts, size * part // num_parts
    every_gene = itertools.product(*(range(count) for count in space.num_options))
    started = time.monotonic()
    with path.open("a") as file:
        left = itertools.islice(every_gene, first + num_done, last)
        for number, genes in enumerate(left, num_done + 1):
            arch = space.decode(genes)
            cost = count_cost(arch)
            row = {
                "genes": genes,
                "ap": score.metrics(arch).ap,
                "macs": cost.macs,
                "params": cost.params,
            }
            file.write(json.dumps(row, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())
            if number % 50 == 0 or number == last - first:
                seconds = (time.monotonic() - started) / (number - num_done)
                print(f"{number:,} of {last - first:,}, {seconds:.2f} s each", flush=True)


def _begin(path: Path, header: dict[str, Any]) -> int:
    """How many rows there are; a torn last line is dropped."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith(b"\n")]
    if whole and json.loads(whole[0]) != header:
        raise ValueError(
            f"{path}: begun with other settings: found {json.loads(whole[0])}, now {header}"
        )
    whole = whole or [json.dumps(header).encode() + b"\n"]
    write_atomically(path, b"".join(whole))
    return len(whole) - 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment")
    parser.add_argument("space", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--part", type=int, nargs=2, default=(1, 1), help="the I-th of N parts")
    parser.add_argument("--output", type=Path, help="the experiment's folder, as for vipnas")
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    exit_with(main)
