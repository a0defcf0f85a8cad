"""`vipnas export`: a model for another runtime, or as a page for browsers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.cli.arguments import Commands, calibrating_experiment, model_arguments, model_of
from vipnas.errors import UserError
from vipnas.runtimes.table import runtime_of_file

if TYPE_CHECKING:
    from torch import Tensor

    from vipnas.deploy.export import Exported
    from vipnas.deploy.model import PoseModel

WEB = "web"


def add_export_command(commands: Commands) -> None:
    """Add `export`."""
    export = commands.add_parser("export", help="export a model for another runtime or a browser")
    model_arguments(export)
    export.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help=f"file to write; a folder with --format {WEB}",
    )
    export.add_argument(
        "--format",
        metavar="NAME",
        help="file format of a runtime (default: by the suffix of --output), or"
        f" {WEB}: a page that runs the model in a browser",
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
    page = export.add_argument_group(f"with --format {WEB}")
    page.add_argument(
        "--detector",
        metavar="SPEC",
        help="detector of the page, PRESET:FILE.onnx or a description (.yaml); see"
        " docs/detectors.md (default: one person, who is followed by the pose)",
    )
    page.add_argument(
        "--onnxruntime-web",
        type=Path,
        metavar="DIR",
        help="npm package onnxruntime-web, unpacked (default: fetched once from the npm registry)",
    )
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    is_web = options.format == WEB
    given = {
        "--with-preprocessing": is_web and options.with_preprocessing,
        "--with-decode": is_web and options.with_decode,
        "--detector": not is_web and options.detector,
        "--onnxruntime-web": not is_web and options.onnxruntime_web,
    }
    for name, value in given.items():
        if value:
            raise UserError(
                name, f"no such option {'with' if is_web else 'without'} --format {WEB}", "one"
            )
    print(f"export: {_page(options) if is_web else _file(options)}")
    if is_web:
        print(f"export: {options.output / 'index.html'}: show it by a server, such as")
        print(f"  python -m http.server --directory {options.output}")


def _file(options: argparse.Namespace) -> Exported:
    from vipnas.deploy.export import Form, export_network

    file_format = options.format or runtime_of_file(options.output)[1].name
    model = model_of(options)
    if model.header.kind == "clip":
        hint = "`vipnas video export` writes the networks of a clip"
        raise UserError(str(options.model), "a network of images", "a file of kind clip", hint)
    codec = model.codec if options.with_decode else None
    form = Form(file_format, options.precision, options.with_preprocessing, codec)
    crops = _calibration_images(options, model)
    return export_network(model.pose_net(), options.output, form, crops, model.header)


def _page(options: argparse.Namespace) -> Exported:
    from vipnas.deploy.export_web import export_web

    model = model_of(options)
    return export_web(
        model,
        options.output,
        options.precision,
        _calibration_images(options, model),
        options.detector,
        options.onnxruntime_web,
        lambda text: print(f"export: fetching {text}", flush=True),
    )


def _calibration_images(options: argparse.Namespace, model: PoseModel) -> Tensor | None:
    """Return the crops of --experiment; None without it."""
    experiment = calibrating_experiment(options)
    return None if experiment is None else experiment.at(model.arch).calibration_images
