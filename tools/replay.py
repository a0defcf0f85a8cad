"""Computes a training step again that was not finite: `python tools/replay.py RUN/.../failure.pt`.

Prints its losses, the first arch whose heatmaps are not finite and the first such gradient. Ends
with 1 if anything is not finite, as it was in the run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from vipnas.pipeline.replay import replay


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("failure", type=Path, help="failure.pt of a training")
    parser.add_argument("--device", default="cpu", help="the arithmetic may differ on another")
    options = parser.parse_args()
    try:
        step, diagnosis = replay(options.failure, torch.device(options.device))
    except ValueError as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2
    print(f"step {step}: {diagnosis}")
    return int(not diagnosis.is_finite)


if __name__ == "__main__":
    sys.exit(main())
