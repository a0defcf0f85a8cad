"""The cores of this machine: which are idle, and pinning to them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vipnas.threads import allowed_cores


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Pin this thread, and those that it starts inside; on systems that cannot, do nothing."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = allowed_cores()
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def least_busy_cores(cores: set[int], count: int, seconds: float = 0.2) -> set[int]:
    """Return the `count` cores that are least busy during the next `seconds`."""
    if count == len(cores):
        return cores
    before = _busy_ticks()
    time.sleep(seconds)
    after = _busy_ticks()
    busy = {core: after.get(core, 0) - before.get(core, 0) for core in cores}
    return set(sorted(cores, key=lambda core: (busy[core], core))[:count])


def _busy_ticks() -> dict[int, int]:
    """Return the busy ticks of each core since the machine started; empty where unknown."""
    file = Path("/proc/stat")
    if not file.exists():
        return {}
    ticks = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _idle, _wait, *others = (int(field) for field in fields)
            ticks[int(name[3:])] = user + nice + system + sum(others[:3])
    return ticks
