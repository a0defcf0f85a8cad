"""How many threads a process should compute with. No torch here.

More threads than cores do not just share them: at the end of every layer the others wait for the
one that has no core. PyTorch knows neither the quota of a container nor who else is computing.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def allowed_cores() -> set[int]:
    """Return the numbers of the cores that the process may run on.

    Where the system has no affinity (macOS, Windows), these are all cores.
    """
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def usable_cores(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """Return how many cores the process may keep busy: its affinity, within its cgroup's quota."""
    return max(1, math.floor(min(len(allowed_cores()), cgroup_quota(cgroups, own))))


def cgroup_quota(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> float:
    """Return the quota of the process's cgroup and of those above it, in cores.

    Args:
        cgroups: Where the cgroup file systems are mounted.
        own: The file that names the process's cgroups, a line `number:controllers:path` each.

    Returns:
        The smallest quota, of version 1 and 2; infinite where there is none.
    """
    quotas = [math.inf]
    for line in _lines(own):
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            roots, quota_of = (cgroups, cgroups / "unified"), _quota_v2
        elif "cpu" in controllers.split(","):
            roots, quota_of = (cgroups / "cpu", cgroups / controllers), _quota_v1
        else:
            continue
        for root in roots:
            folder = root / path.lstrip("/")
            # In a container the path may be that of the host: the mounted root is then its own.
            above = (one for one in (folder, *folder.parents) if one.is_relative_to(root))
            quotas += [quota_of(one) for one in above]
    return min(quotas)


def _quota_v2(folder: Path) -> float:
    """From `cpu.max`, such as `150000 100000` or `max 100000`."""
    for line in _lines(folder / "cpu.max"):
        quota, period = line.split()
        return math.inf if quota == "max" else int(quota) / int(period)
    return math.inf


def _quota_v1(folder: Path) -> float:
    """From `cpu.cfs_quota_us`, -1 for none, and `cpu.cfs_period_us`."""
    quota, period = (
        [int(line) for line in _lines(folder / f"cpu.cfs_{name}_us")]
        for name in ("quota", "period")
    )
    return quota[0] / period[0] if quota and period and quota[0] > 0 else math.inf


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:  # no such file, or none that may be read
        return []
