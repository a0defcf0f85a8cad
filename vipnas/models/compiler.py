"""Whether `torch.compile` works on this machine."""

from __future__ import annotations

from functools import cache

import torch


def check_compiler(place: str, device: torch.device) -> None:
    """Compile a trifle. Raises ValueError in one line where that fails: no C++ compiler, no Triton,
    no headers of Python."""
    if (reason := _why_not(device)) is not None:
        raise ValueError(
            f"{place}: expected a compiler that torch.compile can use, got {reason}"
            " (install g++, or do without compiling)"
        )


@cache
def _why_not(device: torch.device) -> str | None:
    x = torch.ones(2, device=device)
    try:
        torch.compile(torch.nn.Softplus())(x)
    except Exception as error:  # those of its many parts share no class
        return str(error).strip().splitlines()[0] or type(error).__name__
    return None
