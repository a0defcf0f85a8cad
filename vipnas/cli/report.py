"""The commands that show results: `report` and `draw`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.cli.arguments import Commands, name_argument
from vipnas.errors import UserError

if TYPE_CHECKING:
    from vipnas.arch.clip import VideoArch
    from vipnas.arch.image import Arch

ARCH_HELP = "an arch JSON, a shipped name or a model file"


def add_report_commands(commands: Commands) -> None:
    """Add `report` and `draw`."""
    _add_report(commands)
    _add_draw(commands)


def _add_report(commands: Commands) -> None:
    report = commands.add_parser("report", help="write an HTML page about runs")
    report.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, such as runs/quickstart"
    )
    report.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="HTML file to write (default: report.html in the first folder)",
    )
    report.add_argument(
        "--beside",
        nargs="+",
        default=[],
        metavar="ARCH",
        help=f"architectures to draw beside the one found: {ARCH_HELP}",
    )
    report.add_argument(
        "--metrics",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="metrics of other models to list in the table: what `vipnas evaluate --json` printed,"
        " each model named by its file",
    )
    report.add_argument(
        "--optuna",
        type=Path,
        metavar="FILE",
        help="also write the trials as Optuna studies, an SQLite file such as study.db for"
        " optuna-dashboard (pip install 'vipnas[optuna]')",
    )
    name_argument(report)
    report.set_defaults(run=_report)


def _add_draw(commands: Commands) -> None:
    draw = commands.add_parser("draw", help="draw an architecture, or two with their differences")
    draw.add_argument("archs", nargs="+", metavar="ARCH", help=f"one or two, each {ARCH_HELP}")
    draw.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="SVG file to write"
    )
    draw.add_argument(
        "--latency-table",
        type=Path,
        metavar="FILE",
        help="latency table: also show the predicted milliseconds of each part",
    )
    draw.set_defaults(run=_draw)


def _report(options: argparse.Namespace) -> None:
    # Imported here, as torch takes longer to import than `vipnas --help` may take.
    from vipnas.pipeline.report import levels_of, report
    from vipnas.pipeline.run_folder import RunFolder

    folders = [RunFolder(folder, options.name) for folder in options.runs]
    beside = {arch: read_any_arch(arch) for arch in options.beside}
    print(f"report: {report(folders, options.output, beside, options.metrics)}")
    if options.optuna is not None:
        from vipnas.report.optuna_study import write_studies

        names = write_studies(options.optuna, levels_of(folders))
        print(f"report: {options.optuna}: studies {', '.join(names)}")


def _draw(options: argparse.Namespace) -> None:
    from vipnas.files import write_atomically
    from vipnas.report.networks import part_ms_of
    from vipnas.viz.architectures import draw_architectures, drawn_of

    if len(options.archs) > 2:
        raise UserError("ARCH", "one or two architectures", str(len(options.archs)))
    networks = [drawn_of(name, read_any_arch(name)) for name in options.archs]
    part_ms = None if options.latency_table is None else part_ms_of(options.latency_table)
    second = networks[1] if len(networks) > 1 else ()
    svg = draw_architectures(networks[0], second, part_ms, is_file=True)
    write_atomically(options.output, svg)
    print(f"draw: {options.output}")


def read_any_arch(name: str) -> Arch | VideoArch:
    """Return the architecture of a file or a shipped name: of an image network, or of a clip."""
    from vipnas.arch.io import read_arch, read_video_arch
    from vipnas.files import read_json
    from vipnas.models.file import read_header
    from vipnas.shipped import find_shipped

    if name.endswith(".safetensors"):
        header = read_header(Path(name))
        arch = header.clip or header.arch
        assert arch is not None, "a header has one of both"
        return arch
    path = find_shipped("search_spaces", name, ".json")
    document = read_json(path)
    is_clip = isinstance(document, dict) and "video_arch" in document
    return read_video_arch(path) if is_clip else read_arch(path)
