"""Programs of `torch.export` in `.pt2` files, run by PyTorch."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vipnas.runtimes.runtime import FileFormat, RunSettings, Runtime, Session, WriteSettings
from vipnas.runtimes.torch_eager import version

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

NOTES_FILE = "vipnas.json"  # inside the .pt2
PRECISIONS = ("fp32", "fp16")


def write(
    module: nn.Module, inputs: Mapping[str, Tensor], path: Path, settings: WriteSettings
) -> None:
    """Write a program without the paths of this machine."""
    import torch

    from vipnas.runtimes.half import HalfInside

    if settings.precision == "fp16":
        module = HalfInside(module)
    batch = torch.export.Dim("batch", min=1)
    shapes = torch.export.ShapesCollection()
    for value in inputs.values():
        shapes[value] = {0: batch}
    arguments = tuple(inputs.values())
    program = torch.export.export(
        module, arguments, dynamic_shapes=shapes.dynamic_shapes(module, arguments)
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={NOTES_FILE: json.dumps(dict(settings.notes))})
    path.write_bytes(buffer.getvalue())


def open_file(path: Path, settings: RunSettings) -> tuple[Session, dict[str, str]]:
    """Open a file; its precision is that of the program."""
    import torch

    notes = {NOTES_FILE: ""}
    program = torch.export.load(path, extra_files=notes)
    module = program.module()

    @torch.inference_mode()
    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        out: Tensor = module(*(torch.from_numpy(array) for array in inputs.values()))
        found: np.ndarray = out.numpy()
        return found

    return run, json.loads(notes[NOTES_FILE])


def load(module: nn.Module, inputs: Mapping[str, Tensor], settings: RunSettings) -> Session:
    """Load the module through a file; there is no faster way."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.pt2"
        write(module, inputs, path, WriteSettings(settings.precision))
        return open_file(path, settings)[0]


RUNTIME = Runtime(
    "torch-export",
    PRECISIONS,
    version,
    load,
    FileFormat("torch", ".pt2", PRECISIONS, write, open_file),
)
