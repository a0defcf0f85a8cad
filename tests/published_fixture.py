"""The released residual network with known weights, and what its published code computes with them.

`models/published_keys/` holds the names and shapes in both released checkpoints, and for one of
them batch-norm statistics and what the published code (mmpose 1.x, evaluation mode, float32 on a
CPU) then computes. All other weights follow from their names, so that no file has to hold them.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEYS = Path(__file__).parent / "models" / "published_keys"


def read_keys(name: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of each tensor of a released checkpoint, in its order."""
    keys = {}
    for line in (KEYS / f"{name}.txt").read_text().splitlines():
        key, shape_and_kind = line.split(" ", 1)
        shape, kind = shape_and_kind.strip("[").split("] ")
        keys[key] = (tuple(int(side) for side in shape.split(", ") if side), kind)
    return keys


def read_reference() -> dict[str, Any]:
    """`heatmaps` of `reference_images()`; `features`: shape, mean and deviation of what the
    backbone gives; `bn`: running statistics."""
    reference: dict[str, Any] = torch.load(KEYS / "s_vipnas_res50.pt", weights_only=True)
    return reference


def reference_state() -> dict[str, Tensor]:
    keys = read_keys("s_vipnas_res50")
    state = {name: weight_of(name, shape) for name, (shape, _) in keys.items()}
    statistics = {name: tensor.float() for name, tensor in read_reference()["bn"].items()}
    assert statistics.keys() < state.keys()
    return {**state, **statistics}


def weight_of(name: str, shape: tuple[int, ...]) -> Tensor:
    """The weight of a name: every value fits float16. RandomState is frozen for good."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("bias"):
        values = rng.randn(*shape) * 0.1
    elif len(shape) == 4:  # of convolutions: deviation sqrt(2 / fan-in)
        values = rng.randn(*shape) * (2 / np.prod(shape[1:])) ** 0.5
    else:  # scales of norms
        values = rng.rand(*shape) + 0.5
    return torch.from_numpy(np.asarray(values, dtype=np.float16)).float()


def reference_images() -> Tensor:
    """(2, 3, 256, 192): blobs of 32 pixels under noise, so that images differ at every scale."""
    rng = np.random.RandomState(0)
    blobs = np.kron(rng.randn(2, 3, 8, 6), np.ones((32, 32)))
    noise = rng.randn(2, 3, 256, 192)
    return torch.from_numpy((blobs + 0.5 * noise).astype(np.float32))
