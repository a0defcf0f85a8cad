"""Checkpoints of trainings: whole or absent, loaded without executing anything."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from vipnas.errors import UserError
from vipnas.files import write_atomically
from vipnas.models.file import check_tensors
from vipnas.models.published import NUMPY_ARRAYS

FORMAT = "vipnas"
VERSION = 1

Value = TypeVar("Value")


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
    if called := re.search(r"GLOBAL (\S+)", str(error)):
        return f"expected tensors, numbers and strings, got a pickle that names {called[1]}"
    _, _, refused = str(error).partition("WeightsUnpickler error: ")
    found = (refused or f"{type(error).__name__}: {error}").strip().splitlines()[0]
    return re.split(r"\. |: $", found)[0]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of `save_checkpoint`; raises ValueError for another format or version."""
    content = load_file(path)
    if not isinstance(content, dict) or str(content.get("format")) != FORMAT:
        raise UserError(str(path), "a checkpoint of vipnas", "another file")
    if (version := held(content, "version", int, path)) != VERSION:
        raise UserError(f"{path}: version", str(VERSION), str(version))
    return content


def held(content: Mapping[str, Any], key: str, kind: type[Value], path: Path) -> Value:
    """Return what a checkpoint holds under a key.

    Raises:
        UserError: If it is of another type.
    """
    value = content.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "none" if value is None else type(value).__name__
        raise UserError(f"{path}: {key}", kind.__name__, found)
    return value


def settings_in(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings that a checkpoint was made with."""
    try:
        settings = json.loads(held(content, "settings", str, path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: settings", "JSON", str(error)) from None
    return held({"settings": settings}, "settings", dict, path)


def load_strictly(network: nn.Module, state: object, path: Path) -> None:
    """Load tensors by name; raises UserError for the first that is missing, unexpected or of
    another form."""
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: network", "tensors by name", type(state).__name__)
    check_tensors(state, network.state_dict(), path)
    network.load_state_dict(state)
