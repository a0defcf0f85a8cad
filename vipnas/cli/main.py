"""The command line: runs one command and prints errors in one line."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import TextIO

import vipnas
from vipnas.cli.completion import add_completion_command
from vipnas.cli.data import add_data_commands
from vipnas.cli.demo import add_demo_command
from vipnas.cli.device import add_device_commands
from vipnas.cli.experiment import add_experiment_commands
from vipnas.cli.export import add_export_command
from vipnas.cli.import_data import add_import_command
from vipnas.cli.init import add_init_command
from vipnas.cli.label import add_label_command
from vipnas.cli.model import add_network_commands
from vipnas.cli.parser import Parser
from vipnas.cli.predict import add_predict_command
from vipnas.cli.report import add_report_commands
from vipnas.cli.video import add_video_commands
from vipnas.data.crops.skipped import listed_at_the_end


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The arguments; None takes those of the process.

    Returns:
        The exit code: 0 if the command succeeded, 1 after an error, 130 after Ctrl-C. An error is
        one line on stderr. Unknown arguments raise SystemExit with code 2.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # files of Windows lack most characters
        sys.stdout.reconfigure(errors="backslashreplace")
    options = parser_of_all_commands().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    command = " ".join(filter(None, (options.command, getattr(options, "action", None))))
    try:
        with listed_at_the_end() as skipped:
            options.run(options)
            sys.stdout.flush()
    except BrokenPipeError as error:
        if not _is_closed(sys.stdout):
            print(f"vipnas {command}: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"vipnas {command}: {' '.join(_text_of(error).split())}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0]
        print(f"vipnas {command}: not enough memory: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        hint = str(interrupt) or "the same command resumes"
        print(f"vipnas {command}: interrupted; {hint}", file=sys.stderr)
        return 130
    if skipped:
        print(f"vipnas {command}: {len(skipped)} bad images left out:", file=sys.stderr)
        print("\n".join(f"  {problem}" for problem in skipped), file=sys.stderr)
    return 0


def _is_closed(stdout: TextIO) -> bool:
    """Return whether nobody reads the output any more, as after `| head`, and drop what is left."""
    try:
        stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        return True
    return False


def _text_of(error: Exception) -> str:
    """Return the text of an error. Those of the operating system begin with the file."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return (
            f"{error.filename}: expected a file that can be used, got an error ({error.strerror})"
        )
    return str(error)


def _is_out_of_memory(error: Exception) -> bool:
    """Tell by the text: PyTorch raises a RuntimeError, and this file does without torch."""
    texts = ("can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or any(text in str(error) for text in texts)


def parser_of_all_commands() -> argparse.ArgumentParser:
    """Build the parser of `vipnas`."""
    parser = Parser(prog="vipnas", description=vipnas.__doc__)
    parser.add_argument("--version", action="version", version=vipnas.__version__)
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    add_init_command(commands)
    add_experiment_commands(commands)
    add_video_commands(commands)
    add_network_commands(commands)
    add_export_command(commands)
    add_predict_command(commands)
    add_label_command(commands)
    add_demo_command(commands)
    add_device_commands(commands)
    add_report_commands(commands)
    add_data_commands(commands)
    add_import_command(commands)
    add_completion_command(commands, parser)
    return parser
