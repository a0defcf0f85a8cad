"""The commands of one model: cost, profile, info, convert, export."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.cli.arguments import (
    Commands,
    calibrating_experiment,
    count,
    model_arguments,
    model_of,
)
from vipnas.runtimes.table import DEFAULT_RUNTIME, RUNTIMES, runtime_of_file

if TYPE_CHECKING:
    from vipnas.latency.measure import Key


def add_network_commands(commands: Commands) -> None:
    """Add `cost`, `profile`, `info`, `convert` and `export`."""
    _add_cost(commands)
    _add_profile(commands)

    info = commands.add_parser("info", help="describe a model file")
    model_arguments(info)
    info.add_argument("--json", action="store_true", help="print the header as JSON")
    info.set_defaults(run=_info)

    convert = commands.add_parser("convert", help="write a model in another file format")
    model_arguments(convert)
    convert.add_argument(
        "--to",
        choices=("published", "safetensors"),
        required=True,
        help="checkpoint format of the released networks (.pth), or model file of vipnas",
    )
    convert.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="file to write"
    )
    convert.set_defaults(run=_convert)

    export = commands.add_parser("export", help="export a model for another runtime")
    model_arguments(export)
    export.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="file to write"
    )
    export.add_argument(
        "--format",
        metavar="NAME",
        help="file format of a runtime (default: by the suffix of --output)",
    )
    export.add_argument(
        "--precision",
        default="fp32",
        metavar="NAME",
        help="precision of weights, and of activations with int8, which is scaled on the crops of"
        " --experiment (default: %(default)s)",
    )
    export.add_argument(
        "--with-preprocessing", action="store_true", help="take uint8 RGB (N, H, W, 3)"
    )
    export.add_argument(
        "--with-decode", action="store_true", help="give x, y, score by the codec, not heatmaps"
    )
    export.set_defaults(run=_export)


def _add_cost(commands: Commands) -> None:
    cost = commands.add_parser("cost", help="count MACs and parameters, measure latency")
    cost.add_argument("arch", help="architecture: a JSON file or a shipped name")
    cost.add_argument("--latency", action="store_true", help="measure the latency on this machine")
    output = cost.add_argument_group("output").add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print exact numbers as JSON")
    output.add_argument("--table", action="store_true", help="print the network layer by layer")
    _runtime_arguments(cost)
    cost.set_defaults(run=_cost)


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
    _runtime_arguments(profile)
    profile.set_defaults(run=_profile)


def _runtime_arguments(command: argparse.ArgumentParser) -> None:
    """Add what a latency is measured with."""
    measured = command.add_argument_group("latency")
    measured.add_argument(
        "--runtime",
        choices=tuple(RUNTIMES),
        default=DEFAULT_RUNTIME,
        help="runtime (default: %(default)s)",
    )
    measured.add_argument(
        "--threads",
        type=count,
        default=1,
        metavar="N",
        help="number of threads (default: %(default)s)",
    )
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
    measured.add_argument(
        "--max-spread",
        type=float,
        default=0.1,
        metavar="X",
        help="largest spread of the samples, relative to their median; a noisier measurement is"
        " an error (default: %(default)s)",
    )


def _cost(options: argparse.Namespace) -> None:
    from vipnas.arch.io import read_arch
    from vipnas.files import to_plain
    from vipnas.models.counting import count_cost
    from vipnas.shipped import find_shipped

    arch = read_arch(find_shipped("search_spaces", options.arch, ".json"))
    cost = count_cost(arch)
    if options.table:
        from vipnas.cli.layers import layer_table

        print(layer_table(arch))
    if not options.latency:
        print(json.dumps(to_plain(cost)) if options.json else cost)
        return
    from vipnas.latency.measure import measure_arch

    key = _key(options, arch.input_hw)
    latency = measure_arch(arch, key, options.max_spread)
    cost = cost.with_values(latency_ms=latency.median_ms)
    found = {**to_plain(cost), "latency": to_plain(latency), "key": to_plain(key)}
    print(json.dumps(found) if options.json else f"{cost}; {key}: {latency}")


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
    key = _key(options, space.input_hw)
    path = options.output or default_file(space, key)
    amount = Profile(options.num_archs, options.num_blocks, max_spread=options.max_spread)
    table = profile_space(space, key, path, amount, partial(print, flush=True))
    print(f"profile: {path}: {Predictor(table, digest(path))}")


def _key(options: argparse.Namespace, input_hw: tuple[int, int]) -> Key:
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


def _info(options: argparse.Namespace) -> None:
    from vipnas.deploy.describe import describe, header_of_file

    header, form = header_of_file(options.model, lambda: model_of(options))
    print(header.to_json() if options.json else "\n".join(describe(header, form)))


def _convert(options: argparse.Namespace) -> None:
    from vipnas.models.file import write_model
    from vipnas.models.published import save_published, without_counterpart

    model = model_of(options)
    network = model.pose_net()
    if options.to == "safetensors":
        _check_suffix(options.output, ".safetensors")
        write_model(options.output, network, model.header)
    else:
        save_published(options.output, network, model.header)
        for fact in without_counterpart(network.arch):
            print(f"convert: note: {fact}", file=sys.stderr)
    print(f"convert: {options.output}")


def _check_suffix(path: Path, suffix: str) -> None:
    if path.suffix != suffix:
        raise ValueError(f"--output {path}: expected a name that ends with {suffix}")


def _export(options: argparse.Namespace) -> None:
    from vipnas.deploy.export import Form, export_network

    file_format = options.format or runtime_of_file(options.output)[1].name
    model = model_of(options)
    codec = model.codec if options.with_decode else None
    form = Form(file_format, options.precision, options.with_preprocessing, codec)
    experiment = calibrating_experiment(options)
    crops = None if experiment is None else experiment.calibration_images
    exported = export_network(model.pose_net(), options.output, form, crops, model.header)
    print(f"export: {exported}")
