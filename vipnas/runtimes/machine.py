"""The machine that runtimes run on: the names of its devices, PyTorch's threads."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def device_name(device: str) -> str:
    """Return what the processor or the GPU calls itself; of a processor also its architecture."""
    if device == "cuda":
        if not torch.cuda.is_available():
            raise ValueError("device cuda: expected a GPU that PyTorch can use, got none")
        return torch.cuda.get_device_name()
    return f"{_processor()}, {platform.machine()}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let PyTorch use so many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
