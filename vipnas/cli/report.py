"""The commands that show results: `report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vipnas.cli.arguments import Commands, name_argument


def add_report_commands(commands: Commands) -> None:
    """Add `report`."""
    command = commands.add_parser("report", help="write an HTML page about runs")
    command.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, such as runs/quickstart"
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="HTML file to write (default: report.html in the first folder)",
    )
    name_argument(command)
    command.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> None:
    # Imported here, as torch takes longer to import than `vipnas --help` may take.
    from vipnas.pipeline.report import report
    from vipnas.pipeline.run_folder import RunFolder

    folders = [RunFolder(folder, options.name) for folder in options.runs]
    print(f"report: {report(folders, options.output)}")
