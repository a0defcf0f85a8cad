"""The type of a runtime: a value with its capabilities and functions. No torch until it is used.

Each runtime is one file of this folder, which ends with its `RUNTIME`, a row of
`vipnas.runtimes.table.RUNTIMES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vipnas.errors import UserError, shown

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

# From inputs by name to the one output, which later runs do not overwrite. A run ends when the
# output is in the host's memory: its duration is the latency.
Session: TypeAlias = "Callable[[Mapping[str, np.ndarray]], np.ndarray]"


@dataclass(frozen=True)
class RunSettings:
    """How a session computes.

    Attributes:
        threads: CPU threads. PyTorch's are a setting of the process, not of a session.
        precision: The number format of the computation, one of the runtime's `precisions`.
        device: One of the runtime's `devices`.
        batch: The only batch size that will be run, which some runtimes optimise for.
    """

    threads: int = 1
    precision: str = "fp32"
    device: str = "cpu"
    batch: int | None = None


@dataclass(frozen=True)
class WriteSettings:
    """The content of an exported file besides the network.

    Attributes:
        precision: The number format of the weights, one of the file format's `precisions`.
        output_name: The name of the one output.
        notes: Strings by name, which `Open` returns; names begin with "vipnas".
        calibration: Values of the first input that int8 is scaled by.
    """

    precision: str = "fp32"
    output_name: str = "heatmaps"
    notes: Mapping[str, str] = field(default_factory=dict)
    calibration: np.ndarray | None = None


@dataclass(frozen=True)
class TensorFacts:
    """What a model declares of an input.

    Attributes:
        name: Its name in the model.
        shape: Its sizes; None for one that may vary.
        dtype: NumPy's name of its type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class ForeignModel:
    """An ONNX model that vipnas did not export: any inputs, any outputs.

    Attributes:
        inputs: In the order of the model.
        run: From inputs by name to outputs by name, in the order of the model. No later run changes
            the outputs.
    """

    inputs: tuple[TensorFacts, ...]
    run: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


# Example inputs by name, of a batch size above 1: the file takes any.
Write: TypeAlias = "Callable[[nn.Module, Mapping[str, Tensor], Path, WriteSettings], None]"
# The session of a file, and its notes.
Open: TypeAlias = "Callable[[Path, RunSettings], tuple[Session, dict[str, str]]]"
# Opens an ONNX model of others; raises whatever the library raises.
OpenForeign: TypeAlias = "Callable[[Path, RunSettings], ForeignModel]"
# The session of a network, whose weights may change. Inputs are examples of the shapes to be run.
Load: TypeAlias = "Callable[[nn.Module, Mapping[str, Tensor], RunSettings], Session]"


@dataclass(frozen=True)
class FileFormat:
    """The files that a runtime runs.

    Attributes:
        name: As in `vipnas export --format`.
        suffix: The suffix of the files.
        precisions: The number formats of stored weights.
        write: Writes a file, and what belongs to it under the same name.
        open: Opens a file; raises whatever the library raises.
        packages: The packages needed to write, besides those of the runtime.
        detail: More about the format, to be shown after its name.
    """

    name: str
    suffix: str
    precisions: tuple[str, ...]
    write: Write
    open: Open
    packages: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True)
class Runtime:
    """A library, or a way of using it, that runs networks on this machine.

    Attributes:
        name: The row's name in the table.
        precisions: The number formats it can compute in.
        version: Returns the library's version.
        load: Opens a network in the fastest way, for timing many of them.
        file: The format of its files; None if it only runs networks of this process.
        extra: The extra of vipnas that installs it.
        packages: The packages needed to run.
        devices: The devices it can compute on.
        open_foreign: Opens ONNX models that vipnas did not export; None where it cannot.
    """

    name: str
    precisions: tuple[str, ...]
    version: Callable[[], str]
    load: Load
    file: FileFormat | None = None
    extra: str | None = None
    packages: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu",)
    open_foreign: OpenForeign | None = None

    def check(self, precision: str, device: str = "cpu", place: str | None = None) -> None:
        """Raise UserError unless it can compute in that precision on that device."""
        where = place or f"runtime {self.name}"
        for name, found, known in (
            ("precision", precision, self.precisions),
            ("device", device, self.devices),
        ):
            if found not in known:
                expected = f"one of {', '.join(known)} with {self.name}"
                raise UserError(f"{where}: {name}", expected, shown(found))

    def check_installed(self, to_write: bool = False) -> None:
        """Raise UserError for the first package that is missing."""
        more = self.file.packages if to_write and self.file is not None else ()
        for package in (*more, *self.packages):
            try:
                importlib.import_module(package)
            except ImportError:
                hint = f"pip install 'vipnas[{self.extra}]'" if self.extra else ""
                expected = f"the package {package}"
                raise UserError(f"runtime {self.name}", expected, "none", hint) from None
