"""The precision `auto`: a run keeps what its first training chose, on whatever machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from vipnas.config.training import Compute
from vipnas.errors import UserError, shown
from vipnas.files import read_json, write_atomically
from vipnas.training.compute import resolved

FILE = "precision.json"
PRECISIONS = ("float32", "bfloat16")


def kept_compute(compute: Compute, device: torch.device, run: Path) -> Compute:
    """Return the settings with the precision of a run: that of its file, or of the device.

    Raises:
        UserError: If the file holds no precision.
    """
    path = run / FILE
    if compute.precision != "auto" or not path.exists():
        return resolved(compute, device)
    precision = read_json(path)
    if precision not in PRECISIONS:
        raise UserError(str(path), " or ".join(PRECISIONS), shown(precision))
    return replace(compute, precision=precision)


def keep_precision(compute: Compute, run: Path) -> None:
    """Write the precision of a run, unless it is written already."""
    path = run / FILE
    if not path.exists():
        write_atomically(path, json.dumps(compute.precision) + "\n")
