"""What happens to workers of a search. Without PyTorch, so that they start at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_fixture import Separable

from vipnas.arch.image import Arch
from vipnas.space.image import SearchSpace


@dataclass
class Troubled:
    """Scores as `Separable` does, with accidents: what happens at an arch, and how often."""

    space: SearchSpace
    accidents: Mapping[Any, Callable[[], object]]  # by arch
    counts: Path  # a file for every attempt, since processes share nothing else
    times: int = 1

    def __call__(self, arch: Arch) -> float:
        if arch in self.accidents:
            before = len(list(self.counts.iterdir()))
            (self.counts / str(before)).touch()
            if before < self.times and (found := self.accidents[arch]()) is not None:
                assert isinstance(found, float)
                return found
        return Separable(self.space)(arch)


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs() -> None:
    time.sleep(600)


def out_of_memory() -> None:
    raise MemoryError("no room")


def no_number() -> float:
    return float("nan")
