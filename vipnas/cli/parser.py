"""The argument parser of every command: help by rich-argparse, errors in one line."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from rich_argparse import RawDescriptionRichHelpFormatter

from vipnas.cli.texts import TEXTS


class HelpFormatter(RawDescriptionRichHelpFormatter):
    """Help texts are plain text: brackets in them are no markup."""

    group_name_formatter = str.capitalize
    help_markup = False
    text_markup = False


class Parser(argparse.ArgumentParser):
    """A parser that takes its description and its examples from `TEXTS`, by its command."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=HelpFormatter, **settings)
        text = TEXTS.get(self.prog.partition(" ")[2])
        if text is not None:
            self.description = text.description
            self.epilog = "\n".join(("examples:", *(f"  {line}" for line in text.examples)))

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")
