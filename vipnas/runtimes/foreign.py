"""ONNX models that vipnas did not export, opened in a runtime of the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vipnas.errors import UserError
from vipnas.files import check_is_file
from vipnas.runtimes.exported import first_line
from vipnas.runtimes.runtime import ForeignModel, RunSettings
from vipnas.runtimes.table import DEFAULT_RUNTIME, RUNTIMES


def open_foreign(
    path: Path, runtime: str = DEFAULT_RUNTIME, settings: RunSettings | None = None
) -> ForeignModel:
    """Open an ONNX model with any inputs and outputs.

    Args:
        path: The `.onnx` file.
        runtime: A row of the table.
        settings: How it computes; None is one thread of the CPU in float32.

    Returns:
        The model, whose `run` raises UserError for what the library refuses.

    Raises:
        UserError: If there is no file, the runtime opens no such models or is not installed, or it
            cannot open this one.
    """
    row, settings = RUNTIMES.named(runtime, "runtime"), settings or RunSettings()
    if row.open_foreign is None:
        able = [name for name, one in RUNTIMES.items() if one.open_foreign is not None]
        expected = f"one of {', '.join(able)} for models of others"
        raise UserError("runtime", expected, repr(runtime))
    check_is_file(path)
    row.check(settings.precision, settings.device)
    row.check_installed()
    try:
        model = row.open_foreign(path, settings)
    except Exception as error:  # the libraries' own errors share no class
        expected = f"a model that {runtime} can open"
        raise UserError(str(path), expected, first_line(error)) from error

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return model.run(inputs)
        except Exception as error:
            expected = f"a model that {runtime} can run"
            raise UserError(str(path), expected, first_line(error)) from error

    return ForeignModel(model.inputs, run)
