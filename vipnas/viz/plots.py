"""What all plots share: their colours, and how a figure becomes a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The palette of Okabe and Ito (2008), which people with any colour vision can tell apart.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
RANDOM, REFERENCE = "#8a8a8a", "#d55e00"


def write_figure(path: Path, figure: Figure, dots_per_inch: int = 120) -> None:
    """Write a figure as a PNG atomically."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dots_per_inch)
    write_atomically(path, content.getvalue())
