"""The blocks of the documentation's pages, and what each of them is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Marks lines and blocks that no test runs.
NOT_RUN = "not run here"
SHELL = ("", "bash", "sh")
PROGRAMS = re.compile(
    r"(vipnas|make|git|cd|\.|pip|python3?|jupyter|sbatch|optuna-dashboard|tools/\S+) "
)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the language and the content of each block; indented ones have none."""
    text = page.read_text()
    yield from re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for block in re.findall(r"(?:^|\n)\n((?:    .*\n)+)", prose):
        yield "", re.sub(r"^ {4}", "", block, flags=re.MULTILINE)


def command_lines(page: Path) -> Iterator[str]:
    """Yield the lines that call a program, with their comments; continued lines are joined."""
    for language, block in blocks(page):
        if language in SHELL:
            lines = block.replace("\\\n", " ").splitlines()
            yield from (line.strip() for line in lines if PROGRAMS.match(line.strip()))


def commands(page: Path) -> Iterator[str]:
    """Yield the lines that call vipnas and are not marked, without comments."""
    for line in command_lines(page):
        if line.startswith("vipnas ") and NOT_RUN not in line:
            yield re.split(r" +#| \| | > ", line)[0].strip()


def python_blocks(page: Path) -> Iterator[str]:
    """Yield the snippets of Python that are not marked."""
    for language, block in blocks(page):
        is_python = language == "python" or (language == "" and block.startswith("import "))
        if is_python and NOT_RUN not in block:
            yield block
