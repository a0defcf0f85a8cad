"""Checkpoints of trainings, written atomically and loaded without executing code."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from vipnas.errors import UserError
from vipnas.files import check_is_file, write_atomically
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
    """Load a file of `torch.save` on the CPU.

    Raises:
        UserError: If it is missing, unsafe or broken.
    """
    check_is_file(path)
    try:
        with torch.serialization.safe_globals(NUMPY_ARRAYS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that are refused or readable all the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's errors for other files share no class
        expected = "a checkpoint of tensors, numbers and strings"
        raise UserError(str(path), expected, _reason(error)) from None


def _reason(error: Exception) -> str:
    """Return the reason in PyTorch's message as one line, without its advice."""
    if called := re.search(r"GLOBAL (\S+)", str(error)):
        return f"a pickle that names {called[1]}"
    _, _, refused = str(error).partition("WeightsUnpickler error: ")
    found = (refused or f"{type(error).__name__}: {error}").strip().splitlines()[0]
    reason = re.split(r"\. |: $", found)[0]
    return f"a pickle that PyTorch refuses: {reason}" if refused else reason


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a file of `save_checkpoint`; raises UserError for another format or version."""
    content = load_file(path)
    if not isinstance(content, dict) or str(content.get("format")) != FORMAT:
        raise UserError(str(path), "a checkpoint of vipnas", "another file")
    if (version := held(content, "version", int, path)) != VERSION:
        raise UserError(f"{path}: version", str(VERSION), str(version))
    return content


def held(content: Mapping[str, Any], key: str, kind: type[Value], path: Path) -> Value:
    """Return the value of a key in a checkpoint.

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
    """Load tensors by name.

    Raises:
        UserError: For the first tensor that is missing, unexpected or of another shape or type.
    """
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: network", "tensors by name", type(state).__name__)
    check_tensors(state, network.state_dict(), path)
    network.load_state_dict(state)
