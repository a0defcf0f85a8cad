"""`vipnas video ...`: the commands of the temporal level, one stage each."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.cli.arguments import (
    Commands,
    experiment_command,
    open_experiment,
    open_with_others,
    print_scores,
    ray_settings,
    worker_arguments,
)
from vipnas.cli.experiment import retrain_level

if TYPE_CHECKING:
    from vipnas.pipeline.experiment import Experiment


def add_video_commands(commands: Commands) -> None:
    """`video` and its actions."""
    video = commands.add_parser("video", help="networks along video clips: train, search, retrain")
    actions = video.add_subparsers(dest="action", required=True, metavar="ACTION")

    supernet = experiment_command(
        actions, "train-supernet", "supernet of the frames after a key frame"
    )
    supernet.set_defaults(run=_train_supernet)

    search = experiment_command(actions, "search", "search fusions and networks along the clip")
    worker_arguments(search)
    search.set_defaults(run=_search)

    retrain = experiment_command(actions, "retrain", "train a clip's networks on, along the clip")
    retrained = retrain.add_mutually_exclusive_group()
    retrained.add_argument("--arch", type=Path, help="arch JSON of a clip (default: best.json)")
    retrained.add_argument("--front", type=Path, help="pareto.json of a search: train all of it")
    worker_arguments(retrain)
    retrain.set_defaults(run=_retrain)

    evaluate = experiment_command(
        actions, "evaluate", "figures along whole videos, in online order"
    )
    evaluate.add_argument("model", type=Path, metavar="MODEL", help="model file of a clip")
    evaluate.add_argument("--split", choices=("test", "val"), default="test")
    evaluate.add_argument("--boxes", choices=("annotated", "pose"), help="whose box is cropped")
    evaluate.add_argument("--pictures", type=Path, help="PNG to write: frames of the first video")
    evaluate.add_argument("--json", action="store_true", help="print all figures as JSON")
    evaluate.set_defaults(run=_evaluate)

    export = actions.add_parser("export", help="both networks' ONNX files, compared with PyTorch")
    export.add_argument("model", type=Path, metavar="MODEL", help="model file of a clip")
    export.add_argument("-o", "--output", type=Path, required=True, help="folder to write to")
    export.set_defaults(run=_export)


def _train_supernet(options: argparse.Namespace) -> None:
    from vipnas.pipeline.clip_level import ClipLevel
    from vipnas.pipeline.supernet import check_sampling, train_supernet

    def check(experiment: Experiment) -> None:
        check_sampling(ClipLevel(experiment))

    with open_with_others(options, check) as experiment:
        train_supernet(ClipLevel(experiment))


def _search(options: argparse.Namespace) -> None:
    from vipnas.pipeline.clip_level import ClipLevel
    from vipnas.pipeline.search import search

    search(ClipLevel(open_experiment(options)), ray_settings(options))


def _retrain(options: argparse.Namespace) -> None:
    from vipnas.pipeline.clip_level import ClipLevel

    retrain_level(options, ClipLevel, options.arch, None)


def _evaluate(options: argparse.Namespace) -> None:
    from vipnas.pipeline.clip_level import ClipLevel, evaluate_video
    from vipnas.viz.video_sheets import video_sheet

    level = ClipLevel(open_experiment(options))
    scores, found = evaluate_video(level, options.model, options.split, options.boxes)
    if options.pictures is not None:
        data = level.videos(options.split)
        video_sheet(options.pictures, data.videos[0], found, data.skeleton)
    print_scores(scores, options.json)


def _export(options: argparse.Namespace) -> None:
    from vipnas.deploy.export_clip import export_video
    from vipnas.models.file import read_clip

    network, header = read_clip(options.model)
    for exported in export_video(network, options.output, header):
        print(f"export: {exported}")
