"""Generate pages of the documentation, as a hook of MkDocs.

`make docs` calls it. Nothing it writes is kept: the pages come from the dataclasses of an
experiment, from the parser of the commands, and from CONTRIBUTING.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from rich_argparse import RawDescriptionRichHelpFormatter

from vipnas.cli.main import parser_of_all_commands
from vipnas.config.experiment import ExperimentConfig

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
# How the types of settings are called.
NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "file"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of the folder; MkDocs calls this."""
    from mkdocs.structure.files import File

    for name, content in pages().items():
        files.append(File.generated(config, name, content=content))
    return files


def pages() -> dict[str, str]:
    """Return the pages that are not in the folder of the documentation, by file name."""
    return {
        "reference/experiment.md": experiment_page(),
        "reference/commands.md": commands_page(),
        "contributing.md": CONTRIBUTING.read_text(),
    }


def experiment_page() -> str:
    """Return a page with every key of an experiment, section by section."""
    lines = [
        "# Keys of an experiment",
        "",
        "An experiment is a YAML file. Keys without a default are required.",
        "",
    ]
    for place, section in sections(ExperimentConfig):
        lines += [
            f"## {place or 'Experiment'}",
            "",
            _summary(section),
            "",
            "| key | value | default | meaning |",
        ]
        lines += ["|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in _rows(section)]
        lines.append("")
    return "\n".join(lines)


def sections(section: type, place: str = "") -> Iterator[tuple[str, type]]:
    """Yield every dataclass of an experiment with its dotted place; the outermost has none."""
    yield place, section
    for name, hint in typing.get_type_hints(section, include_extras=True).items():
        if name not in _fields(section):
            continue
        for part in _dataclasses_in(hint):
            yield from sections(part, f"{place}.{name}".strip("."))


def _fields(section: type) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(section)}


def _dataclasses_in(hint: Any) -> Iterator[type]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for part in get_args(hint):
        yield from _dataclasses_in(part)


def _rows(section: type) -> Iterator[tuple[str, str, str, str]]:
    meanings = _attributes(section)
    hints = typing.get_type_hints(section, include_extras=True)
    for name, field in _fields(section).items():
        yield (
            f"`{name}`",
            _escaped(_kind(hints[name])),
            _default(field),
            _escaped(meanings.get(name, "")),
        )


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        plain = {None: "null", True: "true", False: "false"}
        value = field.default
        shown = plain[value] if value is None or isinstance(value, bool) else value
        shown = list(shown) if isinstance(shown, tuple) else shown
        return f"`{shown}`"
    return "see there" if field.default_factory is not dataclasses.MISSING else "required"


def _kind(hint: Any) -> str:
    """Return what a value may be, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is typing.Annotated:
        return _kind(parts[0])
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        kinds = [_kind(part) for part in parts if part is not type(None)]
        return " or ".join(dict.fromkeys(kinds))
    if origin is tuple:
        kinds = [_kind(part) for part in parts if part is not Ellipsis]
        return f"list of {kinds[0]}" if Ellipsis in parts else f"[{', '.join(kinds)}]"
    if dataclasses.is_dataclass(hint):
        return "section"
    return NAMES.get(hint, getattr(hint, "__name__", str(hint)))


def _summary(section: type) -> str:
    return (section.__doc__ or "").partition("Attributes:")[0].strip().replace("\n    ", "\n")


def _attributes(section: type) -> dict[str, str]:
    """Return the meaning of each attribute from the docstrings, those of base classes included."""
    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        listed = (base.__doc__ or "").partition("Attributes:")[2]
        rows = re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", listed, flags=re.MULTILINE)
        found |= {name: " ".join(text.split()) for name, text in rows}
    return found


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def commands_page() -> str:
    """Return a page with the help of every command."""
    lines = ["# Commands", ""]
    for parser in _parsers(parser_of_all_commands()):
        lines += [f"## {parser.prog}", "", "```text", _plain_help(parser), "```", ""]
    return "\n".join(lines)


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _parsers(command)


def _plain_help(parser: argparse.ArgumentParser) -> str:
    """Return a help text without colours, 90 columns wide whatever the terminal is."""

    class Plain(RawDescriptionRichHelpFormatter):
        help_markup = text_markup = False

        def __init__(self, prog: str) -> None:
            super().__init__(prog, width=90)
            self.console.no_color = True

    parser.formatter_class = Plain
    return re.sub(r"\x1b\[[0-9;]*m", "", parser.format_help()).rstrip()


if __name__ == "__main__":
    sys.stdout.write("\n".join(pages().values()))
