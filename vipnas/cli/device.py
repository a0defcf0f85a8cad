"""The commands about this machine: profile, benchmark, doctor."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.cli.arguments import (
    Commands,
    calibrating_experiment,
    model_arguments,
    model_of,
    split_argument,
)
from vipnas.cli.numbers import count, positive_number, thread_count
from vipnas.errors import UserError
from vipnas.runtimes.table import DEFAULT_RUNTIME, RUNTIMES

if TYPE_CHECKING:
    from vipnas.latency.measure import Key


def add_device_commands(commands: Commands) -> None:
    """Add `profile`, `benchmark` and `doctor`."""
    _add_profile(commands)
    _add_benchmark(commands)
    doctor = commands.add_parser("doctor", help="describe the installation and this machine")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_doctor)


def _add_profile(commands: Commands) -> None:
    profile = commands.add_parser("profile", help="measure a latency table of a search space")
    profile.add_argument("space", help="search space: a YAML file or a shipped name")
    profile.add_argument(
        "--input-hw",
        type=int,
        nargs=2,
        metavar="PX",
        help="input height and width in pixels (default: those of the space)",
    )
    profile.add_argument(
        "--num-archs",
        type=count,
        default=120,
        metavar="N",
        help="number of networks to measure (default: %(default)s)",
    )
    profile.add_argument(
        "--num-blocks",
        type=count,
        default=1000,
        metavar="N",
        help="number of layers to measure (default: %(default)s)",
    )
    profile.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="table to write (default: latency/NAME.json, where NAME tells space, device and"
        " runtime)",
    )
    runtime_arguments(profile)
    profile.set_defaults(run=_profile)


def runtime_arguments(command: argparse.ArgumentParser) -> None:
    """Add what a latency is measured with."""
    measured = command.add_argument_group("latency")
    timing_arguments(measured)
    measured.add_argument(
        "--batch",
        type=count,
        default=1,
        metavar="N",
        help="number of images per batch (default: %(default)s)",
    )
    measured.add_argument(
        "--precision",
        default="fp32",
        metavar="NAME",
        help="precision: fp32, bf16, fp16 or int8, as the runtime offers (default: %(default)s)",
    )
    measured.add_argument(
        "--accelerator", default="cpu", metavar="NAME", help="cpu or cuda (default: %(default)s)"
    )
    max_spread_argument(measured)


def timing_arguments(group: argparse._ActionsContainer) -> None:
    """Add `--runtime` and `--threads`, which every measured time depends on."""
    group.add_argument(
        "--runtime",
        choices=tuple(RUNTIMES),
        default=DEFAULT_RUNTIME,
        help="runtime that time is measured in (default: %(default)s)",
    )
    group.add_argument(
        "--threads",
        type=thread_count,
        default=1,
        metavar="N",
        help="number of threads that time is measured with (default: %(default)s)",
    )


def max_spread_argument(group: argparse._ActionsContainer) -> None:
    """Add `--max-spread`."""
    group.add_argument(
        "--max-spread",
        type=positive_number,
        default=0.1,
        metavar="X",
        help="largest spread of the samples, relative to their median; a noisier measurement is"
        " an error (default: %(default)s)",
    )


def _profile(options: argparse.Namespace) -> None:
    from functools import partial

    from vipnas.files import digest
    from vipnas.latency.predictors import Predictor
    from vipnas.latency.profile import Profile, profile_space
    from vipnas.latency.table import default_file
    from vipnas.shipped import find_shipped
    from vipnas.space.yaml import read_space

    space = read_space(find_shipped("search_spaces", options.space, ".yaml"))
    if options.input_hw:
        space = space.with_facts(input_hw=tuple(options.input_hw))
    key = key_of(options, space.input_hw)
    path = options.output or default_file(space, key)
    amount = Profile(options.num_archs, options.num_blocks, max_spread=options.max_spread)
    table = profile_space(space, key, path, amount, partial(print, flush=True))
    print(f"profile: {path}: {Predictor(table, digest(path))}")


def key_of(options: argparse.Namespace, input_hw: tuple[int, int]) -> Key:
    """Return the key of a latency that is measured on this machine with these arguments."""
    from vipnas.latency.measure import key_of_this_machine

    return key_of_this_machine(
        options.runtime,
        input_hw,
        options.threads,
        options.batch,
        options.precision,
        options.accelerator,
    )


def _add_benchmark(commands: Commands) -> None:
    command = commands.add_parser("benchmark", help="compare a model's formats and precisions")
    model_arguments(command)
    split_argument(command, ("test", "val"), "test")
    compared = command.add_argument_group("compared")
    compared.add_argument(
        "--format", nargs="+", metavar="NAME", help="file formats (default: all installed ones)"
    )
    compared.add_argument(
        "--precision", nargs="+", metavar="NAME", help="precisions (default: all of each format)"
    )
    compared.add_argument(
        "--threads",
        type=thread_count,
        nargs="+",
        default=[1],
        metavar="N",
        help="numbers of CPU threads (default: 1)",
    )
    compared.add_argument(
        "--no-score", action="store_true", help="do not compute AP on the data of --experiment"
    )
    max_spread_argument(compared)
    output = command.add_argument_group("output")
    output.add_argument("-o", "--output", type=Path, metavar="FILE", help="JSON file to write")
    output.add_argument("--json", action="store_true", help="print JSON, not a table")
    command.set_defaults(run=_benchmark)


def _benchmark(options: argparse.Namespace) -> None:
    from functools import partial

    from vipnas.deploy.benchmark import benchmark, forms_here, table
    from vipnas.files import to_plain, write_atomically
    from vipnas.latency.measure import key_of_this_machine
    from vipnas.pipeline.models import check_facts

    say = partial(print, file=sys.stderr, flush=True)
    model = model_of(options)
    experiment = calibrating_experiment(options)
    crops, score = None, None
    if experiment is not None:
        experiment = experiment.at(model.arch)
        if not options.no_score:
            check_facts(experiment, model.header, options.model)
        crops = experiment.calibration_images
        evaluator = None if options.no_score else experiment.evaluator(options.split)
        score = None if evaluator is None else lambda network: evaluator(network).ap
    forms = forms_here(options.format, options.precision, crops is not None, say)
    rows = benchmark(
        model.pose_net(),
        model.header,
        forms,
        options.threads,
        crops,
        score,
        options.max_spread,
        say,
    )
    key = key_of_this_machine("torch", model.arch.input_hw)
    found = {"device": key.device, "input_hw": list(key.input_hw), "model": options.model.name}
    found["rows"] = [{**to_plain(row), "fps": row.fps} for row in rows]
    text = json.dumps(found, indent=1)
    if options.output is not None:
        write_atomically(options.output, text.encode())
    if options.json:
        print(text)
    else:
        height, width = key.input_hw
        print(f"{key.device}; {height} x {width} px, one image at a time")
        print("\n".join(table(rows)))


def _doctor(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    import vipnas
    from vipnas.deploy.doctor import diagnose

    found = diagnose(vipnas.__version__)
    print(json.dumps(asdict(found)) if options.json else "\n".join(found.lines()))
    if not found.is_sound:
        required = found.requirements[0]
        short = [f"{name} {state}" for name, state in required.packages.items()]
        raise UserError("vipnas", "all packages it requires", ", ".join(short), required.command)
