"""`vipnas completion`: scripts with which a shell completes commands and options."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vipnas.cli.arguments import Commands

SHELLS = ("bash", "zsh", "fish")


def add_completion_command(commands: Commands, parser: argparse.ArgumentParser) -> None:
    """Add the command that prints the completion script of `parser`."""
    command = commands.add_parser("completion", help="completion script of a shell")
    command.add_argument("shell", choices=SHELLS, help="shell to complete in")
    command.set_defaults(run=partial(_completion, parser))


def _completion(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    import shtab

    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of all commands below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
