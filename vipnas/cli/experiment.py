"""The commands of an experiment: `run` and its stages, and `evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vipnas.cli.arguments import (
    Commands,
    experiment_command,
    open_experiment,
    open_with_others,
    print_scores,
    ray_settings,
    worker_arguments,
)

if TYPE_CHECKING:
    from vipnas.pipeline.experiment import Experiment
    from vipnas.pipeline.level import Level


def add_experiment_commands(commands: Commands) -> None:
    chain = experiment_command(commands, "run", "the whole chain of an experiment")
    worker_arguments(chain)
    chain.set_defaults(run=_run)
    supernet = experiment_command(commands, "train-supernet", "train the weight-sharing supernet")
    supernet.set_defaults(run=_train_supernet)
    search = experiment_command(commands, "search", "search the supernet within the budgets")
    worker_arguments(search)
    search.set_defaults(run=_search)
    retrain = experiment_command(commands, "retrain", "train one architecture by itself")
    retrained = retrain.add_mutually_exclusive_group()
    retrained.add_argument(
        "--arch", help="arch JSON, a file or a shipped name (default: best.json of the search)"
    )
    retrained.add_argument("--front", type=Path, help="pareto.json of a search: train all of it")
    worker_arguments(retrain)
    retrain.add_argument(
        "--init-from", type=Path, help="weights to start from (default: as the experiment says)"
    )
    retrain.set_defaults(run=_retrain)
    _add_evaluate(commands)


def _add_evaluate(commands: Commands) -> None:
    evaluate = experiment_command(commands, "evaluate", "metrics of a model, or of results")
    evaluate.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="model file, supernet, published checkpoint (.pth) or exported file",
    )
    evaluate.add_argument(
        "--from-results", action="store_true", help="MODEL is a COCO results JSON to score"
    )
    evaluate.add_argument(
        "--arch",
        help="arch JSON, a file or a shipped name: of a published checkpoint, or the subnet to take"
        " of a supernet (default: the largest)",
    )
    evaluate.add_argument("--split", choices=("test", "val"), default="test")
    evaluate.add_argument("--pictures", type=Path, help="PNG to write: 16 people, predicted poses")
    evaluate.add_argument("--results", type=Path, help="COCO results JSON to write: all found")
    evaluate.add_argument(
        "--metrics",
        nargs="+",
        help="coco, pck, pckh, posetrack, mota (default: all that the data allow)",
    )
    evaluate.add_argument("--json", action="store_true", help="print all figures as JSON")
    evaluate.set_defaults(run=_evaluate)


def _run(options: argparse.Namespace) -> None:
    from vipnas.pipeline.chain import run

    run(open_experiment(options), ray_settings(options))


def _train_supernet(options: argparse.Namespace) -> None:
    from vipnas.pipeline.image_level import ImageLevel
    from vipnas.pipeline.supernet import check_sampling, train_supernet

    def check(experiment: Experiment) -> None:
        check_sampling(ImageLevel(experiment))

    with open_with_others(options, check) as experiment:
        train_supernet(ImageLevel(experiment))


def _search(options: argparse.Namespace) -> None:
    from vipnas.pipeline.image_level import ImageLevel
    from vipnas.pipeline.search import search

    search(ImageLevel(open_experiment(options)), ray_settings(options))


def _retrain(options: argparse.Namespace) -> None:
    from vipnas.pipeline.image_level import ImageLevel

    retrain_level(options, ImageLevel, _arch_file(options), options.init_from)


def retrain_level(
    options: argparse.Namespace,
    level_of: Callable[[Experiment], Level[Any]],
    arch_file: Path | None,
    init_from: Path | None,
) -> None:
    """Retrain one architecture or a whole front of a level."""
    from vipnas.pipeline.front import retrain_front
    from vipnas.pipeline.level import existing_best
    from vipnas.pipeline.retrain import retrain

    ray = ray_settings(options)
    if options.front is not None:
        retrain_front(level_of(open_experiment(options)), options.front, init_from, ray)
        return
    if ray is not None:
        raise ValueError("--workers: one arch is one training; allowed: with --front only")

    def check(experiment: Experiment) -> None:
        level = level_of(experiment)
        level.read_arch(arch_file or existing_best(level))
        level.initial_weights(init_from)

    with open_with_others(options, check) as experiment:
        level = level_of(experiment)
        retrain(level, arch_file or existing_best(level), init_from)


def _arch_file(options: argparse.Namespace) -> Path | None:
    """The file of --arch, where it is given."""
    from vipnas.shipped import find_shipped

    return None if options.arch is None else find_shipped("search_spaces", options.arch, ".json")


def _evaluate(options: argparse.Namespace) -> None:
    from vipnas.pipeline.evaluate import evaluate, evaluate_results

    experiment = open_experiment(options)
    if options.from_results:
        for name in ("arch", "pictures", "results"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name}: expected a model, got --from-results")
        scores = evaluate_results(experiment, options.model, options.split, options.metrics)
    else:
        scores = evaluate(
            experiment,
            options.model,
            _arch_file(options),
            options.split,
            options.metrics,
            options.pictures,
            options.results,
        )
    print_scores(scores, options.json)
