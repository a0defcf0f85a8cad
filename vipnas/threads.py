"""How many threads a process should compute with. No torch here.

More threads than cores do not just share them: at the end of every layer the others wait for the
one that has no core. PyTorch knows neither the quota of a container nor who else is computing.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
TASKS = Path("/proc/self/task")
# A thread that adds less than a third to the rate of the others is left to other processes. Beside
# these, many threads are slower than one.
REACHES = 0.75


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


def most_threads(
    environment: Mapping[str, str], cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS
) -> int:
    """Return how many threads a process may compute with.

    These are its usable cores, shared with the processes that torchrun started beside it, and no
    more than `OMP_NUM_THREADS`.
    """
    beside = _whole_number(environment.get("LOCAL_WORLD_SIZE", "")) or 1
    most = max(1, usable_cores(cgroups, own) // beside)
    # The variable may be a list, of one number for each level of nested regions.
    wanted = _whole_number(environment.get("OMP_NUM_THREADS", "").partition(",")[0])
    return min(most, wanted) if wanted else most


def _whole_number(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() else None


@dataclass(frozen=True)
class Timed:
    """Seconds of a step by the number of threads that compute it."""

    seconds: Mapping[int, float]

    @property
    def choice(self) -> int:
        """The fewest threads that reach `REACHES` of the best rate."""
        enough = min(self.seconds.values()) / REACHES
        return min(threads for threads, seconds in self.seconds.items() if seconds <= enough)

    def __str__(self) -> str:
        steps = (f"{1e3 * s:.3g} ms with {threads}" for threads, s in self.seconds.items())
        return f"a step takes {', '.join(steps)}"


def time_threads(seconds_of_step: Callable[[int], float], most: int) -> Timed:
    """Time a step with 1, 2, 4, ... and `most` threads.

    Args:
        seconds_of_step: Times a step that is computed by so many threads.
    """
    powers = (2**power for power in range(most.bit_length()))
    return Timed({threads: seconds_of_step(threads) for threads in sorted({*powers, most})})


class Threads(NamedTuple):
    """With how many threads to compute, and why so many."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.number} thread{'s' if self.number > 1 else ''} ({self.reason})"


def choose_threads(
    kept: int | None, given: int | None, most: int, timed: Callable[[], Timed] | None
) -> Threads:
    """Choose how many threads compute a training.

    Args:
        kept: The number in the checkpoint that it resumes from.
        given: The number that the experiment asks for.
        most: How many the process may use.
        timed: Times a step; None where that says nothing.
    """
    if kept is not None:
        return Threads(kept, "as before it was interrupted")
    if given is not None:
        return Threads(given, "compute.threads")
    if most == 1 or timed is None:
        return Threads(most, "all that the process may use")
    steps = timed()
    return Threads(steps.choice, str(steps))


def waited_seconds(tasks: Path = TASKS) -> float:
    """Return how long threads of this process were ready to run but had no core.

    The times of all threads are added up since they started. 0 where the system does not say.
    """
    nanoseconds = 0
    for file in tasks.glob("*/schedstat"):
        for line in _lines(file):
            nanoseconds += int(line.split()[1])
    return nanoseconds / 1e9


class Moment(NamedTuple):
    """Clocks of this process, in seconds: of the wall, of its cores, of its threads' waiting."""

    wall: float
    computed: float
    waited: float

    @classmethod
    def now(cls) -> Moment:
        return cls(time.monotonic(), time.process_time(), waited_seconds())

    def since(self, earlier: Moment) -> Moment:
        return Moment(*(now - before for now, before in zip(self, earlier, strict=True)))


def likely_cause(spent: Moment) -> str:
    """Say in words why the process became slow during the time that was spent."""
    if spent.waited > 0.2 * spent.wall:
        return (
            "other processes compute on the same cores: its threads waited for one"
            f" {spent.waited / spent.wall:.1f} s in each second"
        )
    if spent.computed < 0.5 * spent.wall:
        return (
            f"it computed {spent.computed / spent.wall:.0%} of the time: it waits for data"
            " (data.num_workers, a faster disk), or a quota holds it back"
        )
    return "its cores are slower than before (heat, memory, another virtual machine)"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:  # no such file, or none that may be read
        return []
