"""Run all stages of an experiment, and summarise the results."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vipnas.arch.io import read_arch
from vipnas.evaluation.scoring import InheritedScore
from vipnas.files import read_json, to_plain, write_atomically
from vipnas.models.counting import count_cost
from vipnas.pipeline.clip_level import ClipLevel
from vipnas.pipeline.clip_summary import summarise_video
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel, read_metrics
from vipnas.pipeline.level import Level, best_file, network_file, supernet_file
from vipnas.pipeline.plan import RunPlan, expected_clips, plan_run
from vipnas.pipeline.report import report
from vipnas.pipeline.retrain import retrain
from vipnas.pipeline.search import check_budgets, search, search_methods
from vipnas.pipeline.supernet import check_sampling, check_trained, train_supernet
from vipnas.pipeline.work import at_work
from vipnas.quantities import header_cells, known_quantities, value_cells
from vipnas.search.ray_cluster import RaySettings


def run(experiment: Experiment, ray: RaySettings | None = None) -> Path:
    """Run all stages of each level, images first; print summaries, and write the report.

    The stages are the supernet, the search (in this process without `ray`) and the retraining.
    Their plan is printed first, with expected times.
    """
    level, has_clips = ImageLevel(experiment), experiment.config.video is not None
    levels: list[Level[Any]] = [level, *([expected_clips(level)] if has_clips else [])]
    for one in levels:
        check_sampling(one)
    with ExitStack() as locks:  # a second process is told before anything is timed
        for stage in (stage for one in levels for stage in one.folder.stages):
            locks.enter_context(at_work(experiment, stage))
        # What is known of clips depends on the network of their key frames.
        for one in levels if network_file(level).exists() else levels[:1]:
            check_budgets(one)
            check_trained(one)
        plan = plan_run(level, ray)
    print(f"run: {experiment.output}\n{plan}", flush=True)
    _run_level(level, ray, plan)
    summary = summarise(level)
    path = experiment.output / "summary.json"
    write_atomically(path, json.dumps(summary, indent=2) + "\n")
    print_summary(summary)
    if has_clips:
        clips = ClipLevel(experiment)
        _run_level(clips, ray, plan)
        summarise_video(clips)
    print(f"report: {report([experiment.folder])}")
    return path


def _run_level(level: Level[Any], ray: RaySettings | None, plan: RunPlan) -> None:
    train_supernet(level, callbacks=(plan.begin(level, "supernet"),))
    best = search(level, ray, plan.begin(level, "search").after_trial)
    retrain(level, best, callbacks=(plan.begin(level, "retrain"),))


def summarise(level: ImageLevel) -> dict[str, Any]:
    """Return test metrics of the found network, random search's best and reference architectures.

    All but the retrained one run with inherited weights.
    """
    experiment = level.experiment
    score = InheritedScore(
        level.load_supernet(supernet_file(level)).to(experiment.device),
        level.space,
        experiment.evaluator("test"),
        experiment.calibration_images,
    )
    archs = {
        "largest, inherited": experiment.space.max_arch(),
        "smallest, inherited": experiment.space.min_arch(),
        **{
            f"{method}'s best, inherited": read_arch(best_file(level, method))
            for method in search_methods(level)
        },
    }
    rows = [
        {"network": name, **to_plain(count_cost(arch)), **to_plain(score.metrics(arch))}
        for name, arch in archs.items()
    ]
    found = read_arch(best_file(level))
    rows.append(
        {
            "network": f"{search_methods(level)[0]}'s best, retrained",
            **to_plain(count_cost(found)),
            **to_plain(read_metrics(network_file(level).with_name("metrics.json"))),
        }
    )
    stages = experiment.folder.stages
    seconds = {stage.name: read_json(stage / "seconds.json") for stage in stages}
    return {"test": rows, "seconds": seconds}


def print_summary(summary: dict[str, Any]) -> None:
    costs = known_quantities(summary["test"])
    print(f"\n{'on the test set':30} {header_cells(costs)} {'AP':>6} {'AP50':>6} {'AR':>6}")
    for row in summary["test"]:
        print(
            f"{row['network']:30} {value_cells(costs, row)}"
            f" {row['ap']:6.3f} {row['ap50']:6.3f} {row['ar']:6.3f}"
        )
    times = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in summary["seconds"].items())
    print(f"seconds: {times}")
