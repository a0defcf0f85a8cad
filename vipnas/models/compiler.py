"""Whether `torch.compile` works on this machine."""

from __future__ import annotations

from functools import cache

import torch

from vipnas.errors import UserError


def check_compiler(place: str, device: torch.device) -> None:
    """Compile a tiny module.

    Raises:
        UserError: If that fails, for lack of a C++ compiler, Triton or the headers of Python.
    """
    if (reason := _why_not(device)) is not None:
        hint = "install g++, or run without compiling"
        raise UserError(place, "a compiler that torch.compile can use", reason, hint)


@cache
def _why_not(device: torch.device) -> str | None:
    x = torch.ones(2, device=device)
    try:
        torch.compile(torch.nn.Softplus())(x)
    except Exception as error:  # its backends share no error class
        return str(error).strip().splitlines()[0] or type(error).__name__
    return None
