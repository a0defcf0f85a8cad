"""`vipnas video`: the commands of the temporal level, one per stage."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vipnas.cli.arguments import (
    Commands,
    experiment_command,
    name_argument,
    open_experiment,
    print_scores,
    split_argument,
    worker_arguments,
)
from vipnas.cli.experiment import (
    retrain_arguments,
    retrain_level,
    search_level,
    train_level,
)


def add_video_commands(commands: Commands) -> None:
    """Add `video` and its actions."""
    video = commands.add_parser("video", help="train, search and evaluate networks for clips")
    actions = video.add_subparsers(title="actions", dest="action", required=True, metavar="ACTION")

    supernet = experiment_command(
        actions, "train-supernet", "train the supernet of the follow-up frames"
    )
    supernet.set_defaults(run=_train_supernet)

    search = experiment_command(actions, "search", "search networks and fusions for clips")
    name_argument(search)
    worker_arguments(search)
    search.set_defaults(run=_search)

    retrain = experiment_command(actions, "retrain", "fine-tune the networks of a clip")
    retrain_arguments(retrain, "a JSON file, that of a clip")
    retrain.set_defaults(run=_retrain)

    evaluate = experiment_command(actions, "evaluate", "compute metrics on whole videos")
    evaluate.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="model file of a clip, or the folder of its exported files",
    )
    split_argument(evaluate, ("test", "val"), "test")
    evaluate.add_argument(
        "--boxes",
        choices=("annotated", "pose"),
        help="crop by annotated boxes, or by the pose in the previous frame (default: video.boxes"
        " of the experiment)",
    )
    output = evaluate.add_argument_group("output")
    output.add_argument(
        "--pictures",
        type=Path,
        metavar="FILE",
        help="PNG file to write, with frames of the first video",
    )
    output.add_argument("--json", action="store_true", help="print all metrics as JSON")
    evaluate.set_defaults(run=_evaluate)

    export = actions.add_parser("export", help="export the networks of a clip to ONNX")
    export.add_argument("model", type=Path, metavar="MODEL", help="model file of a clip")
    export.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    export.set_defaults(run=_export)


def _train_supernet(options: argparse.Namespace) -> None:
    from vipnas.pipeline.clip_level import ClipLevel

    train_level(options, ClipLevel, lambda run: run.clips.supernet)


def _search(options: argparse.Namespace) -> None:
    from vipnas.pipeline.clip_level import ClipLevel

    search_level(options, ClipLevel)


def _retrain(options: argparse.Namespace) -> None:
    from vipnas.pipeline.clip_level import ClipLevel

    arch_file = None if options.arch is None else Path(options.arch)
    retrain_level(options, ClipLevel, lambda run: run.clips.retrain, arch_file, None)


def _evaluate(options: argparse.Namespace) -> None:
    from vipnas.pipeline.clip_level import ClipLevel
    from vipnas.viz.video_sheets import video_sheet

    level = ClipLevel(open_experiment(options))
    data, loop = level.videos(options.split), level.loop_of(options.model)
    scores, found = replace(loop, boxes=options.boxes or loop.boxes).scores(data)
    if options.pictures is not None:
        video_sheet(options.pictures, data.videos[0], found, data.skeleton)
    print_scores(scores, options.json)


def _export(options: argparse.Namespace) -> None:
    from vipnas.deploy.export_clip import export_video
    from vipnas.models.file import read_clip

    network, header = read_clip(options.model)
    for exported in export_video(network, options.output, header):
        print(f"export: {exported}")
