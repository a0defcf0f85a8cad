"""The commands about one model: its cost, its files, what it finds."""

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

if TYPE_CHECKING:
    from vipnas.latency.measure import Key


def add_network_commands(commands: Commands) -> None:
    cost = commands.add_parser("cost", help="MACs, parameters, latency of an architecture")
    cost.add_argument("--arch", required=True, help="arch JSON, a file or a shipped name")
    cost.add_argument("--latency", action="store_true", help="measure it on this machine")
    cost.add_argument("--json", action="store_true", help="print exact numbers as JSON")
    _runtime_arguments(cost)
    cost.set_defaults(run=_cost)

    profile = commands.add_parser("profile", help="a latency table of a space, on this machine")
    profile.add_argument("space", help="search space YAML, a file or a shipped name")
    profile.add_argument("--num-archs", type=count, default=120, help="networks to measure")
    profile.add_argument("--num-blocks", type=count, default=1000, help="layers to measure")
    profile.add_argument("--input-hw", type=int, nargs=2, metavar="PX", help="replaces the space's")
    profile.add_argument("--output", type=Path, help="file (default: latency/..., after its key)")
    _runtime_arguments(profile)
    profile.set_defaults(run=_profile)

    info = commands.add_parser("info", help="what a model file is")
    model_arguments(info)
    info.add_argument("--json", action="store_true", help="print the header as JSON")
    info.set_defaults(run=_info)

    convert = commands.add_parser("convert", help="a model to another file format of weights")
    model_arguments(convert)
    convert.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    convert.add_argument(
        "--to",
        choices=("published", "safetensors"),
        required=True,
        help="checkpoint format of the released networks (.pth), or model file of vipnas",
    )
    convert.set_defaults(run=_convert)

    export = commands.add_parser("export", help="a model for other runtimes")
    model_arguments(export)
    export.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    export.add_argument("--format", choices=("onnx", "openvino", "torch"), default="onnx")
    export.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="int8 is scaled on the crops of --experiment (default: fp32)",
    )
    export.add_argument(
        "--with-preprocessing", action="store_true", help="take uint8 RGB (N, H, W, 3)"
    )
    export.add_argument(
        "--with-decode", action="store_true", help="give x, y, score by the codec, not heatmaps"
    )
    export.set_defaults(run=_export)

    predict = commands.add_parser("predict", help="poses in image files, one person to an image")
    model_arguments(predict)
    predict.add_argument(
        "sources", type=Path, nargs="+", metavar="SOURCE", help="image files, folders"
    )
    predict.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    predict.set_defaults(run=_predict)


def _runtime_arguments(command: argparse.ArgumentParser) -> None:
    names = ("onnxruntime", "openvino", "torch", "torch-compiled")
    command.add_argument("--runtime", choices=names, default="onnxruntime")
    command.add_argument("--threads", type=count, default=1)
    command.add_argument("--batch", type=count, default=1, help="images at a time")
    precisions = ("fp32", "bf16", "fp16", "int8")
    command.add_argument("--precision", choices=precisions, default="fp32")
    command.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu")
    command.add_argument(
        "--max-spread", type=float, default=0.1, help="of the samples; beyond, none is reported"
    )


def _cost(options: argparse.Namespace) -> None:
    from dataclasses import asdict, replace

    from vipnas.arch.io import read_arch
    from vipnas.models.counting import count_cost
    from vipnas.shipped import find_shipped

    arch = read_arch(find_shipped("search_spaces", options.arch, ".json"))
    cost = count_cost(arch)
    if not options.latency:
        print(json.dumps(asdict(cost)) if options.json else cost)
        return
    from vipnas.latency.measure import measure_arch

    key = _key(options, arch.input_hw)
    latency = measure_arch(arch, key, options.max_spread)
    cost = replace(cost, latency_ms=latency.median_ms)
    found = {**asdict(cost), "latency": asdict(latency), "key": asdict(key)}
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
    """What a latency measured on this machine with these arguments belongs to."""
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

    model = model_of(options)
    codec = model.codec if options.with_decode else None
    form = Form(options.format, options.precision, options.with_preprocessing, codec)
    experiment = calibrating_experiment(options)
    crops = None if experiment is None else experiment.calibration_images
    exported = export_network(model.pose_net(), options.output, form, crops, model.header)
    print(f"export: {exported}")


def _predict(options: argparse.Namespace) -> None:
    from vipnas.deploy.predictor import predict_images

    print(f"predict: {predict_images(model_of(options), options.sources, options.output)}")
