"""The table of runtimes, their files and their extras agree, and no other file knows them."""

from __future__ import annotations

import ast
import configparser
import importlib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import vipnas
from vipnas.config.search import LatencyConfig
from vipnas.runtimes.runtime import Runtime
from vipnas.runtimes.table import (
    DEFAULT_RUNTIME,
    RUNTIMES,
    find_runtime_of_file,
    runtime_of_file,
    runtime_of_format,
    runtimes_with_files,
)

PACKAGE = Path(vipnas.__file__).parent
SHARED = {
    "__init__",
    "runtime",
    "table",
    "exported",
    "machine",
    "half",
    "onnx_model",
    "foreign",
    "exported_clip",
}
SETUP = configparser.ConfigParser()
SETUP.read(PACKAGE.parent / "setup.cfg", encoding="utf-8")


def test_each_file_is_one_row_and_each_row_one_file() -> None:
    files = {path.stem for path in (PACKAGE / "runtimes").glob("*.py")} - SHARED
    rows = [importlib.import_module(f"vipnas.runtimes.{name}").RUNTIME for name in sorted(files)]
    assert all(isinstance(row, Runtime) for row in rows)
    assert {row.name: row for row in rows} == dict(RUNTIMES)


def packages_of(extra: str) -> set[str]:
    """What an extra of setup.cfg installs, with the extras that it names."""
    lines = map(Requirement, SETUP["options.extras_require"][extra].split("\n")[1:])
    found: set[str] = set()
    for line in lines:
        found |= {line.name}.union(*map(packages_of, line.extras if line.name == "vipnas" else ()))
    return found


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_extra_installs_all_that_a_runtime_needs(name: str) -> None:
    row = RUNTIMES[name]
    needed = {*row.packages, *(row.file.packages if row.file else ())}
    assert needed <= (packages_of(row.extra) if row.extra else set())
    assert bool(needed) == (row.extra is not None)


def test_precisions_can_be_run_and_measured() -> None:
    """What is written can be run, in the precision that it is written in."""
    for row in RUNTIMES.values():
        assert row.precisions[0] == "fp32"
        if row.file is not None:
            assert set(row.file.precisions) <= set(row.precisions)


def test_a_file_has_one_runtime() -> None:
    suffixes = {file.name: file.suffix for _, file in runtimes_with_files()}
    assert suffixes == {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
    for name, suffix in suffixes.items():
        assert runtime_of_format(name) == runtime_of_file(Path(f"pose{suffix}"))
    assert runtime_of_format("onnx")[0].name == DEFAULT_RUNTIME
    assert find_runtime_of_file(Path("network.pt")) is None
    with pytest.raises(ValueError, match=r"network.pt: expected one of the suffixes .onnx, .xml, "):
        runtime_of_file(Path("network.pt"))
    with pytest.raises(
        ValueError, match=r"format: expected one of onnx, openvino, torch, got 'on'"
    ):
        runtime_of_format("on")


def test_a_package_that_is_missing_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"the package openvino, .* 'vipnas\[openvino\]'"):
        RUNTIMES["openvino"].version()


def test_no_other_file_names_a_runtime() -> None:
    """The name "torch" is left out, which means other things too."""
    names = {*RUNTIMES, *(file.name for _, file in runtimes_with_files())} - {"torch"}
    naming = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "runtimes"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert naming == {"config/search.py"}  # a default
    assert LatencyConfig(table="").runtime == DEFAULT_RUNTIME
