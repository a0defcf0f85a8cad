"""Train several supernets of one experiment for equal time, for `benchmarks.rank_correlation`.

    python -m tools.benchmarks.compare_supernets EXPERIMENT SUPERNETS --seconds 210 --output DIR

SUPERNETS is a YAML file: name -> {sampling, distillation, progressive_shrinking, sharing, seed}.
The first three are as in the section `supernet` of an experiment, but epochs of
`progressive_shrinking` are fractions of the run. `sharing` is block_diagonal or leading. `seed` is
that of training; the persons stay the same.

Equal is the CPU time of one thread, or the time of a GPU that does nothing else. So a strategy that
trains one subnet a step makes more steps than one that trains four. The cost of a step is measured
once, at steps spread over the run, and kept in DIR/supernets/epochs.json: a run that resumes has
the same epochs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from tools.benchmarks.ranking_bench import Place, Sharing, draw_people, in_processes, sharing
from vipnas.config.training import Distillation, ProgressiveShrinking, Sampling, SupernetConfig
from vipnas.data.crops.loader import training_batches
from vipnas.files import Strict, parse, read_json, read_yaml, write_atomically
from vipnas.memory import keep_freed_memory
from vipnas.models.posenet import PoseNet
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.supernet import backward_of, train_supernet
from vipnas.pipeline.work import needed
from vipnas.shipped import find_shipped

# Steps of each supernet that are timed.
NUM_TIMED = 20


@dataclass(frozen=True)
class Variant(Strict):
    """How one of the supernets is trained. Shrinking epochs are shares of the run."""

    sampling: Sampling = field(default_factory=Sampling)
    distillation: Distillation = field(default_factory=Distillation)
    progressive_shrinking: ProgressiveShrinking = field(default_factory=ProgressiveShrinking)
    sharing: Sharing = "block_diagonal"
    seed: int = 0

    def config(self, base: SupernetConfig, epochs: float) -> SupernetConfig:
        progressive_shrinking = replace(
            self.progressive_shrinking,
            largest_alone_epochs=self.progressive_shrinking.largest_alone_epochs * epochs,
            epochs_each=self.progressive_shrinking.epochs_each * epochs,
        )
        schedule = replace(base.schedule, epochs=epochs)
        return SupernetConfig(schedule, self.sampling, self.distillation, progressive_shrinking)


def of_variant(place: Place, variant: Variant, epochs: float) -> Experiment:
    experiment = place.open(variant.seed)
    base = needed(experiment, experiment.config.supernet, "supernet")
    config = replace(experiment.config, supernet=variant.config(base, epochs))
    return replace(experiment, config=config)


def timed_steps(place: Place, variant: Variant) -> Iterator[float]:
    """Seconds of steps spread evenly over a run: of one CPU thread, or, where other processes make
    the batches, of a GPU. Checkpoints and the average of the weights are left out. The first is
    done twice, and counted once."""
    experiment = of_variant(place, variant, epochs=1.0)
    schedule = needed(experiment, experiment.config.supernet, "supernet").schedule
    crops = experiment.training_crops
    num_steps = schedule.num_steps(len(crops))
    torch.manual_seed(0)
    supernet = PoseNet(experiment.space.max_arch()).train().to(experiment.device)
    backward = backward_of(ImageLevel(experiment), supernet, len(crops))
    optimizer = torch.optim.AdamW(supernet.parameters(), lr=schedule.learning_rate)
    for number in (None, *range(NUM_TIMED)):
        step = int(((number or 0) + 0.5) * num_steps / NUM_TIMED)
        started = _now(experiment.device)
        with sharing(variant.sharing):
            for batch in training_batches(crops, schedule.batch, step, 1):
                if experiment.device.type == "cuda":
                    started = _now(experiment.device)
                backward(step, tuple(part.to(experiment.device) for part in batch))
        optimizer.step()
        optimizer.zero_grad()
        if number is not None:
            yield _now(experiment.device) - started


def _now(device: torch.device) -> float:
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def epochs_of(place: Place, variants: dict[str, Variant], seconds: float) -> dict[str, float]:
    """How many epochs of each fit into the seconds; measured once, then read.

    The variants take turns, so that whatever else the machine does meets all of them.
    """
    path = place.output / "supernets" / "epochs.json"
    kept: dict[str, Any] = {"seconds": seconds, "epochs": {}}
    if path.exists():
        kept = read_json(path)
    if kept["seconds"] != seconds:
        raise ValueError(
            f"{path}: seconds: found {kept['seconds']}, asked for {seconds}; remove the folder or"
            " choose another output"
        )
    epochs: dict[str, float] = kept["epochs"]
    missing = [name for name in variants if name not in epochs]
    experiment = place.open()
    batch_size = needed(experiment, experiment.config.supernet, "supernet").schedule.batch
    rounds = list(zip(*(timed_steps(place, variants[name]) for name in missing), strict=True))
    for name, taken in zip(missing, zip(*rounds, strict=True), strict=True):
        epochs[name] = seconds / mean(taken) * batch_size / len(experiment.train_data.persons)
        print(f"{name}: {mean(taken) * 1e3:.0f} ms a step, {epochs[name]:.2f} epochs", flush=True)
    write_atomically(path, json.dumps({"seconds": seconds, "epochs": epochs}, indent=1) + "\n")
    return epochs


def train_variant(place: Place, name: str, variant: Variant, epochs: float) -> str:
    experiment = of_variant(place, variant, epochs)
    target = place.output / "supernets" / name / "supernet.safetensors"
    with sharing(variant.sharing):
        train_supernet(ImageLevel(experiment), target, {"sharing": variant.sharing})
    return name


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", help="experiment YAML, a file or a shipped name")
    parser.add_argument("supernets", type=Path, help="YAML of the supernets")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--seconds", type=float, default=210.0, help="of training, for each of them"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread")
    parser.add_argument("--data-root", type=Path, default=Path())
    parser.add_argument("--device", default="cpu", help="that all the processes use")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        experiment = find_shipped("experiments", options.experiment)
        place = Place(experiment, options.output, options.data_root, device=options.device)
        variants = parse(dict[str, Variant], read_yaml(options.supernets), str(options.supernets))
        draw_people(place.open())
        epochs = epochs_of(place, variants, options.seconds)
        calls = [
            (train_variant, (place, name, variant, epochs[name]))
            for name, variant in variants.items()
        ]
        for name in in_processes(options.workers, calls):
            print(f"{name}: trained", flush=True)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"compare_supernets: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
