"""PyTorch, compiled. The first run compiles, which takes about a minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vipnas.runtimes.runtime import RunSettings, Runtime, Session
from vipnas.runtimes.torch_eager import DEVICES, PRECISIONS, prepared, session, version

if TYPE_CHECKING:
    from torch import Tensor, nn


def load(module: nn.Module, inputs: Mapping[str, Tensor], settings: RunSettings) -> Session:
    """Compile the module; its layout and precision change."""
    import torch

    from vipnas.models.compiler import check_compiler

    check_compiler("runtime torch-compiled", torch.device(settings.device))
    return session(torch.compile(prepared(module, settings)), settings)


RUNTIME = Runtime("torch-compiled", PRECISIONS, version, load, devices=DEVICES)
