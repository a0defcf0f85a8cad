"""The table of runtimes, and how their files are recognised. No torch until one is used."""

from __future__ import annotations

from pathlib import Path

from vipnas.runtimes import onnxruntime, openvino, torch_compiled, torch_eager, torch_export
from vipnas.runtimes.runtime import FileFormat, Runtime
from vipnas.tables import OpenTable, check_known

RUNTIMES: OpenTable[Runtime] = OpenTable(
    "vipnas.runtimes",
    {
        module.RUNTIME.name: module.RUNTIME
        for module in (onnxruntime, openvino, torch_eager, torch_compiled, torch_export)
    },
)
# Of exported files, latency tables and measurements that name none.
DEFAULT_RUNTIME = onnxruntime.RUNTIME.name


def runtimes_of_formats() -> dict[str, Runtime]:
    """Return the runtimes that run files, by the name of their format."""
    found: dict[str, Runtime] = {}
    for runtime in RUNTIMES.values():
        if runtime.file is not None:
            found.setdefault(runtime.file.name, runtime)
    return found


def runtime_of_format(name: str) -> tuple[Runtime, FileFormat]:
    """Return a runtime and its format, by the format's name; an unknown one is a ValueError."""
    found = runtimes_of_formats()
    check_known(name, found, "format")
    runtime = found[name]
    assert runtime.file is not None
    return runtime, runtime.file


def runtime_of_file(path: Path) -> tuple[Runtime, FileFormat] | None:
    """Return the runtime of an exported file by its suffix; None for any other file."""
    for runtime in runtimes_of_formats().values():
        if runtime.file is not None and runtime.file.suffix == path.suffix:
            return runtime, runtime.file
    return None
