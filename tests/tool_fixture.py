"""The tools, for their tests."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def tool(name: str) -> Any:
    """Import a tool as it is when it runs from the root of the checkout."""
    sys.path.insert(0, str(ROOT))
    try:
        return import_module(f"tools.{name}")
    finally:
        sys.path.pop(0)
