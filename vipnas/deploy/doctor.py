"""What an installation and its machine offer, and the command that brings what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from vipnas.errors import UserError
from vipnas.models.compiler import check_compiler
from vipnas.runtimes.machine import device_name
from vipnas.threads import allowed_cores, cgroup_quota, most_threads, usable_cores

MISSING = "missing"


@dataclass(frozen=True)
class Requirements:
    """The packages of one extra, or of vipnas itself.

    Attributes:
        extra: The name of the extra; empty for vipnas itself.
        packages: Installed versions by package; `MISSING` where there is none. A version that
            does not fit is followed by the versions that do.
        complete: Whether every package is installed in a version that fits.
    """

    extra: str
    packages: Mapping[str, str]
    complete: bool

    @property
    def command(self) -> str:
        """The command that installs what is missing; empty if nothing is."""
        target = f"vipnas[{self.extra}]" if self.extra else "vipnas"
        return "" if self.complete else f"pip install '{target}'"


@dataclass(frozen=True)
class Processors:
    """The CPUs of the machine, and what of them a process may use.

    Attributes:
        name: The model name.
        count: All that the system reports.
        affinity: Those that the process may run on.
        quota: CPUs that its cgroup allows; None without a quota.
        usable: What affinity and quota leave.
        threads: The most threads that a training here would compute with.
        load: Runnable processes, averaged over one minute; None where the system does not tell.
    """

    name: str
    count: int
    affinity: int
    quota: float | None
    usable: int
    threads: int
    load: float | None


@dataclass(frozen=True)
class Diagnosis:
    """All that `vipnas doctor` prints.

    Attributes:
        versions: Of vipnas, Python, the system and PyTorch.
        processors: The CPUs.
        memory_gib: Total and free memory by name; empty where the system does not tell.
        disk_free_gib: Free space in the working directory.
        gpus: The name of every GPU that PyTorch can use.
        compiler: Why `compute.compile` is not available; None if it is.
        requirements: Of vipnas itself first, then of every extra.
    """

    versions: Mapping[str, str]
    processors: Processors
    memory_gib: Mapping[str, float]
    disk_free_gib: float
    gpus: Sequence[str]
    compiler: str | None
    requirements: Sequence[Requirements]

    @property
    def is_sound(self) -> bool:
        """Whether all that vipnas itself requires is installed."""
        return self.requirements[0].complete

    def lines(self) -> Iterator[str]:
        """Yield the diagnosis as text."""
        yield from (f"{name}: {found}" for name, found in self.versions.items())
        cpu = self.processors
        quota = "none" if cpu.quota is None else f"{cpu.quota:g}"
        yield f"CPU: {cpu.name}"
        yield (
            f"cores: {cpu.usable} usable of {cpu.count} (affinity {cpu.affinity}, quota {quota});"
            f" at most {cpu.threads} thread(s) for a training"
        )
        if cpu.load is not None:
            busy = "; other processes are busy: timings will vary" if cpu.load > 0.5 else ""
            yield f"load: {cpu.load:.1f}{busy}"
        if self.memory_gib:
            sizes = (f"{size:.1f} GiB {name}" for name, size in self.memory_gib.items())
            yield f"memory: {', '.join(sizes)}"
        yield f"disk: {self.disk_free_gib:.1f} GiB free here"
        yield f"GPU: {', '.join(self.gpus) or 'none that PyTorch can use'}"
        yield f"torch.compile: {self.compiler or 'available'}"
        for required in self.requirements:
            name = f"extra {required.extra}" if required.extra else "required"
            found = (f"{package} {state}" for package, state in required.packages.items())
            hint = f" ({required.command})" if required.command else ""
            yield f"{name}: {', '.join(found)}{hint}"


def diagnose(own_version: str) -> Diagnosis:
    """Look at this process, its packages and its machine. Takes a few seconds."""
    import torch

    quota = cgroup_quota()
    return Diagnosis(
        versions={
            "vipnas": own_version,
            "Python": platform.python_version(),
            "system": platform.platform(),
            "torch": torch.__version__,
        },
        processors=Processors(
            name=device_name("cpu"),
            count=os.cpu_count() or 1,
            affinity=len(allowed_cores()),
            quota=None if quota == float("inf") else quota,
            usable=usable_cores(),
            threads=most_threads(os.environ),
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        ),
        memory_gib=_memory_gib(),
        disk_free_gib=shutil.disk_usage(Path()).free / 2**30,
        gpus=[torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        compiler=_why_no_compiler(),
        requirements=required_packages(),
    )


def _why_no_compiler() -> str | None:
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        check_compiler("compute.compile", device)
    except UserError as error:
        return f"{MISSING}: {error.found}" + (f" ({error.hint})" if error.hint else "")
    return None


def _memory_gib(information: Path = Path("/proc/meminfo")) -> dict[str, float]:
    if not information.exists():
        return {}
    names = {"MemTotal": "in all", "MemAvailable": "free"}
    rows = (line.split() for line in information.read_text(encoding="utf-8").splitlines())
    found = {row[0].rstrip(":"): int(row[1]) for row in rows}
    return {name: found[key] / 2**20 for key, name in names.items() if key in found}


def required_packages(lines: Sequence[str] | None = None) -> list[Requirements]:
    """Compare what vipnas requires with what is installed.

    Args:
        lines: Requirements as packages state them (PEP 508); None takes those of vipnas.

    Raises:
        UserError: vipnas runs from a folder, and is not installed.
    """
    if lines is None:
        try:
            lines = requires("vipnas") or []
        except PackageNotFoundError:
            hint = "pip install -e . in the folder of its sources"
            raise UserError("vipnas", "an installed package", "a folder", hint) from None
    parsed = [Requirement(line) for line in lines]
    extras = sorted({extra for one in parsed for extra in _extras_of(one)})
    found = [_requirements(parsed, extra) for extra in ("", *extras)]
    return [one for one in found if one.packages or not one.extra]


def _extras_of(requirement: Requirement) -> list[str]:
    """The extras that a requirement belongs to: `... ; extra == "export"`."""
    text = str(requirement.marker or "")
    return [part.split('"')[1] for part in text.split("extra ==")[1:]]


def _requirements(parsed: Sequence[Requirement], extra: str) -> Requirements:
    here = [one for one in parsed if (extra in _extras_of(one) if extra else not _extras_of(one))]
    environment = {"extra": extra}
    states = {
        one.name: _state(one)
        for one in here
        if one.name != "vipnas" and (one.marker is None or one.marker.evaluate(environment))
    }
    complete = all(fits for _, fits in states.values())
    return Requirements(extra, {name: state for name, (state, _) in states.items()}, complete)


def _state(requirement: Requirement) -> tuple[str, bool]:
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return MISSING, False
    fits = requirement.specifier.contains(found, prereleases=True)
    return (found, True) if fits else (f"{found}, {requirement.specifier} required", False)
