"""The commands about data: drawing a set of people, looking at one."""

from __future__ import annotations

import argparse
from pathlib import Path

from vipnas.commands.opening import Commands, experiment_command, open_experiment


def add_data_commands(commands: Commands) -> None:
    inspect = experiment_command(commands, "inspect-data", "what is in a data set, and a picture")
    inspect.add_argument("--split", choices=("train", "search", "test"), default="train")
    inspect.add_argument("--sheet", type=Path, default=Path("data.png"), help="PNG to write")
    inspect.add_argument("--num-persons", type=int, default=24)
    inspect.add_argument("--augmented", action="store_true", help="as training sees them")
    inspect.set_defaults(run=_inspect)

    synthesize = commands.add_parser("synthesize", help="draw a data set of people")
    synthesize.add_argument("--output", type=Path, required=True, help="folder to make")
    synthesize.add_argument("--video", action="store_true", help="videos with tracks (PoseTrack18)")
    number = synthesize.add_mutually_exclusive_group(required=True)
    number.add_argument("--num-images", type=int)
    number.add_argument("--num-videos", type=int, help="with --video")
    synthesize.add_argument("--num-frames", type=int, default=24, help="of each video, 25 a second")
    synthesize.add_argument("--speed", type=float, default=1.0, help="of people in videos")
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument("--image-hw", type=int, nargs=2, default=(240, 320), metavar="PX")
    synthesize.add_argument(
        "--people", type=int, nargs=2, default=(1, 3), metavar="N", help="least and most at a time"
    )
    synthesize.add_argument("--difficulty", type=float, default=1.0, help="0 to 1")
    synthesize.add_argument("--num-workers", type=int, default=1)
    synthesize.set_defaults(run=_synthesize)


def _inspect(options: argparse.Namespace) -> None:
    from vipnas.data.inspect import inspect_data

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
    )
    print(text)


def _synthesize(options: argparse.Namespace) -> None:
    from vipnas.data.synthetic import synthesize
    from vipnas.data.synthetic_video import synthesize_video

    image_hw, people = tuple(options.image_hw), tuple(options.people)
    workers, difficulty = options.num_workers, options.difficulty
    if options.video != (options.num_videos is not None):
        raise ValueError("--video and --num-videos go together; allowed: both, or --num-images")
    if options.video:
        count, what = options.num_videos, "videos"
        synthesize_video(
            options.output,
            count,
            options.seed,
            options.num_frames,
            image_hw,
            people,
            workers,
            difficulty,
            options.speed,
        )
    else:
        count, what = options.num_images, "images"
        synthesize(options.output, count, options.seed, image_hw, people, workers, difficulty)
    print(f"synthesize: {count} {what} in {options.output}")
