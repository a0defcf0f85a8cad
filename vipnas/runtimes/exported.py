"""Exported files, opened in the runtimes they are for: ONNX Runtime for `.onnx`, OpenVINO for
`.xml`, PyTorch for `.pt2`. The runtimes are imported when they are used."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vipnas.arch.io import arch_from_json
from vipnas.config.search import Precision
from vipnas.runtimes.onnx_model import check_extra
from vipnas.runtimes.runtime import open_onnxruntime, open_openvino

# Notes in every file: the arch as JSON, what goes in and what comes out; and the header of the
# model file (`vipnas.models.file`) that it was made of.
ARCH_NOTE, INPUT_NOTE, OUTPUT_NOTE = "vipnas_arch", "vipnas_input", "vipnas_output"
HEADER_NOTE = "vipnas"
NOTES = (ARCH_NOTE, INPUT_NOTE, OUTPUT_NOTE, HEADER_NOTE)
NOTES_FILE = "vipnas.json"  # in a .pt2
NORMALISED = "float32 RGB (N, 3, H, W), normalised as in training"
PIXELS = "uint8 RGB (N, H, W, 3)"
HEATMAPS = "heatmaps"
KEYPOINTS = "keypoints"

# Inputs by name to the one output.
Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]


# What a kind of file needs: an extra and its packages.
EXTRAS = {".onnx": ("export", "onnxruntime"), ".xml": ("openvino", "openvino"), ".pt2": ()}


def is_exported(path: Path) -> bool:
    """By its name: a file that `ExportedNetwork` may open."""
    return path.suffix in EXTRAS


class ExportedNetwork(nn.Module):
    """An exported file in the place of a network.

    `takes` is `NORMALISED` or `PIXELS`, `gives` is `HEATMAPS` or `KEYPOINTS`, `notes` are all that
    the file says. It runs on the CPU, wherever the images come from, and cannot be trained.
    OpenVINO computes in `precision`, the others as the file says. Raises ValueError in one line for
    a file that is none of vipnas, and where the runtime is not installed.
    """

    def __init__(self, path: Path, threads: int, precision: Precision = "fp32") -> None:
        super().__init__()
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        if EXTRAS[path.suffix]:
            check_extra(*EXTRAS[path.suffix])
        try:
            self._run, self.notes = open_exported(path, threads, precision)
        except Exception as error:  # the libraries' own errors share no class
            raise ValueError(f"{path}: cannot be opened: {first_line(error)}") from error
        if ARCH_NOTE not in self.notes:
            raise ValueError(f"{path}: not a file that vipnas exported: it says no arch")
        self.takes = self.notes.get(INPUT_NOTE, NORMALISED)
        self.gives = self.notes.get(OUTPUT_NOTE, HEATMAPS)
        self.arch = arch_from_json(self.notes[ARCH_NOTE], str(path))
        # By which others find out where a network is.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        found = self._run({"images": images.cpu().contiguous().numpy()})
        return torch.from_numpy(found).to(images.device)


def open_exported(
    path: Path, threads: int, precision: Precision = "fp32"
) -> tuple[Run, dict[str, str]]:
    """How to run the file, and its notes. Raises what its runtime raises."""
    if path.suffix == ".xml":
        return _open_openvino(path, threads, precision)
    return (_open_onnx if path.suffix == ".onnx" else _open_torch)(path, threads)


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _open_onnx(path: Path, threads: int) -> tuple[Run, dict[str, str]]:
    session = open_onnxruntime(path.read_bytes(), threads)

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = session.run(None, dict(inputs))[0]
        return found

    return run, dict(session.get_modelmeta().custom_metadata_map)


def _open_openvino(path: Path, threads: int, precision: Precision) -> tuple[Run, dict[str, str]]:
    model, run_openvino = open_openvino(path, threads, precision)

    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return run_openvino(dict(inputs)).copy()

    names = [name for name in NOTES if model.has_rt_info(name)]
    return run, {name: str(model.get_rt_info(name).astype(str)) for name in names}


def _open_torch(path: Path, threads: int) -> tuple[Run, dict[str, str]]:
    """Threads are PyTorch's own setting, which holds for the process."""
    notes = {NOTES_FILE: ""}
    program = torch.export.load(path, extra_files=notes)
    module = program.module()

    @torch.inference_mode()
    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        found: Tensor = module(*(torch.from_numpy(value) for value in inputs.values()))
        return found.numpy()

    return run, json.loads(notes[NOTES_FILE])
