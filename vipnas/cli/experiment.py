"""The commands of an experiment: `run`, its stages, and `evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vipnas.cli.arguments import (
    Commands,
    experiment_command,
    name_argument,
    open_device,
    open_experiment,
    open_with_others,
    print_scores,
    ray_settings,
    split_argument,
    worker_arguments,
)
from vipnas.errors import UserError

if TYPE_CHECKING:
    from vipnas.pipeline.experiment import Experiment
    from vipnas.pipeline.level import Level
    from vipnas.pipeline.run_folder import RunFolder


def add_experiment_commands(commands: Commands) -> None:
    """Add `run`, `train-supernet`, `search`, `retrain` and `evaluate`."""
    chain = experiment_command(commands, "run", "run all stages of an experiment")
    worker_arguments(chain)
    chain.set_defaults(run=_run)
    supernet = experiment_command(commands, "train-supernet", "train the weight-sharing supernet")
    supernet.set_defaults(run=_train_supernet)
    search = experiment_command(commands, "search", "search the supernet under the budgets")
    name_argument(search)
    worker_arguments(search)
    search.set_defaults(run=_search)
    retrain = experiment_command(commands, "retrain", "train a single architecture")
    retrain_arguments(retrain, "a JSON file or a shipped name")
    retrain.add_argument(
        "--init-from",
        type=Path,
        metavar="FILE",
        help="weights to start from (default: retrain.init_from of the experiment)",
    )
    retrain.set_defaults(run=_retrain)
    _add_evaluate(commands)
    replay = commands.add_parser("replay", help="compute a failed training step again")
    replay.add_argument("failure", type=Path, metavar="FILE", help="failure.pt of a training")
    replay.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="torch device; rounding differs between devices (default: %(default)s)",
    )
    replay.set_defaults(run=_replay)


def retrain_arguments(command: argparse.ArgumentParser, arch: str) -> None:
    """Add the arguments of `retrain_level`; `arch` says what names an architecture."""
    retrained = command.add_mutually_exclusive_group()
    retrained.add_argument(
        "--arch", metavar="FILE", help=f"architecture: {arch} (default: best.json of the search)"
    )
    retrained.add_argument(
        "--front",
        type=Path,
        metavar="FILE",
        help="pareto.json of a search: train all of its architectures",
    )
    name_argument(command)
    worker_arguments(command)


def _add_evaluate(commands: Commands) -> None:
    evaluate = experiment_command(commands, "evaluate", "compute metrics of a model or of results")
    _evaluated_arguments(evaluate)
    _output_arguments(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _evaluated_arguments(evaluate: argparse.ArgumentParser) -> None:
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
        metavar="FILE",
        help="architecture, a JSON file or a shipped name: of a published checkpoint, or the subnet"
        " to take of a supernet (default: the largest)",
    )
    split_argument(evaluate, ("test", "val"), "test")
    evaluate.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="metrics out of coco, pck, pckh, posetrack, mota (default: all that the data allow)",
    )
    rules = evaluate.add_argument_group("rules of the protocols")
    rules.add_argument(
        "--mota-rule",
        choices=("poseval", "all-frames"),
        default="poseval",
        help="how MOTA counts: as the official kit, which leaves out the last annotated frame of a"
        " video and counts frames without predictions once, or every annotated frame as it is"
        " (default: %(default)s)",
    )
    rules.add_argument(
        "--official",
        action="store_true",
        help="score COCO AP by pycocotools (default: by faster-coco-eval, with equal metrics)",
    )


def _output_arguments(evaluate: argparse.ArgumentParser) -> None:
    output = evaluate.add_argument_group("output")
    output.add_argument(
        "--pictures",
        type=Path,
        metavar="FILE",
        help="PNG file to write, with the predictions of 16 persons",
    )
    output.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="COCO results JSON file to write, with all predictions",
    )
    output.add_argument("--json", action="store_true", help="print all metrics as JSON")


def _run(options: argparse.Namespace) -> None:
    from vipnas.pipeline.chain import run
    from vipnas.training.compute import check_compute

    experiment = open_experiment(options)
    check_compute(experiment.config.compute, experiment.device)
    run(experiment, ray_settings(options))


def _train_supernet(options: argparse.Namespace) -> None:
    from vipnas.pipeline.image_level import ImageLevel

    train_level(options, ImageLevel, lambda run: run.supernet)


def train_level(
    options: argparse.Namespace,
    level_of: Callable[[Experiment], Level[Any]],
    stage: Callable[[RunFolder], Path],
) -> None:
    """Train the supernet of a level."""
    from vipnas.pipeline.supernet import check_sampling, train_supernet

    def check(experiment: Experiment) -> None:
        check_sampling(level_of(experiment))

    with open_with_others(options, stage, check) as experiment:
        train_supernet(level_of(experiment))


def _search(options: argparse.Namespace) -> None:
    from vipnas.pipeline.image_level import ImageLevel

    search_level(options, ImageLevel)


def search_level(options: argparse.Namespace, level_of: Callable[[Experiment], Level[Any]]) -> None:
    """Search the supernet of a level."""
    from vipnas.pipeline.search import search

    search(level_of(open_experiment(options)), ray_settings(options))


def _retrain(options: argparse.Namespace) -> None:
    from vipnas.pipeline.image_level import ImageLevel

    retrain_level(
        options, ImageLevel, lambda run: run.retrain, _arch_file(options), options.init_from
    )


def retrain_level(
    options: argparse.Namespace,
    level_of: Callable[[Experiment], Level[Any]],
    stage: Callable[[RunFolder], Path],
    arch_file: Path | None,
    init_from: Path | None,
) -> None:
    """Retrain one architecture or a whole front of a level."""
    from vipnas.pipeline.front import retrain_front
    from vipnas.pipeline.level import existing_best
    from vipnas.pipeline.retrain import read_within_budgets, retrain

    ray = ray_settings(options)
    if options.front is not None:
        retrain_front(level_of(open_experiment(options)), options.front, init_from, ray)
        return
    if ray is not None:
        raise UserError("--workers", "--front with this option", "one architecture")

    def check(experiment: Experiment) -> None:
        level = level_of(experiment)
        read_within_budgets(level, arch_file or existing_best(level))
        level.initial_weights(init_from)

    with open_with_others(options, stage, check) as experiment:
        level = level_of(experiment)
        retrain(level, arch_file or existing_best(level), init_from)


def _replay(options: argparse.Namespace) -> None:
    """A step that is not finite here either is an error, so that scripts can tell."""
    from vipnas.pipeline.replay import replay

    step, diagnosis = replay(options.failure, open_device(options))
    if not diagnosis.is_finite:
        raise FloatingPointError(f"{options.failure}: step {step}: {diagnosis}")
    print(f"step {step}: {diagnosis}")


def _arch_file(options: argparse.Namespace) -> Path | None:
    """Return the file of --arch; None if the option is not given."""
    from vipnas.shipped import find_shipped

    return None if options.arch is None else find_shipped("search_spaces", options.arch, ".json")


def _evaluate(options: argparse.Namespace) -> None:
    from vipnas.evaluation.protocols import Rules
    from vipnas.pipeline.evaluate import evaluate, evaluate_results

    rules = Rules(options.mota_rule, options.official)
    experiment = open_experiment(options)
    if options.from_results:
        for name in ("arch", "pictures", "results"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name}", "a model with this option", "--from-results")
        scores = evaluate_results(experiment, options.model, options.split, options.metrics, rules)
    else:
        scores = evaluate(
            experiment,
            options.model,
            _arch_file(options),
            options.split,
            options.metrics,
            options.pictures,
            options.results,
            rules,
        )
    print_scores(scores, options.json)
