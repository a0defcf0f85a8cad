"""The notebooks run from the first cell to the last. Jupyter is not needed."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from docs_fixture import ROOT

from vipnas.cli.main import main

NOTEBOOKS = ROOT / "docs" / "notebooks"
MAX_BYTES = 1 << 20


class Picture:
    """Stands in for IPython's: the file of a picture that a cell shows."""

    def __init__(self, filename: str) -> None:
        assert Path(filename).read_bytes()[:4] == b"\x89PNG", filename


def cells(path: Path) -> list[str]:
    """Return the code cells."""
    document = json.loads(path.read_text())
    assert document["nbformat"] == 4
    return ["".join(c["source"]) for c in document["cells"] if c["cell_type"] == "code"]


def run(cell: str, names: dict[str, Any]) -> None:
    """Run a cell: Python, a file to write, or commands of vipnas."""
    if cell.startswith("%%writefile "):
        first, _, content = cell.partition("\n")
        Path(first.split()[1]).write_text(content + "\n")
    elif cell.startswith("!"):
        for line in cell.replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line.removeprefix("!"))
            assert (program, main(words)) == ("vipnas", 0), line
    else:
        exec(compile(cell, "a cell", "exec"), names)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["ten_images", "reading_a_search"])
def test_all_cells_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, display = ModuleType("IPython"), ModuleType("IPython.display")
    package.version_info = (9, 0)  # type: ignore[attr-defined]  # matplotlib asks for it
    display.Image = Picture  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in cells(NOTEBOOKS / f"{name}.ipynb"):
        run(cell, names)


def test_notebooks_are_small_and_all_are_run() -> None:
    found = sorted(NOTEBOOKS.glob("*.ipynb"))
    assert [path.stem for path in found] == ["reading_a_search", "ten_images"]
    assert all(path.stat().st_size < MAX_BYTES for path in found)
