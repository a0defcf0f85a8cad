"""What the tools share as commands: how they end, how they were called, the report they write."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from vipnas.files import write_atomically


def exit_with(main: Callable[[], int]) -> NoReturn:
    """End with what `main` returns. Errors of the user's are one line on stderr, as of `vipnas`."""
    try:
        sys.exit(main())
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {' '.join(str(error).split())}")


def command_line() -> str:
    """The line of a report that says how to make it again."""
    words = ["python", "-m", f"tools.benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
    return f"Command: `{shlex.join(words)}`"


def write_report(path: Path | None, lines: Iterable[str]) -> None:
    """Into folders that are made where they are missing: it comes after minutes of measuring. None
    writes nothing."""
    if path is not None:
        write_atomically(path, "\n".join(lines) + "\n")
