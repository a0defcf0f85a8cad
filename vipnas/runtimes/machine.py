"""The machine that runtimes run on: the names of its devices, PyTorch's threads."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vipnas.errors import UserError


def device_name(device: str) -> str:
    """Return the model name of the processor, with its architecture, or that of the GPU."""
    if device == "cuda":
        if not torch.cuda.is_available():
            raise UserError("device cuda", "a GPU that PyTorch can use", "none")
        return torch.cuda.get_device_name()
    return f"{_processor()}, {platform.machine()}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """A context that sets the number of threads of PyTorch."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
