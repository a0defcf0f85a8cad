"""What the reports of tools have in common: their command, and how they are written."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from vipnas.files import write_atomically


def command_line() -> str:
    """The line that says how to make the report again."""
    words = ["python", f"tools/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    return f"Command: `{shlex.join(words)}`"


def write_report(path: Path | None, lines: Iterable[str]) -> None:
    """Into folders that are made where they are missing: it comes after minutes of measuring. None
    writes nothing."""
    if path is not None:
        write_atomically(path, "\n".join(lines) + "\n")
