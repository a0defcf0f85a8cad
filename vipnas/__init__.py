"""Neural architecture search for human pose estimation under a budget, in images and in video."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vipnas.arch.image import Arch
    from vipnas.deploy.loading import load
    from vipnas.deploy.model import PoseModel
    from vipnas.deploy.result import PoseResult
    from vipnas.models.counting import count_cost
    from vipnas.space.image import SearchSpace

__version__ = "0.1.0"

__all__ = ["Arch", "PoseModel", "PoseResult", "SearchSpace", "count_cost", "load"]

# Imported when first asked for: `vipnas --help` does without torch.
_MODULES = {
    "Arch": "vipnas.arch.image",
    "PoseModel": "vipnas.deploy.model",
    "PoseResult": "vipnas.deploy.result",
    "SearchSpace": "vipnas.space.image",
    "count_cost": "vipnas.models.counting",
    "load": "vipnas.deploy.loading",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)
