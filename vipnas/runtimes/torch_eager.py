"""PyTorch itself, eager: networks of this process, in the channels_last layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vipnas.runtimes.runtime import RunSettings, Runtime, Session

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

NAME = "torch"
PRECISIONS = ("fp32", "bf16", "fp16")
DEVICES = ("cpu", "cuda")


def version() -> str:
    """Return PyTorch's version."""
    import torch

    return str(torch.__version__)


def load(module: nn.Module, inputs: Mapping[str, Tensor], settings: RunSettings) -> Session:
    """Run the module as it is; its layout and precision change."""
    return session(prepared(module, settings), settings)


def prepared(module: nn.Module, settings: RunSettings) -> nn.Module:
    """Return the module in evaluation mode, on its device, in its precision and layout."""
    import torch

    module = module.eval().to(torch.device(settings.device), _dtype(settings))
    # channels_last is faster for all but the smallest networks, compiled or not.
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def session(call: Callable[..., Tensor], settings: RunSettings) -> Session:
    """Return a session that calls a prepared module."""
    import torch

    place, dtype = torch.device(settings.device), _dtype(settings)

    def placed(array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array).to(place, dtype)
        is_image = tensor.dim() == 4
        return tensor.contiguous(memory_format=torch.channels_last) if is_image else tensor

    @torch.inference_mode()
    def run(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        out = call(*(placed(array) for array in inputs.values()))
        found: np.ndarray = out.float().cpu().numpy()  # the copy waits for a GPU
        return found

    return run


def _dtype(settings: RunSettings) -> torch.dtype:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
        settings.precision
    ]


RUNTIME = Runtime(NAME, PRECISIONS, version, load, devices=DEVICES)
