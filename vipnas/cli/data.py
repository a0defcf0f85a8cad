"""The commands about data: `inspect-data` and `synthesize`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vipnas.cli.arguments import Commands, experiment_command, open_experiment, split_argument
from vipnas.cli.numbers import count
from vipnas.errors import UserError


def add_data_commands(commands: Commands) -> None:
    """Add `inspect-data` and `synthesize`."""
    inspect = experiment_command(commands, "inspect-data", "describe the data of an experiment")
    split_argument(inspect, ("train", "val", "test"), "train")
    inspect.add_argument(
        "--augmented", action="store_true", help="augment the crops as in training"
    )
    output = inspect.add_argument_group("output")
    output.add_argument(
        "--sheet",
        type=Path,
        default=Path("data.png"),
        metavar="FILE",
        help="PNG file to write, with crops and keypoints (default: %(default)s)",
    )
    output.add_argument(
        "--num-persons",
        type=count,
        default=24,
        metavar="N",
        help="number of persons in the sheet (default: %(default)s)",
    )
    inspect.set_defaults(run=_inspect)
    _add_synthesize(commands)


def _add_synthesize(commands: Commands) -> None:
    synthesize = commands.add_parser("synthesize", help="generate a dataset of synthetic people")
    synthesize.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder to create"
    )
    number = synthesize.add_mutually_exclusive_group(required=True)
    number.add_argument("--num-images", type=int, metavar="N", help="number of images")
    number.add_argument(
        "--num-videos", type=int, metavar="N", help="number of videos, with --video"
    )
    synthesize.add_argument(
        "--num-workers",
        type=int,
        default=1,
        metavar="N",
        help="number of worker processes (default: %(default)s)",
    )
    _add_content(synthesize)
    _add_videos(synthesize)
    synthesize.set_defaults(run=_synthesize)


def _add_content(synthesize: argparse.ArgumentParser) -> None:
    content = synthesize.add_argument_group("content")
    content.add_argument(
        "--seed", type=int, default=0, metavar="N", help="random seed (default: %(default)s)"
    )
    content.add_argument(
        "--image-hw",
        type=int,
        nargs=2,
        default=(240, 320),
        metavar="PX",
        help="height and width in pixels (default: 240 320)",
    )
    content.add_argument(
        "--people",
        type=int,
        nargs=2,
        default=(1, 3),
        metavar="N",
        help="least and most people per image, or at a time (default: 1 3)",
    )
    content.add_argument(
        "--difficulty",
        type=float,
        default=1.0,
        metavar="X",
        help="0 to 1: variety of poses, looks and occlusions (default: %(default)s)",
    )


def _add_videos(synthesize: argparse.ArgumentParser) -> None:
    videos = synthesize.add_argument_group("videos")
    videos.add_argument(
        "--video", action="store_true", help="write videos with tracks in PoseTrack18 format"
    )
    videos.add_argument(
        "--num-frames",
        type=int,
        metavar="N",
        help="frames per video, at 25 per second (default: 24)",
    )
    videos.add_argument(
        "--speed", type=float, metavar="X", help="speed of the people, 1 is natural (default: 1)"
    )


def _inspect(options: argparse.Namespace) -> None:
    from vipnas.viz.inspect import inspect_data

    experiment = open_experiment(options)
    data = getattr(experiment, f"{options.split}_data")
    augmentation = experiment.config.augmentation if options.augmented else None
    text = inspect_data(
        data,
        experiment.codec,
        options.sheet,
        options.num_persons,
        augmentation,
        experiment.config.seed,
        experiment.config.box,
    )
    print(text)


def _synthesize(options: argparse.Namespace) -> None:
    from vipnas.synthetic.images import synthesize
    from vipnas.synthetic.videos import synthesize_video

    image_hw, people = tuple(options.image_hw), tuple(options.people)
    workers, difficulty = options.num_workers, options.difficulty
    if options.video != (options.num_videos is not None):
        raise UserError("--video", "both --video and --num-videos, or --num-images", "one of them")
    of_videos = {"num_frames": options.num_frames, "speed": options.speed}
    of_videos = {name: value for name, value in of_videos.items() if value is not None}
    if of_videos and not options.video:
        place = " and ".join(f"--{name.replace('_', '-')}" for name in of_videos)
        raise UserError(place, "--video with this option", "images")
    if options.video:
        number, what = options.num_videos, "videos"
        synthesize_video(
            options.output,
            number,
            options.seed,
            image_hw=image_hw,
            people_per_video=people,
            num_workers=workers,
            difficulty=difficulty,
            **of_videos,
        )
    else:
        number, what = options.num_images, "images"
        synthesize(options.output, number, options.seed, image_hw, people, workers, difficulty)
    print(f"synthesize: {number} {what} in {options.output}")
