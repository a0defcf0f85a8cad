"""The whole chain of an experiment, and the summary of what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vipnas.arch.io import read_arch
from vipnas.evaluation.metrics import Metrics
from vipnas.evaluation.scoring import InheritedScore
from vipnas.files import read_json, to_plain, write_atomically
from vipnas.models.counting import count_cost
from vipnas.pipeline.clip_stages import retrain_video, search_video, train_video_supernet
from vipnas.pipeline.clip_summary import summarise_video
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.retrain import read_metrics, retrain
from vipnas.pipeline.search import best_file, search, search_methods
from vipnas.pipeline.supernet import supernet_file, train_supernet
from vipnas.search.parallel import RaySettings
from vipnas.training.checkpoint import load_network


def run(experiment: Experiment, ray: RaySettings | None = None) -> Path:
    """Supernet, search (in this process without `ray`), retraining; then `summary.json`, which is
    also printed. After that the temporal level, if the experiment has one."""
    train_supernet(experiment)
    best = search(experiment, ray)
    network = retrain(experiment, best)
    summary = summarise(experiment, read_metrics(network.with_name("metrics.json")))
    path = experiment.output / "summary.json"
    write_atomically(path, json.dumps(summary, indent=2) + "\n")
    print_summary(summary)
    if experiment.config.video is not None:
        run_video(experiment, ray)
    return path


def run_video(experiment: Experiment, ray: RaySettings | None = None) -> Path:
    """The temporal level: supernet, search, training along clips; then `video/summary.json`."""
    train_video_supernet(experiment)
    retrain_video(experiment, search_video(experiment, ray))
    return summarise_video(experiment)


def summarise(experiment: Experiment, retrained: Metrics) -> dict[str, Any]:
    """Test figures of the found network beside random search's and the supernet's ends.

    All but the retrained one run with inherited weights.
    """
    score = InheritedScore(
        load_network(supernet_file(experiment)).to(experiment.device),
        experiment.evaluator("test"),
        experiment.calibration_images,
    )
    archs = {
        "largest, inherited": experiment.space.max_arch(),
        "smallest, inherited": experiment.space.min_arch(),
        **{
            f"{method}'s best, inherited": read_arch(best_file(experiment, method))
            for method in search_methods(experiment)
        },
    }
    rows = [
        {"network": name, **to_plain(count_cost(arch)), **to_plain(score.metrics(arch))}
        for name, arch in archs.items()
    ]
    found = read_arch(best_file(experiment))
    rows.append(
        {
            "network": f"{search_methods(experiment)[0]}'s best, retrained",
            **to_plain(count_cost(found)),
            **to_plain(retrained),
        }
    )
    seconds = {
        stage.name: read_json(stage / "seconds.json")
        for stage in (
            experiment.folder.supernet,
            experiment.folder.search,
            experiment.folder.retrain,
        )
    }
    return {"test": rows, "seconds": seconds}


def print_summary(summary: dict[str, Any]) -> None:
    print(f"\n{'on the test set':30} {'MMACs':>9} {'params':>10} {'AP':>6} {'AP50':>6} {'AR':>6}")
    for row in summary["test"]:
        print(
            f"{row['network']:30} {row['macs'] / 1e6:9.2f} {row['params']:10,}"
            f" {row['ap']:6.3f} {row['ap50']:6.3f} {row['ar']:6.3f}"
        )
    times = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in summary["seconds"].items())
    print(f"seconds: {times}")
