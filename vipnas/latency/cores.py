"""Which cores of the machine are free."""

from __future__ import annotations

import time
from pathlib import Path


def least_busy_cores(cores: set[int], count: int, seconds: float = 0.2) -> set[int]:
    """The `count` cores that were busy least during the next moment."""
    if count == len(cores):
        return cores
    before = _busy_ticks()
    time.sleep(seconds)
    after = _busy_ticks()
    busy = {core: after.get(core, 0) - before.get(core, 0) for core in cores}
    return set(sorted(cores, key=lambda core: (busy[core], core))[:count])


def _busy_ticks() -> dict[int, int]:
    """Ticks that each core was not idle, since the machine started; empty where unknown."""
    file = Path("/proc/stat")
    if not file.exists():
        return {}
    ticks = {}
    for line in file.read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, _idle, _wait, *others = (int(field) for field in fields)
            ticks[int(name[3:])] = user + nice + system + sum(others[:3])
    return ticks
