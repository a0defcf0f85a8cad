"""The command that writes a first experiment."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vipnas.cli.arguments import Commands
from vipnas.cli.device import timing_arguments
from vipnas.errors import UserError

QUESTIONS = {
    "train": "Annotations of the training persons (COCO keypoint JSON)",
    "images": "Folder of their images",
    "test": "Annotations of the test persons",
    "budget": "What may the network cost (25 fps, 40 ms, 100 MMACs, 3 Mparams)",
    "hours": "Hours for the whole run",
}


def add_init_command(commands: Commands) -> None:
    """Add `init`."""
    command = commands.add_parser("init", help="write a first experiment for your data and budget")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="experiment to write"
    )
    data = command.add_argument_group("data (asked for if not given)")
    data.add_argument("--train", metavar="FILE", help="annotations of the training persons")
    data.add_argument("--images", metavar="DIR", help="folder of their images")
    data.add_argument("--test", metavar="FILE", help="annotations of the test persons")
    data.add_argument(
        "--test-images", metavar="DIR", help="folder of their images (default: that of --images)"
    )
    data.add_argument(
        "--data-root",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="dataset root, to which these paths are relative (default: .)",
    )
    data.add_argument(
        "--skeleton", default="coco_17", help="shipped name or YAML file (default: %(default)s)"
    )
    wanted = command.add_argument_group("what you want (asked for if not given)")
    wanted.add_argument(
        "--budget", metavar="TEXT", help="such as '25 fps', '40 ms', '100 MMACs', '3 Mparams'"
    )
    wanted.add_argument("--hours", metavar="H", help="time for the whole run")
    timing_arguments(wanted)
    wanted.add_argument("--space", default="lat_vipnas", help="search space (default: %(default)s)")
    command.add_argument("--device", help="torch device (default: cuda if available, else cpu)")
    command.add_argument("--force", action="store_true", help="overwrite an existing file")
    command.set_defaults(run=_init)


def _init(options: argparse.Namespace) -> None:
    from functools import partial

    from vipnas.cli.arguments import open_device
    from vipnas.files import write_atomically
    from vipnas.pipeline.budget import parse_budget
    from vipnas.pipeline.first_experiment import Wishes, first_experiment

    if options.output.exists() and not options.force:
        raise UserError(str(options.output), "a new file", "an existing one", "--force replaces it")
    for name, question in QUESTIONS.items():
        if getattr(options, name) is None:
            setattr(options, name, _asked(f"--{name}", question))
    wishes = Wishes(
        annotations=options.train,
        images=options.images,
        test_annotations=options.test,
        test_images=options.test_images or options.images,
        data_root=options.data_root,
        skeleton=options.skeleton,
        space=options.space,
        budget=parse_budget(options.budget, options.runtime, options.threads),
        hours=_hours(options.hours),
        device=open_device(options),
    )
    plan = first_experiment(wishes, partial(print, flush=True))
    write_atomically(options.output, plan.text)
    print(f"expected: {plan.expected}")
    command = f"vipnas run {options.output} --data-root {options.data_root}"
    print(f"init: {options.output}; run it: {command}")


def _asked(place: str, question: str) -> str:
    """Ask for a missing argument; raise UserError where nobody can answer."""
    if not sys.stdin.isatty():
        raise UserError(place, "a value", "none", question)
    return input(f"{question}: ").strip()


def _hours(given: str) -> float:
    try:
        hours = float(given)
    except ValueError:
        hours = 0.0
    if not 0 < hours < 10_000:
        raise UserError("--hours", "a number above 0", str(given))
    return hours
