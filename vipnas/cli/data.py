"""The commands about data: drawing a set of people, looking at one."""

from __future__ import annotations

import argparse
from pathlib import Path

from vipnas.cli.arguments import Commands, count, experiment_command, open_experiment


def add_data_commands(commands: Commands) -> None:
    inspect = experiment_command(commands, "inspect-data", "what is in a data set, and a picture")
    inspect.add_argument("--split", choices=("train", "val", "test"), default="train")
    inspect.add_argument("--sheet", type=Path, default=Path("data.png"), help="PNG to write")
    inspect.add_argument("--num-persons", type=count, default=24)
    inspect.add_argument("--augmented", action="store_true", help="as training sees them")
    inspect.set_defaults(run=_inspect)

    synthesize = commands.add_parser("synthesize", help="draw a data set of people")
    synthesize.add_argument("--output", type=Path, required=True, help="folder to make")
    synthesize.add_argument("--video", action="store_true", help="videos with tracks (PoseTrack18)")
    number = synthesize.add_mutually_exclusive_group(required=True)
    number.add_argument("--num-images", type=int)
    number.add_argument("--num-videos", type=int, help="with --video")
    synthesize.add_argument(
        "--num-frames", type=int, help="of each video, 25 a second (default: 24)"
    )
    synthesize.add_argument("--speed", type=float, help="of people in videos (default: 1)")
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument("--image-hw", type=int, nargs=2, default=(240, 320), metavar="PX")
    synthesize.add_argument(
        "--people", type=int, nargs=2, default=(1, 3), metavar="N", help="least and most at a time"
    )
    synthesize.add_argument("--difficulty", type=float, default=1.0, help="0 to 1")
    synthesize.add_argument("--num-workers", type=int, default=1)
    synthesize.set_defaults(run=_synthesize)


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
    )
    print(text)


def _synthesize(options: argparse.Namespace) -> None:
    from vipnas.synthetic.images import synthesize
    from vipnas.synthetic.videos import synthesize_video

    image_hw, people = tuple(options.image_hw), tuple(options.people)
    workers, difficulty = options.num_workers, options.difficulty
    if options.video != (options.num_videos is not None):
        raise ValueError("--video and --num-videos go together; allowed: both, or --num-images")
    of_videos = {"num_frames": options.num_frames, "speed": options.speed}
    of_videos = {name: value for name, value in of_videos.items() if value is not None}
    if of_videos and not options.video:
        raise ValueError("--num-frames and --speed: allowed with --video only")
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
