"""What `tools/benchmarks/data.py` prints and writes: tables of measurements beside their limits."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch

from vipnas.runtimes.machine import device_name


class Report:
    """Lines to print now and to write later."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failed = 0
        for line in heading():
            self.say(line)

    def say(self, line: str = "") -> None:
        self.lines.append(line)
        print(line, flush=True)

    def row(self, what: str, found: str, wanted: str, good: bool) -> None:
        self.failed += not good
        self.say(f"| {what} | {found} | {wanted} | {'yes' if good else '**no**'} |")

    def table(self, title: str) -> None:
        self.say(f"\n## {title}\n\n| what | found | wanted | reached |\n|---|---|---|---|")


def heading() -> list[str]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return [
        f"# Data pipeline and evaluation, {date.today().isoformat()}",
        "",
        f"- command: `python {' '.join(sys.argv)}`",
        f"- commit: {commit.stdout.strip() or 'not known'}",
        f"- hardware: {device_name('cpu')}, {os.cpu_count()} cores; "
        f"load average at the start {os.getloadavg()[0]:.1f}",
        f"- Python {platform.python_version()}, OpenCV {cv2.__version__}, "
        f"torch {torch.__version__}, numpy {np.__version__}",
        "",
        "Ratios are medians over turns in which the compared loops run one after the other; rates",
        "without a ratio are those of the calmest turn. Input 256 x 192, heatmaps 64 x 48.",
    ]


def by_turns(
    loops: Mapping[str, Callable[[int], object]], num_turns: int
) -> dict[str, list[float]]:
    """Seconds of each turn of each loop; every turn runs all loops."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(num_turns):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop(turn)
            seconds[name].append(time.perf_counter() - start)
    return seconds
