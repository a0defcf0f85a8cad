"""`vipnas demo`: what the quickstarts found, on a video."""

from __future__ import annotations

import argparse
from pathlib import Path

from vipnas.cli.arguments import Commands
from vipnas.cli.numbers import count, seed_number


def add_demo_command(commands: Commands) -> None:
    """Add `demo`."""
    demo = commands.add_parser("demo", help="draw what the quickstarts found, on a synthetic video")
    demo.add_argument(
        "--run",
        dest="image_run",
        type=Path,
        default=Path("runs/quickstart"),
        metavar="DIR",
        help="run of the image level (default: %(default)s)",
    )
    demo.add_argument(
        "--video-run",
        type=Path,
        default=Path("runs/quickstart_video"),
        metavar="DIR",
        help="run of both levels (default: %(default)s)",
    )
    demo.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("demo.mp4"),
        metavar="FILE",
        help="video to write, .mp4 or .webm (default: %(default)s)",
    )
    content = demo.add_argument_group("content")
    content.add_argument(
        "--num-frames",
        type=count,
        default=100,
        metavar="N",
        help="number of frames, at 25 per second (default: %(default)s)",
    )
    content.add_argument(
        "--seed",
        type=seed_number,
        default=10,
        help="random seed of the video (default: %(default)s)",
    )
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    from vipnas.pipeline.demo import demo

    arguments = options.image_run, options.video_run, options.output
    for level in demo(*arguments, options.num_frames, options.seed):
        print(f"demo: {level}")
    print(f"demo: {options.output}")
