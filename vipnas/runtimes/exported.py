"""Open exported files in the runtime of their suffix."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vipnas.arch.io import arch_from_json
from vipnas.errors import UserError
from vipnas.files import check_is_file
from vipnas.runtimes.runtime import RunSettings, Session
from vipnas.runtimes.table import find_runtime_of_file, runtime_of_file

# Notes in every file: the architecture as JSON, the formats of input and output, and the header of
# the model file (`vipnas.models.file`) that it was exported from. The file of a key frame also has
# the architectures of its clip.
ARCH_NOTE, INPUT_NOTE, OUTPUT_NOTE = "vipnas_arch", "vipnas_input", "vipnas_output"
HEADER_NOTE, CLIP_NOTE = "vipnas", "vipnas_clip"
NORMALISED = "float32 RGB (N, 3, H, W), normalised as in training"
PIXELS = "uint8 RGB (N, H, W, 3)"
HEATMAPS = "heatmaps"
KEYPOINTS = "keypoints"


def is_exported(path: Path) -> bool:
    """Return whether a runtime runs files with this suffix."""
    return find_runtime_of_file(path) is not None


def open_exported(
    path: Path, threads: int, precision: str | None = None, device: str = "cpu"
) -> tuple[Session, dict[str, str]]:
    """Open an exported file.

    Args:
        path: The file; its suffix chooses the runtime.
        threads: CPU threads.
        precision: The precision of float32 operations in OpenVINO; others use that of the file.
        device: One of the runtime's devices.

    Returns:
        The session, from inputs by name to the one output, and the file's notes. It raises
        UserError for what the library refuses.

    Raises:
        UserError: If there is no file, no runtime runs such files, it is not installed, or it
            cannot open the file.
    """
    runtime, file = runtime_of_file(path)
    check_is_file(path)
    runtime.check_installed()
    settings = RunSettings(threads, precision or "fp32", device)
    try:
        session, notes = file.open(path, settings)
    except Exception as error:  # the libraries' errors share no class
        raise UserError(str(path), f"a file for {runtime.name}", first_line(error)) from error

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        try:
            return session(inputs)
        except Exception as error:
            expected = f"a network that {runtime.name} can run"
            raise UserError(str(path), expected, first_line(error)) from error

    return run, notes


def first_line(error: Exception) -> str:
    """Return the class of an error and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


class ExportedNetwork(nn.Module):
    """An exported file as a network.

    It runs on the CPU, on whichever device the images are, and cannot be trained.

    Attributes:
        notes: The notes of the file.
        takes: `NORMALISED` or `PIXELS`.
        gives: `HEATMAPS` or `KEYPOINTS`.
        arch: The architecture.

    Raises:
        UserError: As `open_exported`, and if vipnas did not export the file.
    """

    def __init__(self, path: Path, threads: int, precision: str | None = None) -> None:
        super().__init__()
        self._session, self.notes = open_exported(path, threads, precision)
        if ARCH_NOTE not in self.notes:
            hint = "a pose model of others is PRESET:FILE.onnx or FILE.yaml"
            found = "one without architecture"
            raise UserError(str(path), "a file that vipnas exported", found, hint)
        self.takes = self.notes.get(INPUT_NOTE, NORMALISED)
        self.gives = self.notes.get(OUTPUT_NOTE, HEATMAPS)
        self.arch = arch_from_json(self.notes[ARCH_NOTE], str(path))
        # Tells callers the device of the network.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the output of the file, on the device of the images."""
        found = self.run(images.cpu().contiguous().numpy())
        return torch.from_numpy(found).to(images.device)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the output of the file. The images are contiguous."""
        return self._session({"images": images})
