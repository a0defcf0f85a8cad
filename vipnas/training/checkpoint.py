"""Checkpoints of trainings: whole or absent, loaded without executing anything."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vipnas.files import write_atomically
from vipnas.models.file import check_tensors
from vipnas.models.published import NUMPY_ARRAYS

FORMAT = "vipnas"
VERSION = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dicts of them, atomically."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "version": VERSION, **content}, buffer)
    write_atomically(path, buffer.getvalue())


def load_file(path: Path) -> Any:
    """Whatever `torch.save` wrote, on the CPU; raises ValueError in one line for anything unsafe or
    broken."""
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    try:
        with torch.serialization.safe_globals(NUMPY_ARRAYS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch trips over in a file that is no checkpoint
        raise ValueError(f"{path}: not a readable checkpoint: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """One line of what was found; around it PyTorch gives advice to allow it."""
    _, _, refused = str(error).partition("WeightsUnpickler error: ")
    found = refused or f"{type(error).__name__}: {error}"
    return found.partition(". Please")[0].strip().splitlines()[0][:120]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of `save_checkpoint`; raises ValueError for another format or version."""
    content = load_file(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: not a vipnas checkpoint")
    if content.get("version") != VERSION:
        raise ValueError(f"{path}: version: found {content.get('version')!r}, allowed is {VERSION}")
    return content


def load_strictly(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Raises ValueError naming the first tensor that is missing, unexpected or of another form."""
    check_tensors(state, network.state_dict(), path)
    network.load_state_dict(state)
