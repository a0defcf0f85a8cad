"""The commands of one model: cost, info, convert."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vipnas.cli.arguments import Commands, model_arguments, model_of
from vipnas.cli.device import key_of, runtime_arguments
from vipnas.errors import UserError


def add_network_commands(commands: Commands) -> None:
    """Add `cost`, `info` and `convert`."""
    _add_cost(commands)

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


def _add_cost(commands: Commands) -> None:
    cost = commands.add_parser("cost", help="count MACs and parameters, measure latency")
    cost.add_argument("arch", help="architecture: a JSON file or a shipped name")
    cost.add_argument("--latency", action="store_true", help="measure the latency on this machine")
    output = cost.add_argument_group("output").add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print exact numbers as JSON")
    output.add_argument("--table", action="store_true", help="print the network layer by layer")
    runtime_arguments(cost)
    cost.set_defaults(run=_cost)


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

    key = key_of(options, arch.input_hw)
    latency = measure_arch(arch, key, options.max_spread)
    cost = cost.with_values(latency_ms=latency.median_ms)
    found = {**to_plain(cost), "latency": to_plain(latency), "key": to_plain(key)}
    print(json.dumps(found) if options.json else f"{cost}; {key}: {latency}")


def _info(options: argparse.Namespace) -> None:
    from vipnas.deploy.describe import describe, header_of_file

    header, form = header_of_file(options.model, lambda: model_of(options))
    print(header.to_json() if options.json else "\n".join(describe(header, form)))


def _convert(options: argparse.Namespace) -> None:
    from vipnas.models.file import write_model
    from vipnas.models.published import save_published, without_counterpart

    suffix = {"published": ".pth", "safetensors": ".safetensors"}[options.to]
    if options.output.suffix != suffix:
        hint = f"the format of --to {options.to}"
        raise UserError(
            f"--output {options.output}", f"a name that ends in {suffix}", "another", hint
        )
    model = model_of(options)
    network = model.pose_net()
    if options.to == "safetensors":
        write_model(options.output, network, model.header)
    else:
        save_published(options.output, network, model.header)
        for fact in without_counterpart(network.arch):
            print(f"convert: note: {fact}", file=sys.stderr)
    print(f"convert: {options.output}")
