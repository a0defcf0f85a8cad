"""The table of runtimes, and the lookup by file. No torch until a runtime is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vipnas.errors import UserError, shown
from vipnas.runtimes import onnxruntime, openvino, torch_compiled, torch_eager, torch_export
from vipnas.runtimes.runtime import FileFormat, Runtime
from vipnas.tables import OpenTable, unknown_name

RUNTIMES: OpenTable[Runtime] = OpenTable(
    "vipnas.runtimes",
    {
        module.RUNTIME.name: module.RUNTIME
        for module in (onnxruntime, openvino, torch_eager, torch_compiled, torch_export)
    },
)
# The default of exported files, latency tables and measurements.
DEFAULT_RUNTIME = onnxruntime.RUNTIME.name


def runtimes_with_files() -> Iterator[tuple[Runtime, FileFormat]]:
    """Yield the runtimes that run files, with their formats; those of packages come last."""
    for runtime in RUNTIMES.values():
        if runtime.file is not None:
            yield runtime, runtime.file


def runtime_of_format(name: str) -> tuple[Runtime, FileFormat]:
    """Return a runtime by its format's name; raises UserError for an unknown one."""
    for runtime, file in runtimes_with_files():
        if file.name == name:
            return runtime, file
    known = [file.name for _, file in runtimes_with_files()]
    raise unknown_name(name, known, "format")


def find_runtime_of_file(path: Path) -> tuple[Runtime, FileFormat] | None:
    """Return the runtime of an exported file by its suffix; None for any other file."""
    found = (pair for pair in runtimes_with_files() if pair[1].suffix == path.suffix)
    return next(found, None)


def runtime_of_file(path: Path) -> tuple[Runtime, FileFormat]:
    """Return the runtime of an exported file by its suffix; raises UserError for others."""
    found = find_runtime_of_file(path)
    if found is None:
        known = ", ".join(file.suffix for _, file in runtimes_with_files())
        raise UserError(str(path), f"one of the suffixes {known}", shown(path.suffix))
    return found
