"""The command line: arguments in, one line of error out."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import vipnas
from vipnas.cli.data import add_data_commands
from vipnas.cli.experiment import add_experiment_commands
from vipnas.cli.model import add_network_commands
from vipnas.cli.video import add_video_commands
from vipnas.data.crops.skipped import listed_at_the_end


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors of the user's are one line on stderr."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    command = " ".join(filter(None, (options.command, getattr(options, "action", None))))
    try:
        with listed_at_the_end() as skipped:
            options.run(options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"vipnas {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"vipnas {command}: interrupted; the same command goes on", file=sys.stderr)
        return 130
    if skipped:
        print(f"vipnas {command}: {len(skipped)} bad images left out:", file=sys.stderr)
        print("\n".join(f"  {problem}" for problem in skipped), file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vipnas", description=vipnas.__doc__)
    parser.add_argument("--version", action="version", version=vipnas.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_experiment_commands(commands)
    add_video_commands(commands)
    add_network_commands(commands)
    add_data_commands(commands)
    return parser
